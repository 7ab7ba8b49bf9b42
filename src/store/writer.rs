//! The batching writer: while one transaction is in flight, the next batch gathers.
//!
//! It is a task and not an actor: it lives on the drivers' runtime, outlives every actor, and is
//! drained at shutdown.
//!
//! An engine may apply several batches at once, each in a lane: then there is a task for each lane.
//! Commits that often write the same records share a lane, because their transactions would abort
//! each other. So everything about stock is in one lane, and what concerns only one cart or
//! account is in others, where no sale holds it up.
//!
//! Commits reach a task through two queues. Each batch takes commits from the priority queue first.
//! An engine can hand a commit back instead of deciding it, in two ways:
//! - [`CommitError::RetryLater`]: the engine gave up the attempt, so that commits whose deadline is
//!   near fail in time. This commit has time left: it goes to the front of the next batch.
//! - [`CommitError::RetryAlone`]: the database refused a record of the batch, and each of its
//!   commits may be the cause. Each is applied in a transaction of its own, so that only the commit
//!   at fault fails. These transactions alternate with regular batches.

mod task;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinSet,
};
use tracing::Span;

use self::task::CommitWriterTask;
use super::{
    Store,
    commit::{Commit, CommitError, CommitOutcome, CommittedChanges, Write, outcome_name},
    limits::MAX_BATCH_COMMITS,
};
use crate::telemetry::trace::trace_parent_of;

/// Capacity of the regular queue. When it is full, a commit fails at once as overloaded.
const MAX_QUEUED_COMMITS: usize = 8192;

/// Capacity of the priority queue. When it is full, a commit waits for a place.
const MAX_PRIORITY_COMMITS: usize = 256;

/// The lane of everything that changes stock, products or orders.
pub(super) const STOCK_LANE: usize = 0;

/// Receives the changes of each batch before any caller gets its reply: a caller that reads after
/// its reply finds its own change in every cache of this node.
pub trait CommitObserver: Send + Sync {
    /// Brings a cache up to date. Called by several tasks, in no order: a cache must ignore a
    /// version that is older than its own. Must not block.
    fn on_committed(&self, changes: &CommittedChanges);

    /// Drops everything that another node can have changed, since some of its changes were missed.
    /// Must not block.
    fn on_missed(&self) {}
}

/// Counters of the writer, for metrics.
#[derive(Debug, Default)]
pub struct CommitWriterStats {
    /// Batches sent to the store.
    pub batches: AtomicU64,
    /// Commits in these batches, rejected ones included. A retried commit counts again.
    pub commits: AtomicU64,
}

/// Queues commits for the tasks that apply them. Clones share the tasks.
#[derive(Clone)]
pub struct CommitWriter {
    /// At least one.
    lanes: Arc<[LaneSenders]>,
    stats: Arc<CommitWriterStats>,
    store: Arc<dyn Store>,
    observer: Arc<dyn CommitObserver>,
}

/// The sending ends of the queues of one task.
struct LaneSenders {
    queue: mpsc::Sender<QueuedCommit>,
    priority_queue: mpsc::Sender<QueuedCommit>,
    closing: Arc<Notify>,
    /// Commits waiting to be applied alone.
    retry_alone_count: Arc<AtomicUsize>,
}

struct QueuedCommit {
    commit: Commit,
    reply: oneshot::Sender<CommitOutcome>,
    /// The span of the commit, which its batches and it link to each other.
    span: Span,
}

