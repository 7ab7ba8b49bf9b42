//! A list of numbers for each slot, all in one piece of memory, so that reading many is fast.

use std::{hint::black_box, ops::BitXor};

/// From this many numbers on, unused ones are removed when they are half of all.
const MIN_UNUSED: usize = 4096;

/// The lists that are read from memory at the same time.
const LISTS_AT_A_TIME: usize = 32;

/// A list of numbers for each slot.
#[derive(Debug, Default)]
pub(super) struct ValueLists {
    spans: Vec<Span>,
    pool: Vec<u32>,
    /// The part of the pool that belongs to no slot.
    unused: usize,
}

/// Where the list of a slot is in the pool.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    const fn range(self) -> std::ops::Range<usize> {
        let start = self.start as usize;
        start..start + self.len as usize
    }
}

impl ValueLists {
    /// The list of `slot`.
    pub(super) fn get(&self, slot: u32) -> &[u32] {
        let span = self.spans.get(slot as usize).copied().unwrap_or_default();
        self.pool.get(span.range()).unwrap_or_default()
    }

    /// Calls `use_values` with the list of each slot.
    ///
    /// It reads the places of several lists first, then the first number of each: so the processor
    /// waits for the memory of all of them at once, not one after the other.
    pub(super) fn read_all(
        &self,
        mut slots: impl Iterator<Item = u32>,
        mut use_values: impl FnMut(&[u32]),
    ) {
        loop {
            let mut spans = [Span::default(); LISTS_AT_A_TIME];
            let mut len = 0;
            for (span, slot) in spans.iter_mut().zip(slots.by_ref()) {
                *span = self.spans.get(slot as usize).copied().unwrap_or_default();
                len += 1;
            }
            let spans = spans.get(..len).unwrap_or_default();
            let first = |span: &Span| self.pool.get(span.start as usize).copied().unwrap_or(0);
            black_box(spans.iter().map(first).fold(0, BitXor::bitxor));
            for span in spans {
                use_values(self.pool.get(span.range()).unwrap_or_default());
            }
            if len < LISTS_AT_A_TIME {
                break;
            }
        }
    }

    /// Replaces the list of `slot`.
    pub(super) fn set(&mut self, slot: u32, values: &[u32]) {
        let index = slot as usize;
        if self.spans.len() <= index {
            self.spans.resize(index + 1, Span::default());
        }
        self.unused += self.get(slot).len();
        // A pool of four billion numbers would take more memory than all else.
        let (start, len) = (u32::try_from(self.pool.len()), u32::try_from(values.len()));
        if let (Some(span), Ok(start), Ok(len)) = (self.spans.get_mut(index), start, len) {
            *span = Span { start, len };
            self.pool.extend(values);
        }
        if self.unused > MIN_UNUSED && self.unused * 2 > self.pool.len() {
            self.compact();
        }
    }

    /// Removes what belongs to no slot, and the room to grow.
    pub(super) fn compact(&mut self) {
        let mut pool = Vec::with_capacity(self.pool.len() - self.unused);
        for span in &mut self.spans {
            let start = u32::try_from(pool.len()).unwrap_or(u32::MAX);
            pool.extend(self.pool.get(span.range()).unwrap_or_default());
            span.start = start;
        }
        (self.pool, self.unused) = (pool, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_those_that_were_set_last() {
        let mut lists = ValueLists::default();
        let mut wanted = vec![Vec::new(); 100];
        for round in 0..1000_u32 {
            let slot = round * 37 % 100;
            let values: Vec<u32> = (0..round % 50).map(|number| number * round).collect();
            lists.set(slot, &values);
            wanted[slot as usize] = values;
            if round % 100 == 0 {
                (0..100).for_each(|slot| assert_eq!(lists.get(slot), wanted[slot as usize]));
            }
        }
        assert!(lists.pool.len() <= 2 * MIN_UNUSED, "unused numbers are removed");
        lists.compact();
        (0..100).for_each(|slot| assert_eq!(lists.get(slot), wanted[slot as usize]));
        assert_eq!(lists.get(1000), [0; 0]);
    }
}
