//! The thread that writes changes to the index.

use std::{
    sync::{Arc, PoisonError},
    thread,
    time::Duration,
};

use roaring::RoaringBitmap;
use tantivy::{Index, IndexReader, IndexWriter, SegmentMeta, Term, indexer::IndexWriterOptions};

use super::{
    Shared, State, Stop,
    pending::{Pending, PendingText},
    schema::open_reader,
    segment::{IndexView, SegmentView, open_view},
};

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

/// The time without changes after which the thread checks whether the library has merged segments
/// in the background, and whether to save the index.
const IDLE_TIME: Duration = Duration::from_secs(2);
/// After so many changes, the index is saved in the next idle time, so that a shop that was killed
/// has few texts to index again.
const CHANGES_BETWEEN_SAVES: usize = 10_000;

/// A slot, the generation of its change, and its text.
type Change = (u32, u64, Option<Arc<PendingText>>);

/// What the thread does next.
enum Task {
    /// Writes changes, which are committed unless the catalog is being loaded.
    Write { changes: Vec<Change>, is_loading: bool },
    /// Opens the view again, since the library has merged segments.
    Reload,
    /// Merges and saves what was written.
    Save,
}

fn copy_changes(state: &State) -> Vec<Change> {
    let copy = |(slot, entry): (&u32, &Pending)| (*slot, entry.generation, entry.text.clone());
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

/// Writes changes until the index is closed or dropped.
pub(super) fn run_writer(shared: &Shared) {
    let _running = Running(shared);
    while let Err(error) = Writer::open(shared).and_then(|mut writer| writer.run()) {
        tracing::error!(%error, "the search index failed");
        if shared.lock().stop.is_some() {
            break;
        }
        thread::sleep(RETRY_TIME);
    }
}

/// Records the end of the thread, even after a panic.
struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.lock().is_writer_running = false;
        self.0.changed.notify_all();
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    /// Set, except while it is replaced.
    writer: Option<IndexWriter>,
    reader: IndexReader,
    /// The slots with a document.
    written: RoaringBitmap,
    /// Whether documents are written that are not committed.
    is_dirty: bool,
    /// Whether `writer` is the one for a whole catalog.
    is_load_writer: bool,
    /// How many changes were written since the index was saved.
    unsaved: usize,
}

impl<'a> Writer<'a> {
    fn open(shared: &'a Shared) -> tantivy::Result<Self> {
        let is_loading = shared.lock().is_loading;
        let reader = open_reader(&shared.index)?;
        let size = if is_loading { LOAD_WRITER } else { BATCH_WRITER };
        let mut writer = Self {
            shared,
            writer: Some(open_writer(&shared.index, &size)?),
            reader,
            written: RoaringBitmap::new(),
            is_dirty: false,
            is_load_writer: is_loading,
            unsaved: 0,
        };
        let view = open_view(&writer.reader, shared.fields, &shared.lock().view)?;
        writer.written = view.segments.iter().flat_map(SegmentView::live_slots).collect();
        Ok(writer)
    }

    fn run(&mut self) -> tantivy::Result<()> {
        while let Some(task) = self.next_task() {
            match task {
                Task::Write { changes, is_loading } => self.write_all(&changes, is_loading)?,
                Task::Reload => self.reload(&[])?,
                Task::Save => {
                    self.merge()?;
                    self.save();
                }
            }
        }
        self.save();
        Ok(())
    }

    fn write_all(&mut self, changes: &[Change], is_loading: bool) -> tantivy::Result<()> {
        for (slot, _, text) in changes {
            self.write(*slot, text.as_deref())?;
        }
        if is_loading {
            self.forget(changes, None);
            return Ok(());
        }
        let was_load_writer = self.is_load_writer;
        self.commit()?;
        self.reload(changes)?;
        // A merge before would delay the shop's start.
        if was_load_writer {
            self.merge()?;
        }
        Ok(())
    }

