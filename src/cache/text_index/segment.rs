//! Searches one segment of the index.

use std::{cell::RefCell, sync::Arc};

use tantivy::{
    DocId, DocSet, InvertedIndexReader, SegmentReader, TERMINATED,
    index::SegmentId,
    postings::{Postings, TermInfo},
    schema::IndexRecordOption,
    termdict::TermDictionary,
};

use super::{
    SearchField, TextMatch,
    compiled::{
        CompiledQuery, CompiledWord, OutOfTime, SKU_POINTS, TimeBudget, match_points,
        place_of_frequency,
    },
    schema::{Fields, SLOT},
};
use crate::domain::catalog::search::{MatchKind, Place};

/// The most terms of a segment that a prefix stands for.
const MAX_PREFIX_TERMS: usize = 2000;
/// The most terms of a segment that a word with typos stands for.
const MAX_TYPO_TERMS: usize = 500;
/// From this many postings for each candidate, looking up the candidates is faster than reading
/// all.
const SEEK_RATIO: u32 = 16;

/// If one document in so many matches, reading all points is faster than sorting the documents.
const SORT_SHARE: usize = 32;

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
    text: Arc<InvertedIndexReader>,
    name: Arc<InvertedIndexReader>,
}

/// A term of a segment that matches a word.
struct Expansion {
    info: TermInfo,
    kind: MatchKind,
}

impl SegmentView {
    /// Opens a segment, with what `known` views have read of it.
    pub(super) fn open(
        reader: &SegmentReader,
        fields: Fields,
        known: &[Self],
    ) -> tantivy::Result<Self> {
        let slots = match known.iter().find(|view| view.id() == reader.segment_id()) {
            Some(view) => Arc::clone(&view.slots),
            None => read_slots(reader)?,
        };
        Ok(Self {
            slots,
            text: reader.inverted_index(fields.of(SearchField::Text))?,
            name: reader.inverted_index(fields.of(SearchField::Name))?,
            reader: reader.clone(),
        })
    }

    pub(super) fn id(&self) -> SegmentId {
        self.reader.segment_id()
    }

    pub(super) fn field(&self, field: SearchField) -> &InvertedIndexReader {
        match field {
            SearchField::Text => &self.text,
            SearchField::Name => &self.name,
        }
    }

    /// Adds the products that match to `matches`, without those in `changed`, which is sorted.
    pub(super) fn search(
        &self,
        field: SearchField,
        query: &CompiledQuery,
        changed: &[u32],
        budget: &mut TimeBudget,
        matches: &mut Vec<TextMatch>,
    ) -> Result<(), OutOfTime> {
        let found = SCRATCH.with_borrow_mut(|scratch| {
            let index = self.field(field);
            Matcher { index, field, budget, scratch, max_doc: self.reader.max_doc() }.run(query)
        })?;
        let alive = self.reader.alive_bitset();
        for (doc, score) in found {
            let is_alive = alive.is_none_or(|alive| alive.is_alive(doc));
            if let Some(&slot) = self.slots.get(doc as usize).filter(|_| is_alive)
                && changed.binary_search(&slot).is_err()
            {
                matches.push(TextMatch { slot, score });
            }
        }
        Ok(())
    }
}

fn read_slots(reader: &SegmentReader) -> tantivy::Result<Arc<[u32]>> {
    let column = reader.fast_fields().column_first_or_default::<u64>(SLOT)?;
    let slot = |doc| u32::try_from(column.get_val(doc)).unwrap_or(u32::MAX);
    Ok((0..reader.max_doc()).map(slot).collect())
}

/// Memory that searches of a thread use again.
#[derive(Default)]
struct Scratch {
    /// The points of each document for the current word.
    points: Vec<u16>,
    /// The documents with points.
    touched: Vec<DocId>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

struct Matcher<'a> {
    index: &'a InvertedIndexReader,
    field: SearchField,
    budget: &'a mut TimeBudget,
    scratch: &'a mut Scratch,
    max_doc: DocId,
}

