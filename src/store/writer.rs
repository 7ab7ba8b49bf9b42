//! The batching writer: while one transaction is in flight, the next batch gathers.
//!
//! It is a task and not an actor: it lives on the drivers' runtime, outlives every actor, and is
//! drained at shutdown.
//!
//! An engine may apply several batches at once, each in a lane: then there is a task for each lane.
//! Commits that may write the same records must share a lane, because their transactions would
//! abort each other. So everything about stock is in one lane, and what concerns only one cart or
//! account is in others, where no sale holds it up.
//!
//! Commits reach a task through two queues. Each batch takes commits from the priority queue first.
//! An engine can hand a commit back instead of deciding it, in two ways:
//! - [`CommitError::RetryLater`]: the engine gave up the attempt, so that commits whose deadline is
//!   near fail in time. This commit has time left: it goes to the front of the next batch.
//! - [`CommitError::RetryAlone`]: the database refused a record of the batch, and each of its
//!   commits may be the cause. Each is applied in a transaction of its own, so that only the commit
//!   at fault fails. These transactions alternate with regular batches.

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

use super::{
    AppliedBatch, Store,
    commit::{Commit, CommitError, CommitOutcome, CommittedChanges, Write},
    limits::{MAX_BATCH_COMMITS, MAX_BATCH_WRITES},
};

/// Capacity of the regular queue. When it is full, a commit fails at once as overloaded.
const MAX_QUEUED_COMMITS: usize = 8192;

/// Capacity of the priority queue. When it is full, a commit waits for a place.
const MAX_PRIORITY_COMMITS: usize = 256;

/// Commits that can wait to be applied alone. More fail as unavailable: when so many are refused at
/// once, the database is at fault and not a commit.
const MAX_RETRY_ALONE: usize = 256;

/// The longest time that the next batch is expected to take. After an outage the last batch may
/// have taken much longer, which says nothing about the next one.
const MAX_EXPECTED_DURATION: Duration = Duration::from_secs(1);

/// The lane of everything that changes stock, products or orders.
pub(super) const STOCK_LANE: usize = 0;

/// How long a batch on a shared store waits for more commits: this part of the time that the last
/// one took.
const GATHER_SHARE: f64 = 0.3;

/// Receives the changes of each batch before any caller gets its reply: a caller that reads after
/// its reply finds its own change in every cache of this node.
pub trait CommitObserver: Send + Sync {
    /// Brings a cache up to date. Called in commit order; must not block.
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
    lanes: Arc<[Lane]>,
    stats: Arc<CommitWriterStats>,
}

/// The sending ends of the queues of one task.
struct Lane {
    queue: mpsc::Sender<QueuedCommit>,
    priority_queue: mpsc::Sender<QueuedCommit>,
    closing: Arc<Notify>,
    /// Commits waiting to be applied alone.
    retry_alone_count: Arc<AtomicUsize>,
}

struct QueuedCommit {
    commit: Commit,
    reply: oneshot::Sender<CommitOutcome>,
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
            Lane { queue, priority_queue, closing, retry_alone_count }
        });
        let lanes = lanes.collect();
        let handle = runtime.spawn(async move { while tasks.join_next().await.is_some() {} });
        (Self { lanes, stats }, handle)
    }

    fn lane_for(&self, commit: &Commit) -> Option<&Lane> {
        self.lanes.get(lane_index(commit, self.lanes.len()))
    }

    /// Applies `commit` in the next batch. Returns when the commit is durable or has failed.
    ///
    /// # Errors
    /// Everything that [`CommitError`] lists.
    pub async fn commit(&self, commit: Commit) -> CommitOutcome {
        let Some(lane) = self.lane_for(&commit) else { return Err(CommitError::Unavailable) };
        match lane.queue.try_reserve() {
            Ok(place) => enqueue_and_wait(place, commit).await,
            Err(mpsc::error::TrySendError::Full(())) => Err(CommitError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(())) => Err(CommitError::Unavailable),
        }
    }

    /// Applies `commit` before those of the regular queue. Order expiry uses it, since it must get
    /// through when clients overload the store. While the priority queue is full, this waits for a
    /// place until the commit's deadline.
    ///
    /// # Errors
    /// Everything that [`CommitError`] lists.
    pub async fn commit_with_priority(&self, commit: Commit) -> CommitOutcome {
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
        let queued = |lane: &Lane| {
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
        Write::Cart(cart) => Some(cart.owner.id),
        Write::User(user) => Some(user.id),
        Write::Session(session) => Some(session.user_id),
        Write::Product(_) | Write::Order(_) | Write::Stock(_) => None,
    };
    let is_private =
        commit.conditions.is_empty() && commit.writes.iter().all(|write| owner(write).is_some());
    match commit.writes.first().and_then(owner) {
        // The end of an id is random.
        Some(owner) if is_private && lanes > 1 => {
            1 + (owner.as_uuid().as_u128() % (lanes - 1) as u128) as usize
        }
        _ => STOCK_LANE,
    }
}

