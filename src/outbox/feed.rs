//! The live end of the event feed: what the writer has just made durable, for whoever listens.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::events::OutboxEvent;

/// How many batches a listener may be behind before it has to read the store again.
const BACKLOG: usize = 256;

/// Hands new events to any number of listeners. A slow one is told that it missed some, and never holds up the writer.
pub struct Feed {
    batches: broadcast::Sender<Arc<[OutboxEvent]>>,
}

impl Feed {
    /// A feed without listeners.
    #[must_use]
    pub fn new() -> Self {
        Self { batches: broadcast::Sender::new(BACKLOG) }
    }

    /// Listens from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<[OutboxEvent]>> {
        self.batches.subscribe()
    }

    /// Tells listeners what has happened.
    pub fn apply(&self, events: &[OutboxEvent]) {
        if !events.is_empty() && self.batches.receiver_count() > 0 {
            // An error means that the last listener has just gone.
            drop(self.batches.send(events.into()));
        }
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self::new()
    }
}
