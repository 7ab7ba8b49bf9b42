//! The batching writer: while one transaction is in flight, the next batch gathers.
//!
//! It is a task and not an actor, so that it lives on the drivers' runtime, outlives every actor, and can be drained at the end.

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

/// Most commits that wait. Beyond, callers are told to come back, at once.
const MAX_QUEUED_COMMITS: usize = 8192;

/// Most of those that wait for a place instead of being told to come back.
const MAX_PRIORITY_COMMITS: usize = 256;

/// Most commits that wait to be applied alone. Beyond, they are refused: so many at once are at fault only when the store is.
const MAX_RETRY_ALONE: usize = 256;

/// The most that a commit is taken to need, whatever the last ones needed: a store that was away may be back.
const MAX_EXPECTED_DURATION: Duration = Duration::from_secs(1);

/// Hears what a batch has changed, before anyone is told that it is done: so whoever was told finds it everywhere on this node.
pub trait CommitObserver: Send + Sync {
    /// Brings a cache up to date. Called in commit order; must not block.
    fn on_committed(&self, news: &CommittedChanges);

    /// Forgets what news of other nodes could have changed: some are gone unheard. Must not block.
    fn on_missed(&self) {}
}

/// Figures of the writer's work.
#[derive(Debug, Default)]
pub struct CommitWriterStats {
    /// Batches given to the store.
    pub batches: AtomicU64,
    /// Commits in them, refused ones included; one that is applied again counts again.
    pub commits: AtomicU64,
    /// Commits that wait to be applied alone.
    pub retry_alone: AtomicUsize,
}

/// Takes commits for the one task that applies them.
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
    /// Starts the task on `runtime`. It ends after [`Writer::close`]; the handle tells when.
    pub fn start(
        runtime: &tokio::runtime::Handle,
        store: Arc<dyn Store>,
        observer: Arc<dyn CommitObserver>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, waiting) = mpsc::channel(MAX_QUEUED_COMMITS);
        let (in_turn, first) = mpsc::channel(MAX_PRIORITY_COMMITS);
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
        let queues =
            CommitQueues { priority: first, regular: waiting, closing: Arc::clone(&closing) };
        let handle = runtime.spawn(task.run(queues));
        (Self { queue, priority_queue: in_turn, closing, stats }, handle)
    }

    /// Applies `commit`, together with whatever else is waiting, and answers when it is durable or certain not to be.
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

    /// The same, for those who are not told to come back: they have a queue of their own, which goes first, and wait for a place in it
    /// until the commit's deadline.
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

    /// Takes no more commits; those that wait are still applied.
    pub fn close(&self) {
        self.closing.notify_one();
    }

    /// Whether the task that applies commits is there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.queue.is_closed()
    }

    /// How many commits wait.
    #[must_use]
    pub fn queued_count(&self) -> usize {
        self.queue.max_capacity().saturating_sub(self.queue.capacity())
            + self.stats.retry_alone.load(Ordering::Relaxed)
    }

    /// Figures of the work done.
    #[must_use]
    pub fn stats(&self) -> &CommitWriterStats {
        &self.stats
    }
}

async fn enqueue_and_wait(place: mpsc::Permit<'_, QueuedCommit>, commit: Commit) -> CommitOutcome {
    let (reply, outcome) = oneshot::channel();
    place.send(QueuedCommit { commit, reply });
    // The task drops a reply only when it is torn down in the middle of its work.
    outcome.await.unwrap_or(Err(CommitError::OutcomeUnknown))
}

/// The commits that wait.
struct CommitQueues {
    priority: mpsc::Receiver<QueuedCommit>,
    regular: mpsc::Receiver<QueuedCommit>,
    closing: Arc<Notify>,
}

impl CommitQueues {
    /// Takes what waits, or else waits for it; false when there is nothing any more and never will be.
    async fn wait_for_commits(&mut self, gathered: &mut Vec<QueuedCommit>) -> bool {
        let (mut any_first, mut any) = (true, true);
        while gathered.is_empty() {
            if !any_first && !any {
                return false;
            }
            let next = tokio::select! {
                biased;
                () = self.closing.notified() => {
                    self.priority.close();
                    self.regular.close();
                    None
                }
                next = self.priority.recv(), if any_first => {
                    any_first = next.is_some();
                    next
                }
                next = self.regular.recv(), if any => {
                    any = next.is_some();
                    next
                }
            };
            gathered.extend(next);
        }
        self.take_queued(gathered);
        true
    }

