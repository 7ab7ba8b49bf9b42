//! Threads that run blocking work for async tasks.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use tokio::sync::{mpsc, watch};

/// The state of a thread, which runs its jobs.
pub(super) trait Worker: Send + 'static {
    /// A unit of work.
    type Job: Send + 'static;

    /// Runs one job.
    fn run_job(&mut self, job: Self::Job);

    /// Called once, after the last job.
    fn shut_down(self);
}

/// The pool is closed and takes no more jobs.
pub(super) struct PoolClosed;

/// Threads with one bounded queue. Dropping the pool finishes the queued jobs and joins the
/// threads.
pub(super) struct WorkerPool<J> {
    queue: Mutex<Option<mpsc::Sender<J>>>,
    /// Closed when the last thread has ended.
    running: watch::Receiver<()>,
    handles: Vec<JoinHandle<()>>,
}

impl<J: Send + 'static> WorkerPool<J> {
    /// Starts a thread for each of `workers`, with a queue for `capacity` jobs.
    pub(super) fn start<W: Worker<Job = J>>(
        name: &str,
        workers: Vec<W>,
        capacity: usize,
    ) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel(capacity);
        let jobs = Arc::new(Mutex::new(jobs));
        let (token, running) = watch::channel(());
        let token = Arc::new(token);
        let mut threads = Self {
            queue: Mutex::new(Some(queue)),
            running,
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

    /// Queues a job. Waits while the queue is full.
    pub(super) async fn enqueue_job(&self, job: J) -> Result<(), PoolClosed> {
        let queue = self.lock_queue().clone().ok_or(PoolClosed)?;
        queue.send(job).await.map_err(|_| PoolClosed)
    }

    /// Closes the queue, and waits until the queued jobs are done and the threads have ended.
    pub(super) async fn close(&self) {
        self.lock_queue().take();
        let mut running = self.running.clone();
        while running.changed().await.is_ok() {}
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
            // A thread catches the panics of its jobs, so joining it does not fail.
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
                "a job of a store thread panicked, which is a bug in souk; the thread continues"
            );
        }
    }
    worker.shut_down();
}
