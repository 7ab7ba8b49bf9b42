//! The batching writer: while one transaction is in flight, the next batch gathers.
//!
//! It is a task and not an actor, so that it lives on the drivers' runtime, outlives every actor, and can be drained at the end.

use std::{sync::Arc, time::Instant};

use tokio::sync::{mpsc, oneshot};

use super::{
    Applied, Store,
    commit::{Commit, CommitError, News, Outcome},
};

/// Most commits in one transaction. Larger batches gain little and make the first wait for the last.
const MAX_BATCH: usize = 1024;

/// Most commits that wait. Beyond, callers are told to come back, at once.
const MAX_WAITING: usize = 8192;

/// Hears what a batch has changed, before anyone is told that it is done: so whoever was told finds it everywhere on this node.
pub trait Observer: Send + Sync {
    /// Brings a cache up to date. Called in commit order; must not block.
    fn committed(&self, news: &News);
}

/// Figures of the writer's work.
#[derive(Debug, Default)]
pub struct WriterStats {
    /// Transactions made durable.
    pub batches: std::sync::atomic::AtomicU64,
    /// Commits in them, refused ones included.
    pub commits: std::sync::atomic::AtomicU64,
}

/// Takes commits for the one task that applies them.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Waiting>,
    stats: Arc<WriterStats>,
}

struct Waiting {
    commit: Commit,
    reply: oneshot::Sender<Outcome>,
}

impl Writer {
    /// Starts the task on `runtime`. It ends when the last `Writer` is dropped, after everything queued is applied; the handle
    /// tells when.
    pub fn start(
        runtime: &tokio::runtime::Handle,
        store: Arc<dyn Store>,
        observer: Arc<dyn Observer>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let stats = Arc::new(WriterStats::default());
        let task = runtime.spawn(run(waiting, store, observer, Arc::clone(&stats)));
        (Self { queue, stats }, task)
    }

    /// Applies `commit`, together with whatever else is waiting, and answers when it is durable or certain not to be.
    ///
    /// # Errors
    /// Everything that [`CommitError`] lists.
    pub async fn commit(&self, commit: Commit) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        if let Err(error) = self.queue.try_send(Waiting { commit, reply }) {
            return Err(match error {
                mpsc::error::TrySendError::Full(_) => CommitError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => CommitError::Unavailable,
            });
        }
        // The task drops a reply only when it is torn down in the middle of its work.
        outcome.await.unwrap_or(Err(CommitError::Unknown))
    }

    /// How many commits wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity().saturating_sub(self.queue.capacity())
    }

    /// Figures of the work done.
    #[must_use]
    pub fn stats(&self) -> &WriterStats {
        &self.stats
    }
}

async fn run(mut waiting: mpsc::Receiver<Waiting>, store: Arc<dyn Store>, observer: Arc<dyn Observer>, stats: Arc<WriterStats>) {
    let mut gathered = Vec::with_capacity(MAX_BATCH);
    while waiting.recv_many(&mut gathered, MAX_BATCH).await > 0 {
        let (commits, replies) = still_wanted(gathered.drain(..));
        if commits.is_empty() {
            continue;
        }
        let commits: Arc<[Commit]> = commits.into();
        stats.batches.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        stats.commits.fetch_add(commits.len() as u64, std::sync::atomic::Ordering::Relaxed);
        let outcomes = apply(&*store, &*observer, commits).await;
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // Whoever asked may have gone; the change stands all the same.
            drop(reply.send(outcome));
        }
    }
}

/// Leaves out what is past its deadline: its caller has been told, or is about to be, that nothing was done.
fn still_wanted(gathered: impl Iterator<Item = Waiting>) -> (Vec<Commit>, Vec<oneshot::Sender<Outcome>>) {
    let now = Instant::now();
    let mut wanted = (Vec::new(), Vec::new());
    for Waiting { commit, reply } in gathered {
        if commit.deadline <= now {
            drop(reply.send(Err(CommitError::Overloaded)));
        } else {
            wanted.0.push(commit);
            wanted.1.push(reply);
        }
    }
    wanted
}

async fn apply(store: &dyn Store, observer: &dyn Observer, commits: Arc<[Commit]>) -> Vec<Outcome> {
    let count = commits.len();
    match store.apply(commits).await {
        Ok(Applied { outcomes, news }) => {
            observer.committed(&news);
            outcomes
        }
        Err(error) => vec![Err(error.into()); count],
    }
}
