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
    connect::durable,
    failure::{Failure, Trouble},
    flush::{Before, flush},
    load::load,
    nodes::Node,
    transaction::{Transaction, within},
};
use crate::store::{
    Applied, ApplyError,
    commit::{Commit, CommitError, Condition, News, Outcome, Write},
    plan::{self, Touched},
};

/// For how long an idempotency key is honoured.
pub(super) const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// So much before its deadline the steps of a commit's transaction have to be done, so that its caller hears in time when they are not.
const MARGIN: Duration = Duration::from_millis(100);

/// What the steps of a transaction may take together before those with a near deadline are let go.
const PATIENCE: Duration = Duration::from_millis(250);

/// A pause after a conflict: at first, and at most.
const AFTER_CONFLICT: (Duration, Duration) =
    (Duration::from_micros(500), Duration::from_millis(20));

/// A pause when the server is away: at first, and at most.
const WHEN_AWAY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// A batch that waits for the writer.
pub(super) struct Batch {
    /// What to apply.
    pub(super) commits: Arc<[Commit]>,
    /// Who waits for it.
    pub(super) reply: oneshot::Sender<Result<Applied, ApplyError>>,
}

/// The one of this node who writes.
pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) database: Database,
    pub(super) node: Arc<Node>,
    pub(super) low_stock: u64,
    /// The longest that anything waits for the server.
    pub(super) timeout: Duration,
    /// The session that transactions run in, while it is in good order.
    pub(super) session: Option<ClientSession>,
    /// The log says that the store is away.
    pub(super) away: bool,
}

/// What is known so far of a batch.
struct Answers {
    outcomes: Vec<Option<Outcome>>,
    news: News,
}

impl Answers {
    fn set(&mut self, places: &[usize], error: &CommitError) {
        for place in places {
            self.put(*place, Err(error.clone()));
        }
    }

    fn put(&mut self, place: usize, outcome: Outcome) {
        if let Some(slot) = self.outcomes.get_mut(place) {
            *slot = Some(outcome);
        }
    }

    fn done(&mut self, places: &[usize], applied: Applied) {
        for (place, outcome) in places.iter().zip(applied.outcomes) {
            self.put(*place, outcome);
        }
        self.news.append(applied.news);
    }

    /// All outcomes, or the one error that all have in common.
    fn finish(self) -> Result<Applied, ApplyError> {
        // Each place was put; a commit that was forgotten would be one that nobody began.
        let outcomes: Vec<Outcome> =
            self.outcomes.into_iter().map(|o| o.unwrap_or(Err(CommitError::Unavailable))).collect();
        let all = |error: CommitError| {
            !outcomes.is_empty() && outcomes.iter().all(|o| o.as_ref().err() == Some(&error))
        };
        if all(CommitError::Unavailable) {
            return Err(ApplyError::Unavailable);
        }
        if all(CommitError::Unknown) {
            return Err(ApplyError::Unknown);
        }
        Ok(Applied { outcomes, news: self.news })
    }
}

impl Writer {
    /// Applies batches until there are no more.
    pub(super) async fn run(mut self, mut batches: mpsc::Receiver<Batch>) {
        while let Some(Batch { commits, reply }) = batches.recv().await {
            match AssertUnwindSafe(self.apply(commits)).catch_unwind().await {
                // Whoever asked may have gone; the change stands all the same.
                Ok(applied) => drop(reply.send(applied)),
                Err(_) => {
                    tracing::error!("the writer panicked, which is a fault in souk; it goes on")
                }
            }
        }
    }

    async fn apply(&mut self, batch: Arc<[Commit]>) -> Result<Applied, ApplyError> {
        let mut answers = Answers { outcomes: vec![None; batch.len()], news: News::default() };
        let all = (0..batch.len()).collect();
        self.settle(&batch, all, &mut answers).await;
        answers.finish()
    }