impl CommitWriter {
    /// Starts a task for each lane of the store on `runtime`. They end after
    /// [`CommitWriter::close`], once their queues are empty; the returned handle resolves then.
    pub fn start(
        runtime: &tokio::runtime::Handle,
        store: Arc<dyn Store>,
        observer: Arc<dyn CommitObserver>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let stats = Arc::new(CommitWriterStats::default());
        let mut tasks = JoinSet::new();
        let lanes = (0..store.write_lanes().max(1)).map(|lane| {
            let (queue, regular) = mpsc::channel(MAX_QUEUED_COMMITS);
            let (priority_queue, priority) = mpsc::channel(MAX_PRIORITY_COMMITS);
            let (closing, retry_alone_count) = (Arc::new(Notify::new()), Arc::default());
            let task = CommitWriterTask {
                lane,
                store: Arc::clone(&store),
                observer: Arc::clone(&observer),
                stats: Arc::clone(&stats),
                pending: Vec::with_capacity(MAX_BATCH_COMMITS),
                retry_alone: VecDeque::new(),
                retry_alone_count: Arc::clone(&retry_alone_count),
                last_batch_duration: Duration::ZERO,
                last_batch_ended_at: Instant::now(),
                last_batch_size: 0,
            };
            let queues = CommitQueues { priority, regular, closing: Arc::clone(&closing) };
            tasks.spawn_on(task.run(queues), runtime);
            LaneSenders { queue, priority_queue, closing, retry_alone_count }
        });
        let lanes = lanes.collect();
        let handle = runtime.spawn(async move { while tasks.join_next().await.is_some() {} });
        (Self { lanes, stats, store, observer }, handle)
    }

    fn lane_for(&self, commit: &Commit) -> Option<&LaneSenders> {
        self.lanes.get(lane_index(commit, self.lanes.len()))
    }

    /// Applies `commit` in the next batch, of this node or of another one. Returns when the commit
    /// is durable or has failed.
    ///
    /// # Errors
    /// Everything that [`CommitError`] lists.
    pub async fn commit(&self, commit: Commit) -> CommitOutcome {
        match self.forward(&commit, false).await {
            Some(outcome) => outcome,
            None => self.commit_here(commit).await,
        }
    }

    /// Applies `commit` before those of the regular queue. Order expiry uses it, since it must get
    /// through when clients overload the store. While the priority queue is full, this waits for a
    /// place until the commit's deadline.
    ///
    /// # Errors
    /// Everything that [`CommitError`] lists.
    pub async fn commit_with_priority(&self, commit: Commit) -> CommitOutcome {
        match self.forward(&commit, true).await {
            Some(outcome) => outcome,
            None => self.commit_here_with_priority(commit).await,
        }
    }

    /// Applies a commit that another node has forwarded, on this node in any case.
    pub(super) async fn commit_forwarded(
        &self,
        commit: Commit,
        has_priority: bool,
    ) -> CommitOutcome {
        if has_priority {
            self.commit_here_with_priority(commit).await
        } else {
            self.commit_here(commit).await
        }
    }

    /// Has another node apply the commit. `None` if this node is to apply it.
    async fn forward(&self, commit: &Commit, has_priority: bool) -> Option<CommitOutcome> {
        if !self.is_running() {
            return None;
        }
        let outcome = self.store.forward(commit, has_priority).await?;
        if let Ok(receipt) = &outcome {
            self.observer.on_committed(&CommittedChanges::of_forwarded(commit, receipt));
        }
        Some(outcome)
    }

    async fn commit_here(&self, commit: Commit) -> CommitOutcome {
        let Some(lane) = self.lane_for(&commit) else { return Err(CommitError::Unavailable) };
        match lane.queue.try_reserve() {
            Ok(place) => enqueue_and_wait(place, commit).await,
            Err(mpsc::error::TrySendError::Full(())) => Err(CommitError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(())) => Err(CommitError::Unavailable),
        }
    }

    async fn commit_here_with_priority(&self, commit: Commit) -> CommitOutcome {
        let Some(lane) = self.lane_for(&commit) else { return Err(CommitError::Unavailable) };
        match tokio::time::timeout_at(commit.deadline.into(), lane.priority_queue.reserve()).await {
            Ok(Ok(place)) => enqueue_and_wait(place, commit).await,
            Ok(Err(_)) => Err(CommitError::Unavailable),
            Err(_) => Err(CommitError::Overloaded),
        }
    }

    /// Rejects new commits. Those already queued are still applied.
    pub fn close(&self) {
        self.lanes.iter().for_each(|lane| lane.closing.notify_one());
    }

