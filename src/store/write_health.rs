//! Whether the database takes changes. The last write tells, or a probe when it is some time ago.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::StoreUnavailable;

/// How long the result of a write counts. There is at most one probe in this time, however often
/// the health is checked, since everybody can check it.
const RESULT_LIFETIME: Duration = Duration::from_secs(1);

/// The result of the last write, and the probe that replaces one that is old.
#[derive(Default)]
pub(super) struct WriteHealth {
    last_write: Mutex<Option<LastWrite>>,
    /// Locked while a probe runs.
    probing: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy)]
struct LastWrite {
    at: Instant,
    succeeded: bool,
}

impl WriteHealth {
    /// Records that the database has taken a change, or that it failed to for a reason that
    /// concerns every change.
    pub(super) fn record(&self, succeeded: bool) {
        *self.lock_last_write() = Some(LastWrite { at: Instant::now(), succeeded });
    }

    /// Whether the last write failed.
    pub(super) fn has_failed(&self) -> bool {
        self.lock_last_write().is_some_and(|last| !last.succeeded)
    }

    /// Succeeds if the last write did. Runs `probe`, which writes something, if it was too long
    /// ago. Concurrent calls share one probe.
    pub(super) async fn check(
        &self,
        probe: impl Future<Output = Result<(), StoreUnavailable>>,
    ) -> Result<(), StoreUnavailable> {
        if let Some(result) = self.recent_result() {
            return result;
        }
        let _probing = self.probing.lock().await;
        if let Some(result) = self.recent_result() {
            return result;
        }
        let result = probe.await;
        self.record(result.is_ok());
        result
    }

    fn recent_result(&self) -> Option<Result<(), StoreUnavailable>> {
        let last = (*self.lock_last_write()).filter(|last| last.at.elapsed() < RESULT_LIFETIME)?;
        Some(if last.succeeded { Ok(()) } else { Err(StoreUnavailable) })
    }

    fn lock_last_write(&self) -> MutexGuard<'_, Option<LastWrite>> {
        self.last_write.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn recent_write_replaces_the_probe() {
        let health = WriteHealth::default();
        let no_probe = async || -> Result<(), StoreUnavailable> { panic!("probed") };
        for succeeded in [true, false, true] {
            health.record(succeeded);
            assert_eq!(health.check(no_probe()).await.is_ok(), succeeded);
            assert_eq!(health.has_failed(), !succeeded);
        }
    }

    #[tokio::test]
    async fn concurrent_checks_share_a_probe() {
        let (health, probes) = (WriteHealth::default(), AtomicUsize::new(0));
        let probe = async || {
            probes.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Err(StoreUnavailable)
        };
        let results = join_all((0..100).map(|_| health.check(probe()))).await;
        assert!(results.iter().all(Result::is_err) && health.has_failed());
        assert_eq!(probes.into_inner(), 1);
    }
}
