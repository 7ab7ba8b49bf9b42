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
    Applied, Store,
    commit::{Commit, CommitError, News, Outcome},
};

/// Most commits in one transaction. Larger batches gain little and make the first wait for the last.
const MAX_BATCH: usize = 1024;

/// Most records that a transaction of several commits writes, so that it ends well within the time that a server gives it.
const MAX_WRITES: usize = 4000;

/// Most commits that wait. Beyond, callers are told to come back, at once.
const MAX_WAITING: usize = 8192;

/// Most of those that wait for a place instead of being told to come back.
const MAX_IN_TURN: usize = 256;

/// Most commits that wait to be applied alone. Beyond, they are refused: so many at once are at fault only when the store is.
const MAX_APART: usize = 256;

/// The most that a commit is taken to need, whatever the last ones needed: a store that was away may be back.
const LONGEST_NOTICE: Duration = Duration::from_secs(1);

/// Hears what a batch has changed, before anyone is told that it is done: so whoever was told finds it everywhere on this node.
pub trait Observer: Send + Sync {
    /// Brings a cache up to date. Called in commit order; must not block.
    fn committed(&self, news: &News);

    /// Forgets what news of other nodes could have changed: some are gone unheard. Must not block.
    fn missed(&self) {}
}

/// Figures of the writer's work.
#[derive(Debug, Default)]
pub struct WriterStats {
    /// Batches given to the store.
    pub batches: AtomicU64,
    /// Commits in them, refused ones included; one that is applied again counts again.
    pub commits: AtomicU64,
    /// Commits that wait to be applied alone.
    pub apart: AtomicUsize,
}

/// Takes commits for the one task that applies them.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Waiting>,
    in_turn: mpsc::Sender<Waiting>,
    closing: Arc<Notify>,
    stats: Arc<WriterStats>,
}

struct Waiting {
    commit: Commit,
    reply: oneshot::Sender<Outcome>,
}

impl Writer {
    /// Starts the task on `runtime`. It ends after [`Writer::close`]; the handle tells when.
    pub fn start(
        runtime: &tokio::runtime::Handle,
        store: Arc<dyn Store>,
        observer: Arc<dyn Observer>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let (in_turn, first) = mpsc::channel(MAX_IN_TURN);
        let stats = Arc::new(WriterStats::default());
        let closing = Arc::new(Notify::new());
        let task = Task {
            store,
            observer,
            stats: Arc::clone(&stats),
            gathered: Vec::with_capacity(MAX_BATCH),
            apart: VecDeque::new(),
            took: Duration::ZERO,
        };
        let queues = Queues { first, waiting, closing: Arc::clone(&closing) };
        let handle = runtime.spawn(task.run(queues));
        (Self { queue, in_turn, closing, stats }, handle)
    }

    /// Applies `commit`, together with whatever else is waiting, and answers when it is durable or certain not to be.
    ///
    /// # Errors
    /// Everything that [`CommitError`] lists.
    pub async fn commit(&self, commit: Commit) -> Outcome {
        match self.queue.try_reserve() {
            Ok(place) => apply(place, commit).await,
            Err(mpsc::error::TrySendError::Full(())) => Err(CommitError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(())) => Err(CommitError::Unavailable),
        }
    }

    /// The same, for those who are not told to come back: they have a queue of their own, which goes first, and wait for a place in it
    /// until the commit's deadline.
    ///
    /// # Errors
    /// Everything that [`CommitError`] lists.
    pub async fn commit_in_turn(&self, commit: Commit) -> Outcome {
        match tokio::time::timeout_at(commit.deadline.into(), self.in_turn.reserve()).await {
            Ok(Ok(place)) => apply(place, commit).await,
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
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity().saturating_sub(self.queue.capacity())
            + self.stats.apart.load(Ordering::Relaxed)
    }

    /// Figures of the work done.
    #[must_use]
    pub fn stats(&self) -> &WriterStats {
        &self.stats
    }
}

async fn apply(place: mpsc::Permit<'_, Waiting>, commit: Commit) -> Outcome {
    let (reply, outcome) = oneshot::channel();
    place.send(Waiting { commit, reply });
    // The task drops a reply only when it is torn down in the middle of its work.
    outcome.await.unwrap_or(Err(CommitError::Unknown))
}

/// The commits that wait.
struct Queues {
    first: mpsc::Receiver<Waiting>,
    waiting: mpsc::Receiver<Waiting>,
    closing: Arc<Notify>,
}

impl Queues {
    /// Takes what waits, or else waits for it; false when there is nothing any more and never will be.
    async fn gather(&mut self, gathered: &mut Vec<Waiting>) -> bool {
        let (mut any_first, mut any) = (true, true);
        while gathered.is_empty() {
            if !any_first && !any {
                return false;
            }
            let next = tokio::select! {
                biased;
                () = self.closing.notified() => {
                    self.first.close();
                    self.waiting.close();
                    None
                }
                next = self.first.recv(), if any_first => {
                    any_first = next.is_some();
                    next
                }
                next = self.waiting.recv(), if any => {
                    any = next.is_some();
                    next
                }
            };
            gathered.extend(next);
        }
        self.take(gathered);
        true
    }

