//! What accounts may do now, in memory: a token says only whose it is.
//!
//! Most accounts are customers, who all have the same rights. So a node keeps the rights of the
//! others only, and of those whose rights it saw change.

use dashmap::{DashMap, Entry};

use super::api_keys::ApiKeys;
use crate::{
    domain::{
        account::{Rights, VersionedRights},
        ids::UserId,
    },
    store::{Store, StoreUnavailable},
};

/// The rights of all accounts and API keys. Every request with a token reads them.
#[derive(Default)]
pub struct AccountRights {
    /// An account that became a customer stays, with the version in which it did: else a change
    /// from before could arrive late and give it back what it has lost.
    known: DashMap<UserId, VersionedRights>,
    /// The API keys, which have rights without an account.
    pub api_keys: ApiKeys,
}

impl AccountRights {
    /// Creates a cache in which every account is a customer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What an account may do now.
    #[must_use]
    pub fn of(&self, user: UserId) -> Rights {
        self.known.get(&user).map_or(Rights::CUSTOMER, |known| known.rights)
    }

    /// Takes over rights that any node has changed. Older ones than those that are known are
    /// ignored.
    pub fn add(&self, changes: &[VersionedRights]) {
        for change in changes {
            match self.known.entry(change.user_id) {
                Entry::Vacant(entry) => drop(entry.insert(*change)),
                Entry::Occupied(mut entry) if entry.get().version < change.version => {
                    entry.insert(*change);
                }
                Entry::Occupied(_) => {}
            }
        }
    }

    /// Loads the rights of all accounts and keys, when the node starts or has missed changes. Call
    /// this after changes have started to arrive, so that none is missed in between.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn load(&self, store: &dyn Store) -> Result<(), StoreUnavailable> {
        // These may have become customers, which are not listed.
        let known: Vec<UserId> = self.known.iter().map(|entry| *entry.key()).collect();
        self.add(&store.list_special_rights().await?);
        for user in known {
            self.refresh(store, user).await?;
        }
        self.api_keys.load(store).await
    }

    /// Reads the rights of one account from the store.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn refresh(&self, store: &dyn Store, user: UserId) -> Result<(), StoreUnavailable> {
        match store.find_user(user).await? {
            Some(user) => self.add(&[user.versioned_rights()]),
            // The account was deleted.
            None => {
                self.known.entry(user).and_modify(|known| known.rights = Rights::CUSTOMER);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::Role;

    #[test]
    fn latest_version_counts_in_whatever_order_changes_arrive() {
        let (rights, user_id) = (AccountRights::new(), UserId::new());
        assert_eq!(rights.of(user_id), Rights::CUSTOMER);
        let at = |version, role| {
            let rights = Rights { role, ..Rights::CUSTOMER };
            VersionedRights { user_id, version, rights }
        };
        rights.add(&[at(3, Role::Admin), at(2, Role::Staff)]);
        assert_eq!(rights.of(user_id).role, Role::Admin);
        rights.add(&[at(5, Role::Customer)]);
        rights.add(&[at(4, Role::Staff)]);
        assert_eq!(rights.of(user_id), Rights::CUSTOMER, "a late change gives nothing back");
        rights.add(&[at(6, Role::Staff)]);
        assert_eq!(rights.of(user_id).role, Role::Staff);
    }
}
