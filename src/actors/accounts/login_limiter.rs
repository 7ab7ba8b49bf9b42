//! Admits login attempts: asks the throttle, and waits while it says so.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::{Notify, Semaphore};

use super::login_throttle::{Admission, Throttle, ThrottleKey};
use crate::{
    domain::{account::Email, clock::Clock},
    error::{Error, ErrorCode},
};

/// The maximum number of attempts that wait for others to end.
const MAX_WAITING_LOGINS: usize = 256;

/// Admits the login attempts of this node, as the throttle that they share allows.
pub(super) struct LoginLimiter {
    throttle: Mutex<Throttle>,
    clock: Arc<dyn Clock>,
    attempt_ended: Notify,
    waiting_slots: Semaphore,
}

impl LoginLimiter {
    pub(super) fn new(login_limit: u32, clock: Arc<dyn Clock>) -> Self {
        let throttle = Mutex::new(Throttle::new(login_limit));
        Self {
            throttle,
            clock,
            attempt_ended: Notify::new(),
            waiting_slots: Semaphore::new(MAX_WAITING_LOGINS),
        }
    }

    /// Waits until the throttle admits a login attempt. Call this before any lookup.
    ///
    /// # Errors
    /// `rate_limited` if too many logins have failed; `overloaded` if too many attempts wait or
    /// `deadline` passes.
    pub(super) async fn admit_login(
        &self,
        email: Option<&Email>,
        address: IpAddr,
        deadline: Instant,
    ) -> Result<LoginAttempt<'_>, Error> {
        let keys = ThrottleKey::for_login(email, address);
        let mut waiting_slot = None;
        loop {
            // Created before the check, so that no attempt that ends after it is missed.
            let next_end = self.attempt_ended.notified();
            match self.lock_throttle().try_admit(&keys, self.clock.now()) {
                Admission::Granted => {
                    return Ok(LoginAttempt { login_limiter: self, keys, failed: false });
                }
                Admission::Refused { retry_after } => {
                    let detail = "Too many logins have failed. Wait, then try again.";
                    return Err(
                        Error::new(ErrorCode::RateLimited, detail).with_retry_after(retry_after)
                    );
                }
                Admission::Wait => {}
            }
            if waiting_slot.is_none() {
                waiting_slot =
                    Some(self.waiting_slots.try_acquire().map_err(|_| Error::overloaded())?);
            }
            tokio::time::timeout_at(deadline.into(), next_end)
                .await
                .map_err(|_| Error::overloaded())?;
        }
    }

    fn lock_throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A login attempt in progress. Dropping it counts as a failure only after
/// [`mark_failed`](Self::mark_failed): any other end reveals nothing about a password.
pub(super) struct LoginAttempt<'a> {
    login_limiter: &'a LoginLimiter,
    keys: Vec<ThrottleKey>,
    failed: bool,
}

impl LoginAttempt<'_> {
    /// Ends the attempt as failed: the password was wrong.
    pub(super) fn mark_failed(mut self) {
        self.failed = true;
    }
}

impl Drop for LoginAttempt<'_> {
    fn drop(&mut self) {
        let now = self.login_limiter.clock.now();
        let mut throttle = self.login_limiter.lock_throttle();
        if self.failed {
            throttle.record_failure(&self.keys, now);
        } else {
            throttle.release_attempt(&self.keys);
        }
        drop(throttle);
        self.login_limiter.attempt_ended.notify_waiters();
    }
}
