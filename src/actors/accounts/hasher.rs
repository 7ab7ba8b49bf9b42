//! bcrypt on threads of its own: it takes a third of a second at the default cost, which no actor has to spare.

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

/// Most jobs a thread may have ahead of it, if they would be done in time.
const JOBS_A_THREAD: usize = 16;

/// Hashes and checks passwords. Clones share the threads.
#[derive(Clone)]
pub struct PasswordHasher {
    pool: Addr<Worker>,
    // The queue of a `SyncArbiter` has no bound of its own.
    places: Arc<Semaphore>,
    threads: usize,
    runs: Arc<AtomicU64>,
    pace: Arc<Pace>,
    dummy: Arc<str>,
    cost: u32,
}

impl PasswordHasher {
    /// Starts the threads, as many as there are cores when `threads` is not given. Needs a running actix `System`.
    #[must_use]
    pub fn start(cost: u32, threads: Option<NonZeroUsize>) -> Self {
        let threads =
            threads.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        let runs = Arc::new(AtomicU64::new(0));
        let pace = Arc::new(Pace::default());
        let (counter, clock) = (Arc::clone(&runs), Arc::clone(&pace));
        let named = || thread::Builder::new().name("bcrypt".into());
        let pool = SyncArbiter::start_with_thread_builder(threads, named, move || Worker {
            runs: Arc::clone(&counter),
            pace: Arc::clone(&clock),
        });
        let places = Arc::new(Semaphore::new(threads.saturating_mul(JOBS_A_THREAD)));
        Self { pool, places, threads, runs, pace, dummy: dummy(cost), cost }
    }

    /// Hashes a password that was chosen.
    ///
    /// # Errors
    /// `overloaded`, at once when so many wait that it would not be done by `deadline`, or when that has passed before its turn came.
    pub async fn hash(&self, password: Password, deadline: Instant) -> Result<String, Error> {
        let cost = self.cost;
        self.run(deadline, move || bcrypt::non_truncating_hash(password.expose(), cost)).await
    }

    /// Whether `password` is the one that `hash` was made of. It must be one that could be chosen.
    ///
    /// # Errors
    /// As for [`hash`](Self::hash).
    pub async fn verify(
        &self,
        password: Password,
        hash: String,
        deadline: Instant,
    ) -> Result<bool, Error> {
        self.run(deadline, move || bcrypt::non_truncating_verify(password.expose(), &hash)).await
    }

    /// Takes as long as [`verify`](Self::verify) for an account that does not exist or a password that nobody can have.
    ///
    /// # Errors
    /// As for [`hash`](Self::hash).
    pub async fn verify_nothing(&self, deadline: Instant) -> Result<(), Error> {
        let dummy = Arc::clone(&self.dummy);
        self.run(deadline, move || bcrypt::non_truncating_verify("no password", &dummy))
            .await
            .map(drop)
    }

    /// Whether `hash` was made at the cost configured now.
    #[must_use]
    pub fn is_current(&self, hash: &str) -> bool {
        HashParts::from_str(hash).is_ok_and(|parts| parts.get_cost() == self.cost)
    }

    /// How many times bcrypt has run.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    async fn run<T, F>(&self, deadline: Instant, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> BcryptResult<T> + Send + 'static,
    {
        let place =
            Arc::clone(&self.places).try_acquire_owned().map_err(|_| Error::overloaded())?;
        let under_way = self.threads * JOBS_A_THREAD - self.places.available_permits();
        // Where nobody waits it is done, however long the last ones have taken.
        if under_way > self.threads
            && Instant::now() + self.pace.of(under_way.div_ceil(self.threads)) > deadline
        {
            return Err(Error::overloaded());
        }
        let job = Job { work: Box::new(work), deadline, place };
        // Closed: the threads end with the process, and nothing was done.
        self.pool.send(job).await.unwrap_or_else(|_| Err(Error::overloaded()))
    }
}

/// A hash at `cost` that no password has: salt and hash are zeros. Checking against it is the same work as against a real one.
fn dummy(cost: u32) -> Arc<str> {
    format!("$2b${cost:02}${}", ".".repeat(53)).into()
}

/// How long jobs take, the last ones counting most.
#[derive(Default)]
struct Pace(AtomicU64);

impl Pace {
    /// How long so many jobs take, one after the other.
    fn of(&self, jobs: usize) -> Duration {
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
        Duration::from_micros(self.0.load(Ordering::Relaxed)).saturating_mul(jobs)
    }

    fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        // Threads that meet here lose one of their times, which does no harm.
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(
            if before == 0 { micros } else { before / 4 * 3 + micros / 4 },
            Ordering::Relaxed,
        );
    }
}

struct Worker {
    runs: Arc<AtomicU64>,
    pace: Arc<Pace>,
}

