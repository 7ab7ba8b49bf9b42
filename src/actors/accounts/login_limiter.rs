//! Limits failed logins: per account and per network, and on its own for each account at a network
//! that it is known at.
//!
//! Somebody who fails on purpose thereby locks an account, or a network, but nobody who is known
//! there. The store counts for all nodes, and it decides: of attempts that run side by side on
//! several nodes, those whose failures are counted beyond the limit are refused, too. So guesses
//! gain nothing from being spread over nodes. The throttle of this node keeps most of them from
//! being hashed at all.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::{Notify, Semaphore};

use super::{
    failure_counters::{Admission, Throttle},
    hash_queue::{HashClass, HashOrigin},
};
use crate::{
    auth::login_keys::{DerivedKeys, LoginKeys},
    domain::{
        account::{Email, User, client_network, login_failures::LoginKey},
        clock::Clock,
    },
    error::{Error, ErrorCode},
    store::Store,
};

/// The maximum number of attempts that wait for others to end.
const MAX_WAITING_LOGINS: usize = 256;

/// Where a login comes from, and what its failure counts under.
pub(super) struct LoginOrigin {
    /// The client's network, and whether the account is known there.
    pub(super) hash_origin: HashOrigin,
    counted_under: Vec<LoginKey>,
}

/// Admits the login attempts of this node.
pub(super) struct LoginLimiter {
    limit: u32,
    keys: LoginKeys,
    store: Arc<dyn Store>,
    throttle: Mutex<Throttle>,
    clock: Arc<dyn Clock>,
    attempt_ended: Notify,
    waiting_slots: Semaphore,
}

impl LoginLimiter {
    /// Allows `limit` failures per minute; 0 disables the limit.
    pub(super) fn new(
        limit: u32,
        keys: LoginKeys,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            limit,
            keys,
            store,
            throttle: Mutex::new(Throttle::new(limit)),
            clock,
            attempt_ended: Notify::new(),
            waiting_slots: Semaphore::new(MAX_WAITING_LOGINS),
        }
    }

    /// The keys of an account at the network of `address`.
    pub(super) fn pair_keys(&self, email: &Email, address: IpAddr) -> DerivedKeys {
        self.keys.for_pair(email, address)
    }

    /// Finds out what a login counts under: `user` is the account with the address `email`, if
    /// there is one.
    pub(super) fn find_origin(
        &self,
        email: Option<&Email>,
        user: Option<&User>,
        address: IpAddr,
    ) -> LoginOrigin {
        let network = client_network(address);
        let pair = email.map(|email| self.pair_keys(email, address));
        let now = self.clock.now();
        if let (Some(user), Some(pair)) = (user, pair)
            && pair.iter().any(|key| user.knows_network(key, now))
        {
            let hash_origin = HashOrigin { class: HashClass::KnownLogin, network };
            return LoginOrigin { hash_origin, counted_under: pair.iter().collect() };
        }
        let account = email.map(|email| self.keys.for_account(email));
        let keys = account.into_iter().chain([self.keys.for_network(address)]);
        let counted_under = keys.flat_map(DerivedKeys::iter).collect();
        let hash_origin = HashOrigin { class: HashClass::Login, network };
        LoginOrigin { hash_origin, counted_under }
    }

    /// Waits until a login attempt is admitted. Call this before the password is looked at.
    ///
    /// # Errors
    /// `rate_limited` if too many logins have failed; `overloaded` if too many attempts wait or
    /// `deadline` passes; `store_unavailable`.
    pub(super) async fn admit_login(
        &self,
        origin: &LoginOrigin,
        deadline: Instant,
    ) -> Result<LoginAttempt<'_>, Error> {
        let keys = if self.limit == 0 { Vec::new() } else { origin.counted_under.clone() };
        let mut waiting_slot = None;
        loop {
            // Created before the check, so that no attempt that ends after it is missed.
            let next_end = self.attempt_ended.notified();
            let mut admission = self.lock_throttle().check(&keys, self.clock.now());
            if admission == Admission::Granted && !keys.is_empty() {
                let stored = self.store.find_login_failures(keys.clone()).await?;
                admission = self.lock_throttle().try_admit(&keys, &stored, self.clock.now());
            }
            match admission {
                Admission::Granted => return Ok(LoginAttempt { login_limiter: self, keys }),
                Admission::Refused { retry_after } => return Err(too_many_failures(retry_after)),
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

/// A login attempt in progress. If it is dropped, it does not count: only a wrong password does.
pub(super) struct LoginAttempt<'a> {
    login_limiter: &'a LoginLimiter,
    keys: Vec<LoginKey>,
}

impl LoginAttempt<'_> {
    /// Ends the attempt as failed: the password was wrong.
    ///
    /// # Errors
    /// `rate_limited` if attempts on other nodes have reached the limit meanwhile: then nobody may
    /// learn that the password was wrong. `store_unavailable` if the failure cannot be counted.
    pub(super) async fn count_failure(mut self) -> Result<(), Error> {
        let limiter = self.login_limiter;
        let now = limiter.clock.now();
        if self.keys.is_empty() {
            return Ok(());
        }
        let windows = limiter.store.count_login_failure(self.keys.clone(), now).await?;
        let keys = std::mem::take(&mut self.keys);
        let retry_after = {
            let mut throttle = limiter.lock_throttle();
            throttle.end_failed(&keys, &windows, now);
            let exceeded = windows.iter().filter(|window| window.failures > limiter.limit);
            exceeded.filter_map(|window| throttle.retry_after(window, now)).max()
        };
        limiter.attempt_ended.notify_waiters();
        retry_after.map_or(Ok(()), |seconds| Err(too_many_failures(seconds)))
    }

    /// Ends the attempt as successful: the password was right.
    ///
    /// # Errors
    /// `rate_limited` if attempts on other nodes have reached the limit meanwhile;
    /// `store_unavailable`.
    pub(super) async fn confirm_success(self) -> Result<(), Error> {
        let limiter = self.login_limiter;
        // Without other nodes, the throttle has counted all attempts in progress.
        if self.keys.is_empty() || !limiter.store.is_shared() {
            return Ok(());
        }
        let now = limiter.clock.now();
        let stored = limiter.store.find_login_failures(self.keys.clone()).await?;
        let throttle = limiter.lock_throttle();
        let retry_after =
            stored.iter().flatten().filter_map(|window| throttle.retry_after(window, now)).max();
        // Dropping the attempt locks the throttle.
        drop(throttle);
        retry_after.map_or(Ok(()), |seconds| Err(too_many_failures(seconds)))
    }
}

impl Drop for LoginAttempt<'_> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            let now = self.login_limiter.clock.now();
            self.login_limiter.lock_throttle().release_attempt(&self.keys, now);
            self.login_limiter.attempt_ended.notify_waiters();
        }
    }
}

fn too_many_failures(retry_after: u64) -> Error {
    Error::new(ErrorCode::RateLimited, "Too many logins have failed. Wait, then try again.")
        .with_retry_after(retry_after)
}
