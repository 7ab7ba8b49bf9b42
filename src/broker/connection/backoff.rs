//! Delays between attempts, and a log that names each problem once.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::broker::BrokerError;

/// Delays between attempts at work on a connection that is alive.
const WORK_BACKOFF: ExponentialBuilder =
    endless_backoff(Duration::from_millis(100), Duration::from_secs(5));

/// Work that ran this long was healthy: its next failure is treated as the first one.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Delays that double from `min` up to `max`, for as many attempts as it takes.
pub(in crate::broker) const fn endless_backoff(min: Duration, max: Duration) -> ExponentialBuilder {
    ExponentialBuilder::new().with_min_delay(min).with_max_delay(max).without_max_times()
}

/// The next of the delays that [`endless_backoff`] describes.
pub(super) fn next_delay(backoff: &mut ExponentialBackoff) -> Duration {
    // An endless backoff always has a next delay.
    backoff.next().unwrap_or(Duration::from_secs(1))
}

/// Remembers the last problem in the log, so that a retry loop does not repeat it.
#[derive(Default)]
pub(super) struct LastLogged(Option<String>);

impl LastLogged {
    /// Records a problem. Returns whether it differs from the one before.
    pub(super) fn record(&mut self, problem: &str) -> bool {
        let is_new = self.0.as_deref() != Some(problem);
        if is_new {
            self.0 = Some(problem.to_owned());
        }
        is_new
    }
}

/// The delays and the log of work that fails repeatedly.
pub(super) struct RetryState {
    backoff: ExponentialBackoff,
    last_logged: LastLogged,
}

impl RetryState {
    pub(super) fn new() -> Self {
        Self { backoff: WORK_BACKOFF.build(), last_logged: LastLogged::default() }
    }

    /// How long to wait before the next attempt.
    pub(super) fn next_delay(&mut self) -> Duration {
        next_delay(&mut self.backoff)
    }

    /// Starts over with the shortest delay.
    pub(super) fn reset_delay(&mut self) {
        self.backoff = WORK_BACKOFF.build();
    }

    /// Logs a failure of `task`, unless it is the same as the last one. Returns whether it did.
    pub(super) fn log_once(&mut self, task: &'static str, error: &BrokerError) -> bool {
        let is_new = self.last_logged.record(&error.to_string());
        if !is_new {
            tracing::debug!(%error, task, "broker task failed again; retrying");
        } else if matches!(error, BrokerError::Panicked) {
            tracing::error!(%error, task, "broker task failed; restarting it");
        } else {
            tracing::warn!(%error, task, "broker task failed; retrying until it succeeds");
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::OutboxPosition;

    #[test]
    fn repeated_error_is_logged_once() {
        let mut retries = RetryState::new();
        let position = OutboxPosition { partition: 0, offset: 7 };
        let logged = [
            BrokerError::EventRejected(position),
            BrokerError::EventRejected(position),
            BrokerError::Timeout,
            BrokerError::EventRejected(position),
        ]
        .map(|error| retries.log_once("relay", &error));
        assert_eq!(logged, [true, false, true, true]);
    }

    #[test]
    fn delays_double_up_to_the_limit_until_they_are_reset() {
        let mut retries = RetryState::new();
        let mut delays = [0; 8].map(|_: u8| retries.next_delay().as_millis());
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        retries.reset_delay();
        delays = [0; 8].map(|_: u8| retries.next_delay().as_millis());
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }
}
