//! The live end of the event feed: broadcasts newly committed events to listeners.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::events::OutboxEvent;

/// The number of batches a listener can lag behind before it must read from the store.
const BACKLOG: usize = 256;

/// Broadcasts new events to any number of listeners. A slow listener gets a `Lagged` error and
/// never blocks the writer.
pub struct Feed {
    batches: broadcast::Sender<Arc<[OutboxEvent]>>,
}

impl Feed {
    /// Creates a feed without listeners.
    #[must_use]
    pub fn new() -> Self {
        Self { batches: broadcast::Sender::new(BACKLOG) }
    }

    /// Subscribes to all events that are committed from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<[OutboxEvent]>> {
        self.batches.subscribe()
    }

    /// Sends committed events to all listeners.
    pub fn apply(&self, events: &[OutboxEvent]) {
        if !events.is_empty() && self.batches.receiver_count() > 0 {
            // `send` fails only if the last listener has just disconnected.
            drop(self.batches.send(events.into()));
        }
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self::new()
    }
}