impl Actor for Worker {
    type Context = SyncContext<Self>;
}

struct Job<T> {
    work: Box<dyn FnOnce() -> BcryptResult<T> + Send>,
    deadline: Instant,
    /// Given back when the job is dropped, done or not.
    place: OwnedSemaphorePermit,
}

impl<T: 'static> Message for Job<T> {
    type Result = Result<T, Error>;
}

impl<T: 'static> Handler<Job<T>> for Worker {
    type Result = Result<T, Error>;

    fn handle(&mut self, job: Job<T>, _: &mut Self::Context) -> Self::Result {
        let Job { work, deadline, place: _place } = job;
        let begun = Instant::now();
        if begun >= deadline {
            return Err(Error::overloaded());
        }
        self.runs.fetch_add(1, Ordering::Relaxed);
        // A panic would end the thread for good.
        let done = catch_unwind(AssertUnwindSafe(work));
        self.pace.took(begun.elapsed());
        match done {
            Ok(Ok(answer)) => Ok(answer),
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

    fn one_thread(cost: u32) -> PasswordHasher {
        PasswordHasher::start(cost, NonZeroUsize::new(1))
    }

    fn password(text: &str) -> Password {
        Password::attempt(text.into())
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[actix::test]
    async fn hashes_are_checked() {
        let hasher = one_thread(4);
        let hash = hasher.hash(password("correct horse"), soon()).await.unwrap();
        assert!(hasher.is_current(&hash));
        assert!(!one_thread(5).is_current(&hash));
        assert!(hasher.verify(password("correct horse"), hash.clone(), soon()).await.unwrap());
        assert!(!hasher.verify(password("correct house"), hash, soon()).await.unwrap());
        hasher.verify_nothing(soon()).await.unwrap();
        assert_eq!(hasher.runs(), 4);
    }

    #[actix::test]
    async fn nothing_is_cut() {
        let hasher = one_thread(4);
        let hash = hasher.hash(password(&"x".repeat(71)), soon()).await.unwrap();
        assert_eq!(
            hasher.hash(password(&"x".repeat(72)), soon()).await.unwrap_err().code,
            ErrorCode::Internal
        );
        assert_eq!(
            hasher.verify(password(&"x".repeat(72)), hash, soon()).await.unwrap_err().code,
            ErrorCode::Internal
        );
    }

    #[actix::test]
    async fn a_full_queue_answers_at_once_and_late_jobs_are_skipped() {
        let hasher = one_thread(4);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let blocker = actix::spawn({
            let hasher = hasher.clone();
            async move { hasher.run(soon(), move || Ok(wait.recv().is_ok())).await }
        });
        let late = Instant::now() + Duration::from_millis(20);
        let waiting: Vec<_> = (1..JOBS_A_THREAD)
            .map(|_| {
                let hasher = hasher.clone();
                actix::spawn(async move { hasher.verify_nothing(late).await })
            })
            .collect();
        while hasher.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(hasher.verify_nothing(soon()).await, Err(Error::overloaded()));
        tokio::time::sleep(Duration::from_millis(30)).await;
        go.send(()).unwrap();
        assert_eq!(blocker.await.unwrap(), Ok(true));
        for job in waiting {
            assert_eq!(job.await.unwrap(), Err(Error::overloaded()));
        }
        assert_eq!(hasher.runs(), 1, "what nobody waits for is not done");
        assert_eq!(hasher.places.available_permits(), JOBS_A_THREAD);
    }

    #[actix::test]
    async fn who_would_not_be_served_in_time_is_told_at_once() {
        let hasher = one_thread(4);
        hasher.pace.took(Duration::from_secs(3600));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let blocker = actix::spawn({
            let hasher = hasher.clone();
            async move { hasher.run(soon(), move || Ok(wait.recv().is_ok())).await }
        });
        while hasher.places.available_permits() == JOBS_A_THREAD {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            hasher.verify_nothing(soon()).await,
            Err(Error::overloaded()),
            "it would take an hour"
        );
        assert_eq!(hasher.places.available_permits(), JOBS_A_THREAD - 1, "it is not waiting");
        go.send(()).unwrap();
        assert_eq!(blocker.await.unwrap(), Ok(true));
        assert!(hasher.pace.of(1) > Duration::from_secs(60));
        hasher.verify_nothing(soon()).await.expect("where nobody waits, there is a try");
    }

    #[actix::test]
    async fn a_panic_costs_one_answer_and_no_thread() {
        let hasher = one_thread(4);
        assert_eq!(
            hasher.run(soon(), || -> BcryptResult<()> { panic!("on purpose") }).await,
            Err(Error::internal())
        );
        hasher.verify_nothing(soon()).await.unwrap();
    }
}
