//! What the commands share.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use super::{Deps, login_limiter::Doorman};
use crate::{
    actors::commit_error::failure,
    domain::{
        account::{Password, Session, User},
        ids::UserId,
    },
    error::{Error, ErrorCode},
    events::Fact,
    messages::{
        accounts::GetUser,
        change::{Ticket, TraceParent},
    },
    store::{Commit, CommitError, Write},
};

/// How often a command decides again when another has changed the same account in the meantime.
const ATTEMPTS: u32 = 8;

/// Where the commands are carried out.
pub(super) struct Desk {
    pub(super) deps: Deps,
    pub(super) doorman: Doorman,
    turns: Turns,
}

/// What a command comes to, given what the store holds now.
pub(super) enum Decision<T> {
    /// This, with the answer once it is durable.
    Commit(Box<Commit>, T),
    /// Nothing to do.
    Nothing(T),
}

impl Desk {
    pub(super) fn new(deps: Deps) -> Self {
        let doorman = Doorman::new(deps.login_limit, Arc::clone(&deps.clock));
        Self { deps, doorman, turns: Turns::new() }
    }

    pub(super) async fn get_user(&self, message: GetUser) -> Result<User, Error> {
        let user = self.deps.store.user(message.user_id).await?;
        user.ok_or_else(|| Error::new(ErrorCode::NotFound, "There is no such account."))
    }

    pub(super) fn forget_old_sessions(&self) {
        self.deps.revoked.sweep(self.deps.clock.now());
    }

    /// A commit that begins now.
    pub(super) fn commit(&self, ticket: &Ticket, trace: Option<TraceParent>) -> Commit {
        Commit { trace, ..Commit::new(self.deps.clock.now(), ticket.deadline()) }
    }

    /// Has an account changed by one command at a time on this node. They would only meet in the store, and lose there by version:
    /// with many at once, some would lose more often than they may try.
    pub(super) async fn turn(&self, user: UserId) -> MutexGuard<'_, ()> {
        self.turns.take(user).await
    }

    /// Decides and commits, anew whenever the store has moved on in between.
    pub(super) async fn settle<T>(
        &self,
        ticket: &Ticket,
        mut decide: impl AsyncFnMut() -> Result<Decision<T>, Error>,
    ) -> Result<T, Error> {
        for _ in 0..ATTEMPTS {
            let (commit, answer) = match decide().await? {
                Decision::Commit(commit, answer) => (commit, answer),
                Decision::Nothing(answer) => return Ok(answer),
            };
            ticket.begin()?;
            match self.deps.writer.commit(*commit).await {
                Ok(_) => return Ok(answer),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(failure(error)),
            }
        }
        Err(failure(CommitError::Conflict))
    }

    /// `user`, when there is one and the password is its. Whatever the answer, it takes the same work.
    pub(super) async fn verified(
        &self,
        user: Option<User>,
        password: &Password,
        ticket: &Ticket,
    ) -> Result<Option<User>, Error> {
        let hasher = &self.deps.hasher;
        match user {
            Some(user) if password.could_be_chosen() => {
                let right = hasher
                    .verify(password.clone(), user.password_hash.clone(), ticket.deadline())
                    .await?;
                if !right && !hasher.is_current(&user.password_hash) {
                    // A hash from before the cost was raised is checked faster; that would tell that there is an account.
                    hasher.verify_nothing(ticket.deadline()).await?;
                }
                Ok(right.then_some(user))
            }
            _ => hasher.verify_nothing(ticket.deadline()).await.map(|()| None),
        }
    }

    /// The account behind a password that was verified, as it is now: when the hash has changed since, the password is checked again.
    pub(super) async fn still_verified(
        &self,
        verified: &mut User,
        password: &Password,
        ticket: &Ticket,
    ) -> Result<(), Error> {
        let user = self.deps.store.user(verified.id).await?;
        *verified = match user {
            Some(user) if user.password_hash == verified.password_hash => user,
            user => self.verified(user, password, ticket).await?.ok_or_else(invalid_credentials)?,
        };
        Ok(())
    }
}

/// The one answer to every login that fails.
pub(super) fn invalid_credentials() -> Error {
    Error::new(ErrorCode::InvalidCredentials, "The e-mail address or the password is wrong.")
}

/// A changed account's next version.
pub(super) fn changed(user: &User) -> User {
    User { version: user.version + 1, ..user.clone() }
}

/// Adds the end of `session` to a commit that writes `user`, who counts the events.
pub(super) fn revoke(
    session: &Session,
    user: &mut User,
    reason: &'static str,
    commit: &mut Commit,
) {
    user.events += 1;
    commit.writes.push(Write::Session(Arc::new(session.revoked(commit.at))));
    commit.facts.push(Fact::SessionRevoked {
        user_id: user.id,
        session_id: session.id,
        reason,
        sequence: user.events,
    });
}

/// Locks for more accounts than there are locks: two that share one wait for each other needlessly, which does no harm.
struct Turns([Mutex<()>; 64]);

impl Turns {
    fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }

    #[expect(clippy::indexing_slicing, reason = "the remainder is below the length")]
    async fn take(&self, user: UserId) -> MutexGuard<'_, ()> {
        // The last bits of a UUIDv7 are random.
        let [.., last] = *user.as_uuid().as_bytes();
        self.0[usize::from(last) % self.0.len()].lock().await
    }
}
