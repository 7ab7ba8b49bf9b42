//! The e-mail addresses of accounts that check out, so that a checkout does not read its account.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;

use crate::domain::{account::Email, ids::UserId};

/// The most accounts, which take a few MiB.
const CAPACITY: usize = 20_000;

/// How long an address counts that another node may have changed since: no event tells of that.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The e-mail addresses of accounts, at most a minute old. Clones share their state.
#[derive(Clone)]
pub struct AccountEmails(Arc<Cache<UserId, KnownEmail>>);

/// An address, or that there is no such account.
#[derive(Clone)]
struct KnownEmail {
    email: Option<Email>,
    read_at: Instant,
}

impl Default for AccountEmails {
    fn default() -> Self {
        Self(Arc::new(Cache::new(CAPACITY)))
    }
}

impl AccountEmails {
    /// The address of an account, `Some(None)` if there is no such account. `None` if it has to be
    /// read.
    #[must_use]
    pub fn get(&self, user: UserId, now: Instant) -> Option<Option<Email>> {
        let known = self.0.get(&user)?;
        (now.saturating_duration_since(known.read_at) < MAX_AGE).then_some(known.email)
    }

    /// Adds an address that was read or changed at `read_at`.
    pub fn put(&self, user: UserId, email: Option<Email>, read_at: Instant) {
        self.0.insert(user, KnownEmail { email, read_at });
    }

    /// Forgets the addresses of accounts that changed, so that the next checkout reads them.
    pub fn forget(&self, users: &[UserId]) {
        for user in users {
            self.0.remove(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_counts_for_a_minute_or_until_it_changes() {
        let (emails, user) = (AccountEmails::default(), UserId::new());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let ada = Email::parse("ada@example.com").ok();
        assert_eq!(emails.get(user, at(0)), None);
        emails.put(user, ada.clone(), at(0));
        assert_eq!(emails.get(user, at(59)), Some(ada.clone()));
        assert_eq!(emails.get(user, at(60)), None, "another node may have changed it");
        emails.put(user, ada, at(60));
        emails.forget(&[user]);
        assert_eq!(emails.get(user, at(60)), None);
        emails.put(user, None, at(60));
        assert_eq!(emails.get(user, at(61)), Some(None), "no account");
    }
}
