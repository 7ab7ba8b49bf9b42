//! The writer: one batch, one transaction, retried until the outcome of each commit is known.
//!
//! The steps of a transaction:
//!
//! 1. Increment the outbox counter, if the batch may have events. This serializes all transactions
//!    with events; see [`Transaction::reserve_outbox_positions`] for why it comes first.
//! 2. Load what the batch depends on. All reads are from one snapshot, which the first statement
//!    of the transaction takes.
//! 3. Plan the batch, in memory.
//! 4. Write the records by id alone. The server compares nothing: it aborts a transaction that
//!    writes a document which another transaction has changed since the snapshot.
//! 5. Commit, confirmed by a majority.
//!
//! A failure before step 5 means that nothing was applied, and the transaction runs again from
//! step 1. A commit without an answer may have been applied or not, so only the commit is sent
//! again: the server knows by the session's transaction number whether it has been applied.

use std::{
    collections::BTreeSet, future::IntoFuture, panic::AssertUnwindSafe, sync::Arc, time::Duration,
};

use futures_util::FutureExt;
use mongodb::{
    Client, ClientSession, Database,
    bson::{Bson, Uuid as Id},
    options::{ReadConcern, TransactionOptions},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    batch::BatchProgress,
    connect::durable_write_concern,
    failure::{ErrorClass, TransactionError},
    flush::{ExistingRecords, flush},
    load::load,
    nodes::NodeMembership,
    retry::{REPLY_MARGIN, TransactionDeadlines},
    transaction::{Transaction, with_deadline},
};
use crate::store::{
    AppliedBatch, ApplyError,
    commit::{Commit, Write},
    limits::IDEMPOTENCY_KEY_TTL,
    plan::{self, ReadSet},
};

/// A batch in the writer's queue.
pub(super) struct QueuedBatch {
    /// The commits to apply.
    pub(super) commits: Arc<[Commit]>,
    /// Receives the result.
    pub(super) reply: oneshot::Sender<Result<AppliedBatch, ApplyError>>,
}

/// The one task of this node that writes.
pub(super) struct MongoWriter {
    pub(super) client: Client,
    pub(super) database: Database,
    pub(super) membership: Arc<NodeMembership>,
    pub(super) low_stock: u64,
    /// The longest wait for the server.
    pub(super) timeout: Duration,
    /// The session of the transactions. `None` before the first one and after a failure.
    pub(super) session: Option<ClientSession>,
    /// The log has the message that the store is unavailable.
    pub(super) is_unavailable: bool,
}

impl MongoWriter {
    /// Applies batches until the queue is closed.
    pub(super) async fn run(mut self, mut batches: mpsc::Receiver<QueuedBatch>) {
        while let Some(QueuedBatch { commits, reply }) = batches.recv().await {
            match AssertUnwindSafe(self.apply(commits)).catch_unwind().await {
                // The caller may be gone; the change is applied all the same.
                Ok(result) => drop(reply.send(result)),
                Err(_) => {
                    tracing::error!("failed to apply a batch: the writer panicked; continuing");
                }
            }
        }
    }

    async fn apply(&mut self, commits: Arc<[Commit]>) -> Result<AppliedBatch, ApplyError> {
        let mut batch = BatchProgress::new(commits);
        while let Some(commits) = batch.next_commits() {
            match self.try_transaction(commits).await {
                Ok(applied) => {
                    self.is_unavailable = false;
                    batch.record_applied(applied);
                }
                Err(failure) => {
                    if failure.class == ErrorClass::Unavailable {
                        self.log_unavailable(&failure.reason);
                    }
                    batch.handle_failure(failure).await;
                }
            }
        }
        batch.into_result()
    }

