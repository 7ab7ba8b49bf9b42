//! The threads that run searches, apart from those that serve requests.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

/// The most searches that wait for a thread.
const MAX_WAITING: usize = 512;
/// If no search ends for so long while some wait, the threads get no processor time. No search may
/// use as much of it.
const STALL_TIME: Duration = Duration::from_millis(50);
/// How much the spare thread yields to those that serve requests.
const SPARE_NICENESS: i32 = 5;

/// Runs searches on a few threads of its own. Dropping it ends them.
///
/// The threads run when the processor is idle, and a thread with a request to serve takes it from
/// them at once: reads of carts come first. If others leave them nothing for [`STALL_TIME`], a
/// spare thread, with a share of the processor, runs what waits until they go on.
pub struct SearchPool {
    queue: Arc<Queue>,
}

/// A search was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SearchNotRun {
    /// Too many searches wait.
    #[error("too many searches wait")]
    Overloaded,
    /// The search panicked.
    #[error("the search failed")]
    Failed,
}

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    jobs: Mutex<Jobs>,
    added: Condvar,
    stalled: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    /// How often a thread has asked for the next search, except the spare one.
    turns: u64,
    is_stalled: bool,
    is_closed: bool,
}

impl SearchPool {
    /// Starts a pool of `threads`, at least one.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let pool = Self { queue: Arc::default() };
        for number in 0..threads.max(1) {
            pool.spawn(format!("search-{number}"), Queue::run)?;
        }
        pool.spawn("search-spare".to_owned(), Queue::run_spare)?;
        Ok(pool)
    }

    fn spawn(
        &self,
        name: String,
        run: impl FnOnce(&Queue) + Send + 'static,
    ) -> std::io::Result<()> {
        let queue = Arc::clone(&self.queue);
        thread::Builder::new().name(name).spawn(move || run(&queue))?;
        Ok(())
    }

    /// Runs `search`, unless its caller has gone by the time it is its turn.
    ///
    /// # Errors
    /// Too many searches wait, or the search panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        search: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SearchNotRun> {
        let (sender, mut receiver) = oneshot::channel();
        let job = move || {
            if !sender.is_closed() {
                // The caller may have gone meanwhile.
                drop(sender.send(search()));
            }
        };
        let mut turns = self.queue.add(Box::new(job))?;
        loop {
            match timeout(STALL_TIME, &mut receiver).await {
                Ok(found) => return found.map_err(|_| SearchNotRun::Failed),
                Err(_) => turns = self.queue.report_wait(turns),
            }
        }
    }
}