    /// Whether all tasks still accept commits.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.lanes.iter().all(|lane| !lane.queue.is_closed())
    }

    /// The number of commits in the regular queues, plus those waiting to be applied alone.
    #[must_use]
    pub fn queued_count(&self) -> usize {
        let queued = |lane: &LaneSenders| {
            lane.queue.max_capacity().saturating_sub(lane.queue.capacity())
                + lane.retry_alone_count.load(Ordering::Relaxed)
        };
        self.lanes.iter().map(queued).sum()
    }

    /// The writer's counters.
    #[must_use]
    pub fn stats(&self) -> &CommitWriterStats {
        &self.stats
    }
}

/// The lane of a commit: [`STOCK_LANE`], or an even share of the others for what concerns a cart or
/// an account alone.
fn lane_index(commit: &Commit, lanes: usize) -> usize {
    let owner = |write: &Write| match write {
        Write::Cart(cart) => Some(cart.owner.id.as_uuid()),
        Write::User(user) => Some(user.id.as_uuid()),
        Write::Session(session) => Some(session.user_id.as_uuid()),
        Write::AddressBook(book) => Some(book.user_id.as_uuid()),
        Write::Mail(mail) => Some(mail.id.as_uuid()),
        Write::Product(_)
        | Write::Order(_)
        | Write::Stock(_)
        | Write::EraseAccount(_)
        | Write::ReassignGuestReplies { .. }
        | Write::Webhook(_)
        | Write::WebhookDelivery(_)
        | Write::ApiKey(_)
        | Write::PricingRule(_)
        | Write::PromotionUse(..) => None,
    };
    let is_private =
        commit.conditions.is_empty() && commit.writes.iter().all(|write| owner(write).is_some());
    match commit.writes.first().and_then(owner) {
        // The end of an id is random.
        Some(owner) if is_private && lanes > 1 => {
            1 + (owner.as_u128() % (lanes - 1) as u128) as usize
        }
        _ => STOCK_LANE,
    }
}

async fn enqueue_and_wait(
    place: mpsc::Permit<'_, QueuedCommit>,
    mut commit: Commit,
) -> CommitOutcome {
    let span = tracing::info_span!(
        "commit",
        commit.writes = commit.writes.len(),
        commit.outcome = tracing::field::Empty,
    );
    // What the commit's events cause on other nodes belongs to its trace.
    if let Some(trace) = trace_parent_of(&span) {
        commit.trace = Some(trace);
    }
    let (reply, outcome) = oneshot::channel();
    place.send(QueuedCommit { commit, reply, span: span.clone() });
    // The task drops a reply only when it is aborted or panics while a batch is in flight.
    let outcome = outcome.await.unwrap_or(Err(CommitError::OutcomeUnknown));
    span.record("commit.outcome", outcome_name(&outcome));
    outcome
}

/// The receiving ends of both queues.
struct CommitQueues {
    priority: mpsc::Receiver<QueuedCommit>,
    regular: mpsc::Receiver<QueuedCommit>,
    closing: Arc<Notify>,
}

impl CommitQueues {
    /// Waits for one more commit, then takes all that are queued. Returns false when both queues
    /// are closed and empty. Cancel safe.
    async fn wait_for_commits(&mut self, gathered: &mut Vec<QueuedCommit>) -> bool {
        let (mut priority_open, mut regular_open) = (true, true);
        let before = gathered.len();
        while gathered.len() == before {
            if !priority_open && !regular_open {
                return false;
            }
            let next = tokio::select! {
                biased;
                () = self.closing.notified() => {
                    self.priority.close();
                    self.regular.close();
                    None
                }
                next = self.priority.recv(), if priority_open => {
                    priority_open = next.is_some();
                    next
                }
                next = self.regular.recv(), if regular_open => {
                    regular_open = next.is_some();
                    next
                }
            };
            gathered.extend(next);
        }
        self.take_queued(gathered);
        true
    }

    /// Takes what is queued now, priority first, until `gathered` is a full batch.
    fn take_queued(&mut self, gathered: &mut Vec<QueuedCommit>) {
        while gathered.len() < MAX_BATCH_COMMITS
            && let Ok(next) = self.priority.try_recv().or_else(|_| self.regular.try_recv())
        {
            gathered.push(next);
        }
    }
}
