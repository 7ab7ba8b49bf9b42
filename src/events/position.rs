//! Where events stand in the outbox, and how far a reader of the outbox has come.
//!
//! The outbox has a partition for each writer. Within a partition, offsets start at 1 and have no
//! gaps. There is no order of positions over partitions, so a reader keeps an offset for each.

use std::{collections::BTreeMap, fmt, str::FromStr};

/// How many bits of an encoded position are the offset. The rest is the partition.
const OFFSET_BITS: u32 = 44;

/// The position of an event in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboxPosition {
    /// The partition. An embedded store has one, with the number 0.
    pub partition: u32,
    /// The place in the partition, from 1 and without gaps.
    pub offset: u64,
}

impl OutboxPosition {
    /// The position as one number: in a partition, the numbers of consecutive events are
    /// consecutive. In partition 0, it is the offset.
    #[must_use]
    pub fn to_i64(self) -> i64 {
        let encoded = (u64::from(self.partition) << OFFSET_BITS) | self.offset;
        i64::try_from(encoded).unwrap_or(i64::MAX)
    }

    /// The position that [`to_i64`](Self::to_i64) encodes. `None` if `encoded` is negative.
    #[must_use]
    pub fn from_i64(encoded: i64) -> Option<Self> {
        let encoded = u64::try_from(encoded).ok()?;
        Some(Self {
            partition: u32::try_from(encoded >> OFFSET_BITS).ok()?,
            offset: encoded & ((1 << OFFSET_BITS) - 1),
        })
    }
}

impl fmt::Display for OutboxPosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.partition, self.offset)
    }
}

/// How far a reader has come in each partition.
///
/// Its text form, such as `0.17-3.2`, is a partition and an offset for each partition with events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxCursor {
    /// Without the partitions of which nothing was read.
    offsets: BTreeMap<u32, u64>,
}

impl OutboxCursor {
    /// The offset of the last event that was read from a partition; 0 if none was.
    #[must_use]
    pub fn offset(&self, partition: u32) -> u64 {
        self.offsets.get(&partition).copied().unwrap_or(0)
    }

    /// Whether `position` is the next to read in its partition.
    #[must_use]
    pub fn is_next(&self, position: OutboxPosition) -> bool {
        self.offset(position.partition) + 1 == position.offset
    }

    /// Whether the event at `position` was read.
    #[must_use]
    pub fn has_read(&self, position: OutboxPosition) -> bool {
        self.offset(position.partition) >= position.offset
    }

    /// Whether everything that `other` has read was read.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.positions().all(|position| self.has_read(position))
    }

    /// How many events this cursor has read that `earlier` has not.
    #[must_use]
    pub fn count_since(&self, earlier: &Self) -> u64 {
        let count = |at: OutboxPosition| at.offset.saturating_sub(earlier.offset(at.partition));
        self.positions().map(count).sum()
    }

    /// Records that everything that `other` has read was read.
    pub fn merge(&mut self, other: &Self) {
        other.positions().for_each(|position| self.advance_to(position));
    }

    /// Records that all events of a partition up to `position` were read.
    pub fn advance_to(&mut self, position: OutboxPosition) {
        if position.offset > 0 {
            let offset = self.offsets.entry(position.partition).or_default();
            *offset = position.offset.max(*offset);
        }
    }

    /// Records that of a partition only the events before `position` were read.
    pub fn go_back_before(&mut self, position: OutboxPosition) {
        match position.offset.saturating_sub(1) {
            0 => drop(self.offsets.remove(&position.partition)),
            offset => drop(self.offsets.insert(position.partition, offset)),
        }
    }

    /// The position of the last event that was read from each partition.
    pub fn positions(&self) -> impl Iterator<Item = OutboxPosition> {
        self.offsets.iter().map(|(&partition, &offset)| OutboxPosition { partition, offset })
    }
}

impl FromIterator<OutboxPosition> for OutboxCursor {
    fn from_iter<I: IntoIterator<Item = OutboxPosition>>(positions: I) -> Self {
        let mut cursor = Self::default();
        positions.into_iter().for_each(|position| cursor.advance_to(position));
        cursor
    }
}

impl fmt::Display for OutboxCursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for position in self.positions() {
            write!(formatter, "{separator}{position}")?;
            separator = "-";
        }
        // An empty id would not make a client send it back.
        if self.offsets.is_empty() { formatter.write_str("0.0") } else { Ok(()) }
    }
}

/// The text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is not an outbox cursor")]
pub struct ParseCursorError;

impl FromStr for OutboxCursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        let parse = |position: &str| {
            let (partition, offset) = position.split_once('.')?;
            let partition: u32 = partition.parse().ok()?;
            let offset: u64 = offset.parse().ok()?;
            let is_valid = offset < 1 << OFFSET_BITS && partition < 1 << (63 - OFFSET_BITS);
            is_valid.then_some(OutboxPosition { partition, offset })
        };
        text.split('-').map(|position| parse(position).ok_or(ParseCursorError)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(partition: u32, offset: u64) -> OutboxPosition {
        OutboxPosition { partition, offset }
    }

    #[test]
    fn encoded_positions_are_consecutive_in_a_partition() {
        assert_eq!(at(0, 17).to_i64(), 17, "databases with one partition have such numbers");
        assert_eq!(at(3, 8).to_i64(), at(3, 7).to_i64() + 1);
        assert!(at(0, (1 << 44) - 1).to_i64() < at(1, 1).to_i64());
        for position in [at(0, 1), at(5, 0), at(7, 12_345), at((1 << 19) - 1, (1 << 44) - 1)] {
            assert_eq!(OutboxPosition::from_i64(position.to_i64()), Some(position));
        }
        assert_eq!(OutboxPosition::from_i64(-1), None);
    }

    #[test]
    fn cursor_never_goes_back() {
        let mut cursor: OutboxCursor = [at(1, 5), at(0, 2)].into_iter().collect();
        cursor.advance_to(at(1, 4));
        cursor.advance_to(at(2, 1));
        assert_eq!(cursor.positions().collect::<Vec<_>>(), [at(0, 2), at(1, 5), at(2, 1)]);
        assert!(cursor.has_read(at(1, 5)) && !cursor.has_read(at(1, 6)));
        assert!(cursor.is_next(at(1, 6)) && cursor.is_next(at(9, 1)) && !cursor.is_next(at(9, 2)));
        assert!(cursor.covers(&[at(1, 3)].into_iter().collect()));
        assert!(!cursor.covers(&[at(0, 1), at(3, 1)].into_iter().collect()));
    }

    #[test]
    fn text_form_is_parsed_back() {
        let cursor: OutboxCursor = [at(3, 2), at(0, 17)].into_iter().collect();
        assert_eq!(cursor.to_string(), "0.17-3.2");
        assert_eq!("0.17-3.2".parse(), Ok(cursor));
        assert_eq!(OutboxCursor::default().to_string().parse(), Ok(OutboxCursor::default()));
        for invalid in ["", "7", "0.1-", "0.-1", "a.1", "524288.1", "0.17592186044416"] {
            assert_eq!(invalid.parse::<OutboxCursor>(), Err(ParseCursorError), "{invalid}");
        }
    }
}
