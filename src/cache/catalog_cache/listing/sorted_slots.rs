//! Slots in an order that is cheap to change by one.

/// The most slots of a chunk. A change moves at most this many.
const MAX_CHUNK: usize = 1024;

/// Slots in an order that the caller defines, in chunks. No chunk is empty.
#[derive(Debug, Default)]
pub(super) struct SortedSlots {
    chunks: Vec<Vec<u32>>,
}

/// A position in the order: a chunk, and an index in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkPosition {
    chunk: usize,
    index: usize,
}

impl SortedSlots {
    /// Slots that are already sorted.
    pub(super) fn from_sorted(slots: &[u32]) -> Self {
        Self { chunks: slots.chunks(MAX_CHUNK / 2).map(<[u32]>::to_vec).collect() }
    }

    /// The position after all slots that come `before` a key.
    pub(super) fn position(&self, mut before: impl FnMut(u32) -> bool) -> ChunkPosition {
        let chunk =
            self.chunks.partition_point(|chunk| chunk.last().is_some_and(|slot| before(*slot)));
        let index =
            self.chunks.get(chunk).map_or(0, |chunk| chunk.partition_point(|slot| before(*slot)));
        ChunkPosition { chunk, index }
    }

    /// Inserts `slot` after all slots that come `before` it.
    pub(super) fn insert(&mut self, slot: u32, before: impl FnMut(u32) -> bool) {
        let position = self.position(before);
        // At the end, the last chunk grows.
        let at_end = position.chunk == self.chunks.len();
        let number = if at_end { position.chunk.saturating_sub(1) } else { position.chunk };
        let Some(chunk) = self.chunks.get_mut(number) else {
            self.chunks.push(vec![slot]);
            return;
        };
        let index = if at_end { chunk.len() } else { position.index };
        chunk.insert(index, slot);
        if chunk.len() > MAX_CHUNK {
            let rest = chunk.split_off(MAX_CHUNK / 2);
            self.chunks.insert(number + 1, rest);
        }
    }

    /// Removes `slot`, before which are the slots that come `before` it.
    pub(super) fn remove(&mut self, slot: u32, before: impl FnMut(u32) -> bool) {
        let position = self.position(before);
        let Some(chunk) = self.chunks.get_mut(position.chunk) else { return };
        if chunk.get(position.index) == Some(&slot) {
            chunk.remove(position.index);
        }
        if chunk.is_empty() {
            self.chunks.remove(position.chunk);
        }
    }

    /// The slots from `position` on.
    pub(super) fn from(&self, position: ChunkPosition) -> impl Iterator<Item = u32> + '_ {
        let mut chunks = self.chunks.iter().skip(position.chunk);
        let first =
            chunks.next().map_or(&[][..], |chunk| chunk.get(position.index..).unwrap_or_default());
        first.iter().chain(chunks.flatten()).copied()
    }

    /// The slots before `position`, backwards.
    pub(super) fn back_from(&self, position: ChunkPosition) -> impl Iterator<Item = u32> + '_ {
        let chunk = self.chunks.get(position.chunk);
        let last = chunk.map_or(&[][..], |chunk| chunk.get(..position.index).unwrap_or_default());
        let chunks = self.chunks.get(..position.chunk.min(self.chunks.len())).unwrap_or_default();
        last.iter().rev().chain(chunks.iter().rev().flat_map(|chunk| chunk.iter().rev())).copied()
    }

    /// The position before all slots.
    pub(super) const fn start() -> ChunkPosition {
        ChunkPosition { chunk: 0, index: 0 }
    }

    /// The position after all slots.
    pub(super) const fn end(&self) -> ChunkPosition {
        ChunkPosition { chunk: self.chunks.len(), index: 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_sorted_list(changes in prop::collection::vec(0_u32..3000, 1..4000)) {
            let mut slots = SortedSlots::default();
            let mut model = std::collections::BTreeSet::new();
            for slot in changes {
                if model.insert(slot) {
                    slots.insert(slot, |other| other < slot);
                } else {
                    model.remove(&slot);
                    slots.remove(slot, |other| other < slot);
                }
            }
            let all: Vec<u32> = model.iter().copied().collect();
            prop_assert!(slots.from(SortedSlots::start()).eq(all.iter().copied()));
            prop_assert!(slots.back_from(slots.end()).eq(all.iter().rev().copied()));
            let middle = slots.position(|slot| slot < 1500);
            prop_assert!(slots.from(middle).eq(model.range(1500..).copied()));
            prop_assert!(slots.back_from(middle).eq(model.range(..1500).rev().copied()));
            let built = SortedSlots::from_sorted(&all);
            prop_assert!(built.from(SortedSlots::start()).eq(all));
        }
    }
}