impl Drop for SearchPool {
    fn drop(&mut self) {
        self.queue.lock().is_closed = true;
        self.queue.added.notify_all();
        self.queue.stalled.notify_all();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a search, and returns the number of turns so far.
    fn add(&self, job: Job) -> Result<u64, SearchNotRun> {
        let mut jobs = self.lock();
        if jobs.waiting.len() >= MAX_WAITING {
            return Err(SearchNotRun::Overloaded);
        }
        jobs.waiting.push_back(job);
        let turns = jobs.turns;
        drop(jobs);
        self.added.notify_one();
        Ok(turns)
    }

    /// Calls the spare thread if there were `turns` a while ago and there are no more now. Returns
    /// their number.
    fn report_wait(&self, turns: u64) -> u64 {
        let mut jobs = self.lock();
        if jobs.turns == turns {
            jobs.is_stalled = true;
            self.stalled.notify_one();
        }
        jobs.turns
    }

    fn run(&self) {
        yield_to_all_others();
        while let Some(job) = self.next() {
            run_job(job);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut jobs = self.lock();
        jobs.turns += 1;
        jobs.is_stalled = false;
        loop {
            if jobs.is_closed {
                return None;
            }
            match jobs.waiting.pop_front() {
                Some(job) => return Some(job),
                None => jobs = self.added.wait(jobs).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn run_spare(&self) {
        // Where it is not permitted, the thread is like others.
        let _ = rustix::process::setpriority_process(None, SPARE_NICENESS);
        while let Some(job) = self.next_stalled() {
            run_job(job);
        }
    }

    fn next_stalled(&self) -> Option<Job> {
        let mut jobs = self.lock();
        loop {
            if jobs.is_closed {
                return None;
            }
            let job = if jobs.is_stalled { jobs.waiting.pop_front() } else { None };
            match job {
                Some(job) => return Some(job),
                None => jobs = self.stalled.wait(jobs).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

fn run_job(job: Job) {
    // The panic hook logs the panic; the caller learns of it by the channel.
    drop(catch_unwind(AssertUnwindSafe(job)));
}

/// Makes the current thread yield to every other one. A higher nice value would give it a smaller
/// share, but once it runs, others would wait until its time slice of milliseconds is over.
#[cfg(target_os = "linux")]
fn yield_to_all_others() {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
        set_thread_priority_and_policy, thread_native_id,
    };
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let set = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
    if let Err(error) = set {
        tracing::warn!(?error, "failed to lower the priority of a thread for searches");
    }
}

/// Makes the current thread yield to others as far as a nice value does.
#[cfg(not(target_os = "linux"))]
fn yield_to_all_others() {
    let _ = rustix::process::setpriority_process(None, 19);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::{FutureExt, future::join_all};

    use super::*;

    #[tokio::test]
    async fn excess_searches_are_refused_and_others_run() {
        let pool = SearchPool::start(1).unwrap();
        let (started, has_started) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let mut first = Box::pin(pool.run(move || {
            started.send(()).unwrap();
            released.recv().unwrap();
        }));
        assert!(first.as_mut().now_or_never().is_none());
        has_started.recv().unwrap();
        let mut waiting: Vec<_> =
            (0..MAX_WAITING).map(|number| Box::pin(pool.run(move || number))).collect();
        assert!(waiting.iter_mut().all(|search| search.now_or_never().is_none()));
        assert_eq!(pool.run(|| ()).await, Err(SearchNotRun::Overloaded));
        release.send(()).unwrap();
        first.await.unwrap();
        assert!(join_all(waiting).await.into_iter().eq((0..MAX_WAITING).map(Ok)));
        assert_eq!(pool.run(|| ()).await, Ok(()));
    }

    #[tokio::test]
    async fn stalled_searches_run_on_the_spare_thread() {
        let pool = SearchPool::start(1).unwrap();
        let (started, has_started) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let mut stalled = Box::pin(pool.run(move || {
            started.send(()).unwrap();
            released.recv().unwrap();
        }));
        assert!(stalled.as_mut().now_or_never().is_none());
        has_started.recv().unwrap();
        for number in 0..3 {
            let run = move || (number, thread::current().name().map(str::to_owned));
            let found = pool.run(run).await.unwrap();
            assert_eq!(found, (number, Some("search-spare".to_owned())));
        }
        release.send(()).unwrap();
        stalled.await.unwrap();
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn searches_run_when_the_processor_is_idle() {
        use thread_priority::{
            NormalThreadSchedulePolicy, ThreadSchedulePolicy, thread_schedule_policy,
        };
        let pool = SearchPool::start(1).unwrap();
        let (sender, receiver) = mpsc::channel();
        let mut search = Box::pin(pool.run(move || sender.send(thread_schedule_policy()).unwrap()));
        // Not polled again, so that the spare thread is not called on a busy machine.
        assert!(search.as_mut().now_or_never().is_none());
        let policy = receiver.recv().unwrap().unwrap();
        assert_eq!(policy, ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle));
    }

    #[tokio::test]
    async fn panic_ends_one_search_only() {
        let pool = SearchPool::start(1).unwrap();
        assert_eq!(pool.run(|| panic!("test")).await, Err::<(), _>(SearchNotRun::Failed));
        assert_eq!(pool.run(|| 1).await, Ok(1));
    }
}
