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
    /// Keeps the first events, as many as have at most `max_bytes` together, and at least one.
    /// Returns the page of the others, if there are any. The event of an order with many lines is a
    /// hundred times as large as others, so a number of events alone bounds no memory.
    pub fn split_off_after(&mut self, max_bytes: usize) -> Option<Self> {
        let mut bytes = 0_usize;
        let fits = |event: &&OutboxEvent| {
            bytes = bytes.saturating_add(event.body.len());
            bytes <= max_bytes
        };
        let kept = self.events.iter().take_while(fits).count().max(1);
        if kept >= self.events.len() {
            return None;
        }
        let events = self.events.split_off(kept);
        self.events.shrink_to_fit();
        let rest = Self { events, end: self.end.clone(), has_gap: false, has_more: self.has_more };
        // The end may be beyond events that are deleted, where no event of the page is.
        rest.events.iter().rev().for_each(|event| self.end.go_back_before(event.position));
        self.has_more = true;
        Some(rest)
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

    fn sizes(page: &OutboxPage) -> Vec<usize> {
        page.events.iter().map(|event| event.body.len()).collect()
    }

    #[test]
    fn page_is_split_at_its_bytes() {
        let mut first = page(&[400, 500, 200, 10]);
        let whole = first.end.clone();
        let rest = first.split_off_after(1000).unwrap();
        assert_eq!((sizes(&first), first.has_more), (vec![400, 500], true));
        assert_eq!(first.end.to_string(), "0.1-1.1");
        assert_eq!((sizes(&rest), rest.has_more, rest.end), (vec![200, 10], false, whole));
        assert!(page(&[400, 500, 100]).split_off_after(1000).is_none());
        assert!(page(&[]).split_off_after(1000).is_none());
        let mut large = page(&[5000, 10]);
        let rest = large.split_off_after(1000).unwrap();
        assert_eq!((sizes(&large), sizes(&rest)), (vec![5000], vec![10]));
        assert_eq!(large.end.to_string(), "0.1", "partition 1 was not read");
    }

    #[test]
    fn first_part_has_passed_the_deleted_events_of_other_partitions() {
        let mut first = OutboxPage { has_gap: true, ..page(&[400, 10, 700]) };
        first.end.advance_to(OutboxPosition { partition: 7, offset: 20 });
        let rest = first.split_off_after(500).unwrap();
        assert_eq!((first.end.to_string().as_str(), first.has_gap), ("0.1-1.1-7.20", true));
        assert_eq!((rest.end.to_string().as_str(), rest.has_gap), ("0.2-1.1-7.20", false));
    }
}
