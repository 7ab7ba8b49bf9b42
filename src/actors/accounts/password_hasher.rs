//! Runs bcrypt on dedicated threads: one hash takes a third of a second at the default cost, which
//! would block an actor for too long.

use std::{
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use actix::{Actor, Addr, Handler, Message, SyncArbiter, SyncContext};
use bcrypt::{BcryptResult, HashParts};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{domain::account::Password, error::Error};

/// The maximum number of jobs per thread, running and queued.
const MAX_JOBS_PER_THREAD: usize = 16;

/// Hashes and verifies passwords. Clones share the threads.
#[derive(Clone)]
pub struct PasswordHasher {
    pool: Addr<HashWorker>,
    // The queue of a `SyncArbiter` is unbounded.
    queue_slots: Arc<Semaphore>,
    threads: usize,
    run_count: Arc<AtomicU64>,
    latency: Arc<LatencyEstimate>,
    dummy_hash: Arc<str>,
    cost: u32,
}

impl PasswordHasher {
    /// Starts the threads, one per core if `threads` is `None`. Needs a running actix `System`.
    #[must_use]
    pub fn start(cost: u32, threads: Option<NonZeroUsize>) -> Self {
        let threads =
            threads.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        let runs = Arc::new(AtomicU64::new(0));
        let latency = Arc::new(LatencyEstimate::default());
        let (worker_runs, worker_latency) = (Arc::clone(&runs), Arc::clone(&latency));
        let thread_builder = || thread::Builder::new().name("bcrypt".into());
        let pool = SyncArbiter::start_with_thread_builder(threads, thread_builder, move || {
            HashWorker { runs: Arc::clone(&worker_runs), latency: Arc::clone(&worker_latency) }
        });
        let queue_slots = Arc::new(Semaphore::new(threads.saturating_mul(MAX_JOBS_PER_THREAD)));
        Self {
            pool,
            queue_slots,
            threads,
            run_count: runs,
            latency,
            dummy_hash: dummy_hash(cost),
            cost,
        }
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// `overloaded` if the queue is full or too long to meet `deadline`, or if `deadline` passes
    /// before the job starts; `internal` if bcrypt fails.
    pub async fn hash(&self, password: Password, deadline: Instant) -> Result<String, Error> {
        let cost = self.cost;
        self.run_job(deadline, move || bcrypt::non_truncating_hash(password.expose_secret(), cost))
            .await
    }

    /// Whether `password` matches `hash`. The password must meet the policy.
    ///
    /// # Errors
    /// As for [`hash`](Self::hash).
    pub async fn verify(
        &self,
        password: Password,
        hash: String,
        deadline: Instant,
    ) -> Result<bool, Error> {
        self.run_job(deadline, move || {
            bcrypt::non_truncating_verify(password.expose_secret(), &hash)
        })
        .await
    }

    /// Takes as long as [`verify`](Self::verify). Use it if the account does not exist or the
    /// password violates the policy, so that the response time reveals nothing.
    ///
    /// # Errors
    /// As for [`hash`](Self::hash).
    pub async fn verify_dummy(&self, deadline: Instant) -> Result<(), Error> {
        let dummy_hash = Arc::clone(&self.dummy_hash);
        self.run_job(deadline, move || bcrypt::non_truncating_verify("no password", &dummy_hash))
            .await
            .map(drop)
    }

    /// Whether `hash` has the configured cost.
    #[must_use]
    pub fn has_current_cost(&self, hash: &str) -> bool {
        HashParts::from_str(hash).is_ok_and(|parts| parts.get_cost() == self.cost)
    }

    /// How many times bcrypt has run.
    #[must_use]
    pub fn run_count(&self) -> u64 {
        self.run_count.load(Ordering::Relaxed)
    }

    async fn run_job<T, F>(&self, deadline: Instant, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> BcryptResult<T> + Send + 'static,
    {
        let slot =
            Arc::clone(&self.queue_slots).try_acquire_owned().map_err(|_| Error::overloaded())?;
        let in_flight = self.threads * MAX_JOBS_PER_THREAD - self.queue_slots.available_permits();
        // With a free thread, the job runs regardless of the estimate.
        if in_flight > self.threads
            && Instant::now() + self.latency.total_for(in_flight.div_ceil(self.threads)) > deadline
        {
            return Err(Error::overloaded());
        }
        let job = Job { work: Box::new(work), deadline, slot };
        // The mailbox is closed only when the process ends. The job has not run.
        self.pool.send(job).await.unwrap_or_else(|_| Err(Error::overloaded()))
    }
}

/// A hash at `cost` that no password matches: salt and hash are zeros. Verifying against it takes
/// as long as against a real hash.
fn dummy_hash(cost: u32) -> Arc<str> {
    format!("$2b${cost:02}${}", ".".repeat(53)).into()
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

struct HashWorker {
    runs: Arc<AtomicU64>,
    latency: Arc<LatencyEstimate>,
}

impl Actor for HashWorker {
    type Context = SyncContext<Self>;
}

struct Job<T> {
    work: Box<dyn FnOnce() -> BcryptResult<T> + Send>,
    deadline: Instant,
    /// Released when the job is dropped, whether it ran or not.
    slot: OwnedSemaphorePermit,
}

impl<T: 'static> Message for Job<T> {
    type Result = Result<T, Error>;
}

impl<T: 'static> Handler<Job<T>> for HashWorker {
    type Result = Result<T, Error>;

    fn handle(&mut self, job: Job<T>, _: &mut Self::Context) -> Self::Result {
        let Job { work, deadline, slot: _slot } = job;
        let started = Instant::now();
        if started >= deadline {
            return Err(Error::overloaded());
        }
        self.runs.fetch_add(1, Ordering::Relaxed);
        // An uncaught panic would end the thread.
        let result = catch_unwind(AssertUnwindSafe(work));
        self.latency.record(started.elapsed());
        match result {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    fn single_thread_hasher(cost: u32) -> PasswordHasher {
        PasswordHasher::start(cost, NonZeroUsize::new(1))
    }

    fn password_from(text: &str) -> Password {
        Password::unvalidated(text.into())
    }

    fn distant_deadline() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[actix::test]
    async fn hash_verifies_only_its_password() {
        let hasher = single_thread_hasher(4);
        let hash = hasher.hash(password_from("correct horse"), distant_deadline()).await.unwrap();
        assert!(hasher.has_current_cost(&hash));
        assert!(!single_thread_hasher(5).has_current_cost(&hash));
        assert!(
            hasher
                .verify(password_from("correct horse"), hash.clone(), distant_deadline())
                .await
                .unwrap()
        );
        assert!(
            !hasher.verify(password_from("correct house"), hash, distant_deadline()).await.unwrap()
        );
        hasher.verify_dummy(distant_deadline()).await.unwrap();
        assert_eq!(hasher.run_count(), 4);
    }

    #[actix::test]
    async fn overlong_password_is_rejected_not_truncated() {
        let hasher = single_thread_hasher(4);
        let hash = hasher.hash(password_from(&"x".repeat(71)), distant_deadline()).await.unwrap();
        assert_eq!(
            hasher.hash(password_from(&"x".repeat(72)), distant_deadline()).await.unwrap_err().code,
            ErrorCode::Internal
        );
        assert_eq!(
            hasher
                .verify(password_from(&"x".repeat(72)), hash, distant_deadline())
                .await
                .unwrap_err()
                .code,
            ErrorCode::Internal
        );
    }

    #[actix::test]
    async fn full_queue_rejects_and_expired_jobs_are_skipped() {
        let hasher = single_thread_hasher(4);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let blocker = actix::spawn({
            let hasher = hasher.clone();
            async move { hasher.run_job(distant_deadline(), move || Ok(wait.recv().is_ok())).await }
        });
        let late = Instant::now() + Duration::from_millis(20);
        let waiting: Vec<_> = (1..MAX_JOBS_PER_THREAD)
            .map(|_| {
                let hasher = hasher.clone();
                actix::spawn(async move { hasher.verify_dummy(late).await })
            })
            .collect();
        while hasher.queue_slots.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(hasher.verify_dummy(distant_deadline()).await, Err(Error::overloaded()));
        tokio::time::sleep(Duration::from_millis(30)).await;
        go.send(()).unwrap();
        assert_eq!(blocker.await.unwrap(), Ok(true));
        for job in waiting {
            assert_eq!(job.await.unwrap(), Err(Error::overloaded()));
        }
        assert_eq!(hasher.run_count(), 1, "expired jobs do not run");
        assert_eq!(hasher.queue_slots.available_permits(), MAX_JOBS_PER_THREAD);
    }

    #[actix::test]
    async fn job_that_would_miss_its_deadline_is_rejected() {
        let hasher = single_thread_hasher(4);
        hasher.latency.record(Duration::from_secs(3600));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let blocker = actix::spawn({
            let hasher = hasher.clone();
            async move { hasher.run_job(distant_deadline(), move || Ok(wait.recv().is_ok())).await }
        });
        while hasher.queue_slots.available_permits() == MAX_JOBS_PER_THREAD {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            hasher.verify_dummy(distant_deadline()).await,
            Err(Error::overloaded()),
            "it would take an hour"
        );
        assert_eq!(
            hasher.queue_slots.available_permits(),
            MAX_JOBS_PER_THREAD - 1,
            "it is not waiting"
        );
        go.send(()).unwrap();
        assert_eq!(blocker.await.unwrap(), Ok(true));
        assert!(hasher.latency.total_for(1) > Duration::from_secs(60));
        hasher
            .verify_dummy(distant_deadline())
            .await
            .expect("an idle thread runs a job despite the estimate");
    }

    #[actix::test]
    async fn panicking_job_does_not_kill_its_thread() {
        let hasher = single_thread_hasher(4);
        assert_eq!(
            hasher
                .run_job(distant_deadline(), || -> BcryptResult<()> { panic!("on purpose") })
                .await,
            Err(Error::internal())
        );
        hasher.verify_dummy(distant_deadline()).await.unwrap();
    }
}
