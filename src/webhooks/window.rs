//! The events that an endpoint has begun and not ended, in the order of the outbox.

use std::collections::VecDeque;

use crate::events::{OutboxCursor, OutboxPosition};

/// The most entries. Beyond, the endpoint waits for its oldest attempt.
const MAX_ENTRIES: usize = 256;

/// Tracks up to where everything has ended, although attempts end in any order.
pub(super) struct Window {
    /// Everything up to here has ended.
    ended: OutboxCursor,
    entries: VecDeque<Entry>,
    /// The number of the first entry.
    first: u64,
}

enum Entry {
    /// An event whose first attempt has not ended.
    Open(OutboxPosition),
    /// What has ended, or need not be delivered.
    Ended(OutboxCursor),
}

impl Window {
    pub(super) const fn new(start: OutboxCursor) -> Self {
        Self { ended: start, entries: VecDeque::new(), first: 0 }
    }

    /// The cursor of a reader that has read what has ended.
    pub(super) const fn ended(&self) -> &OutboxCursor {
        &self.ended
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_ENTRIES
    }

    /// The oldest event whose first attempt has not ended.
    pub(super) fn has_open(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Begins the first attempt of the event at `position`. Returns the number to end it with.
    pub(super) fn begin(&mut self, position: OutboxPosition) -> u64 {
        self.entries.push_back(Entry::Open(position));
        self.first + self.entries.len() as u64 - 1
    }

    /// Ends the first attempt with this number.
    pub(super) fn end(&mut self, number: u64) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let entry = index.and_then(|index| self.entries.get_mut(index));
        if let Some(entry) = entry
            && let Entry::Open(position) = entry
        {
            *entry = Entry::Ended([*position].into_iter().collect());
        }
        self.advance();
    }

    /// Records that all events of a page have begun.
    pub(super) fn end_page(&mut self, end: OutboxCursor) {
        self.entries.push_back(Entry::Ended(end));
        self.advance();
    }

    fn advance(&mut self) {
        while let Some(Entry::Ended(cursor)) = self.entries.front() {
            self.ended.merge(cursor);
            self.entries.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(partition: u32, offset: u64) -> OutboxPosition {
        OutboxPosition { partition, offset }
    }

    #[test]
    fn cursor_passes_what_has_ended_and_nothing_else() {
        let mut window = Window::new(OutboxCursor::default());
        let numbers = [at(0, 2), at(1, 5), at(0, 4)].map(|position| window.begin(position));
        window.end_page([at(0, 9), at(1, 7)].into_iter().collect());
        let last = window.begin(at(0, 10));
        window.end(numbers[1]);
        window.end(last);
        assert_eq!(window.ended().to_string(), "0.0", "the first has not ended");
        window.end(numbers[0]);
        assert_eq!(window.ended().to_string(), "0.2-1.5");
        window.end(numbers[0]);
        assert!(window.has_open());
        window.end(numbers[2]);
        assert_eq!(window.ended().to_string(), "0.10-1.7");
        assert!(!window.has_open() && !window.is_full());
        for offset in 11..=10 + MAX_ENTRIES as u64 {
            window.begin(at(0, offset));
        }
        assert!(window.is_full());
    }
}
