//! The threads that run searches, apart from those that serve requests.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::sync::oneshot;

/// The most searches that wait for a thread.
const MAX_WAITING: usize = 512;
/// How much the threads yield to those that serve requests: reads of carts come first.
const NICENESS: i32 = 5;

/// Runs searches on a few threads of its own. Dropping it ends them.
///
/// A lower priority alone gives them a smaller share of the processor, but a thread that runs keeps
/// it until its time slice of milliseconds is over. So a search yields again and again, but not
/// while a change waits for the listing that it has locked. Under the policy for idle threads,
/// changes would wait for seconds.
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
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    is_closed: bool,
}

impl SearchPool {
    /// Starts a pool of `threads`, at least one.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let queue = Arc::<Queue>::default();
        let pool = Self { queue: Arc::clone(&queue) };
        for number in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            let builder = thread::Builder::new().name(format!("search-{number}"));
            builder.spawn(move || queue.run())?;
        }
        Ok(pool)
    }

    /// Runs `search`, unless its caller has gone by the time it is its turn.
    ///
    /// # Errors
    /// Too many searches wait, or the search panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        search: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SearchNotRun> {
        let (sender, receiver) = oneshot::channel();
        let job = move || {
            if !sender.is_closed() {
                // The caller may have gone meanwhile.
                drop(sender.send(search()));
            }
        };
        {
            let mut jobs = self.queue.lock();
            if jobs.waiting.len() >= MAX_WAITING {
                return Err(SearchNotRun::Overloaded);
            }
            jobs.waiting.push_back(Box::new(job));
        }
        self.queue.added.notify_one();
        receiver.await.map_err(|_| SearchNotRun::Failed)
    }
}

impl Drop for SearchPool {
    fn drop(&mut self) {
        self.queue.lock().is_closed = true;
        self.queue.added.notify_all();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        // Where it is not permitted, the threads are like others.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        while let Some(job) = self.next() {
            // The panic hook logs the panic; the caller learns of it by the channel.
            drop(catch_unwind(AssertUnwindSafe(job)));
        }
    }

    fn next(&self) -> Option<Job> {
        let mut jobs = self.lock();
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
    async fn panic_ends_one_search_only() {
        let pool = SearchPool::start(1).unwrap();
        assert_eq!(pool.run(|| panic!("test")).await, Err::<(), _>(SearchNotRun::Failed));
        assert_eq!(pool.run(|| 1).await, Ok(1));
    }
}
