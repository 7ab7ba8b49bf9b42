//! How long the steps of a transaction may take, and how long to wait before a retry.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::transaction_error::ErrorClass;
use crate::store::commit::{Commit, CommitError};

/// How long before its deadline a commit's transaction must be ready to commit, so that the caller
/// gets an error in time.
pub(super) const REPLY_MARGIN: Duration = Duration::from_millis(100);

/// How long the steps of a transaction may take at least, even if that is too long for the commits
/// of the batch with the nearest deadlines.
const MIN_STEP_TIME: Duration = Duration::from_millis(250);

/// The first and the longest pause after a conflict.
const CONFLICT_BACKOFF: (Duration, Duration) =
    (Duration::from_micros(500), Duration::from_millis(20));

/// The first and the longest pause while the server is unavailable.
const UNAVAILABLE_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_millis(200));

/// The pauses between the attempts to apply one batch.
#[derive(Default)]
pub(super) struct RetryBackoff {
    last_class: Option<ErrorClass>,
    delay: Duration,
}

impl RetryBackoff {
    /// The outcome of a commit that runs out of time now. `None` before the first retry.
    pub(super) fn last_error(&self) -> Option<CommitError> {
        match self.last_class? {
            ErrorClass::Aborted | ErrorClass::PartitionLost => Some(CommitError::Overloaded),
            _ => Some(CommitError::Unavailable),
        }
    }

    /// How much time a commit must have left for a retry. After a conflict, a retry mostly takes no
    /// longer than the last attempt; a server that was unavailable needs more time.
    pub(super) fn min_retry_time(&self) -> Duration {
        match self.last_class {
            Some(ErrorClass::Unavailable) => REPLY_MARGIN + MIN_STEP_TIME,
            _ => REPLY_MARGIN,
        }
    }

    /// Waits after an error of `class`.
    pub(super) async fn wait(&mut self, class: ErrorClass) {
        let (first, longest) = match class {
            ErrorClass::Aborted | ErrorClass::PartitionLost => CONFLICT_BACKOFF,
            _ => UNAVAILABLE_BACKOFF,
        };
        if self.last_class != Some(class) {
            self.delay = first;
        }
        self.last_class = Some(class);
        // The jitter keeps two nodes that conflicted once from conflicting again.
        sleep(self.delay.mul_f64(rand::random_range(0.5..=1.0))).await;
        self.delay = (self.delay * 3 / 2).min(longest);
    }
}

/// When the steps of a transaction must be done, and when its commit.
pub(super) struct TransactionDeadlines {
    pub(super) step_deadline: tokio::time::Instant,
    pub(super) commit_deadline: tokio::time::Instant,
}

impl TransactionDeadlines {
    /// The steps end before the nearest deadline in the batch, because they can still be abandoned.
    /// The commit may take until the farthest: giving it up would leave its outcome unknown.
    pub(super) fn for_batch(batch: &[Commit], timeout: Duration) -> Self {
        let now = Instant::now();
        let deadlines = batch.iter().map(|commit| commit.deadline);
        let (nearest, farthest) =
            (deadlines.clone().min().unwrap_or(now), deadlines.max().unwrap_or(now));
        let latest = farthest.min(now + timeout).max(now + REPLY_MARGIN);
        let steps = (nearest - REPLY_MARGIN).max(now + MIN_STEP_TIME).min(latest);
        Self { step_deadline: steps.into(), commit_deadline: latest.into() }
    }
}
