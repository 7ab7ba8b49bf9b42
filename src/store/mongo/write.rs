//! The writer: one batch, one transaction, tried until it is known what came of each commit.

use std::{
    collections::BTreeSet,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use mongodb::{
    Client, ClientSession, Database,
    bson::{Bson, Uuid as Id},
    options::{ReadConcern, TransactionOptions},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use uuid::Uuid;

use super::{
    connect::durable_write_concern,
    failure::{ErrorClass, TransactionError},
    flush::{ExistingRecords, flush},
    load::load,
    nodes::NodeMembership,
    transaction::{Transaction, with_deadline},
};
use crate::store::{
    AppliedBatch, ApplyError,
    commit::{Commit, CommitError, CommitOutcome, CommittedChanges, Condition, Write},
    limits::IDEMPOTENCY_KEY_TTL,
    plan::{self, ReadSet},
};

/// So much before its deadline the steps of a commit's transaction have to be done, so that its caller hears in time when they are not.
const REPLY_MARGIN: Duration = Duration::from_millis(100);

/// What the steps of a transaction may take together before those with a near deadline are let go.
const MIN_STEP_TIME: Duration = Duration::from_millis(250);

/// A pause after a conflict: at first, and at most.
const CONFLICT_BACKOFF: (Duration, Duration) =
    (Duration::from_micros(500), Duration::from_millis(20));

/// A pause when the server is away: at first, and at most.
const UNAVAILABLE_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_millis(200));

/// A batch that waits for the writer.
pub(super) struct QueuedBatch {
    /// What to apply.
    pub(super) commits: Arc<[Commit]>,
    /// Who waits for it.
    pub(super) reply: oneshot::Sender<Result<AppliedBatch, ApplyError>>,
}

/// The one of this node who writes.
pub(super) struct MongoWriter {
    pub(super) client: Client,
    pub(super) database: Database,
    pub(super) membership: Arc<NodeMembership>,
    pub(super) low_stock: u64,
    /// The longest that anything waits for the server.
    pub(super) timeout: Duration,
    /// The session that transactions run in, while it is in good order.
    pub(super) session: Option<ClientSession>,
    /// The log says that the store is away.
    pub(super) is_unavailable: bool,
}

/// What is known so far of a batch.
struct BatchOutcomes {
    outcomes: Vec<Option<CommitOutcome>>,
    changes: CommittedChanges,
}

impl BatchOutcomes {
    fn fail_commits(&mut self, places: &[usize], error: &CommitError) {
        for place in places {
            self.set_outcome(*place, Err(error.clone()));
        }
    }

    fn set_outcome(&mut self, place: usize, outcome: CommitOutcome) {
        if let Some(slot) = self.outcomes.get_mut(place) {
            *slot = Some(outcome);
        }
    }

    fn record_applied(&mut self, places: &[usize], applied: AppliedBatch) {
        for (place, outcome) in places.iter().zip(applied.outcomes) {
            self.set_outcome(*place, outcome);
        }
        self.changes.append(applied.changes);
    }

    /// All outcomes, or the one error that all have in common.
    fn into_result(self) -> Result<AppliedBatch, ApplyError> {
        // Each place was put; a commit that was forgotten would be one that nobody began.
        let outcomes: Vec<CommitOutcome> =
            self.outcomes.into_iter().map(|o| o.unwrap_or(Err(CommitError::Unavailable))).collect();
        let all = |error: CommitError| {
            !outcomes.is_empty() && outcomes.iter().all(|o| o.as_ref().err() == Some(&error))
        };
        if all(CommitError::Unavailable) {
            return Err(ApplyError::Unavailable);
        }
        if all(CommitError::OutcomeUnknown) {
            return Err(ApplyError::OutcomeUnknown);
        }
        Ok(AppliedBatch { outcomes, changes: self.changes })
    }
}

impl MongoWriter {
    /// Applies batches until there are no more.
    pub(super) async fn run(mut self, mut batches: mpsc::Receiver<QueuedBatch>) {
        while let Some(QueuedBatch { commits, reply }) = batches.recv().await {
            match AssertUnwindSafe(self.apply(commits)).catch_unwind().await {
                // Whoever asked may have gone; the change stands all the same.
                Ok(applied) => drop(reply.send(applied)),
                Err(_) => {
                    tracing::error!("the writer panicked, which is a fault in souk; it goes on")
                }
            }
        }
    }

    async fn apply(&mut self, batch: Arc<[Commit]>) -> Result<AppliedBatch, ApplyError> {
        let mut answers = BatchOutcomes {
            outcomes: vec![None; batch.len()],
            changes: CommittedChanges::default(),
        };
        let all = (0..batch.len()).collect();
        self.apply_until_resolved(&batch, all, &mut answers).await;
        answers.into_result()
    }

    /// Tries the commits at `places` together until it is known what came of them. Those that cannot be written with the others are left,
    /// so that nobody waits for them.
    async fn apply_until_resolved(
        &mut self,
        batch: &Arc<[Commit]>,
        mut places: Vec<usize>,
        answers: &mut BatchOutcomes,
    ) {
        let mut tries = RetryBackoff::default();
        // Groups to try next when somebody is at fault and nobody knows who, the next one last.
        let mut halves: Vec<Vec<usize>> = Vec::new();
        let mut refused_alone = false;
        while !places.is_empty() && !fail_expiring_commits(batch, &places, &tries, answers) {
            let failure = match self.try_transaction(select_commits(batch, &places)).await {
                Ok(applied) => {
                    self.is_unavailable = false;
                    answers.record_applied(&places, applied);
                    break;
                }
                Err(failure) => failure,
            };
            if failure.class == ErrorClass::Unavailable
                && !std::mem::replace(&mut self.is_unavailable, true)
            {
                tracing::warn!(reason = failure.reason, "the store is away; trying again");
            }
            let together = places.len() > 1;
            match failure.class {
                ErrorClass::Conflict | ErrorClass::Unavailable => {
                    tries.back_off(failure.class).await
                }
                ErrorClass::OutcomeUnknown => {
                    tracing::error!(
                        reason = failure.reason,
                        commits = places.len(),
                        "a batch may have been applied, or not"
                    );
                    answers.fail_commits(&places, &CommitError::OutcomeUnknown);
                    break;
                }
                ErrorClass::RecordRejected(record)
                    if together
                        && places
                            .iter()
                            .any(|place| refers_to_record_at(batch, *place, record)) =>
                {
                    tracing::warn!(
                        reason = failure.reason,
                        "a record cannot be written; its commits are tried alone"
                    );
                    let (blamed, rest): (Vec<usize>, Vec<usize>) = places
                        .iter()
                        .partition(|place| refers_to_record_at(batch, **place, record));
                    answers.fail_commits(&blamed, &CommitError::RetryAlone);
                    places = rest;
                }
                ErrorClass::RecordRejected(_) | ErrorClass::Permanent if together => {
                    if halves.is_empty() {
                        tracing::error!(
                            reason = failure.reason,
                            commits = places.len(),
                            "a batch failed; trying a half of it"
                        );
                    }
                    halves.push(places.split_off(places.len() / 2));
                }
                ErrorClass::RecordRejected(_) | ErrorClass::Permanent => {
                    tracing::error!(reason = failure.reason, "a commit failed");
                    answers.fail_commits(&places, &CommitError::Unavailable);
                    // Two in a row: then it is not the commits that are at fault.
                    if std::mem::replace(&mut refused_alone, true) {
                        answers.fail_commits(&halves.concat(), &CommitError::Unavailable);
                        return;
                    }
                    places = halves.pop().unwrap_or_default();
                }
            }
        }
        answers.fail_commits(&halves.concat(), &CommitError::RetryLater);
    }

    /// One transaction. When it fails, nothing of it is left open, or its session is noted to be ended.
    async fn try_transaction(
        &mut self,
        batch: Arc<[Commit]>,
    ) -> Result<AppliedBatch, TransactionError> {
        let times = TransactionDeadlines::for_batch(&batch, self.timeout);
        let mut session = self.take_or_start_session(times.step_deadline).await?;
        with_deadline(times.step_deadline, session.start_transaction().into_future()).await?;
        let database = self.database.clone();
        let mut transaction = Transaction {
            database: &database,
            session: &mut session,
            deadline: times.step_deadline,
        };
        let decided = match load_decide_and_write(&mut transaction, &batch, self.low_stock).await {
            Ok(decided) => decided,
            Err(failure) => {
                // A server that is away would have to be waited for.
                let aborted = failure.class != ErrorClass::Unavailable && {
                    let until = times.step_deadline.max(tokio::time::Instant::now() + REPLY_MARGIN);
                    with_deadline(until, session.abort_transaction().into_future()).await.is_ok()
                };
                self.keep_or_kill_session(session, aborted);
                return Err(failure);
            }
        };
        let committed = transaction.commit(times.commit_deadline).await;
        self.keep_or_kill_session(
            session,
            committed.as_ref().err().is_none_or(|failure| failure.class == ErrorClass::Conflict),
        );
        committed.map(|()| decided)
    }

    /// The session to work in: the one in use, or a new one that the other nodes know of.
    async fn take_or_start_session(
        &mut self,
        until: tokio::time::Instant,
    ) -> Result<ClientSession, TransactionError> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        with_deadline(until, self.membership.kill_orphaned_session()).await?;
        let options = TransactionOptions::builder()
            .read_concern(ReadConcern::snapshot())
            .write_concern(durable_write_concern(self.timeout))
            .build();
        let start = self
            .client
            .start_session()
            .causal_consistency(false)
            .default_transaction_options(options);
        let session = with_deadline(until, start.into_future()).await?;
        with_deadline(until, self.membership.register_session(server_session_id(&session))).await?;
        Ok(session)
    }

    /// Keeps a session for the next transaction, unless it is not known what the server is doing in it: then it is ended.
    fn keep_or_kill_session(&mut self, session: ClientSession, in_good_order: bool) {
        if in_good_order {
            self.session = Some(session);
        } else {
            self.membership.mark_session_orphaned(server_session_id(&session));
        }
    }
}

