//! Revoked sessions, whose access tokens are rejected even before they expire.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use dashmap::{DashMap, Entry};

use crate::{
    domain::{account::ACCESS_TOKEN_LIFETIME, clock::Timestamp, ids::SessionId},
    store::{Store, StoreUnavailable},
};

/// How long a revocation is kept: the lifetime of an access token plus the clock skew allowed
/// between two nodes.
pub(crate) const RETENTION: Duration = Duration::from_secs(ACCESS_TOKEN_LIFETIME.as_secs() + 60);

/// The recently revoked sessions. Every request with a token checks them.
#[derive(Debug, Default)]
pub struct RevokedSessions {
    sessions: DashMap<SessionId, Timestamp>,
    /// Never less than the size of the map. Makes the usual check, on an empty map, a single load.
    count: AtomicUsize,
}

impl RevokedSessions {
    /// Creates an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loads the sessions revoked before this node started. Call this after new revocations have
    /// started to arrive, so that none is missed in between.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn load(&self, store: &dyn Store, now: Timestamp) -> Result<(), StoreUnavailable> {
        let sessions = store.list_sessions_revoked_since(now.saturating_sub(RETENTION)).await?;
        let revoked: Vec<_> = sessions.into_iter().map(|session| (session, now)).collect();
        self.add(&revoked);
        Ok(())
    }

    /// Adds sessions that any node has revoked.
    pub fn add(&self, revoked: &[(SessionId, Timestamp)]) {
        for &(session, at) in revoked {
            self.count.fetch_add(1, Ordering::AcqRel);
            match self.sessions.entry(session) {
                Entry::Vacant(entry) => drop(entry.insert(at)),
                Entry::Occupied(_) => drop(self.count.fetch_sub(1, Ordering::AcqRel)),
            }
        }
    }

    /// Whether the session is revoked, so that its tokens must be rejected.
    #[must_use]
    pub fn contains(&self, session: SessionId) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.sessions.contains_key(&session)
    }

    /// Removes the sessions whose access tokens have all expired.
    pub fn sweep(&self, now: Timestamp) {
        let oldest = now.saturating_sub(RETENTION);
        let mut removed = 0;
        self.sessions.retain(|_, at| {
            let keep = *at > oldest;
            removed += usize::from(!keep);
            keep
        });
        self.count.fetch_sub(removed, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_is_kept_as_long_as_its_tokens_live() {
        let start = Timestamp::from_millis(0);
        let (early, late) = (SessionId::new(), SessionId::new());
        let revoked = RevokedSessions::new();
        assert!(!revoked.contains(early));
        revoked.add(&[
            (early, start),
            (late, start.saturating_add(Duration::from_secs(60))),
            (early, start),
        ]);
        revoked.sweep(start.saturating_add(ACCESS_TOKEN_LIFETIME));
        assert!(revoked.contains(early) && revoked.contains(late));
        revoked.sweep(start.saturating_add(RETENTION));
        assert!(!revoked.contains(early) && revoked.contains(late));
        revoked.sweep(start.saturating_add(RETENTION + RETENTION));
        assert_eq!(revoked.count.load(Ordering::Relaxed), 0);
    }
}