    /// Tries the commits at `places` together until it is known what came of them. Those that cannot be written with the others are left,
    /// so that nobody waits for them.
    async fn settle(
        &mut self,
        batch: &Arc<[Commit]>,
        mut places: Vec<usize>,
        answers: &mut Answers,
    ) {
        let mut tries = Tries::default();
        // Groups to try next when somebody is at fault and nobody knows who, the next one last.
        let mut halves: Vec<Vec<usize>> = Vec::new();
        let mut refused_alone = false;
        while !places.is_empty() && !let_go(batch, &places, &tries, answers) {
            let failure = match self.attempt(chosen(batch, &places)).await {
                Ok(applied) => {
                    self.away = false;
                    answers.done(&places, applied);
                    break;
                }
                Err(failure) => failure,
            };
            if failure.trouble == Trouble::Away && !std::mem::replace(&mut self.away, true) {
                tracing::warn!(reason = failure.reason, "the store is away; trying again");
            }
            let together = places.len() > 1;
            match failure.trouble {
                Trouble::Conflict | Trouble::Away => tries.pause(failure.trouble).await,
                Trouble::Unknown => {
                    tracing::error!(
                        reason = failure.reason,
                        commits = places.len(),
                        "a batch may have been applied, or not"
                    );
                    answers.set(&places, &CommitError::Unknown);
                    break;
                }
                Trouble::Statement(record)
                    if together
                        && places.iter().any(|place| is_at_fault(batch, *place, record)) =>
                {
                    tracing::warn!(
                        reason = failure.reason,
                        "a record cannot be written; its commits are tried alone"
                    );
                    let (blamed, rest): (Vec<usize>, Vec<usize>) =
                        places.iter().partition(|place| is_at_fault(batch, **place, record));
                    answers.set(&blamed, &CommitError::Apart);
                    places = rest;
                }
                Trouble::Statement(_) | Trouble::Refused if together => {
                    if halves.is_empty() {
                        tracing::error!(
                            reason = failure.reason,
                            commits = places.len(),
                            "a batch failed; trying a half of it"
                        );
                    }
                    halves.push(places.split_off(places.len() / 2));
                }
                Trouble::Statement(_) | Trouble::Refused => {
                    tracing::error!(reason = failure.reason, "a commit failed");
                    answers.set(&places, &CommitError::Unavailable);
                    // Two in a row: then it is not the commits that are at fault.
                    if std::mem::replace(&mut refused_alone, true) {
                        answers.set(&halves.concat(), &CommitError::Unavailable);
                        return;
                    }
                    places = halves.pop().unwrap_or_default();
                }
            }
        }
        answers.set(&halves.concat(), &CommitError::NotYet);
    }

    /// One transaction. When it fails, nothing of it is left open, or its session is noted to be ended.
    async fn attempt(&mut self, batch: Arc<[Commit]>) -> Result<Applied, Failure> {
        let times = Times::of(&batch, self.timeout);
        let mut session = self.session(times.steps).await?;
        within(times.steps, session.start_transaction().into_future()).await?;
        let database = self.database.clone();
        let mut transaction =
            Transaction { database: &database, session: &mut session, until: times.steps };
        let decided = match decide(&mut transaction, &batch, self.low_stock).await {
            Ok(decided) => decided,
            Err(failure) => {
                // A server that is away would have to be waited for.
                let aborted = failure.trouble != Trouble::Away && {
                    let until = times.steps.max(tokio::time::Instant::now() + MARGIN);
                    within(until, session.abort_transaction().into_future()).await.is_ok()
                };
                self.keep(session, aborted);
                return Err(failure);
            }
        };
        let committed = transaction.commit(times.commit).await;
        self.keep(
            session,
            committed.as_ref().err().is_none_or(|failure| failure.trouble == Trouble::Conflict),
        );
        committed.map(|()| decided)
    }

    /// The session to work in: the one in use, or a new one that the other nodes know of.
    async fn session(&mut self, until: tokio::time::Instant) -> Result<ClientSession, Failure> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        within(until, self.node.end_left()).await?;
        let options = TransactionOptions::builder()
            .read_concern(ReadConcern::snapshot())
            .write_concern(durable(self.timeout))
            .build();
        let start = self
            .client
            .start_session()
            .causal_consistency(false)
            .default_transaction_options(options);
        let session = within(until, start.into_future()).await?;
        within(until, self.node.announce(id_of(&session))).await?;
        Ok(session)
    }

    /// Keeps a session for the next transaction, unless it is not known what the server is doing in it: then it is ended.
    fn keep(&mut self, session: ClientSession, in_good_order: bool) {
        if in_good_order {
            self.session = Some(session);
        } else {
            self.node.leave_behind(id_of(&session));
        }
    }
}

/// Loads, decides and writes; what is left to do is to commit.
async fn decide(
    transaction: &mut Transaction<'_>,
    batch: &[Commit],
    low_stock: u64,
) -> Result<Applied, Failure> {
    let newest = batch.iter().map(|commit| commit.at).max().unwrap_or_default();
    let expected = expected_events(batch);
    let last =
        if batch.iter().any(takes_turn) { transaction.take_turn(expected).await? } else { 0 };
    let (loaded, worn) =
        load(transaction, &Touched::by(batch), newest.minus(REMEMBERED_FOR)).await?;
    let before = Before::of(&loaded, worn);
    let plan = plan::plan(batch, loaded, low_stock);
    // Also when there is nothing to write it is committed: what was read and is answered from has to be a majority's.
    let published = plan.writes.published(last + 1);
    flush(transaction, &plan.writes, &before, &published).await?;
    if published.len() as u64 != expected {
        transaction.end_turn(last + published.len() as u64).await?;
    }
    Ok(Applied { outcomes: plan.outcomes, news: plan.writes.news(published) })
}

