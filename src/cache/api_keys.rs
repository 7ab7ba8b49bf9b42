//! API keys in memory, so that a request with one costs no read of the store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, Entry};

use super::account_rights::AccountRights;
use crate::{
    domain::{
        account::{ApiKey, ApiKeyHash, Rights, hash_api_key},
        clock::Timestamp,
        ids::ApiKeyId,
    },
    panics::guarded_tick,
    store::{Store, StoreUnavailable},
};

/// The longest pause between two reports of uses to the store.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The number of keys to read from the store at a time.
const PAGE_SIZE: u32 = 1000;

/// No use is known.
const NEVER: i64 = i64::MIN;

/// All API keys.
#[derive(Default)]
pub struct ApiKeys {
    /// A key that was deleted stays: else a change from before could arrive late and give it back.
    known: DashMap<ApiKeyId, KnownKey>,
    by_hash: DashMap<ApiKeyHash, ApiKeyId>,
}

/// A key in memory.
struct KnownKey {
    key: Arc<ApiKey>,
    /// When this node saw it used last, in milliseconds.
    last_used: AtomicI64,
    /// What of that the store knows.
    reported: AtomicI64,
}

impl ApiKeys {
    /// Finds an active key, and notes its use.
    #[must_use]
    pub fn use_key(&self, key: &str, now: Timestamp) -> Option<Arc<ApiKey>> {
        let id = *self.by_hash.get(&hash_api_key(key))?;
        let known = self.known.get(&id)?;
        if !known.key.is_active(now) {
            return None;
        }
        known.last_used.fetch_max(now.as_millis(), Ordering::Relaxed);
        Some(Arc::clone(&known.key))
    }

    /// What an active key may do. `None` if it has ended.
    #[must_use]
    pub fn rights_of(&self, id: ApiKeyId, now: Timestamp) -> Option<Rights> {
        let known = self.known.get(&id)?;
        known.key.is_active(now).then(|| known.key.rights())
    }

    /// When this node saw the key used last, since it started.
    #[must_use]
    pub fn last_use(&self, id: ApiKeyId) -> Option<Timestamp> {
        let last = self.known.get(&id)?.last_used.load(Ordering::Relaxed);
        (last != NEVER).then(|| Timestamp::from_millis(last))
    }

    /// Takes over keys that any node has changed. Older ones than those that are known are ignored.
    pub fn add(&self, changed: &[Arc<ApiKey>]) {
        for key in changed {
            match self.known.entry(key.id) {
                Entry::Vacant(entry) => drop(entry.insert(KnownKey::new(key))),
                Entry::Occupied(mut entry) if entry.get().key.version < key.version => {
                    entry.get_mut().key = Arc::clone(key);
                }
                Entry::Occupied(_) => continue,
            }
            if key.deleted_at.is_none() {
                self.by_hash.insert(key.hash, key.id);
            } else {
                self.by_hash.remove(&key.hash);
            }
        }
    }

    /// Loads all keys, when the node starts or has missed changes. Call this after changes have
    /// started to arrive.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn load(&self, store: &dyn Store) -> Result<(), StoreUnavailable> {
        // These may have been deleted, and are then not listed.
        let known: Vec<ApiKeyId> = self.known.iter().map(|entry| *entry.key()).collect();
        let mut before = None;
        loop {
            let page = store.list_api_keys(before, PAGE_SIZE).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            let page: Vec<Arc<ApiKey>> = page.into_iter().map(Arc::new).collect();
            self.add(&page);
        }
        for id in known {
            self.refresh(store, id).await?;
        }
        Ok(())
    }

    /// Reads a key from the store.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn refresh(&self, store: &dyn Store, id: ApiKeyId) -> Result<(), StoreUnavailable> {
        if let Some(key) = store.find_api_key(id).await? {
            self.add(&[Arc::new(key)]);
        }
        Ok(())
    }

    /// Tells the store when keys were used, as far as it does not know.
    ///
    /// # Errors
    /// The store is unavailable. The next call reports them again.
    pub async fn report_uses(&self, store: &dyn Store) -> Result<(), StoreUnavailable> {
        let unreported = |known: &KnownKey| {
            let last = known.last_used.load(Ordering::Relaxed);
            (last > known.reported.load(Ordering::Relaxed)).then_some(last)
        };
        let uses: Vec<(ApiKeyId, Timestamp)> = self
            .known
            .iter()
            .filter_map(|entry| Some((*entry.key(), Timestamp::from_millis(unreported(&entry)?))))
            .collect();
        if uses.is_empty() {
            return Ok(());
        }
        store.record_api_key_uses(uses.clone()).await?;
        for (id, at) in uses {
            if let Some(known) = self.known.get(&id) {
                known.reported.fetch_max(at.as_millis(), Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

impl KnownKey {
    fn new(key: &Arc<ApiKey>) -> Self {
        let key = Arc::clone(key);
        Self { key, last_used: AtomicI64::new(NEVER), reported: AtomicI64::new(NEVER) }
    }
}

/// Reports the uses of keys from time to time. Never returns.
pub async fn run_report_loop(rights: Arc<AccountRights>, store: Arc<dyn Store>) {
    loop {
        // Random, so that nodes do not write at the same time.
        tokio::time::sleep(REPORT_INTERVAL.mul_f64(rand::random_range(0.5..=1.0))).await;
        // The store has logged a failure.
        let _ = guarded_tick("api keys", rights.api_keys.report_uses(&*store)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        account::{ApiKeyRequest, ScopeSet},
        ids::UserId,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    fn api_key(expires_at: Option<Timestamp>) -> Arc<ApiKey> {
        let scopes = ScopeSet::parse(&["stock"]).unwrap();
        let request = ApiKeyRequest { name: "warehouse".into(), scopes, expires_at };
        Arc::new(ApiKey::new("souk_secret", request, UserId::new(), NOW))
    }

    #[test]
    fn key_is_found_until_it_is_deleted_in_whatever_order_changes_arrive() {
        let (keys, key) = (ApiKeys::default(), api_key(None));
        assert!(keys.use_key("souk_secret", NOW).is_none());
        keys.add(&[Arc::clone(&key)]);
        assert_eq!(keys.use_key("souk_secret", NOW), Some(Arc::clone(&key)));
        assert!(keys.use_key("souk_other", NOW).is_none());
        assert_eq!(keys.last_use(key.id), Some(NOW));
        keys.add(&[Arc::new(key.to_deleted(NOW))]);
        keys.add(&[Arc::clone(&key)]);
        assert!(keys.use_key("souk_secret", NOW).is_none(), "a late change gives nothing back");
        assert_eq!(keys.rights_of(key.id, NOW), None);
    }

    #[test]
    fn expired_key_has_no_rights() {
        let (keys, end) = (ApiKeys::default(), Timestamp::from_millis(2_000));
        let key = api_key(Some(end));
        keys.add(&[Arc::clone(&key)]);
        assert_eq!(keys.rights_of(key.id, NOW), Some(key.rights()));
        assert_eq!(keys.rights_of(key.id, end), None);
        assert!(keys.use_key("souk_secret", end).is_none());
        assert_eq!(keys.last_use(key.id), None, "a refusal is no use");
    }
}
