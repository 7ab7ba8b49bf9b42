//! Pages of events after a cursor.

use crate::events::{OutboxCursor, OutboxEvent, parse::CacheChange};

/// Events that directly follow a cursor.
///
/// The events of a subject are in the order of their sequence. All events that an event of the page
/// builds on are before it, in this page or before the cursor that the page follows. So a reader
/// that goes from page to page sees every subject's sequence rise without gaps, whichever nodes
/// committed the changes.
#[derive(Debug, Clone, Default)]
pub struct OutboxPage {
    /// The events.
    pub events: Vec<OutboxEvent>,
    /// The cursor of a reader that has read the page.
    pub end: OutboxCursor,
    /// Whether the store no longer keeps some of the events between the cursor and `end`.
    pub has_gap: bool,
    /// Whether the store had more events after `end`.
    pub has_more: bool,
}

/// The changes for the caches of other nodes that the events after a cursor tell, in no order.
#[derive(Debug, Clone, Default)]
pub struct OutboxChanges {
    /// The changes. Some may be of events that the cursor has read.
    pub changes: Vec<CacheChange>,
    /// The cursor of a reader that has read the events.
    pub end: OutboxCursor,
    /// Whether the store no longer keeps some of the events between the cursor and `end`.
    pub has_gap: bool,
    /// Whether the store had more events after `end`.
    pub has_more: bool,
}
