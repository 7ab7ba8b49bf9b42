//! What the commands share.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use super::{AccountDeps, login_limiter::LoginLimiter};
use crate::{
    actors::commit_error::map_commit_error,
    domain::{
        account::{Password, RevocationReason, Session, User},
        ids::UserId,
    },
    error::{Error, ErrorCode},
    events::DomainEvent,
    messages::{
        accounts::GetUser,
        change::{Ticket, TraceParent},
    },
    store::{Commit, CommitError, Write},
};

/// How often a command decides again when another has changed the same account in the meantime.
const MAX_COMMIT_ATTEMPTS: u32 = 8;

/// Where the commands are carried out.
pub(super) struct AccountService {
    pub(super) deps: AccountDeps,
    pub(super) login_limiter: LoginLimiter,
    account_locks: StripedLocks,
}

/// What a command comes to, given what the store holds now.
pub(super) enum Decision<T> {
    /// This, with the answer once it is durable.
    Commit(Box<Commit>, T),
    /// Nothing to do.
    NoChange(T),
}

impl AccountService {
    pub(super) fn new(deps: AccountDeps) -> Self {
        let login_limiter = LoginLimiter::new(deps.login_limit, Arc::clone(&deps.clock));
        Self { deps, login_limiter, account_locks: StripedLocks::new() }
    }

    pub(super) async fn get_user(&self, message: GetUser) -> Result<User, Error> {
        let user = self.deps.store.find_user(message.user_id).await?;
        user.ok_or_else(|| Error::new(ErrorCode::NotFound, "There is no such account."))
    }

    pub(super) fn sweep_revoked_sessions(&self) {
        self.deps.revoked.sweep(self.deps.clock.now());
    }

    /// A commit that begins now.
    pub(super) fn build_commit(&self, ticket: &Ticket, trace: Option<TraceParent>) -> Commit {
        Commit { trace, ..Commit::new(self.deps.clock.now(), ticket.deadline()) }
    }

    /// Has an account changed by one command at a time on this node. They would only meet in the store, and lose there by version:
    /// with many at once, some would lose more often than they may try.
    pub(super) async fn lock_account(&self, user: UserId) -> MutexGuard<'_, ()> {
        self.account_locks.lock_for(user).await
    }

    /// Decides and commits, anew whenever the store has moved on in between.
    pub(super) async fn decide_and_commit<T>(
        &self,
        ticket: &Ticket,
        mut decide: impl AsyncFnMut() -> Result<Decision<T>, Error>,
    ) -> Result<T, Error> {
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let (commit, answer) = match decide().await? {
                Decision::Commit(commit, answer) => (commit, answer),
                Decision::NoChange(answer) => return Ok(answer),
            };
            ticket.mark_started()?;
            match self.deps.writer.commit(*commit).await {
                Ok(_) => return Ok(answer),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(map_commit_error(error)),
            }
        }
        Err(map_commit_error(CommitError::Conflict))
    }

    /// `user`, when there is one and the password is its. Whatever the answer, it takes the same work.
    pub(super) async fn verify_credentials(
        &self,
        user: Option<User>,
        password: &Password,
        ticket: &Ticket,
    ) -> Result<Option<User>, Error> {
        let hasher = &self.deps.hasher;
        match user {
            Some(user) if password.meets_policy() => {
                let right = hasher
                    .verify(password.clone(), user.password_hash.clone(), ticket.deadline())
                    .await?;
                if !right && !hasher.has_current_cost(&user.password_hash) {
                    // A hash from before the cost was raised is checked faster; that would tell that there is an account.
                    hasher.verify_dummy(ticket.deadline()).await?;
                }
                Ok(right.then_some(user))
            }
            _ => hasher.verify_dummy(ticket.deadline()).await.map(|()| None),
        }
    }

    /// The account behind a password that was verified, as it is now: when the hash has changed since, the password is checked again.
    pub(super) async fn reverify_credentials(
        &self,
        verified: &mut User,
        password: &Password,
        ticket: &Ticket,
    ) -> Result<(), Error> {
        let user = self.deps.store.find_user(verified.id).await?;
        *verified = match user {
            Some(user) if user.password_hash == verified.password_hash => user,
            user => self
                .verify_credentials(user, password, ticket)
                .await?
                .ok_or_else(invalid_credentials)?,
        };
        Ok(())
    }
}

/// The one answer to every login that fails.
pub(super) fn invalid_credentials() -> Error {
    Error::new(ErrorCode::InvalidCredentials, "The e-mail address or the password is wrong.")
}

/// A changed account's next version.
pub(super) fn with_next_version(user: &User) -> User {
    User { version: user.version + 1, ..user.clone() }
}

/// Adds the end of `session` to a commit that writes `user`, who counts the events.
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

/// Locks for more accounts than there are locks: two that share one wait for each other needlessly, which does no harm.
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
