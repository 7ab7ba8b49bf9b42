//! The writer: one batch, one transaction, retried until the outcome of each commit is known.
//!
//! The steps of a transaction:
//!
//! 1. Load what the batch depends on, but for what the writes check themselves; see
//!    `expected_state`. All reads are from one snapshot, which the first statement of the
//!    transaction takes.
//! 2. Plan the batch, in memory.
//! 3. Write the records; those that were loaded, by id alone. The server compares nothing then: it
//!    aborts a transaction that writes a document which another transaction has changed since the
//!    snapshot.
//! 4. Write the events, and the head of this writer's partition of the outbox. Stock follows, which
//!    other nodes most likely write, too, and the end of this node's turn at it; see `stock_queue`.
//! 5. Commit, confirmed by a majority.
//!
//! No document is written by all transactions, so two of them meet only in records that both
//! change. A record that a commit only depends on must be guarded by one that it writes, since the
//! server detects no conflict on what is only read:
//!
//! - A commit with `ProductUnchanged` changes the product's stock, and whoever changes the product
//!   writes its stock record too.
//! - A commit with `BuyerUsesBelow` takes a use of the promotion, as does every order that has it.
//! - A commit with `PricingRulesUnchanged` only reads their guard: it comes before a change of
//!   rules that its snapshot does not have.
//! - A commit with a condition on the user's orders (`PendingOrdersBelow`, `PendingUnitsWithin`,
//!   `PurchaseWithin`) writes the user's cart, as does everyone who places an order for that user.
//!   Whoever cancels or expires an order meanwhile only gives back: the count from the snapshot may
//!   be too high then, and never too low.
//!
//! A failure before step 5 means that nothing was applied, and the transaction runs again from
//! step 1. A commit without an answer may have been applied or not, so only the commit is sent
//! again: the server knows by the session's transaction number whether it has been applied.

