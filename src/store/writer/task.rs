//! The task that gathers and applies the batches of one lane.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tracing::{Instrument as _, Span};

use super::{CommitObserver, CommitQueues, CommitWriterStats, QueuedCommit};
use crate::store::{
    AppliedBatch, Store,
    commit::{Commit, CommitError},
    limits::MAX_BATCH_WRITES,
};

/// Commits that can wait to be applied alone. More fail as unavailable: when so many are refused at
/// once, the database is at fault and not a commit.
const MAX_RETRY_ALONE: usize = 256;

/// The longest time that the next batch is expected to take. After an outage the last batch may
/// have taken much longer, which says nothing about the next one.
const MAX_EXPECTED_DURATION: Duration = Duration::from_secs(1);

/// How long a batch on a shared store waits for more commits: this part of the time that the last
/// one took.
const GATHER_SHARE: f64 = 0.3;

/// A batch with this many commits does not wait for more: it is better to handle the requests of
/// some callers while the commits of others are in a transaction.
const MAX_GATHERED_COMMITS: usize = 64;

/// The task of one lane.
pub(super) struct CommitWriterTask {
    /// The lane of the store that the task applies its batches in.
    pub(super) lane: usize,
    pub(super) store: Arc<dyn Store>,
    pub(super) observer: Arc<dyn CommitObserver>,
    pub(super) stats: Arc<CommitWriterStats>,
    /// Commits taken from the queues that are not in a batch yet.
    pub(super) pending: Vec<QueuedCommit>,
    /// Commits to apply in a transaction of their own.
    pub(super) retry_alone: VecDeque<QueuedCommit>,
    pub(super) retry_alone_count: Arc<AtomicUsize>,
    /// How long the last batch took: the estimate for the next one.
    pub(super) last_batch_duration: Duration,
    pub(super) last_batch_ended_at: Instant,
    /// Commits of the last batch.
    pub(super) last_batch_size: usize,
}

impl CommitWriterTask {
    /// Applies batches until both queues are closed and empty.
    pub(super) async fn run(mut self, mut queues: CommitQueues) {
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
        let expected = (self.pending.len() + self.last_batch_size).min(MAX_GATHERED_COMMITS);
        let end = self.last_batch_ended_at
            + self.last_batch_duration.min(MAX_EXPECTED_DURATION).mul_f64(GATHER_SHARE);
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
        let span = batch_span(&batch);
        let (commits, callers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|queued| (queued.commit, (queued.reply, queued.span))).unzip();
        let commits: Arc<[Commit]> = commits.into();
        self.last_batch_size = commits.len();
        self.stats.batches.fetch_add(1, Ordering::Relaxed);
        self.stats.commits.fetch_add(commits.len() as u64, Ordering::Relaxed);
        let applied = self.store.apply_in_lane(self.lane, Arc::clone(&commits));
        let outcomes = match applied.instrument(span).await {
            Ok(AppliedBatch { outcomes, changes }) => {
                self.observer.on_committed(&changes);
                outcomes
            }
            Err(error) => vec![Err(error.into()); commits.len()],
        };
        let mut retry_later = Vec::new();
        for ((commit, (reply, span)), outcome) in commits.iter().zip(callers).zip(outcomes) {
            match outcome {
                Err(CommitError::RetryLater) => {
                    retry_later.push(QueuedCommit { commit: commit.clone(), reply, span })
                }
                Err(CommitError::RetryAlone) if self.retry_alone.len() < MAX_RETRY_ALONE => {
                    let commit = commit.clone();
                    self.retry_alone.push_back(QueuedCommit { commit, reply, span });
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

/// The span of a batch. It is a child of its first recorded commit, since a trace with one commit
/// should show its transaction; it links to all of them, and the others link to it.
fn batch_span(batch: &[QueuedCommit]) -> Span {
    let mut recorded = batch.iter().map(|queued| &queued.span).filter(|span| !span.is_disabled());
    let Some(first) = recorded.next() else { return Span::none() };
    let span = first.in_scope(|| tracing::info_span!("batch", batch.commits = batch.len()));
    span.follows_from(first);
    for commit in recorded {
        span.follows_from(commit);
        commit.follows_from(&span);
    }
    span
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
