//! The thread that writes changes to the index.

use std::{
    sync::{Arc, PoisonError},
    thread,
    time::Duration,
};

use roaring::RoaringBitmap;
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, Term, indexer::IndexWriterOptions};

use super::{
    Shared, State,
    pending::Pending,
    segment::{IndexView, SegmentView},
};
use crate::domain::catalog::search::ProductTerms;

/// How long changes gather before they are written together. They are found meanwhile, too.
const GATHER_TIME: Duration = Duration::from_millis(50);
/// How long the thread waits after a failure.
const RETRY_TIME: Duration = Duration::from_secs(1);
/// What a writer of the index takes.
struct WriterSize {
    threads: usize,
    /// For the documents of each thread, in bytes.
    memory: usize,
}

/// For a batch: the least that the library takes.
const BATCH_WRITER: WriterSize = WriterSize { threads: 1, memory: 15 << 20 };
/// For a whole catalog. While one thread writes a segment, the other goes on. With much memory they
/// write few segments.
const LOAD_WRITER: WriterSize = WriterSize { threads: 2, memory: 64 << 20 };

/// How often to look whether the library has merged segments, which it does in the background.
const MERGE_TIME: Duration = Duration::from_secs(2);

/// A slot, the generation of its change, and its terms.
type Change = (u32, u64, Option<Arc<ProductTerms>>);

fn copy_changes(state: &State) -> Vec<Change> {
    let copy = |(slot, entry): (&u32, &Pending)| (*slot, entry.generation, entry.terms.clone());
    let mut changes: Vec<Change> = state.pending.iter().map(copy).collect();
    // In the order of slots, matches are read from memory in a row.
    changes.sort_unstable_by_key(|(slot, ..)| *slot);
    changes
}

fn open_writer(index: &Index, size: &WriterSize) -> tantivy::Result<IndexWriter> {
    let options = IndexWriterOptions::builder()
        .num_worker_threads(size.threads)
        .num_merge_threads(1)
        .memory_budget_per_thread(size.memory)
        .build();
    index.writer_with_options(options)
}

/// Writes changes until the index is dropped.
pub(super) fn run_writer(shared: &Shared) {
    while let Err(error) = Writer::open(shared).and_then(|mut writer| writer.run()) {
        tracing::error!(%error, "the search index failed; opening it again");
        thread::sleep(RETRY_TIME);
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    /// Set, except while it is replaced.
    writer: Option<IndexWriter>,
    reader: IndexReader,
    /// The slots with a document. Not known if the index was not empty when it was opened.
    written: Option<RoaringBitmap>,
    /// Whether documents are written that are not committed.
    is_dirty: bool,
    /// Whether `writer` is the one for a whole catalog.
    is_load_writer: bool,
}

impl<'a> Writer<'a> {
    fn open(shared: &'a Shared) -> tantivy::Result<Self> {
        let is_loading = shared.lock().is_loading;
        let reader: IndexReader =
            shared.index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let is_empty = reader.searcher().segment_readers().is_empty();
        let written = is_empty.then(RoaringBitmap::new);
        let size = if is_loading { LOAD_WRITER } else { BATCH_WRITER };
        let writer = Some(open_writer(&shared.index, &size)?);
        Ok(Self { shared, writer, reader, written, is_dirty: false, is_load_writer: is_loading })
    }

    fn run(&mut self) -> tantivy::Result<()> {
        while let Some((changes, is_loading)) = self.next_changes() {
            for (slot, _, terms) in &changes {
                self.write(*slot, terms.as_deref())?;
            }
            if is_loading {
                self.forget(&changes, None);
                continue;
            }
            let was_load_writer = self.is_load_writer;
            self.commit()?;
            self.reader.reload()?;
            let view = self.view()?;
            self.forget(&changes, Some(view));
            // A merge before would delay the shop's start.
            if was_load_writer {
                self.merge_loaded()?;
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> tantivy::Result<()> {
        if self.is_dirty {
            if let Some(writer) = &mut self.writer {
                writer.commit()?;
            }
            self.is_dirty = false;
        }
        if self.is_load_writer {
            // The index has one writer at a time.
            self.writer = None;
            self.writer = Some(open_writer(&self.shared.index, &BATCH_WRITER)?);
            self.is_load_writer = false;
        }
        Ok(())
    }

    /// Begins to merge the segments of the load, in the background. Each has a dictionary of its
    /// own, which costs searches.
    fn merge_loaded(&mut self) -> tantivy::Result<()> {
        let segments = self.shared.index.searchable_segment_ids()?;
        if let Some(writer) = &mut self.writer
            && segments.len() > 1
        {
            drop(writer.merge(&segments));
        }
        Ok(())
    }

    /// Waits for changes, and lets more gather. No changes: only the view is to be opened again,
    /// since segments were merged. `None` when the index is dropped.
    fn next_changes(&self) -> Option<(Vec<Change>, bool)> {
        let mut state = self.shared.lock();
        let mut has_gathered = false;
        loop {
            let must_commit = self.is_dirty && !state.is_loading;
            if state.is_stopping {
                return None;
            } else if must_commit || (!state.pending.is_empty() && has_gathered) {
                return Some((copy_changes(&state), state.is_loading));
            } else if !state.pending.is_empty() {
                has_gathered = true;
                if !state.is_loading {
                    drop(state);
                    thread::sleep(GATHER_TIME);
                    state = self.shared.lock();
                }
            } else {
                let waited = self.shared.changed.wait_timeout(state, MERGE_TIME);
                let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = woken;
                if timeout.timed_out() && state.view.is_complete && self.has_merged(&state) {
                    return Some((Vec::new(), state.is_loading));
                }
            }
        }
    }

    /// Whether the segments are no longer those of the view.
    fn has_merged(&self, state: &State) -> bool {
        let known: Vec<_> = state.view.segments.iter().map(SegmentView::id).collect();
        let current = self.shared.index.searchable_segment_ids().unwrap_or_default();
        current.iter().any(|id| !known.contains(id))
    }

    fn write(&mut self, slot: u32, terms: Option<&ProductTerms>) -> tantivy::Result<()> {
        let fields = self.shared.fields;
        let Some(writer) = &self.writer else { return Ok(()) };
        // Each deletion is looked up in every segment.
        if self.written.as_mut().is_none_or(|written| !written.insert(slot)) {
            writer.delete_term(Term::from_field_u64(fields.slot, u64::from(slot)));
        }
        if let Some(terms) = terms {
            writer.add_document(fields.document(slot, terms))?;
        }
        self.is_dirty = true;
        Ok(())
    }

    fn view(&self) -> tantivy::Result<IndexView> {
        let known = Arc::clone(&self.shared.lock().view);
        let searcher = self.reader.searcher();
        let open = |reader| SegmentView::open(reader, self.shared.fields, &known.segments);
        let segments = searcher.segment_readers().iter().map(open).collect::<Result<_, _>>()?;
        Ok(IndexView { segments, is_complete: true })
    }

    /// Forgets changes that are written, unless they changed again, and publishes the new view.
    fn forget(&self, changes: &[Change], view: Option<IndexView>) {
        let mut state = self.shared.lock();
        for (slot, generation, _) in changes {
            if state.pending.get(slot).is_some_and(|entry| entry.generation == *generation) {
                state.pending.remove(slot);
            }
        }
        match view {
            Some(view) => state.view = Arc::new(view),
            None => {
                let segments = state.view.segments.clone();
                state.view = Arc::new(IndexView { segments, is_complete: false });
            }
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}