use std::{future::IntoFuture, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use mongodb::{
    Client, ClientSession, Database,
    bson::{Bson, RawDocumentBuf, Uuid as BsonUuid},
    options::{ReadConcern, TransactionOptions},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::{Instrument as _, Span, field::Empty};
use uuid::Uuid;

use super::{
    batch::BatchProgress,
    connect::durable_write_concern,
    expected_state::Expectation,
    flush::{ExistingRecords, flush},
    forwarding::Forwarder,
    load::load,
    nodes::NodeMembership,
    partition::{ClaimedPartition, PartitionOwner},
    schema::COUNTERS,
    stock_queue::StockQueue,
    transaction::{Statement, Transaction, with_deadline},
    transaction_error::{ErrorClass, TransactionError},
    transaction_timing::{REPLY_MARGIN, TransactionDeadlines},
};
use crate::{
    domain::clock::{Clock, Timestamp},
    metrics::store::{StockConflict, StoreMetrics},
    store::{
        AppliedBatch, ApplyError,
        commit::{Commit, CommitOutcome},
        plan::{self, ReadSet},
        retention::IDEMPOTENCY_KEY_TTL,
        writer::STOCK_LANE,
    },
};

/// How many batches load everything after one that expected something else than there was: requests
/// that are repeated, and users that change nodes, come in groups.
const BATCHES_TO_LOAD: u32 = 16;

/// A batch in the writer's queue.
pub(super) struct QueuedBatch {
    /// The commits to apply.
    pub(super) commits: Arc<[Commit]>,
    /// Receives the result.
    pub(super) reply: oneshot::Sender<Result<AppliedBatch, ApplyError>>,
    /// The span of the batch.
    pub(super) span: Span,
}

/// A task of this node that writes.
pub(super) struct MongoWriter {
    /// The lane of the store whose batches this task applies.
    pub(super) lane: usize,
    pub(super) client: Client,
    pub(super) database: Database,
    pub(super) membership: Arc<NodeMembership>,
    /// In the lane that changes stock.
    pub(super) stock_queue: Option<Arc<StockQueue>>,
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) low_stock: u64,
    /// The longest wait for the server.
    pub(super) timeout: Duration,
    /// The session of the transactions. `None` before the first one and after a failure.
    pub(super) session: Option<ClientSession>,
    /// The partition that the events go to. `None` before the first transaction, and when its head
    /// may have changed.
    pub(super) partition: Option<ClaimedPartition>,
    /// The log has the message that the store is unavailable.
    pub(super) is_unavailable: bool,
    /// How many of the next batches load everything, since an expectation has failed.
    pub(super) batches_to_load: u32,
    pub(super) metrics: StoreMetrics,
}

impl MongoWriter {
    /// Applies batches until the queue is closed.
    pub(super) async fn run(mut self, mut batches: mpsc::Receiver<QueuedBatch>) {
        while let Some(QueuedBatch { commits, reply, span }) = batches.recv().await {
            let applied = self.apply(commits).instrument(span);
            match AssertUnwindSafe(applied).catch_unwind().await {
                // The caller may be gone; the change is applied all the same.
                Ok(result) => drop(reply.send(result)),
                Err(_) => {
                    tracing::error!("failed to apply a batch: the writer panicked; continuing");
                }
            }
        }
    }

    async fn apply(&mut self, commits: Arc<[Commit]>) -> Result<AppliedBatch, ApplyError> {
        if self.stock_queue.as_ref().is_some_and(|queue| queue.take_has_waited()) {
            self.forwarder.mark_hot(&commits);
        }
        let mut expectation = self.next_expectation(&commits);
        let mut batch = BatchProgress::new(commits);
        while let Some(commits) = batch.next_commits() {
            let expected = std::mem::replace(&mut expectation, Expectation::Nothing);
            match self.observe_transaction(Arc::clone(&commits), expected).await {
                Ok(applied) => {
                    self.is_unavailable = false;
                    batch.record_applied(applied);
                }
                Err(failure) => {
                    match (failure.class, &self.stock_queue) {
                        (ErrorClass::ExpectationFailed, _) => {
                            self.batches_to_load = BATCHES_TO_LOAD;
                        }
                        (ErrorClass::Unavailable, _) => self.log_unavailable(&failure.reason),
                        (ErrorClass::Aborted, Some(queue)) => {
                            queue.begin_taking_turns();
                            self.forwarder.mark_hot(&commits);
                        }
                        _ => {}
                    }
                    batch.choose_retry(failure).await;
                }
            }
        }
        if let Some(queue) = &self.stock_queue {
            queue.release_turn();
        }
        batch.into_result()
    }

    /// What the first transaction for `commits` does not load.
    fn next_expectation(&mut self, commits: &[Commit]) -> Expectation {
        if self.batches_to_load == 0 {
            return Expectation::of_batch(commits);
        }
        self.batches_to_load -= 1;
        Expectation::Nothing
    }

    /// Runs one transaction, in a span and with its metrics.
    async fn observe_transaction(
        &mut self,
        commits: Arc<[Commit]>,
        expectation: Expectation,
    ) -> Result<AppliedBatch, TransactionError> {
        let span = tracing::info_span!(
            "transaction",
            otel.kind = "client",
            otel.status_code = Empty,
            db.system.name = "mongodb",
            db.operation.batch.size = commits.len(),
            error.type = Empty,
        );
        let began = Instant::now();
        let result = self.try_transaction(commits, expectation).instrument(span.clone()).await;
        let abort = result.as_ref().err().map(|failure| failure.class.name());
        if let Some(reason) = abort {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", reason);
        }
        let is_stock = self.lane == STOCK_LANE;
        let lane = if is_stock { "stock" } else { "other" };
        self.metrics.record_transaction(lane, began.elapsed(), abort);
        if is_stock && matches!(&result, Err(failure) if failure.class == ErrorClass::Aborted) {
            self.metrics.record_stock_conflict(StockConflict::Transaction);
        }
        result
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
        expectation: Expectation,
    ) -> Result<AppliedBatch, TransactionError> {
        let TransactionDeadlines { step_deadline, commit_deadline } =
            TransactionDeadlines::for_batch(&batch, self.timeout);
        let mut session = self.take_or_start_session(step_deadline).await?;
        let partition = match self.take_or_claim_partition(step_deadline).await {
            Ok(partition) => partition,
            Err(failure) => {
                self.session = Some(session);
                return Err(failure);
            }
        };
        with_deadline(step_deadline, session.start_transaction().into_future()).await?;
        let database = self.database.clone();
        let mut transaction =
            Transaction { database: &database, session: &mut session, deadline: step_deadline };
        let context = BatchContext {
            expectation,
            partition: &partition,
            now: self.clock.now(),
            low_stock: self.low_stock,
            end_of_turn: self.stock_queue.as_ref().and_then(|queue| queue.end_turn_statement()),
        };
        let written = load_plan_and_write(&mut transaction, &batch, context);
        let (applied, commit_time) = match written.await {
            Ok(written) => written,
            Err(failure) => {
                // An unavailable server would not answer the abort either.
                let aborted = failure.class != ErrorClass::Unavailable && {
                    let deadline = step_deadline.max(Instant::now() + REPLY_MARGIN);
                    with_deadline(deadline, session.abort_transaction().into_future()).await.is_ok()
                };
                self.keep_or_orphan_session(session, aborted);
                if matches!(failure.class, ErrorClass::Aborted | ErrorClass::ExpectationFailed) {
                    self.partition = Some(partition);
                }
                return Err(failure);
            }
        };
        let commit = transaction.commit(commit_deadline);
        let committed =
            commit.instrument(tracing::info_span!("confirm", otel.kind = "client")).await;
        // After a conflict the server has aborted the transaction itself.
        let is_closed =
            committed.as_ref().err().is_none_or(|failure| failure.class == ErrorClass::Aborted);
        self.keep_or_orphan_session(session, is_closed);
        committed?;
        let mut partition = partition;
        if let Some(queue) = &self.stock_queue {
            queue.forget_number();
        }
        partition.advance_head(applied.changes.events.len() as u64, commit_time);
        self.partition = Some(partition);
        Ok(applied)
    }

    /// The partition of this writer, with its current head.
    async fn take_or_claim_partition(
        &mut self,
        deadline: Instant,
    ) -> Result<ClaimedPartition, TransactionError> {
        if let Some(partition) = self.partition.take() {
            return Ok(partition);
        }
        let lane = i64::try_from(self.lane).unwrap_or(i64::MAX);
        let owner = PartitionOwner { node: self.membership.id(), lane };
        with_deadline(deadline, ClaimedPartition::claim(&self.database, owner)).await
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
        with_deadline(deadline, self.membership.kill_orphaned_sessions()).await?;
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
        let id = server_session_id(&session);
        with_deadline(deadline, self.membership.register_session(self.lane, id)).await?;
        Ok(session)
    }

    /// Keeps a session whose transaction is closed. Any other may still have one open on the
    /// server, with locks that block every node, so the session is killed.
    fn keep_or_orphan_session(&mut self, session: ClientSession, is_closed: bool) {
        if is_closed {
            self.session = Some(session);
        } else {
            self.membership.mark_session_orphaned(server_session_id(&session));
        }
    }
}

/// What a transaction needs besides its commits.
struct BatchContext<'a> {
    expectation: Expectation,
    partition: &'a ClaimedPartition,
    now: Timestamp,
    low_stock: u64,
    /// Ends this node's turn at contended stock.
    end_of_turn: Option<RawDocumentBuf>,
}