impl Matcher<'_> {
    /// The documents that match, with their scores.
    fn run(mut self, query: &CompiledQuery) -> Result<Vec<(DocId, u32)>, OutOfTime> {
        self.scratch.touched.clear();
        self.scratch.points.clear();
        self.scratch.points.resize(self.max_doc as usize, 0);
        let mut found = self.match_words(&query.words)?;
        let sku = query.sku.as_ref().and_then(|sku| self.index.terms().get(sku).ok().flatten());
        if let Some(info) = sku {
            let expansion = Expansion { info, kind: MatchKind::Sku };
            self.read_all(&expansion)?;
            for doc in std::mem::take(&mut self.scratch.touched) {
                match found.binary_search_by_key(&doc, |(doc, _)| *doc) {
                    Ok(at) => found.get_mut(at).into_iter().for_each(|hit| hit.1 += SKU_POINTS),
                    Err(at) => found.insert(at, (doc, SKU_POINTS)),
                }
            }
        }
        Ok(found)
    }

    fn match_words(&mut self, words: &[CompiledWord]) -> Result<Vec<(DocId, u32)>, OutOfTime> {
        let mut expanded: Vec<Vec<Expansion>> = Vec::with_capacity(words.len());
        for word in words {
            let terms = expand(self.index.terms(), word, self.budget)?;
            if terms.is_empty() {
                return Ok(Vec::new());
            }
            expanded.push(terms);
        }
        // The rarest word first leaves the fewest candidates for the others.
        expanded.sort_by_key(|terms| {
            terms.iter().map(|term| u64::from(term.info.doc_freq)).sum::<u64>()
        });
        let mut found: Option<Vec<(DocId, u32)>> = None;
        for terms in &expanded {
            found = Some(match found {
                None => self.first_word(terms)?,
                Some(candidates) => self.next_word(terms, candidates)?,
            });
        }
        Ok(found.unwrap_or_default())
    }

    fn first_word(&mut self, terms: &[Expansion]) -> Result<Vec<(DocId, u32)>, OutOfTime> {
        for term in terms {
            self.read_all(term)?;
        }
        let mut touched = std::mem::take(&mut self.scratch.touched);
        let found = if touched.len() * SORT_SHARE > self.scratch.points.len() {
            let points = self.scratch.points.iter_mut().map(std::mem::take);
            (0..).zip(points.map(u32::from)).filter(|(_, points)| *points > 0).collect()
        } else {
            touched.sort_unstable();
            touched.iter().map(|doc| (*doc, u32::from(self.take_points(*doc)))).collect()
        };
        touched.clear();
        self.scratch.touched = touched;
        Ok(found)
    }

    fn next_word(
        &mut self,
        terms: &[Expansion],
        mut candidates: Vec<(DocId, u32)>,
    ) -> Result<Vec<(DocId, u32)>, OutOfTime> {
        let count = u32::try_from(candidates.len()).unwrap_or(u32::MAX);
        for term in terms {
            match term.info.doc_freq / SEEK_RATIO > count {
                true => self.look_up(term, &candidates)?,
                false => self.read_all(term)?,
            }
        }
        candidates.retain_mut(|(doc, score)| {
            let points = self.scratch.points.get(*doc as usize).copied().unwrap_or(0);
            *score += u32::from(points);
            points > 0
        });
        for doc in std::mem::take(&mut self.scratch.touched) {
            self.take_points(doc);
        }
        Ok(candidates)
    }

    /// The points of a document, which are reset.
    fn take_points(&mut self, doc: DocId) -> u16 {
        self.scratch.points.get_mut(doc as usize).map_or(0, std::mem::take)
    }

    /// Gives points to every document with the term.
    fn read_all(&mut self, term: &Expansion) -> Result<(), OutOfTime> {
        let Ok(mut postings) =
            self.index.read_block_postings_from_terminfo(&term.info, self.record_option())
        else {
            return Ok(());
        };
        let table = PointsTable::new(term.kind, self.field);
        loop {
            let docs = postings.docs();
            if docs.is_empty() {
                return Ok(());
            }
            self.budget.use_steps(docs.len())?;
            for (at, doc) in docs.iter().enumerate() {
                let points = table.points(postings.freq(at));
                self.scratch.give(*doc, points);
            }
            postings.advance();
        }
    }

    /// Gives points to the candidates with the term.
    fn look_up(&mut self, term: &Expansion, candidates: &[(DocId, u32)]) -> Result<(), OutOfTime> {
        let Ok(mut postings) =
            self.index.read_postings_from_terminfo(&term.info, self.record_option())
        else {
            return Ok(());
        };
        let table = PointsTable::new(term.kind, self.field);
        self.budget.use_steps(candidates.len() * 8)?;
        for (doc, _) in candidates {
            if postings.doc() == TERMINATED {
                break;
            }
            if postings.doc() <= *doc && postings.seek(*doc) == *doc {
                let points = table.points(postings.term_freq());
                self.scratch.give(*doc, points);
            }
        }
        Ok(())
    }

    const fn record_option(&self) -> IndexRecordOption {
        match self.field {
            SearchField::Text => IndexRecordOption::WithFreqs,
            SearchField::Name => IndexRecordOption::Basic,
        }
    }
}

impl Scratch {
    fn give(&mut self, doc: DocId, points: u16) {
        if let Some(known) = self.points.get_mut(doc as usize) {
            if *known == 0 {
                self.touched.push(doc);
            }
            *known = points.max(*known);
        }
    }
}

/// The points of a kind of match by frequency.
struct PointsTable([u16; 5]);

impl PointsTable {
    fn new(kind: MatchKind, field: SearchField) -> Self {
        Self([1, 2, 3, 4, 5].map(|frequency| {
            let place = match field {
                SearchField::Text => place_of_frequency(frequency),
                SearchField::Name => Place::Name,
            };
            match_points(kind, place)
        }))
    }

    fn points(&self, frequency: u32) -> u16 {
        let [description, attributes, labels, name, name_start] = self.0;
        match frequency {
            0 | 1 => description,
            2 => attributes,
            3 => labels,
            4 => name,
            _ => name_start,
        }
    }
}

/// The terms of the dictionary that match a word.
fn expand(
    dictionary: &TermDictionary,
    query: &CompiledWord,
    budget: &mut TimeBudget,
) -> Result<Vec<Expansion>, OutOfTime> {
    let mut found = Vec::new();
    for (term, kind) in &query.word.terms {
        if let Ok(Some(info)) = dictionary.get(term) {
            found.push(Expansion { info, kind: *kind });
        }
    }
    for (prefix, kind) in &query.word.prefixes {
        let Ok(mut terms) = dictionary.range().ge(prefix).into_stream() else { continue };
        let mut count = 0;
        while count < MAX_PREFIX_TERMS && terms.advance() {
            if !terms.key().starts_with(prefix.as_bytes()) {
                break;
            }
            budget.use_steps(32)?;
            found.push(Expansion { info: terms.value().clone(), kind: *kind });
            count += 1;
        }
    }
    if let Some(automaton) = &query.typos {
        let before = found.len();
        // All marks of terms are below the digits.
        let stream = dictionary.search(automaton).ge("0").into_stream();
        let Ok(mut terms) = stream else { return Ok(found) };
        while found.len() - before < MAX_TYPO_TERMS && terms.advance() {
            budget.use_steps(256)?;
            if let Some(kind) = automaton.match_term(terms.key()) {
                found.push(Expansion { info: terms.value().clone(), kind });
            }
        }
    }
    Ok(found)
}