    /// Takes what waits by now.
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
    /// Gathered, and not yet in a batch.
    pending: Vec<QueuedCommit>,
    /// What has to be applied alone.
    retry_alone: VecDeque<QueuedCommit>,
    /// How long the last batch took.
    last_batch_duration: Duration,
}

impl CommitWriterTask {
    async fn run(mut self, mut queues: CommitQueues) {
        loop {
            let notice = self.last_batch_duration.min(MAX_EXPECTED_DURATION);
            // One of them in turn with what all others wait for, so that it costs them one transaction each.
            self.retry_alone =
                fail_expiring_commits(std::mem::take(&mut self.retry_alone), notice).into();
            self.stats.retry_alone.store(self.retry_alone.len(), Ordering::Relaxed);
            if let Some(suspect) = self.retry_alone.pop_front() {
                self.apply_batch(vec![suspect]).await;
                queues.take_queued(&mut self.pending);
            } else if self.pending.is_empty() && !queues.wait_for_commits(&mut self.pending).await {
                return;
            }
            let rest = self.pending.split_off(batch_length(&self.pending));
            let batch = fail_expiring_commits(std::mem::replace(&mut self.pending, rest), notice);
            let began = Instant::now();
            if !batch.is_empty() {
                self.apply_batch(batch).await;
            }
            // After a batch that nobody waited for any more the next is given a try: it may have been the last slow one.
            self.last_batch_duration = began.elapsed();
        }
    }

    /// Applies a batch; what is to be applied again is kept.
    async fn apply_batch(&mut self, batch: Vec<QueuedCommit>) {
        let (commits, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.commit, waiting.reply)).unzip();
        let commits: Arc<[Commit]> = commits.into();
        self.stats.batches.fetch_add(1, Ordering::Relaxed);
        self.stats.commits.fetch_add(commits.len() as u64, Ordering::Relaxed);
        let outcomes = match self.store.apply(Arc::clone(&commits)).await {
            Ok(AppliedBatch { outcomes, changes: news }) => {
                self.observer.on_committed(&news);
                outcomes
            }
            Err(error) => vec![Err(error.into()); commits.len()],
        };
        let mut soon = Vec::new();
        for ((commit, reply), outcome) in commits.iter().zip(replies).zip(outcomes) {
            match outcome {
                Err(CommitError::RetryLater) => {
                    soon.push(QueuedCommit { commit: commit.clone(), reply })
                }
                Err(CommitError::RetryAlone) if self.retry_alone.len() < MAX_RETRY_ALONE => {
                    self.retry_alone.push_back(QueuedCommit { commit: commit.clone(), reply });
                }
                Err(CommitError::RetryAlone) => drop(reply.send(Err(CommitError::Unavailable))),
                // Whoever asked may have gone; the change stands all the same.
                outcome => drop(reply.send(outcome)),
            }
        }
        self.pending.splice(..0, soon);
        self.stats.retry_alone.store(self.retry_alone.len(), Ordering::Relaxed);
    }
}

/// How many of the first go into one transaction; one at least, when there is one.
fn batch_length(gathered: &[QueuedCommit]) -> usize {
    let mut writes = 0_usize;
    let fits = |waiting: &&QueuedCommit| {
        writes = writes.saturating_add(waiting.commit.writes.len());
        writes <= MAX_BATCH_WRITES
    };
    gathered.iter().take_while(fits).count().max(1).min(gathered.len())
}

/// Leaves out what has less than `notice` until its deadline: its caller is told in time that nothing was done.
fn fail_expiring_commits(
    batch: impl IntoIterator<Item = QueuedCommit>,
    notice: Duration,
) -> Vec<QueuedCommit> {
    let nearest = Instant::now() + notice;
    let mut wanted = Vec::new();
    for waiting in batch {
        if waiting.commit.deadline <= nearest {
            drop(waiting.reply.send(Err(CommitError::Overloaded)));
        } else {
            wanted.push(waiting);
        }
    }
    wanted
}
