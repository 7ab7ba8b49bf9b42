//! State and helpers that the account commands share.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Mutex, MutexGuard};

use super::{AccountDeps, hash_queue::HashOrigin, login_limiter::LoginLimiter};
use crate::{
    actors::retry_on_conflict::{CommandRetry, Decision, is_conflict},
    domain::{
        account::{Password, RevocationReason, Session, User},
        ids::UserId,
    },
    error::{Error, ErrorCode},
    events::DomainEvent,
    messages::{
        accounts::GetUser,
        command_context::{CommandContext, Reply, Ticket, TraceParent},
    },
    store::{Commit, CommitReceipt, StoreUnavailable, Write},
};

/// The pause before the store is asked again.
const STORE_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Implements the account commands.
pub(super) struct AccountService {
    pub(super) deps: AccountDeps,
    pub(super) login_limiter: LoginLimiter,
    account_locks: StripedLocks,
}

/// An account whose password was right.
pub(super) struct VerifiedUser {
    pub(super) user: User,
    /// Whether the hash has another cost than new ones, or is of the password as typed instead of
    /// normalized.
    pub(super) is_hash_outdated: bool,
}

impl AccountService {
    pub(super) fn new(deps: AccountDeps) -> Self {
        let login_limiter = LoginLimiter::new(
            deps.login_limit,
            deps.login_keys.clone(),
            Arc::clone(&deps.store),
            Arc::clone(&deps.clock),
        );
        Self { deps, login_limiter, account_locks: StripedLocks::new() }
    }

    pub(super) async fn get_user(&self, message: GetUser) -> Result<User, Error> {
        let user = self.deps.store.find_user(message.user_id).await?;
        user.ok_or_else(Error::user_not_found)
    }

    /// Tells the hasher the highest cost that an account has. Tries until the store answers.
    pub(super) async fn find_highest_cost(&self) {
        loop {
            match self.deps.store.greatest_password_hash().await {
                Ok(Some(hash)) => return self.deps.hasher.raise_reference_cost(&hash),
                Ok(None) => return,
                // The store has logged the reason.
                Err(StoreUnavailable) => tokio::time::sleep(STORE_RETRY_INTERVAL).await,
            }
        }
    }

    pub(super) fn sweep_revoked_sessions(&self) {
        self.deps.revoked.sweep(self.deps.clock.now());
    }

    /// Creates an empty commit with the current time and the ticket's deadline.
    pub(super) fn build_commit(&self, ticket: &Ticket, trace: Option<TraceParent>) -> Commit {
        Commit { trace, ..Commit::new(self.deps.clock.now(), ticket.deadline()) }
    }

    /// Locks an account, so that this node runs one change of it at a time. Without the lock,
    /// concurrent commands would conflict in the store, and some would run out of attempts.
    pub(super) async fn lock_account(&self, user: UserId) -> MutexGuard<'_, ()> {
        self.account_locks.lock_for(user).await
    }

    /// Runs a command and retries it on conflicts. The request has no idempotency key.
    pub(super) async fn decide_and_commit<T, F: FnOnce(CommitReceipt) -> T>(
        &self,
        ticket: &Ticket,
        decide: impl AsyncFnMut() -> Result<Decision<T, F>, Error>,
    ) -> Result<T, Error> {
        let context = CommandContext {
            idempotency_key: None,
            if_match: None,
            ticket: ticket.clone(),
            trace: None,
            action: None,
        };
        let retry = CommandRetry {
            store: &*self.deps.store,
            writer: &self.deps.writer,
            clock: &*self.deps.clock,
            follower: None,
            is_conflict,
        };
        // Each decision reads the store, so there is nothing to refresh.
        match retry.retry_on_conflict(&context, decide, async || Ok(())).await? {
            Reply::Completed(reply) => Ok(reply),
            // Without an idempotency key, no response is stored.
            Reply::Replayed(_) => Err(Error::internal()),
        }
    }

    /// Returns `user` if it exists and the password is right. An account takes the same time as an
    /// unknown address, so that the response time does not reveal whether the account exists: each
    /// form of the password costs one hash, and a password without any costs one, too.
    pub(super) async fn verify_credentials(
        &self,
        user: Option<User>,
        password: &Password,
        origin: HashOrigin,
        ticket: &Ticket,
    ) -> Result<Option<VerifiedUser>, Error> {
        let (hasher, deadline) = (&self.deps.hasher, ticket.deadline());
        let hash = user.as_ref().map(|user| user.password_hash.clone());
        let forms = password.forms();
        if forms.is_empty() {
            hasher.verify(origin, password.clone(), None, deadline).await?;
        }
        for (index, form) in forms.into_iter().enumerate() {
            let matches = hasher.verify(origin, form, hash.clone(), deadline).await?;
            if let (true, Some(user)) = (matches, &user) {
                let is_hash_outdated = index > 0 || !hasher.has_current_cost(&user.password_hash);
                return Ok(Some(VerifiedUser { user: user.clone(), is_hash_outdated }));
            }
        }
        Ok(None)
    }

    /// Reads a verified account again. If its password hash has changed since, verifies the
    /// password again.
    pub(super) async fn reverify_credentials(
        &self,
        verified: &mut User,
        password: &Password,
        origin: HashOrigin,
        ticket: &Ticket,
    ) -> Result<(), Error> {
        let user = self.deps.store.find_user(verified.id).await?;
        *verified = match user {
            Some(user) if user.password_hash == verified.password_hash => user,
            user => {
                self.verify_credentials(user, password, origin, ticket)
                    .await?
                    .ok_or_else(invalid_credentials)?
                    .user
            }
        };
        Ok(())
    }
}

/// The error of every failed login. It is always the same, so that it does not reveal the cause.
pub(super) fn invalid_credentials() -> Error {
    Error::new(ErrorCode::InvalidCredentials, "The e-mail address or the password is wrong.")
}

/// A copy of the account with its version incremented, for a commit that changes it.
pub(super) fn with_next_version(user: &User) -> User {
    User { version: user.version + 1, ..user.clone() }
}

/// Adds the revocation of `session` to a commit and increments the event sequence of `user`, which
/// the caller adds to the same commit.
pub(super) fn add_revocation(
    session: &Session,
    user: &mut User,
    reason: RevocationReason,
    commit: &mut Commit,
) {
    user.event_sequence += 1;
    commit.writes.push(Write::Session(Arc::new(session.to_revoked(commit.decided_at))));
    commit.events.push(DomainEvent::SessionRevoked {
        user_id: user.id,
        session_id: session.id,
        reason,
        sequence: user.event_sequence,
    });
}

/// A fixed number of locks for any number of accounts. Accounts that share a lock sometimes wait
/// for each other, which is harmless.
struct StripedLocks([Mutex<()>; 64]);

impl StripedLocks {
    fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }

    #[expect(clippy::indexing_slicing, reason = "the remainder is below the length")]
    async fn lock_for(&self, user: UserId) -> MutexGuard<'_, ()> {
        // The last bits of a UUIDv7 are random.
        let [.., last] = *user.as_uuid().as_bytes();
        self.0[usize::from(last) % self.0.len()].lock().await
    }
}
