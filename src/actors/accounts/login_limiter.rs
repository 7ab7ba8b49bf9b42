//! Lets login attempts in, as the throttle allows.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::{Notify, Semaphore};

use super::throttle::{Admission, Throttle, ThrottleKey};
use crate::{
    domain::{account::Email, clock::Clock},
    error::{Error, ErrorCode},
};

/// Most attempts that wait for others to be decided.
const MAX_WAITING_LOGINS: usize = 256;

/// The throttle, shared by all logins of this node.
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

    /// Waits for its turn to try a password. To be called before anything is looked up.
    ///
    /// # Errors
    /// `rate_limited` when too many have failed; `overloaded` when `deadline` passes before it is known.
    pub(super) async fn admit_login(
        &self,
        email: Option<&Email>,
        address: IpAddr,
        deadline: Instant,
    ) -> Result<LoginAttempt<'_>, Error> {
        let subjects = ThrottleKey::for_login(email, address);
        let mut place = None;
        loop {
            // Made before the look, so that no decision after it is missed.
            let decided = self.attempt_ended.notified();
            match self.lock_throttle().try_admit(&subjects, self.clock.now()) {
                Admission::Granted => {
                    return Ok(LoginAttempt { login_limiter: self, keys: subjects, failed: false });
                }
                Admission::Refused { retry_after } => {
                    let detail = "Too many logins have failed. Wait, then try again.";
                    return Err(
                        Error::new(ErrorCode::RateLimited, detail).with_retry_after(retry_after)
                    );
                }
                Admission::Wait => {}
            }
            if place.is_none() {
                place = Some(self.waiting_slots.try_acquire().map_err(|_| Error::overloaded())?);
            }
            tokio::time::timeout_at(deadline.into(), decided)
                .await
                .map_err(|_| Error::overloaded())?;
        }
    }

    fn lock_throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt under way. Unless it is said to have failed, its end is forgiven: nobody has learnt anything about a password.
pub(super) struct LoginAttempt<'a> {
    login_limiter: &'a LoginLimiter,
    keys: Vec<ThrottleKey>,
    failed: bool,
}

impl LoginAttempt<'_> {
    /// The password was wrong.
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
