//! Revoked sessions, whose access tokens are rejected even before they expire.
//!
//! Whether a token has expired is a question to this node's clock, and a clock can run ahead and
//! then be set back, which makes expired tokens valid again. So a revocation is kept until the
//! clock says that the session's tokens have expired, and also for as many sweeps as take that
//! long: sweeps come at a fixed interval, whatever the clock says.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use dashmap::{DashMap, Entry};

use crate::{
    domain::{
        account::{ACCESS_TOKEN_LIFETIME, MAX_REFRESH_GRACE},
        clock::Timestamp,
        ids::SessionId,
    },
    store::{Store, StoreUnavailable},
};

/// How often [`RevokedSessions::sweep`] runs.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// How long a revocation is kept: a session's last access token may be issued within the grace
/// after its last refresh. The rest is the clock skew allowed between two nodes.
const RETENTION: Duration =
    Duration::from_secs(ACCESS_TOKEN_LIFETIME.as_secs() + MAX_REFRESH_GRACE.as_secs() + 60);

/// The fewest sweeps that a revocation is kept for. The first one may come at once.
const MIN_SWEEPS: u64 = RETENTION.as_secs() / SWEEP_INTERVAL.as_secs() + 1;

/// How far back revocations are loaded. It far exceeds [`RETENTION`], because this node may start
/// while its clock runs ahead. The store keeps few of that age.
const LOADED_AGE: Duration = Duration::from_secs(24 * 60 * 60);

struct Revocation {
    /// All access tokens of the session were issued before this, or within the grace after it.
    at: Timestamp,
    /// Sweeps since this node learned of it.
    sweeps: u64,
}

/// The recently revoked sessions. Every request with a token checks them.
#[derive(Default)]
pub struct RevokedSessions {
    sessions: DashMap<SessionId, Revocation>,
    /// Never less than the size of the map. Makes the usual check, on an empty map, a single load.
    count: AtomicUsize,
}

impl RevokedSessions {
    /// Creates an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loads the sessions that were revoked before this node started, or while it missed events.
    /// Call this after new revocations have started to arrive, so that none is missed in between.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn load(&self, store: &dyn Store, now: Timestamp) -> Result<(), StoreUnavailable> {
        self.add(&load_revocations(store, now).await?);
        Ok(())
    }

    /// Adds sessions that any node has revoked.
    pub fn add(&self, revoked: &[(SessionId, Timestamp)]) {
        for &(session, at) in revoked {
            self.count.fetch_add(1, Ordering::AcqRel);
            match self.sessions.entry(session) {
                Entry::Vacant(entry) => {
                    // The clock of the node that started the session may run ahead.
                    let at = at.max(session.created_at());
                    drop(entry.insert(Revocation { at, sweeps: 0 }));
                }
                Entry::Occupied(_) => drop(self.count.fetch_sub(1, Ordering::AcqRel)),
            }
        }
    }

    /// Whether the session is revoked, so that its tokens must be rejected.
    #[must_use]
    pub fn contains(&self, session: SessionId) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.sessions.contains_key(&session)
    }

    /// Removes the sessions whose access tokens have all expired. Call this every
    /// [`SWEEP_INTERVAL`].
    pub fn sweep(&self, now: Timestamp) {
        let oldest = now.saturating_sub(RETENTION);
        let mut removed = 0;
        self.sessions.retain(|_, revocation| {
            revocation.sweeps += 1;
            let keep = revocation.at > oldest || revocation.sweeps < MIN_SWEEPS;
            removed += usize::from(!keep);
            keep
        });
        self.count.fetch_sub(removed, Ordering::AcqRel);
    }
}

/// Reads the sessions whose access tokens may still be valid, as if they had been revoked now.
pub(crate) async fn load_revocations(
    store: &dyn Store,
    now: Timestamp,
) -> Result<Vec<(SessionId, Timestamp)>, StoreUnavailable> {
    let sessions = store.list_sessions_revoked_since(now.saturating_sub(LOADED_AGE)).await?;
    Ok(sessions.into_iter().map(|session| (session, now)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::{Clock, SystemClock};

    fn sweep_often(revoked: &RevokedSessions, now: Timestamp) {
        (0..MIN_SWEEPS).for_each(|_| revoked.sweep(now));
    }

    #[test]
    fn session_is_kept_as_long_as_its_tokens_live() {
        let start = SystemClock.now();
        let (early, late) = (SessionId::new(), SessionId::new());
        let revoked = RevokedSessions::new();
        assert!(!revoked.contains(early));
        revoked.add(&[
            (early, start.saturating_add(Duration::from_secs(1))),
            (late, start.saturating_add(Duration::from_secs(61))),
            (early, start),
        ]);
        sweep_often(&revoked, start.saturating_add(ACCESS_TOKEN_LIFETIME + MAX_REFRESH_GRACE));
        assert!(revoked.contains(early) && revoked.contains(late));
        revoked.sweep(start.saturating_add(RETENTION + Duration::from_secs(1)));
        assert!(!revoked.contains(early) && revoked.contains(late));
        revoked.sweep(start.saturating_add(RETENTION + RETENTION));
        assert_eq!(revoked.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn clock_that_runs_ahead_and_back_revives_no_session() {
        let start = SystemClock.now();
        let session = SessionId::new();
        let revoked = RevokedSessions::new();
        revoked.add(&[(session, start)]);
        let ahead = start.saturating_add(Duration::from_secs(365 * 24 * 60 * 60));
        (1..MIN_SWEEPS).for_each(|_| revoked.sweep(ahead));
        assert!(revoked.contains(session), "its tokens are valid once the clock is right again");
        revoked.sweep(start);
        assert!(revoked.contains(session), "the clock decides, too");
        // After these sweeps the tokens have expired by any clock that was right at the start.
        revoked.sweep(ahead);
        assert!(!revoked.contains(session));
    }

    #[test]
    fn session_that_a_fast_clock_started_is_kept_until_its_tokens_expire() {
        let now = SystemClock.now();
        let session = SessionId::new();
        let revoked = RevokedSessions::new();
        // The clock that revoked it is an hour behind the one that started it.
        revoked.add(&[(session, now.saturating_sub(Duration::from_secs(60 * 60)))]);
        sweep_often(&revoked, now.saturating_add(ACCESS_TOKEN_LIFETIME));
        assert!(revoked.contains(session));
    }
}