/// Loads, decides and writes; what is left to do is to commit.
async fn load_decide_and_write(
    transaction: &mut Transaction<'_>,
    batch: &[Commit],
    low_stock: u64,
) -> Result<AppliedBatch, TransactionError> {
    let newest = batch.iter().map(|commit| commit.decided_at).max().unwrap_or_default();
    let expected = expected_event_count(batch);
    let last = if batch.iter().any(must_serialize_on_outbox) {
        transaction.reserve_outbox_positions(expected).await?
    } else {
        0
    };
    let (loaded, worn) =
        load(transaction, &ReadSet::for_batch(batch), newest.saturating_sub(IDEMPOTENCY_KEY_TTL))
            .await?;
    let before = ExistingRecords::from_loaded(&loaded, worn);
    let plan = plan::plan_batch(batch, loaded, low_stock);
    // Also when there is nothing to write it is committed: what was read and is answered from has to be a majority's.
    let published = plan.writes.to_outbox_events(last + 1);
    flush(transaction, &plan.writes, &before, &published).await?;
    if published.len() as u64 != expected {
        transaction.set_last_outbox_position(last + published.len() as u64).await?;
    }
    Ok(AppliedBatch { outcomes: plan.outcomes, changes: plan.writes.into_changes(published) })
}

/// How many events come of it if every commit is applied, and no stock runs low: what mostly happens.
fn expected_event_count(batch: &[Commit]) -> u64 {
    let facts: usize = batch.iter().map(|commit| commit.events.len()).sum();
    let stock = batch.iter().flat_map(|commit| &commit.writes).filter_map(|write| match write {
        Write::Stock(stock) => Some(stock.product_id),
        _ => None,
    });
    (facts + stock.collect::<BTreeSet<_>>().len()) as u64
}