async fn enqueue_and_wait(place: mpsc::Permit<'_, QueuedCommit>, commit: Commit) -> CommitOutcome {
    let (reply, outcome) = oneshot::channel();
    place.send(QueuedCommit { commit, reply });
    // The task drops a reply only when it is aborted or panics while a batch is in flight.
    outcome.await.unwrap_or(Err(CommitError::OutcomeUnknown))
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

struct CommitWriterTask {
    /// The lane of the store that the task applies its batches in.
    lane: usize,
    store: Arc<dyn Store>,
    observer: Arc<dyn CommitObserver>,
    stats: Arc<CommitWriterStats>,
    /// Commits taken from the queues that are not in a batch yet.
    pending: Vec<QueuedCommit>,
    /// Commits to apply in a transaction of their own.
    retry_alone: VecDeque<QueuedCommit>,
    retry_alone_count: Arc<AtomicUsize>,
    /// How long the last batch took: the estimate for the next one.
    last_batch_duration: Duration,
    last_batch_ended_at: Instant,
    /// Commits of the last batch.
    last_batch_size: usize,
}

impl CommitWriterTask {
    async fn run(mut self, mut queues: CommitQueues) {
        loop {
            let expected_duration = self.last_batch_duration.min(MAX_EXPECTED_DURATION);
            // One lone commit for each regular batch: the regular commits wait for one more
            // transaction, and not for all of the lone ones.
            self.retry_alone =
                fail_expiring_commits(std::mem::take(&mut self.retry_alone), expected_duration)
                    .into();
            self.retry_alone_count.store(self.retry_alone.len(), Ordering::Relaxed);
            if let Some(suspect) = self.retry_alone.pop_front() {
                self.apply_batch(vec![suspect]).await;
                queues.take_queued(&mut self.pending);
            } else {
                if self.pending.is_empty() && !queues.wait_for_commits(&mut self.pending).await {
                    return;
                }
                self.store.wait_for_turn(self.lane).await;
                self.gather(&mut queues).await;
            }
            let rest = self.pending.split_off(batch_length(&self.pending));
            let pending = std::mem::replace(&mut self.pending, rest);
            let batch = fail_expiring_commits(pending, expected_duration);
            let started_at = Instant::now();
            if !batch.is_empty() {
                self.apply_batch(batch).await;
            }
            // When the whole batch expired, this is almost zero, so that the next batch is tried:
            // otherwise one slow batch could make every later one expire untried.
            self.last_batch_ended_at = Instant::now();
            self.last_batch_duration = self.last_batch_ended_at - started_at;
        }
    }

    /// Waits a little for more commits, since the callers of the last batch have just got their
    /// replies and most of them will be back.
    ///
    /// Without this, callers split into two groups that take turns: while the commits of one are in
    /// a transaction, those of the other wait. With it they share one transaction, which costs a
    /// shared store about as much as half as many commits do, and is over sooner for all of them.
    async fn gather(&mut self, queues: &mut CommitQueues) {
        queues.take_queued(&mut self.pending);
        if !self.store.is_shared() {
            return;
        }
        let expected = (self.pending.len() + self.last_batch_size).min(MAX_BATCH_COMMITS);
        let end = self.last_batch_ended_at + self.last_batch_duration.mul_f64(GATHER_SHARE);
        while self.pending.len() < expected {
            match tokio::time::timeout_at(end.into(), queues.wait_for_commits(&mut self.pending))
                .await
            {
                Ok(true) => {}
                Ok(false) | Err(_) => return,
            }
        }
    }

    /// Applies a batch and replies to its callers. Keeps the commits that are to be retried.
    async fn apply_batch(&mut self, batch: Vec<QueuedCommit>) {
        let (commits, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|queued| (queued.commit, queued.reply)).unzip();
        let commits: Arc<[Commit]> = commits.into();
        self.last_batch_size = commits.len();
        self.stats.batches.fetch_add(1, Ordering::Relaxed);
        self.stats.commits.fetch_add(commits.len() as u64, Ordering::Relaxed);
        let outcomes = match self.store.apply_in_lane(self.lane, Arc::clone(&commits)).await {
            Ok(AppliedBatch { outcomes, changes }) => {
                self.observer.on_committed(&changes);
                outcomes
            }
            Err(error) => vec![Err(error.into()); commits.len()],
        };
        let mut retry_later = Vec::new();
        for ((commit, reply), outcome) in commits.iter().zip(replies).zip(outcomes) {
            match outcome {
                Err(CommitError::RetryLater) => {
                    retry_later.push(QueuedCommit { commit: commit.clone(), reply })
                }
                Err(CommitError::RetryAlone) if self.retry_alone.len() < MAX_RETRY_ALONE => {
                    self.retry_alone.push_back(QueuedCommit { commit: commit.clone(), reply });
                }
                Err(CommitError::RetryAlone) => drop(reply.send(Err(CommitError::Unavailable))),
                // Sending fails when the caller has gone; the outcome stands all the same.
                outcome => drop(reply.send(outcome)),
            }
        }
        self.pending.splice(..0, retry_later);
        self.retry_alone_count.store(self.retry_alone.len(), Ordering::Relaxed);
    }
}

/// How many of the first commits fit into one transaction. At least one, unless there is none: a
/// single commit may exceed the limit of writes.
fn batch_length(gathered: &[QueuedCommit]) -> usize {
    let mut writes = 0_usize;
    let fits = |queued: &&QueuedCommit| {
        writes = writes.saturating_add(queued.commit.writes.len());
        writes <= MAX_BATCH_WRITES
    };
    gathered.iter().take_while(fits).count().max(1).min(gathered.len())
}

/// Fails the commits whose deadline is within `expected_duration`, and returns the others. A commit
/// that cannot be done in time is not begun, so its caller learns before the deadline that it was
/// certainly not applied.
fn fail_expiring_commits(
    batch: impl IntoIterator<Item = QueuedCommit>,
    expected_duration: Duration,
) -> Vec<QueuedCommit> {
    let earliest_deadline = Instant::now() + expected_duration;
    let mut in_time = Vec::new();
    for queued in batch {
        if queued.commit.deadline <= earliest_deadline {
            drop(queued.reply.send(Err(CommitError::Overloaded)));
        } else {
            in_time.push(queued);
        }
    }
    in_time
}