/// All steps of a transaction except the commit. Returns its logical time, too.
async fn load_plan_and_write(
    transaction: &mut Transaction<'_>,
    batch: &[Commit],
    context: BatchContext<'_>,
) -> Result<(AppliedBatch, i64), TransactionError> {
    let BatchContext { expectation, partition, now, low_stock, end_of_turn } = context;
    let newest = batch.iter().map(|commit| commit.decided_at).max().unwrap_or_default();
    let keys_stored_after = newest.saturating_sub(IDEMPOTENCY_KEY_TTL);
    let mut read_set = ReadSet::for_batch(batch);
    let expected_carts = expectation.remove_from(&mut read_set, batch);
    let mut loaded = load(transaction, &read_set, keys_stored_after)
        .instrument(tracing::info_span!("load", otel.kind = "client"))
        .await?;
    let now_micros = now.as_millis().saturating_mul(1000);
    let commit_time = partition.next_commit_time(loaded.latest_commit_time, now_micros);
    loaded.state.carts.extend(expected_carts);
    let existing =
        ExistingRecords::from_loaded(&loaded.state, loaded.replaceable_keys, expectation);
    let plan = plan::plan_batch(batch, loaded.state, low_stock);
    let is_uncertain = |(commit, outcome): (&Commit, &CommitOutcome)| {
        outcome.is_err() && expectation.is_checked_by_writes_of(commit)
    };
    if batch.iter().zip(&plan.outcomes).any(is_uncertain) {
        let reason = "a commit is not applied, and what it expects was not loaded".to_owned();
        return Err(TransactionError { class: ErrorClass::ExpectationFailed, reason });
    }
    let events = plan.writes.to_outbox_events(partition.next_position());
    flush(transaction, &plan.writes, &existing, &events, partition, commit_time)
        .instrument(tracing::info_span!("write", otel.kind = "client"))
        .await?;
    if let Some(body) = end_of_turn {
        transaction.update(COUNTERS, &[Statement { record_id: Uuid::nil(), body }]).await?;
    }
    // The caller also commits a transaction without writes: only a commit with a majority confirms
    // that no failover takes back what the outcomes are based on.
    let applied =
        AppliedBatch { outcomes: plan.outcomes, changes: plan.writes.into_changes(events) };
    Ok((applied, commit_time))
}

fn server_session_id(session: &ClientSession) -> Option<BsonUuid> {
    match session.id().get("id") {
        Some(Bson::Binary(id)) => id.to_uuid().ok(),
        _ => None,
    }
}
