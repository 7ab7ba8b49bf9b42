//! The decide-and-commit loop that all actors share. It retries a command after each conflict, and
//! answers a repeated request with the response that is stored under its `Idempotency-Key`: the
//! commit of the repeat finds it, and so does the look-up after a decision that has no commit.

use bytes::Bytes;

use super::commit_error::map_commit_error;
use crate::{
    cache::follower::Follower,
    domain::{clock::Clock, ids::UserId},
    error::Error,
    messages::command_context::{CommandContext, Reply, StoredReply},
    store::{
        Commit, CommitError, CommitReceipt, Store, StoreUnavailable,
        commit::{IdempotencyRecord, StoredReplyBody},
        writer::CommitWriter,
    },
};

/// The most times a command is decided. Each conflict means that another command committed. Usually
/// the request's deadline expires first, but a slow node may lose many races before it wins one.
const MAX_ATTEMPTS: usize = 128;

/// The decision on a command, based on the current state. A refusal is an [`Error`] instead.
pub(crate) enum Decision<T, F> {
    /// Apply this commit, then call the function to turn the receipt into the reply.
    Commit(Box<Commit>, F),
    /// The state is already as requested, so there is nothing to commit.
    NoChange {
        /// The reply to the caller.
        reply: T,
        /// The response body to store for repeats of the request.
        body: Bytes,
    },
}

/// The dependencies of the retry loop.
pub(crate) struct CommandRetry<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) writer: &'a CommitWriter,
    pub(crate) clock: &'a dyn Clock,
    /// Set when decisions use caches that may lag behind other nodes.
    pub(crate) follower: Option<&'a Follower>,
    /// Whether a commit error is a conflict; see [`is_conflict`].
    pub(crate) is_conflict: fn(&CommitError) -> bool,
}

/// The usual conflict: the version of a record changed after the decision.
pub(crate) fn is_conflict(error: &CommitError) -> bool {
    *error == CommitError::Conflict
}

