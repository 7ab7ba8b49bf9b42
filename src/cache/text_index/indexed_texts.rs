//! The texts that the index had when it was saved.

use std::collections::HashMap;

use roaring::RoaringBitmap;
use tantivy::IndexReader;

use super::{schema::KEY, segment::read_slots, text_key::TextKey};

/// The texts that the index had when it was saved, with their slots.
#[derive(Default)]
pub(crate) struct IndexedTexts {
    by_key: HashMap<TextKey, u32>,
    slots: RoaringBitmap,
}

impl IndexedTexts {
    pub(super) fn read(reader: &IndexReader) -> tantivy::Result<Self> {
        let mut texts = Self::default();
        for segment in reader.searcher().segment_readers() {
            let slots = read_slots(segment)?;
            let keys = segment.fast_fields().column_first_or_default::<u64>(KEY)?;
            for doc in segment.doc_ids_alive() {
                if let Some(slot) = slots.get(doc as usize).copied() {
                    texts.by_key.insert(TextKey(keys.get_val(doc)), slot);
                    texts.slots.insert(slot);
                }
            }
        }
        Ok(texts)
    }

    /// The slot in which the index has this text.
    pub(crate) fn slot(&self, key: TextKey) -> Option<u32> {
        self.by_key.get(&key).copied()
    }

    /// All slots in which the index has a text.
    pub(crate) const fn slots(&self) -> &RoaringBitmap {
        &self.slots
    }
}
