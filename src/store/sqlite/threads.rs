//! Threads that do blocking work for tasks.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::sync::{mpsc, watch};

/// What a thread does.
pub(super) trait Worker: Send + 'static {
    /// A piece of work.
    type Job: Send + 'static;

    /// Does a piece of work.
    fn run_job(&mut self, job: Self::Job);

    /// Called when there is no more work, ever.
    fn shut_down(self);
}

/// No more work is taken.
pub(super) struct PoolClosed;

/// Threads with one bounded queue. Dropping it, too, lets them finish what is queued.
pub(super) struct WorkerPool<J> {
    queue: Mutex<Option<mpsc::Sender<J>>>,
    /// Changes no more when the last thread has ended.
    running: watch::Receiver<()>,
    handles: Vec<JoinHandle<()>>,
}

impl<J: Send + 'static> WorkerPool<J> {
    /// Starts a thread for each of `workers`; `waiting` jobs may be queued, then whoever brings more waits.
    pub(super) fn start<W: Worker<Job = J>>(
        name: &str,
        workers: Vec<W>,
        waiting: usize,
    ) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel(waiting);
        let jobs = Arc::new(Mutex::new(jobs));
        let (token, alive) = watch::channel(());
        let token = Arc::new(token);
        let mut threads = Self {
            queue: Mutex::new(Some(queue)),
            running: alive,
            handles: Vec::with_capacity(workers.len()),
        };
        for (number, worker) in workers.into_iter().enumerate() {
            let (jobs, token) = (Arc::clone(&jobs), Arc::clone(&token));
            let body = move || {
                run_worker(worker, &jobs);
                drop(token);
            };
            threads
                .handles
                .push(thread::Builder::new().name(format!("{name}-{number}")).spawn(body)?);
        }
        Ok(threads)
    }

    /// Queues a job; waits while the queue is full.
    pub(super) async fn enqueue_job(&self, job: J) -> Result<(), PoolClosed> {
        let queue = self.lock_queue().clone().ok_or(PoolClosed)?;
        queue.send(job).await.map_err(|_| PoolClosed)
    }

    /// Takes no more work, and waits until everything queued is done and the threads have ended.
    pub(super) async fn close(&self) {
        self.lock_queue().take();
        let mut alive = self.running.clone();
        while alive.changed().await.is_ok() {}
    }
}

impl<J> WorkerPool<J> {
    fn lock_queue(&self) -> MutexGuard<'_, Option<mpsc::Sender<J>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> Drop for WorkerPool<J> {
    fn drop(&mut self) {
        self.lock_queue().take();
        for handle in self.handles.drain(..) {
            // A thread catches its panics, so that it ends by returning.
            drop(handle.join());
        }
    }
}

fn run_worker<W: Worker>(mut worker: W, jobs: &Mutex<mpsc::Receiver<W::Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(job) = job else { break };
        if catch_unwind(AssertUnwindSafe(|| worker.run_job(job))).is_err() {
            tracing::error!(
                "a store thread panicked, which is a fault in souk; the thread goes on"
            );
        }
    }
    worker.shut_down();
}