    /// Logs once until a batch is applied again.
    fn log_unavailable(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.is_unavailable, true) {
            tracing::warn!(error = reason, "the store is unavailable; retrying");
        }
    }

    /// Runs one transaction. A failed one leaves nothing open on the server, or its session is
    /// marked to be killed.
    async fn try_transaction(
        &mut self,
        batch: Arc<[Commit]>,
    ) -> Result<AppliedBatch, TransactionError> {
        let TransactionDeadlines { step_deadline, commit_deadline } =
            TransactionDeadlines::for_batch(&batch, self.timeout);
        let mut session = self.take_or_start_session(step_deadline).await?;
        with_deadline(step_deadline, session.start_transaction().into_future()).await?;
        let database = self.database.clone();
        let mut transaction =
            Transaction { database: &database, session: &mut session, deadline: step_deadline };
        let applied = match load_plan_and_write(&mut transaction, &batch, self.low_stock).await {
            Ok(applied) => applied,
            Err(failure) => {
                // An unavailable server would not answer the abort either.
                let aborted = failure.class != ErrorClass::Unavailable && {
                    let deadline = step_deadline.max(Instant::now() + REPLY_MARGIN);
                    with_deadline(deadline, session.abort_transaction().into_future()).await.is_ok()
                };
                self.keep_or_kill_session(session, aborted);
                return Err(failure);
            }
        };
        let committed = transaction.commit(commit_deadline).await;
        // After a conflict the server has aborted the transaction itself.
        let is_closed =
            committed.as_ref().err().is_none_or(|failure| failure.class == ErrorClass::Conflict);
        self.keep_or_kill_session(session, is_closed);
        committed.map(|()| applied)
    }

    /// The current session, or a new one. The other nodes know its id before it is used, so that
    /// they can release its locks should this node die.
    async fn take_or_start_session(
        &mut self,
        deadline: Instant,
    ) -> Result<ClientSession, TransactionError> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        with_deadline(deadline, self.membership.kill_orphaned_session()).await?;
        let options = TransactionOptions::builder()
            .read_concern(ReadConcern::snapshot())
            .write_concern(durable_write_concern(self.timeout))
            .build();
        let start = self
            .client
            .start_session()
            .causal_consistency(false)
            .default_transaction_options(options);
        let session = with_deadline(deadline, start.into_future()).await?;
        with_deadline(deadline, self.membership.register_session(server_session_id(&session)))
            .await?;
        Ok(session)
    }

    /// Keeps a session whose transaction is closed. Any other may still have one open on the
    /// server, with locks that block every node, so the session is killed.
    fn keep_or_kill_session(&mut self, session: ClientSession, is_closed: bool) {
        if is_closed {
            self.session = Some(session);
        } else {
            self.membership.mark_session_orphaned(server_session_id(&session));
        }
    }
}

/// All steps of a transaction except the commit.
async fn load_plan_and_write(
    transaction: &mut Transaction<'_>,
    batch: &[Commit],
    low_stock: u64,
) -> Result<AppliedBatch, TransactionError> {
    let newest = batch.iter().map(|commit| commit.decided_at).max().unwrap_or_default();
    let expected_events = expected_event_count(batch);
    let last_position = if batch.iter().any(must_serialize_on_outbox) {
        transaction.reserve_outbox_positions(expected_events).await?
    } else {
        0
    };
    let keys_expired_at = newest.saturating_sub(IDEMPOTENCY_KEY_TTL);
    let (loaded, expired_keys) =
        load(transaction, &ReadSet::for_batch(batch), keys_expired_at).await?;
    let existing = ExistingRecords::from_loaded(&loaded, expired_keys);
    let plan = plan::plan_batch(batch, loaded, low_stock);
    let events = plan.writes.to_outbox_events(last_position + 1);
    flush(transaction, &plan.writes, &existing, &events).await?;
    let event_count = events.len() as u64;
    if event_count != expected_events {
        transaction.set_last_outbox_position(last_position + event_count).await?;
    }
    // The caller also commits a transaction without writes: only a commit with a majority confirms
    // that no failover takes back what the outcomes are based on.
    Ok(AppliedBatch { outcomes: plan.outcomes, changes: plan.writes.into_changes(events) })
}

/// How many events the batch has if every commit is applied and no stock runs low, as usual.
fn expected_event_count(batch: &[Commit]) -> u64 {
    let events: usize = batch.iter().map(|commit| commit.events.len()).sum();
    let stocked = batch.iter().flat_map(|commit| &commit.writes).filter_map(|write| match write {
        Write::Stock(stock) => Some(stock.product_id),
        _ => None,
    });
    (events + stocked.collect::<BTreeSet<_>>().len()) as u64
}

/// Whether the transaction must go through the outbox counter, which serializes it.
///
/// It must if it may have events, which need positions. It must also if it has conditions on
/// records that it does not write: the server detects no conflict on those, but whoever changes
/// them has events and so conflicts on the counter.
fn must_serialize_on_outbox(commit: &Commit) -> bool {
    !commit.events.is_empty()
        || !commit.conditions.is_empty()
        || commit.writes.iter().any(|write| matches!(write, Write::Stock(_)))
}

fn server_session_id(session: &ClientSession) -> Option<Id> {
    match session.id().get("id") {
        Some(Bson::Binary(id)) => id.to_uuid().ok(),
        _ => None,
    }
}
