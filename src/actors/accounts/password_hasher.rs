//! Runs bcrypt on dedicated threads: one hash takes a third of a second at the default cost, which
//! would block an actor for too long.
//!
//! Every comparison does the work of one hash at the reference cost, whatever the cost of the
//! account's own hash, and whether there is an account or not. So after `auth.bcrypt_cost` was
//! changed, the time of a login does not tell whether an account exists, or when it was last used.
//! The alternatives would tell: comparing an unknown e-mail address at the new cost sets it apart
//! from accounts with the old one, and at the old cost from accounts that are rehashed. The price
//! of this: a lower cost makes logins faster only once no account has the old one, and the node has
//! been restarted. What can still be measured is the setup of a few more hashes, some microseconds
//! of hundreds of milliseconds, and, until the store has told the highest cost that accounts have,
//! for a moment after the start, accounts above `auth.bcrypt_cost`.

use std::{
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    str::FromStr,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bcrypt::{BcryptResult, HashParts};
use tokio::sync::oneshot;

use super::hash_queue::{HashOrigin, HashQueue, Push};
use crate::{domain::account::Password, error::Error, metrics::passwords::PasswordMetrics};

/// Hashes and verifies passwords. Clones share the threads, which end with the last clone.
#[derive(Clone)]
pub struct PasswordHasher {
    pool: Arc<HashPool>,
    cost: u32,
}

impl PasswordHasher {
    /// Starts the threads, one per core if `threads` is `None`.
    #[must_use]
    pub fn start(cost: u32, threads: Option<NonZeroUsize>) -> Self {
        Self::start_measured(cost, threads, PasswordMetrics::default())
    }

    /// Starts the threads, with metrics of their queue.
    #[must_use]
    pub fn start_measured(
        cost: u32,
        threads: Option<NonZeroUsize>,
        metrics: PasswordMetrics,
    ) -> Self {
        let threads =
            threads.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        let shared = Arc::new(Shared {
            state: Mutex::new(PoolState { queue: HashQueue::new(threads), closed: false }),
            job_ready: Condvar::new(),
            latency: LatencyEstimate::default(),
            run_count: AtomicU64::new(0),
            work_units: AtomicU64::new(0),
            reference_cost: AtomicU32::new(cost),
            metrics,
        });
        shared.record_queue(&shared.lock_state().queue);
        for _ in 0..threads {
            let shared = Arc::clone(&shared);
            let spawned = thread::Builder::new().name("bcrypt".into()).spawn(move || {
                lower_priority();
                shared.run_jobs();
            });
            if let Err(error) = spawned {
                tracing::error!(%error, "failed to start a thread for passwords");
            }
        }
        Self { pool: Arc::new(HashPool(shared)), cost }
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// `overloaded` if too many requests wait, if it cannot be done before `deadline`, or if
    /// `deadline` passes before it starts; `internal` if bcrypt fails.
    pub async fn hash(
        &self,
        origin: HashOrigin,
        password: Password,
        deadline: Instant,
    ) -> Result<String, Error> {
        let (cost, shared) = (self.cost, Arc::clone(&self.pool.0));
        self.run_job(origin, deadline, move || {
            shared.count_work(cost);
            bcrypt::non_truncating_hash(password.expose_secret(), cost)
        })
        .await
    }

    /// Whether `password`, which must meet the policy, matches `hash`. Without a hash, it does not
    /// match. This takes the same time for every hash, and without one.
    ///
    /// # Errors
    /// As for [`hash`](Self::hash).
    pub async fn verify(
        &self,
        origin: HashOrigin,
        password: Password,
        hash: Option<String>,
        deadline: Instant,
    ) -> Result<bool, Error> {
        let shared = Arc::clone(&self.pool.0);
        self.run_job(origin, deadline, move || {
            let Some(hash) = hash else {
                return shared.run_dummy(shared.reference_cost()).map(|()| false);
            };
            let cost = HashParts::from_str(&hash)?.get_cost();
            // Only until this cost is known from the store.
            shared.reference_cost.fetch_max(cost, Ordering::Relaxed);
            shared.count_work(cost);
            let matches = bcrypt::non_truncating_verify(password.expose_secret(), &hash)?;
            // The work doubles with each cost: 2^c and 2^c + 2^(c+1) + ... + 2^(r-1) make 2^r.
            (cost..shared.reference_cost()).try_for_each(|cost| shared.run_dummy(cost))?;
            Ok(matches)
        })
        .await
    }

    /// Makes every comparison take as long as one with `hash`, if that takes longer.
    pub fn raise_reference_cost(&self, hash: &str) {
        if let Ok(parts) = HashParts::from_str(hash) {
            self.pool.0.reference_cost.fetch_max(parts.get_cost(), Ordering::Relaxed);
        }
    }

    /// Whether `hash` has the configured cost.
    #[must_use]
    pub fn has_current_cost(&self, hash: &str) -> bool {
        HashParts::from_str(hash).is_ok_and(|parts| parts.get_cost() == self.cost)
    }

    /// How many requests have run.
    #[must_use]
    pub fn run_count(&self) -> u64 {
        self.pool.0.run_count.load(Ordering::Relaxed)
    }

    /// The work done, in hashes at cost 0.
    #[cfg(test)]
    pub(super) fn work_units(&self) -> u64 {
        self.pool.0.work_units.load(Ordering::Relaxed)
    }

    /// How many requests wait for a thread.
    #[cfg(test)]
    pub(super) fn waiting_count(&self) -> usize {
        self.pool.0.lock_state().queue.waiting_count()
    }

    /// How many requests have a thread.
    #[cfg(test)]
    pub(super) fn running_count(&self) -> usize {
        self.pool.0.lock_state().queue.lengths().iter().map(|(_, _, running)| running).sum()
    }

    pub(super) async fn run_job<T, F>(
        &self,
        origin: HashOrigin,
        deadline: Instant,
        work: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> BcryptResult<T> + Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        let work = Box::new(move || -> Reply {
            let result = catch_failure(work);
            // Sending fails when the caller has gone.
            Box::new(move || drop(reply.send(result)))
        });
        self.pool.0.enqueue(origin, Job { work, queued_at: Instant::now(), deadline })?;
        // A job that is dropped has not run.
        result.await.unwrap_or_else(|_| Err(Error::overloaded()))
    }
}

/// Ends the threads when it is dropped.
struct HashPool(Arc<Shared>);

impl Drop for HashPool {
    fn drop(&mut self) {
        let mut state = self.0.lock_state();
        state.closed = true;
        // Waiting jobs refer to the pool.
        let waiting = std::mem::replace(&mut state.queue, HashQueue::new(0));
        drop(state);
        drop(waiting);
        self.0.job_ready.notify_all();
    }
}

/// What the threads share.
struct Shared {
    state: Mutex<PoolState>,
    /// A job may have become ready, or the pool is closed.
    job_ready: Condvar,
    latency: LatencyEstimate,
    run_count: AtomicU64,
    work_units: AtomicU64,
    /// The cost whose work every comparison does.
    reference_cost: AtomicU32,
    metrics: PasswordMetrics,
}

struct PoolState {
    queue: HashQueue<Job>,
    closed: bool,
}

/// Tells the caller of a job how it ended.
type Reply = Box<dyn FnOnce() + Send>;

struct Job {
    work: Box<dyn FnOnce() -> Reply + Send>,
    queued_at: Instant,
    deadline: Instant,
}

impl Shared {
    fn lock_state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, origin: HashOrigin, job: Job) -> Result<(), Error> {
        let refuse = || {
            self.metrics.record_refusal(origin.class.name());
            Error::overloaded()
        };
        let mut state = self.lock_state();
        // With a free thread, the job runs regardless of the estimate.
        if let Some(rounds) = state.queue.expected_rounds(origin)
            && Instant::now() + self.latency.total_for(rounds) > job.deadline
        {
            return Err(refuse());
        }
        if state.queue.push(origin, job).map_err(|_| refuse())? == Push::Evicted {
            // Another request of the class was refused instead.
            drop(refuse());
        }
        self.record_queue(&state.queue);
        drop(state);
        self.job_ready.notify_one();
        Ok(())
    }

    /// Runs jobs until the pool is closed.
    fn run_jobs(&self) {
        let mut state = self.lock_state();
        while !state.closed {
            let Some((origin, job)) = state.queue.start_next() else {
                state = self.job_ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            self.record_queue(&state.queue);
            drop(state);
            let started = Instant::now();
            let class = origin.class.name();
            let mut reply = None;
            if started < job.deadline {
                self.run_count.fetch_add(1, Ordering::Relaxed);
                reply = Some((job.work)());
                self.latency.record(started.elapsed());
                self.metrics.record_run(class, started - job.queued_at, started.elapsed());
            } else {
                self.metrics.record_refusal(class);
            }
            state = self.lock_state();
            state.queue.finish(origin);
            self.record_queue(&state.queue);
            // The class may have been at the limit of its threads.
            self.job_ready.notify_one();
            // Now that the job's place is free: its caller may send the next request at once.
            if let Some(reply) = reply {
                drop(state);
                reply();
                state = self.lock_state();
            }
        }
    }

    fn record_queue(&self, queue: &HashQueue<Job>) {
        for (class, waiting, running) in queue.lengths() {
            self.metrics.set_queue(class.name(), waiting, running);
        }
    }

    fn reference_cost(&self) -> u32 {
        self.reference_cost.load(Ordering::Relaxed)
    }

    fn count_work(&self, cost: u32) {
        self.work_units.fetch_add(1_u64 << cost.min(63), Ordering::Relaxed);
    }

    /// Does the work of a hash at `cost`: compares with one whose salt and hash are zeros.
    fn run_dummy(&self, cost: u32) -> BcryptResult<()> {
        self.count_work(cost);
        let hash = format!("$2b${cost:02}${}", ".".repeat(53));
        bcrypt::non_truncating_verify("no password", &hash).map(drop)
    }
}

/// Makes the calling thread yield to the others. Hashes take whole cores for a long time; a request
/// that needs a few microseconds must not wait for them.
fn lower_priority() {
    // Elsewhere, this would apply to the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(10) {
        tracing::warn!(%error, "failed to lower the priority of a thread for passwords");
    }
}

/// Runs bcrypt. An uncaught panic would end the thread.
fn catch_failure<T>(work: impl FnOnce() -> BcryptResult<T>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => {
            tracing::error!(%error, "bcrypt failed");
            Err(Error::internal())
        }
        Err(_) => {
            tracing::error!("bcrypt panicked");
            Err(Error::internal())
        }
    }
}

/// A moving average of the job duration, in microseconds.
#[derive(Default)]
struct LatencyEstimate(AtomicU64);

impl LatencyEstimate {
    /// The estimated time of `jobs` jobs in sequence.
    fn total_for(&self, jobs: usize) -> Duration {
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
        Duration::from_micros(self.0.load(Ordering::Relaxed)).saturating_mul(jobs)
    }

    fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        // A race loses one sample, which is harmless.
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(
            if before == 0 { micros } else { before / 4 * 3 + micros / 4 },
            Ordering::Relaxed,
        );
    }
}

#[cfg(test)]
mod tests;
