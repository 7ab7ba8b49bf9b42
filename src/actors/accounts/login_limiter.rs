//! Lets login attempts in, as the throttle allows.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::{Notify, Semaphore};

use super::throttle::{Admission, Subject, Throttle};
use crate::{
    domain::{account::Email, clock::Clock},
    error::{Error, ErrorCode},
};

/// Most attempts that wait for others to be decided.
const MAX_WAITING: usize = 256;

/// The throttle, shared by all logins of this node.
pub(super) struct Doorman {
    throttle: Mutex<Throttle>,
    clock: Arc<dyn Clock>,
    decided: Notify,
    waiting: Semaphore,
}

impl Doorman {
    pub(super) fn new(login_limit: u32, clock: Arc<dyn Clock>) -> Self {
        let throttle = Mutex::new(Throttle::new(login_limit));
        Self { throttle, clock, decided: Notify::new(), waiting: Semaphore::new(MAX_WAITING) }
    }

    /// Waits for its turn to try a password. To be called before anything is looked up.
    ///
    /// # Errors
    /// `rate_limited` when too many have failed; `overloaded` when `deadline` passes before it is known.
    pub(super) async fn admit(
        &self,
        email: Option<&Email>,
        address: IpAddr,
        deadline: Instant,
    ) -> Result<Attempt<'_>, Error> {
        let subjects = Subject::of(email, address);
        let mut place = None;
        loop {
            // Made before the look, so that no decision after it is missed.
            let decided = self.decided.notified();
            match self.throttle().admit(&subjects, self.clock.now()) {
                Admission::Granted => {
                    return Ok(Attempt { doorman: self, subjects, failed: false });
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
                place = Some(self.waiting.try_acquire().map_err(|_| Error::overloaded())?);
            }
            tokio::time::timeout_at(deadline.into(), decided)
                .await
                .map_err(|_| Error::overloaded())?;
        }
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt under way. Unless it is said to have failed, its end is forgiven: nobody has learnt anything about a password.
pub(super) struct Attempt<'a> {
    doorman: &'a Doorman,
    subjects: Vec<Subject>,
    failed: bool,
}

impl Attempt<'_> {
    /// The password was wrong.
    pub(super) fn fail(mut self) {
        self.failed = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let now = self.doorman.clock.now();
        let mut throttle = self.doorman.throttle();
        if self.failed {
            throttle.fail(&self.subjects, now);
        } else {
            throttle.forgive(&self.subjects);
        }
        drop(throttle);
        self.doorman.decided.notify_waiters();
    }
}
