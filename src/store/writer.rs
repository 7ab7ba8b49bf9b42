//! The batching writer: while one transaction is in flight, the next batch gathers.
//!
//! It is a task and not an actor: it lives on the drivers' runtime, outlives every actor, and is
//! drained at shutdown.
//!
//! Commits reach it through two queues. Each batch takes commits from the priority queue first.
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

use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    AppliedBatch, Store,
    commit::{Commit, CommitError, CommitOutcome, CommittedChanges},
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

/// Receives the changes of each batch before any caller gets its reply: a caller that reads after
/// its reply finds its own change in every cache of this node.
pub trait CommitObserver: Send + Sync {
    /// Brings a cache up to date. Called in commit order; must not block.
    fn on_committed(&self, changes: &CommittedChanges);

    /// Drops everything that another node can have changed, since some of its changes were missed.
    /// Must not block.
    fn on_missed(&self) {}
}

/// Counters and gauges of the writer, for metrics.
#[derive(Debug, Default)]
pub struct CommitWriterStats {
    /// Batches sent to the store.
    pub batches: AtomicU64,
    /// Commits in these batches, rejected ones included. A retried commit counts again.
    pub commits: AtomicU64,
    /// Commits waiting to be applied alone.
    pub retry_alone: AtomicUsize,
}

/// Queues commits for the task that applies them. Clones share the task.
#[derive(Clone)]
pub struct CommitWriter {
    queue: mpsc::Sender<QueuedCommit>,
    priority_queue: mpsc::Sender<QueuedCommit>,
    closing: Arc<Notify>,
    stats: Arc<CommitWriterStats>,
}

struct QueuedCommit {
    commit: Commit,
    reply: oneshot::Sender<CommitOutcome>,
}

impl CommitWriter {
    /// Starts the task on `runtime`. It ends after [`CommitWriter::close`], once its queues are
    /// empty; the returned handle resolves then.
    pub fn start(
        runtime: &tokio::runtime::Handle,
        store: Arc<dyn Store>,
        observer: Arc<dyn CommitObserver>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, regular) = mpsc::channel(MAX_QUEUED_COMMITS);
        let (priority_queue, priority) = mpsc::channel(MAX_PRIORITY_COMMITS);
        let stats = Arc::new(CommitWriterStats::default());
        let closing = Arc::new(Notify::new());
        let task = CommitWriterTask {
            store,
            observer,
            stats: Arc::clone(&stats),
            pending: Vec::with_capacity(MAX_BATCH_COMMITS),
            retry_alone: VecDeque::new(),
            last_batch_duration: Duration::ZERO,
        };
        let queues = CommitQueues { priority, regular, closing: Arc::clone(&closing) };
        let handle = runtime.spawn(task.run(queues));
        (Self { queue, priority_queue, closing, stats }, handle)
    }

    /// Applies `commit` in the next batch. Returns when the commit is durable or has failed.
    ///
    /// # Errors
    /// Everything that [`CommitError`] lists.
    pub async fn commit(&self, commit: Commit) -> CommitOutcome {
        match self.queue.try_reserve() {
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
        match tokio::time::timeout_at(commit.deadline.into(), self.priority_queue.reserve()).await {
            Ok(Ok(place)) => enqueue_and_wait(place, commit).await,
            Ok(Err(_)) => Err(CommitError::Unavailable),
            Err(_) => Err(CommitError::Overloaded),
        }
    }

    /// Rejects new commits. Those already queued are still applied.
    pub fn close(&self) {
        self.closing.notify_one();
    }

    /// Whether the task still accepts commits.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.queue.is_closed()
    }

    /// The number of commits in the regular queue, plus those waiting to be applied alone.
    #[must_use]
    pub fn queued_count(&self) -> usize {
        self.queue.max_capacity().saturating_sub(self.queue.capacity())
            + self.stats.retry_alone.load(Ordering::Relaxed)
    }

    /// The writer's counters and gauges.
    #[must_use]
    pub fn stats(&self) -> &CommitWriterStats {
        &self.stats
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
    /// Waits for a commit, then takes all that are queued. Returns false when both queues are
    /// closed and empty.
    async fn wait_for_commits(&mut self, gathered: &mut Vec<QueuedCommit>) -> bool {
        let (mut priority_open, mut regular_open) = (true, true);
        while gathered.is_empty() {
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
    store: Arc<dyn Store>,
    observer: Arc<dyn CommitObserver>,
    stats: Arc<CommitWriterStats>,
    /// Commits taken from the queues that are not in a batch yet.
    pending: Vec<QueuedCommit>,
    /// Commits to apply in a transaction of their own.
    retry_alone: VecDeque<QueuedCommit>,
    /// How long the last batch took: the estimate for the next one.
    last_batch_duration: Duration,
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
            self.stats.retry_alone.store(self.retry_alone.len(), Ordering::Relaxed);
            if let Some(suspect) = self.retry_alone.pop_front() {
                self.apply_batch(vec![suspect]).await;
                queues.take_queued(&mut self.pending);
            } else if self.pending.is_empty() && !queues.wait_for_commits(&mut self.pending).await {
                return;
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
            self.last_batch_duration = started_at.elapsed();
        }
    }

    /// Applies a batch and replies to its callers. Keeps the commits that are to be retried.
    async fn apply_batch(&mut self, batch: Vec<QueuedCommit>) {
        let (commits, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|queued| (queued.commit, queued.reply)).unzip();
        let commits: Arc<[Commit]> = commits.into();
        self.stats.batches.fetch_add(1, Ordering::Relaxed);
        self.stats.commits.fetch_add(commits.len() as u64, Ordering::Relaxed);
        let outcomes = match self.store.apply(Arc::clone(&commits)).await {
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
        self.stats.retry_alone.store(self.retry_alone.len(), Ordering::Relaxed);
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