/// How many events come of it if every commit is applied, and no stock runs low: what mostly happens.
fn expected_events(batch: &[Commit]) -> u64 {
    let facts: usize = batch.iter().map(|commit| commit.facts.len()).sum();
    let stock = batch.iter().flat_map(|commit| &commit.writes).filter_map(|write| match write {
        Write::Stock(stock) => Some(stock.product_id),
        _ => None,
    });
    (facts + stock.collect::<BTreeSet<_>>().len()) as u64
}

/// Whether it takes its turn: since events may come of it, or since it has conditions on what it does not write, which no other
/// transaction may change in the meantime. Whoever changes such things tells of it.
fn takes_turn(commit: &Commit) -> bool {
    !commit.facts.is_empty()
        || !commit.conditions.is_empty()
        || commit.writes.iter().any(|write| matches!(write, Write::Stock(_)))
}

/// Whether the commit at `place` names a record that cannot be written.
fn is_at_fault(batch: &[Commit], place: usize, record: Uuid) -> bool {
    batch.get(place).is_some_and(|commit| names(commit, record))
}

/// Whether `commit` names a record.
fn names(commit: &Commit, record: Uuid) -> bool {
    let written = commit.writes.iter().any(|write| match write {
        Write::Cart(cart) => cart.owner.id.as_uuid() == record,
        Write::Product(product) => product.id.as_uuid() == record,
        Write::Order(order) => order.id.as_uuid() == record,
        Write::Stock(stock) => stock.product_id.as_uuid() == record,
        Write::User(user) => user.id.as_uuid() == record,
        Write::Session(session) => session.id.as_uuid() == record,
    });
    let remembered =
        commit.remember.as_ref().is_some_and(|remember| remember.key.owner.as_uuid() == record);
    let decided_on = commit.conditions.iter().any(|condition| match condition {
        Condition::Unchanged(product, _) => product.as_uuid() == record,
        Condition::PendingBelow(user, _) => user.as_uuid() == record,
    });
    written || decided_on || remembered || commit.facts.iter().any(|fact| fact.subject() == record)
}

fn id_of(session: &ClientSession) -> Option<Id> {
    match session.id().get("id") {
        Some(Bson::Binary(id)) => id.to_uuid().ok(),
        _ => None,
    }
}

fn chosen(batch: &Arc<[Commit]>, places: &[usize]) -> Arc<[Commit]> {
    if places.len() == batch.len() {
        Arc::clone(batch)
    } else {
        places.iter().filter_map(|place| batch.get(*place).cloned()).collect()
    }
}

/// Answers those whose deadline is too near for another try: certainly not applied. All of a batch hear of it at the same time, so the
/// others are then to be tried in another one. Whether there were any.
fn let_go(batch: &[Commit], places: &[usize], tries: &Tries, answers: &mut Answers) -> bool {
    let Some(error) = tries.last_error() else { return false };
    // A server that is away is waited for; after a conflict, the next try mostly takes no longer than the last.
    let needed = if tries.last == Some(Trouble::Away) { MARGIN + PATIENCE } else { MARGIN };
    let nearest = Instant::now() + needed;
    let is_late =
        |place: &&usize| batch.get(**place).is_none_or(|commit| commit.deadline <= nearest);
    let (late, good): (Vec<usize>, Vec<usize>) = places.iter().partition(is_late);
    if late.is_empty() {
        return false;
    }
    answers.set(&late, &error);
    answers.set(&good, &CommitError::NotYet);
    true
}

/// What was tried, and how long to wait before the next try.
#[derive(Default)]
struct Tries {
    last: Option<Trouble>,
    pause: Duration,
}

impl Tries {
    fn last_error(&self) -> Option<CommitError> {
        match self.last? {
            Trouble::Conflict => Some(CommitError::Overloaded),
            _ => Some(CommitError::Unavailable),
        }
    }

    async fn pause(&mut self, trouble: Trouble) {
        let (first, most) = if trouble == Trouble::Conflict { AFTER_CONFLICT } else { WHEN_AWAY };
        if self.last != Some(trouble) {
            self.pause = first;
        }
        self.last = Some(trouble);
        // Anything from half to the whole, so that nodes that met once do not meet again.
        sleep(self.pause.mul_f64(rand::random_range(0.5..=1.0))).await;
        self.pause = (self.pause * 3 / 2).min(most);
    }
}

/// Until when the parts of a transaction may take.
struct Times {
    steps: tokio::time::Instant,
    commit: tokio::time::Instant,
}

impl Times {
    fn of(batch: &[Commit], timeout: Duration) -> Self {
        let now = Instant::now();
        let deadlines = batch.iter().map(|commit| commit.deadline);
        let (nearest, farthest) =
            (deadlines.clone().min().unwrap_or(now), deadlines.max().unwrap_or(now));
        let most = farthest.min(now + timeout).max(now + MARGIN);
        let steps = (nearest - MARGIN).max(now + PATIENCE).min(most);
        Self { steps: steps.into(), commit: most.into() }
    }
}