impl CommandRetry<'_> {
    /// Decides a command and commits the decision, and repeats both after each conflict.
    ///
    /// No lock spans nodes. Each command decides on the version it knows, and the store applies the
    /// commit only if that version is still current. A conflict therefore means only that the
    /// decision is outdated: `refresh` loads the newer state, and `decide` runs again. Clients
    /// never see a conflict. `refresh` also runs before the response of an earlier commit is
    /// returned.
    ///
    /// A refusal, or a decision to change nothing, makes no commit that could find the state
    /// outdated. If the decision used a cache, the cache is refreshed once and `decide` runs again.
    /// With an `Idempotency-Key`, the stored response of the first attempt then takes precedence
    /// over a refusal, and a separate commit stores a reply that changed nothing. Otherwise a late
    /// repeat could undo later changes.
    ///
    /// # Errors
    /// The command is refused, the store fails, or there are too many conflicts (`overloaded`).
    pub(crate) async fn retry_on_conflict<T, F: FnOnce(CommitReceipt) -> T>(
        &self,
        context: &CommandContext,
        mut decide: impl AsyncFnMut() -> Result<Decision<T, F>, Error>,
        mut refresh: impl AsyncFnMut() -> Result<(), Error>,
    ) -> Result<Reply<T>, Error> {
        let mut refresh_once = RefreshOnce { follower: self.follower };
        for _ in 0..MAX_ATTEMPTS {
            let (mut commit, into_reply) = match decide().await {
                Ok(Decision::Commit(commit, into_reply)) => (commit, into_reply),
                _ if refresh_once.refresh_if_first().await? => continue,
                Ok(Decision::NoChange { reply, body }) => {
                    return self.remember_no_change(context, reply, body).await;
                }
                Err(error) => return self.replay_or_refuse(context, error).await,
            };
            context.ticket.mark_started()?;
            commit.action.clone_from(&context.action);
            match self.writer.commit(*commit).await {
                Ok(receipt) => return Ok(Reply::Completed(into_reply(receipt))),
                Err(CommitError::Replayed(response)) => {
                    // The first attempt may have run on another node, and the caller may read its
                    // change here next. A failure does not change the reply.
                    drop(refresh().await);
                    return Ok(Reply::Replayed(response));
                }
                Err(error) if (self.is_conflict)(&error) => refresh().await?,
                Err(error) => return Err(map_commit_error(error)),
            }
        }
        Err(map_commit_error(CommitError::Conflict))
    }

    /// Stores a reply that changed nothing under its key, unless the key already has a response.
    async fn remember_no_change<T>(
        &self,
        context: &CommandContext,
        reply: T,
        body: Bytes,
    ) -> Result<Reply<T>, Error> {
        if context.idempotency_key.is_none() {
            return Ok(Reply::Completed(reply));
        }
        let stored = self.commit_record(context, StoredReplyBody::Ready(body)).await?;
        Ok(stored.map_or(Reply::Completed(reply), Reply::Replayed))
    }

    /// Commits nothing but a record under the request's key. Returns the response that the key
    /// already has, if it has one.
    async fn commit_record(
        &self,
        context: &CommandContext,
        body: StoredReplyBody,
    ) -> Result<Option<StoredReply>, Error> {
        context.ticket.mark_started()?;
        let commit = Commit {
            idempotency_record: idempotency_record(context, body),
            ..Commit::new(self.clock.now(), context.ticket.deadline())
        };
        match self.writer.commit(commit).await {
            Ok(_) => Ok(None),
            Err(CommitError::Replayed(response)) => Ok(Some(response)),
            Err(error) => Err(map_commit_error(error)),
        }
    }

    /// Returns the stored reply if the request repeats one that succeeded, else the refusal. The
    /// lookup follows the decision, so it does not miss a first attempt that runs concurrently.
    ///
    /// On a store that several nodes share, the first attempt may still wait on another node. So
    /// the refusal is recorded under the key, which keeps that attempt from being applied after
    /// the caller was told that the request is refused.
    async fn replay_or_refuse<T>(
        &self,
        context: &CommandContext,
        refusal: Error,
    ) -> Result<Reply<T>, Error> {
        let Some(key) = &context.idempotency_key else { return Err(refusal) };
        if self.store.is_shared() {
            let stored = self.commit_record(context, StoredReplyBody::Refused).await?;
            return stored.map(Reply::Replayed).ok_or(refusal);
        }
        match self.store.find_stored_reply(key).await? {
            Some((fingerprint, response)) if fingerprint == key.fingerprint => {
                Ok(Reply::Replayed(response))
            }
            Some(_) => Err(map_commit_error(CommitError::IdempotencyKeyReused)),
            None => Err(refusal),
        }
    }
}

/// The response to store for repeats, if the request has an idempotency key.
pub(crate) fn idempotency_record(
    context: &CommandContext,
    body: StoredReplyBody,
) -> Option<IdempotencyRecord> {
    context.idempotency_key.clone().map(|key| IdempotencyRecord { key, body, about: None })
}

/// The same for a response that is about an account, which is usually not the caller's.
pub(crate) fn idempotency_record_about(
    user: UserId,
    context: &CommandContext,
    body: StoredReplyBody,
) -> Option<IdempotencyRecord> {
    let record = idempotency_record(context, body)?;
    let about = (record.key.owner != user).then_some(user);
    Some(IdempotencyRecord { about, ..record })
}

/// Refreshes the caches once before a decision that no commit checks.
struct RefreshOnce<'a> {
    follower: Option<&'a Follower>,
}

impl RefreshOnce<'_> {
    /// Refreshes the caches at the first call, if there is a follower. Returns whether it did.
    async fn refresh_if_first(&mut self) -> Result<bool, StoreUnavailable> {
        match self.follower.take() {
            Some(follower) => follower.catch_up().await.map(|()| true),
            None => Ok(false),
        }
    }
}