    /// Takes what waits by now.
    fn take(&mut self, gathered: &mut Vec<Waiting>) {
        while gathered.len() < MAX_BATCH
            && let Ok(next) = self.first.try_recv().or_else(|_| self.waiting.try_recv())
        {
            gathered.push(next);
        }
    }
}

struct Task {
    store: Arc<dyn Store>,
    observer: Arc<dyn Observer>,
    stats: Arc<WriterStats>,
    /// Gathered, and not yet in a batch.
    gathered: Vec<Waiting>,
    /// What has to be applied alone.
    apart: VecDeque<Waiting>,
    /// How long the last batch took.
    took: Duration,
}

impl Task {
    async fn run(mut self, mut queues: Queues) {
        loop {
            let notice = self.took.min(LONGEST_NOTICE);
            // One of them in turn with what all others wait for, so that it costs them one transaction each.
            self.apart = still_wanted(std::mem::take(&mut self.apart), notice).into();
            self.stats.apart.store(self.apart.len(), Ordering::Relaxed);
            if let Some(suspect) = self.apart.pop_front() {
                self.apply(vec![suspect]).await;
                queues.take(&mut self.gathered);
            } else if self.gathered.is_empty() && !queues.gather(&mut self.gathered).await {
                return;
            }
            let rest = self.gathered.split_off(fitting(&self.gathered));
            let batch = still_wanted(std::mem::replace(&mut self.gathered, rest), notice);
            let began = Instant::now();
            if !batch.is_empty() {
                self.apply(batch).await;
            }
            // After a batch that nobody waited for any more the next is given a try: it may have been the last slow one.
            self.took = began.elapsed();
        }
    }

    /// Applies a batch; what is to be applied again is kept.
    async fn apply(&mut self, batch: Vec<Waiting>) {
        let (commits, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.commit, waiting.reply)).unzip();
        let commits: Arc<[Commit]> = commits.into();
        self.stats.batches.fetch_add(1, Ordering::Relaxed);
        self.stats.commits.fetch_add(commits.len() as u64, Ordering::Relaxed);
        let outcomes = match self.store.apply(Arc::clone(&commits)).await {
            Ok(Applied { outcomes, news }) => {
                self.observer.committed(&news);
                outcomes
            }
            Err(error) => vec![Err(error.into()); commits.len()],
        };
        let mut soon = Vec::new();
        for ((commit, reply), outcome) in commits.iter().zip(replies).zip(outcomes) {
            match outcome {
                Err(CommitError::NotYet) => soon.push(Waiting { commit: commit.clone(), reply }),
                Err(CommitError::Apart) if self.apart.len() < MAX_APART => {
                    self.apart.push_back(Waiting { commit: commit.clone(), reply });
                }
                Err(CommitError::Apart) => drop(reply.send(Err(CommitError::Unavailable))),
                // Whoever asked may have gone; the change stands all the same.
                outcome => drop(reply.send(outcome)),
            }
        }
        self.gathered.splice(..0, soon);
        self.stats.apart.store(self.apart.len(), Ordering::Relaxed);
    }
}

/// How many of the first go into one transaction; one at least, when there is one.
fn fitting(gathered: &[Waiting]) -> usize {
    let mut writes = 0_usize;
    let fits = |waiting: &&Waiting| {
        writes = writes.saturating_add(waiting.commit.writes.len());
        writes <= MAX_WRITES
    };
    gathered.iter().take_while(fits).count().max(1).min(gathered.len())
}

/// Leaves out what has less than `notice` until its deadline: its caller is told in time that nothing was done.
fn still_wanted(batch: impl IntoIterator<Item = Waiting>, notice: Duration) -> Vec<Waiting> {
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
