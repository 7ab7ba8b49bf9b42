//! How far clients have come, for whoever waits to strike.

use tokio::sync::watch;

/// Counts what was acknowledged.
pub(crate) struct Progress(watch::Sender<usize>);

impl Progress {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// One more.
    pub(crate) fn one(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    pub(crate) fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until so many were counted.
    pub(crate) async fn reaches(&self, wanted: usize) {
        self.0.subscribe().wait_for(|count| *count >= wanted).await.unwrap();
    }
}
