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

/// The number of responses before each `kill -9` of a test: those of `rounds`, once. With the
/// environment variable `SOUK_TEST_KILLS`, as many kills as it says, with `rounds` again and again.
pub(crate) fn kill_rounds(rounds: &[usize]) -> impl Iterator<Item = usize> {
    let kills = std::env::var("SOUK_TEST_KILLS").ok();
    let kills = kills.map_or(rounds.len(), |kills| kills.parse().unwrap());
    rounds.iter().copied().cycle().take(kills)
}
