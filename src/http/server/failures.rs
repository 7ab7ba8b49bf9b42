//! Reports why a connection failed.
//!
//! The framework logs a line for every malformed head, before any rate limit can count it. That log
//! is off (see `telemetry`); this module counts all of them and logs a few.

use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
};

use actix_http::error::DispatchError;
use governor::{DefaultDirectRateLimiter, Quota};

use crate::admission::connection_limiter::ConnectionLimiter;

/// Logs of malformed requests: one each ten seconds.
static LOG_LIMIT: LazyLock<DefaultDirectRateLimiter> = LazyLock::new(|| {
    let quota = Quota::with_period(std::time::Duration::from_secs(10));
    DefaultDirectRateLimiter::direct(quota.unwrap_or(Quota::per_minute(std::num::NonZeroU32::MIN)))
});

/// Malformed requests since the last log line.
static UNREPORTED: AtomicU64 = AtomicU64::new(0);

/// Counts and logs the failure of a connection, if somebody should know of it.
pub(super) fn report_failure(error: &DispatchError, limiter: &ConnectionLimiter) {
    match error {
        DispatchError::Parse(error) => {
            limiter.metrics().malformed.inc();
            let count = UNREPORTED.fetch_add(1, Ordering::Relaxed) + 1;
            if LOG_LIMIT.check().is_ok() {
                UNREPORTED.fetch_sub(count, Ordering::Relaxed);
                tracing::warn!(%error, count, "closed connections after malformed requests");
            }
        }
        DispatchError::Body(error) => tracing::error!(%error, "failed to produce a response"),
        DispatchError::Service(_) | DispatchError::InternalError => {
            tracing::error!(%error, "failed to serve a connection");
        }
        // The client went away, or was too slow.
        _ => {}
    }
}
