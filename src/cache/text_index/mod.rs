//! The full-text index of the catalog, in memory.
//!
//! Products are numbered by slots, which the catalog assigns. A thread of its own writes changes to
//! the index in batches. Until a batch is in the index, its products are searched beside it, so
//! that a search always finds the latest change.

mod automaton;
mod compiled_query;
mod expand;
mod indexed_texts;
mod matcher;
mod pending;
mod saved_index;
mod schema;
mod scoring;
mod segment;
mod text_key;
mod time_budget;
mod vocabulary;
mod writer;

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

pub(crate) use self::{
    compiled_query::CompiledQuery,
    indexed_texts::IndexedTexts,
    saved_index::SavedIndex,
    text_key::TextKey,
    time_budget::{OutOfTime, TimeBudget},
};
use self::{
    pending::{Pending, PendingText},
    saved_index::Restored,
    schema::Fields,
    segment::IndexView,
    writer::run_writer,
};
use crate::domain::catalog::search::TermList;

/// What a search looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SearchField {
    /// All text of a product.
    Text,
    /// Its name.
    Name,
}

/// A product that matches, and how well: higher is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TextMatch {
    pub(crate) slot: u32,
    pub(crate) score: u32,
}

/// The full-text index. Dropping it ends its thread.
pub(crate) struct TextIndex {
    shared: Arc<Shared>,
    /// The texts of the saved index, until the load of the catalog begins.
    indexed: Mutex<IndexedTexts>,
}

/// What the index and its thread share.
struct Shared {
    state: Mutex<State>,
    /// Notified when there are changes to write, and when some are written.
    changed: Condvar,
    index: tantivy::Index,
    fields: Fields,
    /// The file in which the index is saved, if any.
    saved: Option<SavedIndex>,
}

/// Changes, and the index without them. They are replaced together.
struct State {
    pending: HashMap<u32, Pending>,
    view: Arc<IndexView>,
    /// Counts changes.
    generation: u64,
    /// While it is true, nobody searches, and changes are written without being committed.
    is_loading: bool,
    is_writer_running: bool,
    stop: Option<Stop>,
}

/// How the thread stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// It writes all changes and saves the index first.
    AfterSave,
    /// It stops at once, since the index is no longer needed.
    AtOnce,
}

impl TextIndex {
    /// Opens the index that is saved in a file, or an empty one if that cannot be used.
    /// [`Self::close`] saves the index in that file, as do many changes.
    pub(crate) fn open(saved: Option<SavedIndex>) -> Self {
        let restored = saved.as_ref().and_then(SavedIndex::restore);
        let Restored { index, view, indexed } = restored.unwrap_or_else(Restored::empty);
        let state = State {
            pending: HashMap::new(),
            view: Arc::new(view),
            generation: 0,
            is_loading: false,
            is_writer_running: false,
            stop: None,
        };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        let shared = Shared { state, changed, index, fields: schema::fields(), saved };
        Self { shared: Arc::new(shared), indexed: Mutex::new(indexed) }
    }

    /// Adds the product in `slot`, or replaces it.
    pub(crate) fn put(&self, slot: u32, key: TextKey, terms: TermList) {
        self.change(slot, Some(Arc::new(PendingText { key, terms })));
    }

    /// Removes the product in `slot`.
    pub(crate) fn remove(&self, slot: u32) {
        self.change(slot, None);
    }

    fn change(&self, slot: u32, text: Option<Arc<PendingText>>) {
        let mut state = self.shared.lock();
        state.generation += 1;
        let generation = state.generation;
        state.pending.insert(slot, Pending { generation, text });
        self.start_writer(&mut state);
        drop(state);
        self.shared.changed.notify_all();
    }

    fn start_writer(&self, state: &mut State) {
        if !state.is_writer_running {
            let shared = Arc::clone(&self.shared);
            let builder = thread::Builder::new().name("search-index".to_owned());
            match builder.spawn(move || run_writer(&shared)) {
                Ok(_) => state.is_writer_running = true,
                Err(error) => {
                    tracing::error!(%error, "failed to start the thread of the search index");
                }
            }
        }
    }

    /// Begins the load of a catalog that nobody searches yet. Returns the texts that need not be
    /// put, since the saved index had them.
    pub(crate) fn begin_load(&self) -> IndexedTexts {
        self.shared.lock().is_loading = true;
        std::mem::take(&mut *lock(&self.indexed))
    }

    /// Begins to commit what was put since [`Self::begin_load`]; see [`Self::is_loaded`].
    pub(crate) fn finish_load(&self) {
        self.shared.lock().is_loading = false;
        self.shared.changed.notify_all();
    }

    /// Whether everything is searchable that was put before [`Self::finish_load`].
    pub(crate) fn is_loaded(&self) -> bool {
        let state = self.shared.lock();
        !state.is_writer_running || (state.pending.is_empty() && state.view.is_complete)
    }

    /// Writes all changes, saves the index and stops its thread. Blocks until that is done.
    pub(crate) fn close(&self) {
        let mut state = self.shared.lock();
        state.stop = Some(Stop::AfterSave);
        self.shared.changed.notify_all();
        while state.is_writer_running {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The number of changes that are not in the index yet.
    pub(crate) fn pending_len(&self) -> usize {
        self.shared.lock().pending.len()
    }

    /// Finds the products that match every word of `query`, in no order. If `enough` are found by
    /// better kinds of a match, worse ones may be left out.
    ///
    /// # Errors
    /// The search used up its time.
    pub(crate) fn search(
        &self,
        field: SearchField,
        query: &CompiledQuery,
        enough: Option<usize>,
        budget: &mut TimeBudget,
    ) -> Result<Vec<TextMatch>, OutOfTime> {
        let (pending, view): (Vec<_>, _) = {
            let state = self.shared.lock();
            let entries = state.pending.iter();
            let pending = entries.map(|(slot, entry)| (*slot, entry.text.clone())).collect();
            (pending, Arc::clone(&state.view))
        };
        let mut matches = Vec::new();
        pending::search(&pending, field, query, budget, &mut matches)?;
        let mut changed: Vec<u32> = pending.into_iter().map(|(slot, _)| slot).collect();
        changed.sort_unstable();
        for segment in &view.segments {
            segment.search(field, query, &changed, enough, budget, &mut matches)?;
        }
        Ok(matches)
    }
}

impl Drop for TextIndex {
    fn drop(&mut self) {
        self.shared.lock().stop = Some(Stop::AtOnce);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
