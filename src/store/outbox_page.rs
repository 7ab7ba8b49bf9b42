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

impl OutboxPage {
    /// The first events of a page that follows `start`: as many as have at most `max_bytes`
    /// together, and at least one. The event of an order with many lines is a hundred times as
    /// large as others, so a number of events alone bounds no memory.
    #[must_use]
    pub fn within(mut self, start: &OutboxCursor, max_bytes: usize) -> Self {
        let mut bytes = 0_usize;
        let fits = |event: &&OutboxEvent| {
            bytes = bytes.saturating_add(event.body.len());
            bytes <= max_bytes
        };
        let kept = self.events.iter().take_while(fits).count().max(1);
        if kept < self.events.len() {
            self.events.truncate(kept);
            self.events.shrink_to_fit();
            self.end = start.clone();
            self.events.iter().for_each(|event| self.end.advance_to(event.position));
            self.has_more = true;
        }
        self
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::ids::EventId,
        events::{Audience, OutboxPosition},
    };

    /// A page of events of these sizes, alternately of two partitions.
    fn page(sizes: &[usize]) -> OutboxPage {
        let event = |(number, size): (usize, &usize)| OutboxEvent {
            position: OutboxPosition {
                partition: u32::try_from(number % 2).unwrap(),
                offset: number as u64 / 2 + 1,
            },
            id: EventId::new(),
            kind: "order.placed".into(),
            audience: Audience::Everyone,
            body: vec![b'x'; *size].into(),
        };
        let events: Vec<_> = sizes.iter().enumerate().map(event).collect();
        let end = events.iter().map(|event| event.position).collect();
        OutboxPage { events, end, has_gap: false, has_more: false }
    }

    #[test]
    fn page_is_cut_at_its_bytes_and_goes_on_after_the_cut() {
        let start = OutboxCursor::default();
        let cut = page(&[400, 500, 200, 10]).within(&start, 1000);
        assert_eq!((cut.events.len(), cut.has_more), (2, true));
        assert_eq!(cut.end.to_string(), "0.1-1.1");
        let whole = page(&[400, 500, 100]).within(&start, 1000);
        assert_eq!((whole.events.len(), whole.has_more), (3, false));
        assert_eq!(whole.end.to_string(), "0.2-1.1");
        let large = page(&[5000, 10]).within(&start, 1000);
        assert_eq!((large.events.len(), large.has_more), (1, true), "a page has an event at least");
        let empty = page(&[]).within(&start, 1000);
        assert_eq!((empty.events.len(), empty.has_more), (0, false));
    }
}