/// Whether it takes its turn: since events may come of it, or since it has conditions on what it does not write, which no other
/// transaction may change in the meantime. Whoever changes such things tells of it.
fn must_serialize_on_outbox(commit: &Commit) -> bool {
    !commit.events.is_empty()
        || !commit.conditions.is_empty()
        || commit.writes.iter().any(|write| matches!(write, Write::Stock(_)))
}

/// Whether the commit at `place` names a record that cannot be written.
fn refers_to_record_at(batch: &[Commit], place: usize, record: Uuid) -> bool {
    batch.get(place).is_some_and(|commit| commit_refers_to(commit, record))
}

/// Whether `commit` names a record.
fn commit_refers_to(commit: &Commit, record: Uuid) -> bool {
    let written = commit.writes.iter().any(|write| match write {
        Write::Cart(cart) => cart.owner.id.as_uuid() == record,
        Write::Product(product) => product.id.as_uuid() == record,
        Write::Order(order) => order.id.as_uuid() == record,
        Write::Stock(stock) => stock.product_id.as_uuid() == record,
        Write::User(user) => user.id.as_uuid() == record,
        Write::Session(session) => session.id.as_uuid() == record,
    });
    let remembered = commit
        .idempotency_record
        .as_ref()
        .is_some_and(|idempotency| idempotency.key.owner.as_uuid() == record);
    let decided_on = commit.conditions.iter().any(|condition| match condition {
        Condition::ProductUnchanged(product, _) => product.as_uuid() == record,
        Condition::PendingOrdersBelow(user, _) => user.as_uuid() == record,
    });
    written || decided_on || remembered || commit.events.iter().any(|fact| fact.subject() == record)
}

