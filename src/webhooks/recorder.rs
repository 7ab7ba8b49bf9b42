//! Writes what the endpoints of a node have done: everything that waits, in one go.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::sleep,
};
use uuid::Uuid;

use crate::{
    panics::guarded_tick,
    store::{Store, webhook_store::WebhookProgress},
};

/// The progress of endpoints that can wait.
const QUEUE: usize = 1024;

/// The most endpoints that are written together.
const MAX_BATCH: usize = 256;

/// The pause between two writes. Progress gathers meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// The pause after a write that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

struct Job {
    progress: WebhookProgress,
    saved: oneshot::Sender<()>,
}

/// Takes progress, and tells when it is written.
pub(super) struct Recorder {
    jobs: mpsc::Sender<Job>,
}

impl Recorder {
    /// Starts to write, on `runtime`, until the recorder is dropped.
    pub(super) fn start(store: Arc<dyn Store>, node: Uuid, runtime: &Handle) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        runtime.spawn(write(store, node, queue));
        Self { jobs }
    }

    /// Hands progress over. The receiver hears when it is written, or that it never will be.
    pub(super) async fn record(&self, progress: WebhookProgress) -> oneshot::Receiver<()> {
        let (saved, receiver) = oneshot::channel();
        // It fails only when the writing task is gone, which the receiver then tells.
        drop(self.jobs.send(Job { progress, saved }).await);
        receiver
    }
}

async fn write(store: Arc<dyn Store>, node: Uuid, mut queue: mpsc::Receiver<Job>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let (progress, waiting): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|job| (job.progress, job.saved)).unzip();
        let progress: Arc<[WebhookProgress]> = progress.into();
        loop {
            let save = store.save_webhook_progress(node, Arc::clone(&progress));
            if guarded_tick("webhook recorder", save).await.is_some_and(|saved| saved.is_ok()) {
                break;
            }
            // The store has logged the error. What was delivered meanwhile waits.
            sleep(RETRY_PAUSE).await;
        }
        for saved in waiting {
            // It fails when the endpoint has gone.
            let _ = saved.send(());
        }
        sleep(PAUSE).await;
    }
}