    /// Publishes the committed index, which includes `changes`.
    fn reload(&self, changes: &[Change]) -> tantivy::Result<()> {
        self.reader.reload()?;
        let known = Arc::clone(&self.shared.lock().view);
        let view = open_view(&self.reader, self.shared.fields, &known)?;
        self.forget(changes, Some(view));
        Ok(())
    }

    /// Saves the index if it has changed, unless it is no longer needed.
    fn save(&mut self) {
        let is_needed = self.shared.lock().stop != Some(Stop::AtOnce);
        let has_changed = std::mem::take(&mut self.unsaved) > 0;
        let saved = self.shared.saved.as_ref().filter(|_| has_changed && is_needed);
        if let Some(saved) = saved
            && let Err(error) = saved.save(&self.shared.index)
        {
            tracing::warn!(%error, "failed to save the search index; the next start takes longer");
        }
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

    /// Merges all segments, unless one of them has nearly all documents. Each has a dictionary of
    /// its own, which costs searches.
    fn merge(&mut self) -> tantivy::Result<()> {
        let segments = self.shared.index.searchable_segment_metas()?;
        let documents: u32 = segments.iter().map(SegmentMeta::num_docs).sum();
        let largest = segments.iter().map(SegmentMeta::num_docs).max().unwrap_or(0);
        if largest >= documents / 10 * 9 {
            return Ok(());
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let ids: Vec<_> = segments.iter().map(SegmentMeta::id).collect();
        if let Err(error) = writer.merge(&ids).wait() {
            // The library is merging some of them already.
            tracing::debug!(%error, "the segments of the search index were not merged");
        }
        self.reload(&[])
    }

    /// Waits for changes, and lets more gather. `None` when the index is closed or dropped.
    fn next_task(&self) -> Option<Task> {
        let mut state = self.shared.lock();
        let mut has_gathered = false;
        loop {
            let must_commit = self.is_dirty && !state.is_loading;
            let has_changes = must_commit || !state.pending.is_empty();
            if state.stop == Some(Stop::AtOnce) || (state.stop.is_some() && !has_changes) {
                return None;
            } else if must_commit || (!state.pending.is_empty() && has_gathered) {
                let changes = copy_changes(&state);
                return Some(Task::Write { changes, is_loading: state.is_loading });
            } else if !state.pending.is_empty() {
                has_gathered = true;
                if !state.is_loading {
                    drop(state);
                    thread::sleep(GATHER_TIME);
                    state = self.shared.lock();
                }
            } else {
                let waited = self.shared.changed.wait_timeout(state, IDLE_TIME);
                let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = woken;
                if timeout.timed_out()
                    && let Some(task) = self.idle_task(&state)
                {
                    return Some(task);
                }
            }
        }
    }

    /// What to do after a time without changes.
    fn idle_task(&self, state: &State) -> Option<Task> {
        if state.is_loading {
            None
        } else if self.has_merged(state) {
            Some(Task::Reload)
        } else {
            (self.unsaved >= CHANGES_BETWEEN_SAVES).then_some(Task::Save)
        }
    }

    /// Whether the segments are no longer those of the view.
    fn has_merged(&self, state: &State) -> bool {
        let known: Vec<_> = state.view.segments.iter().map(SegmentView::id).collect();
        let current = self.shared.index.searchable_segment_ids().unwrap_or_default();
        current.iter().any(|id| !known.contains(id))
    }

    fn write(&mut self, slot: u32, text: Option<&PendingText>) -> tantivy::Result<()> {
        let fields = self.shared.fields;
        let Some(writer) = &self.writer else { return Ok(()) };
        // Each deletion is looked up in every segment.
        if !self.written.insert(slot) {
            writer.delete_term(Term::from_field_u64(fields.slot, u64::from(slot)));
        }
        if let Some(PendingText { key, terms }) = text {
            writer.add_document(fields.document(slot, *key, terms))?;
        }
        self.is_dirty = true;
        self.unsaved += 1;
        Ok(())
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
