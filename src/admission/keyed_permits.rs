//! Counts what each address or user holds at a time.

use std::{hash::Hash, sync::Arc};

use dashmap::{DashMap, Entry};

/// Permits in use, by key. A key without permits takes no memory.
#[derive(Debug)]
pub(crate) struct KeyedPermits<K: Eq + Hash>(Arc<DashMap<K, u32>>);

/// One permit, which is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct KeyedPermit<K: Eq + Hash + Copy> {
    counts: Arc<DashMap<K, u32>>,
    key: K,
}

impl<K: Eq + Hash> Default for KeyedPermits<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Copy> KeyedPermits<K> {
    /// Takes a permit of `key`, unless it holds `limit` permits already. A limit of 0 disables the
    /// check.
    pub(crate) fn try_acquire(&self, key: K, limit: u32) -> Option<KeyedPermit<K>> {
        match self.0.entry(key) {
            Entry::Occupied(entry) if limit > 0 && *entry.get() >= limit => return None,
            Entry::Occupied(mut entry) => *entry.get_mut() += 1,
            Entry::Vacant(entry) => drop(entry.insert(1)),
        }
        Some(KeyedPermit { counts: Arc::clone(&self.0), key })
    }
}

impl<K: Eq + Hash + Copy> Drop for KeyedPermit<K> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.counts.entry(self.key) {
            match *entry.get() {
                0 | 1 => drop(entry.remove()),
                _ => *entry.get_mut() -= 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_limited_per_key_and_given_back() {
        let permits = KeyedPermits::default();
        let held: Vec<_> = (0..3).map(|_| permits.try_acquire('a', 3).unwrap()).collect();
        assert!(permits.try_acquire('a', 3).is_none());
        let other = permits.try_acquire('b', 3).unwrap();
        assert!(permits.try_acquire('a', 0).is_some(), "0 disables the limit");
        drop(held);
        assert!(permits.try_acquire('a', 1).is_some());
        drop(other);
        assert!(permits.0.is_empty(), "a key without permits takes no memory");
    }
}
