//! Searches one segment of the index.

use std::{cell::RefCell, sync::Arc};

use tantivy::{IndexReader, SegmentReader, index::SegmentId};

use super::{
    SearchField, TextMatch,
    compiled_query::CompiledQuery,
    expand::FieldView,
    matcher::{Matcher, Scratch},
    schema::{Fields, SLOT},
    time_budget::{OutOfTime, TimeBudget},
};

/// The index at one time.
#[derive(Default)]
pub(super) struct IndexView {
    pub(super) segments: Vec<SegmentView>,
    /// Whether all that was put before is in it.
    pub(super) is_complete: bool,
}

/// A segment: an immutable part of the index.
#[derive(Clone)]
pub(super) struct SegmentView {
    reader: SegmentReader,
    /// The slot of each document.
    slots: Arc<[u32]>,
    text: FieldView,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl SegmentView {
    /// Opens a segment, with what `known` views have read of it.
    pub(super) fn open(
        reader: &SegmentReader,
        fields: Fields,
        known: &[Self],
    ) -> tantivy::Result<Self> {
        let known = known.iter().find(|view| view.id() == reader.segment_id());
        let slots = match known {
            Some(view) => Arc::clone(&view.slots),
            None => read_slots(reader)?,
        };
        let text = FieldView::open(reader, fields.text, known.map(|view| &view.text))?;
        Ok(Self { slots, text, reader: reader.clone() })
    }

    pub(super) fn id(&self) -> SegmentId {
        self.reader.segment_id()
    }

    /// The slots of the documents that are not deleted.
    pub(super) fn live_slots(&self) -> impl Iterator<Item = u32> {
        let slot = |doc| self.slots.get(doc as usize).copied();
        self.reader.doc_ids_alive().filter_map(slot)
    }

    /// Adds the products that match to `matches`, without those in `changed`, which is sorted. If
    /// `enough` are found by better kinds of a match, worse ones may be left out.
    pub(super) fn search(
        &self,
        field: SearchField,
        query: &CompiledQuery,
        changed: &[u32],
        enough: Option<usize>,
        budget: &mut TimeBudget,
        matches: &mut Vec<TextMatch>,
    ) -> Result<(), OutOfTime> {
        let hidden = changed.len() + self.reader.num_deleted_docs() as usize;
        let found = SCRATCH.with_borrow_mut(|scratch| {
            let max_doc = self.reader.max_doc();
            scratch.prepare(max_doc);
            let view = &self.text;
            let enough = enough.map_or(usize::MAX, |enough| enough.saturating_add(hidden));
            let matcher = Matcher { view, field, max_doc, enough, budget, scratch };
            let found = matcher.run(query);
            if found.is_err() {
                scratch.clear();
            }
            found
        })?;
        let alive = self.reader.alive_bitset();
        let found = found.into_iter().filter_map(|(doc, score)| {
            let is_alive = alive.is_none_or(|alive| alive.is_alive(doc));
            let slot = self.slots.get(doc as usize).copied().filter(|_| is_alive)?;
            let is_current = changed.is_empty() || changed.binary_search(&slot).is_err();
            is_current.then_some(TextMatch { slot, score })
        });
        if matches.is_empty() {
            // In the memory of what was found.
            *matches = found.collect();
        } else {
            matches.extend(found);
        }
        Ok(())
    }
}

/// Opens what `reader` shows, with what a `known` view has read of it.
pub(super) fn open_view(
    reader: &IndexReader,
    fields: Fields,
    known: &IndexView,
) -> tantivy::Result<IndexView> {
    let searcher = reader.searcher();
    let open = |segment| SegmentView::open(segment, fields, &known.segments);
    let segments = searcher.segment_readers().iter().map(open).collect::<Result<_, _>>()?;
    Ok(IndexView { segments, is_complete: true })
}

/// The slot of each document, also of those that are deleted.
pub(super) fn read_slots(reader: &SegmentReader) -> tantivy::Result<Arc<[u32]>> {
    let column = reader.fast_fields().column_first_or_default::<u64>(SLOT)?;
    let slot = |doc| u32::try_from(column.get_val(doc)).unwrap_or(u32::MAX);
    Ok((0..reader.max_doc()).map(slot).collect())
}