fn server_session_id(session: &ClientSession) -> Option<Id> {
    match session.id().get("id") {
        Some(Bson::Binary(id)) => id.to_uuid().ok(),
        _ => None,
    }
}

fn select_commits(batch: &Arc<[Commit]>, places: &[usize]) -> Arc<[Commit]> {
    if places.len() == batch.len() {
        Arc::clone(batch)
    } else {
        places.iter().filter_map(|place| batch.get(*place).cloned()).collect()
    }
}

/// Answers those whose deadline is too near for another try: certainly not applied. All of a batch hear of it at the same time, so the
/// others are then to be tried in another one. Whether there were any.
fn fail_expiring_commits(
    batch: &[Commit],
    places: &[usize],
    tries: &RetryBackoff,
    answers: &mut BatchOutcomes,
) -> bool {
    let Some(error) = tries.last_error() else { return false };
    // A server that is away is waited for; after a conflict, the next try mostly takes no longer than the last.
    let needed = if tries.last_class == Some(ErrorClass::Unavailable) {
        REPLY_MARGIN + MIN_STEP_TIME
    } else {
        REPLY_MARGIN
    };
    let nearest = Instant::now() + needed;
    let is_late =
        |place: &&usize| batch.get(**place).is_none_or(|commit| commit.deadline <= nearest);
    let (late, good): (Vec<usize>, Vec<usize>) = places.iter().partition(is_late);
    if late.is_empty() {
        return false;
    }
    answers.fail_commits(&late, &error);
    answers.fail_commits(&good, &CommitError::RetryLater);
    true
}

/// What was tried, and how long to wait before the next try.
#[derive(Default)]
struct RetryBackoff {
    last_class: Option<ErrorClass>,
    delay: Duration,
}

impl RetryBackoff {
    fn last_error(&self) -> Option<CommitError> {
        match self.last_class? {
            ErrorClass::Conflict => Some(CommitError::Overloaded),
            _ => Some(CommitError::Unavailable),
        }
    }

    async fn back_off(&mut self, trouble: ErrorClass) {
        let (first, most) =
            if trouble == ErrorClass::Conflict { CONFLICT_BACKOFF } else { UNAVAILABLE_BACKOFF };
        if self.last_class != Some(trouble) {
            self.delay = first;
        }
        self.last_class = Some(trouble);
        // Anything from half to the whole, so that nodes that met once do not meet again.
        sleep(self.delay.mul_f64(rand::random_range(0.5..=1.0))).await;
        self.delay = (self.delay * 3 / 2).min(most);
    }
}

/// Until when the parts of a transaction may take.
struct TransactionDeadlines {
    step_deadline: tokio::time::Instant,
    commit_deadline: tokio::time::Instant,
}

impl TransactionDeadlines {
    fn for_batch(batch: &[Commit], timeout: Duration) -> Self {
        let now = Instant::now();
        let deadlines = batch.iter().map(|commit| commit.deadline);
        let (nearest, farthest) =
            (deadlines.clone().min().unwrap_or(now), deadlines.max().unwrap_or(now));
        let most = farthest.min(now + timeout).max(now + REPLY_MARGIN);
        let steps = (nearest - REPLY_MARGIN).max(now + MIN_STEP_TIME).min(most);
        Self { step_deadline: steps.into(), commit_deadline: most.into() }
    }
}
