//! Deciding and committing, again whenever somebody else was faster: the same for every actor.

use bytes::Bytes;

use super::commit_error::map_commit_error;
use crate::{
    cache::follower::Follower,
    domain::clock::Clock,
    error::Error,
    messages::change::{CommandContext, Reply},
    store::{
        Commit, CommitError, CommitReceipt, Store, StoreUnavailable,
        commit::{IdempotencyRecord, StoredResponseBody},
        writer::CommitWriter,
    },
};

/// How often a command is decided. Each conflict means that somebody else got something done, and
/// mostly the request's deadline comes first; but a node that is slower than another may lose many
/// times before.
const MAX_ATTEMPTS: usize = 128;

/// What a command comes to, given what is known now. A refusal is an [`Error`] instead.
pub(crate) enum Decision<T, F> {
    /// Make this durable; then the function turns the receipt into the reply.
    Commit(Box<Commit>, F),
    /// Everything is as the caller wants it.
    NoChange {
        /// The reply.
        reply: T,
        /// The reply as a repeat of the request gets it.
        body: Bytes,
    },
}

/// What a command needs to be decided and committed.
pub(crate) struct CommandRetry<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) writer: &'a CommitWriter,
    pub(crate) clock: &'a dyn Clock,
    /// Set where decisions rest on caches that other nodes' changes reach late.
    pub(crate) follower: Option<&'a Follower>,
    /// Tells which errors of a commit are conflicts; see [`is_conflict`].
    pub(crate) is_conflict: fn(&CommitError) -> bool,
}

/// The usual conflict: a record has another version than the command was decided on.
pub(crate) fn is_conflict(error: &CommitError) -> bool {
    *error == CommitError::Conflict
}

impl CommandRetry<'_> {
    /// Decides a command and commits the decision, until it meets no conflict.
    ///
    /// Commands on one record take no lock that spans nodes. Each decides on the version it knows,
    /// and the store applies the commit only while it still holds that version. A conflict thus
    /// says nothing about the command, only that its decision is old: `refresh` brings in what is
    /// newer, and the rules decide again. Clients never see a conflict.
    ///
    /// A refusal, or a decision to change nothing, is not checked by any commit. Where it rests on
    /// a cache, the cache is refreshed once and the decision is made again. With an
    /// `Idempotency-Key`, a refusal then yields to the response that the first attempt left, and
    /// a reply that changed nothing is remembered by a commit of its own: otherwise a late repeat
    /// could undo what came in between.
    ///
    /// # Errors
    /// The refusal, the failure of the store, or `overloaded` after too many conflicts.
    pub(crate) async fn retry_on_conflict<T, F: FnOnce(CommitReceipt) -> T>(
        &self,
        context: &CommandContext,
        mut decide: impl AsyncFnMut() -> Result<Decision<T, F>, Error>,
        mut refresh: impl AsyncFnMut() -> Result<(), Error>,
    ) -> Result<Reply<T>, Error> {
        let mut refresh_once = RefreshOnce { follower: self.follower };
        for _ in 0..MAX_ATTEMPTS {
            let (commit, into_reply) = match decide().await {
                Ok(Decision::Commit(commit, into_reply)) => (commit, into_reply),
                _ if refresh_once.is_due().await? => continue,
                Ok(Decision::NoChange { reply, body }) => {
                    return self.remember_no_change(context, reply, body).await;
                }
                Err(error) => return self.replay_or_refuse(context, error).await,
            };
            context.ticket.mark_started()?;
            match self.writer.commit(*commit).await {
                Ok(receipt) => return Ok(Reply::Completed(into_reply(receipt))),
                Err(CommitError::Replayed(response)) => return Ok(Reply::Replayed(response)),
                Err(error) if (self.is_conflict)(&error) => refresh().await?,
                Err(error) => return Err(map_commit_error(error)),
            }
        }
        Err(map_commit_error(CommitError::Conflict))
    }

    /// Remembers a reply that changed nothing under its key, unless the key has a response already.
    async fn remember_no_change<T>(
        &self,
        context: &CommandContext,
        reply: T,
        body: Bytes,
    ) -> Result<Reply<T>, Error> {
        let record = record_response(context, StoredResponseBody::Ready(body));
        if record.is_none() {
            return Ok(Reply::Completed(reply));
        }
        context.ticket.mark_started()?;
        let commit = Commit::new(self.clock.now(), context.ticket.deadline());
        match self.writer.commit(Commit { idempotency_record: record, ..commit }).await {
            Ok(_) => Ok(Reply::Completed(reply)),
            Err(CommitError::Replayed(response)) => Ok(Reply::Replayed(response)),
            Err(error) => Err(map_commit_error(error)),
        }
    }

    /// The first response when this repeats a request that succeeded, else the refusal. Looked up
    /// after the decision, so that a first attempt that runs at the same time is not missed.
    async fn replay_or_refuse<T>(
        &self,
        context: &CommandContext,
        refusal: Error,
    ) -> Result<Reply<T>, Error> {
        let Some(key) = &context.idempotency_key else { return Err(refusal) };
        match self.store.find_stored_response(key).await? {
            Some((fingerprint, response)) if fingerprint == key.fingerprint => {
                Ok(Reply::Replayed(response))
            }
            Some(_) => Err(map_commit_error(CommitError::IdempotencyKeyReused)),
            None => Err(refusal),
        }
    }
}

/// The response to remember for repeats, when the request has a key.
pub(crate) fn record_response(
    context: &CommandContext,
    body: StoredResponseBody,
) -> Option<IdempotencyRecord> {
    context.idempotency_key.clone().map(|key| IdempotencyRecord { key, body })
}

/// Refreshes the caches before a decision that no commit checks is final.
struct RefreshOnce<'a> {
    follower: Option<&'a Follower>,
}

impl RefreshOnce<'_> {
    /// Whether to decide again, on caches that were just refreshed; true once at most.
    async fn is_due(&mut self) -> Result<bool, StoreUnavailable> {
        match self.follower.take() {
            Some(follower) => follower.catch_up().await.map(|()| true),
            None => Ok(false),
        }
    }
}
