//! Sessions whose access tokens must not be taken any more, although they look good until they expire.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use dashmap::{DashMap, Entry};

use crate::{
    domain::{account::ACCESS_TOKEN_LIFETIME, clock::Timestamp, ids::SessionId},
    store::{Store, StoreUnavailable},
};

/// Longer than an access token lives, by as much as the clocks of two nodes may differ.
pub(crate) const KEPT: Duration = Duration::from_secs(ACCESS_TOKEN_LIFETIME.as_secs() + 60);

/// The sessions revoked lately, asked on every request that has a token.
#[derive(Debug, Default)]
pub struct RevokedSessions {
    sessions: DashMap<SessionId, Timestamp>,
    /// Never less than there are in the map, so that the usual answer, none at all, costs one load.
    count: AtomicUsize,
}

impl RevokedSessions {
    /// Nothing is revoked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what was revoked before this node started. To be called once news is noted already, so that nothing falls between.
    ///
    /// # Errors
    /// The store is away.
    pub async fn load(&self, store: &dyn Store, now: Timestamp) -> Result<(), StoreUnavailable> {
        let sessions = store.list_sessions_revoked_since(now.saturating_sub(KEPT)).await?;
        let revoked: Vec<_> = sessions.into_iter().map(|session| (session, now)).collect();
        self.note(&revoked);
        Ok(())
    }

    /// Takes in what was revoked just now, by this node or another.
    pub fn note(&self, revoked: &[(SessionId, Timestamp)]) {
        for &(session, at) in revoked {
            self.count.fetch_add(1, Ordering::AcqRel);
            match self.sessions.entry(session) {
                Entry::Vacant(place) => drop(place.insert(at)),
                Entry::Occupied(_) => drop(self.count.fetch_sub(1, Ordering::AcqRel)),
            }
        }
    }

    /// Whether this session's tokens must be refused.
    #[must_use]
    pub fn contains(&self, session: SessionId) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.sessions.contains_key(&session)
    }

    /// Forgets those whose tokens have all expired.
    pub fn sweep(&self, now: Timestamp) {
        let oldest = now.saturating_sub(KEPT);
        let mut forgotten = 0;
        self.sessions.retain(|_, at| {
            let keep = *at > oldest;
            forgotten += usize::from(!keep);
            keep
        });
        self.count.fetch_sub(forgotten, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_remembered_as_long_as_its_tokens_live() {
        let start = Timestamp::from_millis(0);
        let (early, late) = (SessionId::new(), SessionId::new());
        let revoked = RevokedSessions::new();
        assert!(!revoked.contains(early));
        revoked.note(&[
            (early, start),
            (late, start.saturating_add(Duration::from_secs(60))),
            (early, start),
        ]);
        revoked.sweep(start.saturating_add(ACCESS_TOKEN_LIFETIME));
        assert!(revoked.contains(early) && revoked.contains(late));
        revoked.sweep(start.saturating_add(KEPT));
        assert!(!revoked.contains(early) && revoked.contains(late));
        revoked.sweep(start.saturating_add(KEPT + KEPT));
        assert_eq!(revoked.count.load(Ordering::Relaxed), 0);
    }
}
