//! Counts client progress, so that a test can act at a given point.

use tokio::sync::watch;

/// Counts acknowledged changes.
pub(crate) struct Progress(watch::Sender<usize>);

impl Progress {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    pub(crate) fn increment(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    pub(crate) fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until the count reaches `wanted`.
    pub(crate) async fn wait_for(&self, wanted: usize) {
        self.0.subscribe().wait_for(|count| *count >= wanted).await.unwrap();
    }
}
