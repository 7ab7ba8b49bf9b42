//! Matches a query with the documents of a segment.

use tantivy::{DocId, DocSet, TERMINATED, postings::Postings, schema::IndexRecordOption};

use super::{
    SearchField,
    compiled_query::{CompiledQuery, CompiledWord},
    expand::{Expansion, FieldView},
    schema::place_of_frequency,
    scoring::{SKU_POINTS, match_points},
    time_budget::{OutOfTime, TimeBudget},
};
use crate::domain::catalog::search::MatchKind;

/// From this many postings for each candidate, looking up the candidates is faster than reading
/// all.
const SEEK_RATIO: u32 = 16;

/// If more than one document in `CLEAR_SHARE` has points, clearing all is faster than one by one.
const CLEAR_SHARE: usize = 32;

/// Memory that searches of a thread use again.
#[derive(Default)]
pub(super) struct Scratch {
    /// The points of each document for the current word. They are zero between words.
    points: Vec<u16>,
    /// The documents with points, as bits: those of many terms are then in order at once.
    marked: Vec<u64>,
}

impl Scratch {
    /// Makes room for the documents of a segment.
    pub(super) fn prepare(&mut self, max_doc: DocId) {
        if self.points.len() < max_doc as usize {
            self.points.resize(max_doc as usize, 0);
            self.marked.resize(self.points.len().div_ceil(64), 0);
        }
    }

    /// Cleans up after a word, or a search that was ended.
    pub(super) fn clear(&mut self) {
        if self.count() * CLEAR_SHARE > self.points.len() {
            self.points.fill(0);
            self.marked.fill(0);
        } else {
            self.take_all(|_, _| {});
        }
    }

    /// The number of documents with points.
    fn count(&self) -> usize {
        self.marked.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    /// Gives points to a document, unless it has more.
    fn give(&mut self, doc: DocId, points: u16) {
        let place = doc as usize;
        if let (Some(known), Some(bits)) =
            (self.points.get_mut(place), self.marked.get_mut(place / 64))
        {
            // Without a branch, which would often be predicted wrongly.
            *known = points.max(*known);
            *bits |= u64::from(points > 0) << (place % 64);
        }
    }

    /// The points of a document.
    fn of(&self, doc: DocId) -> u16 {
        self.points.get(doc as usize).copied().unwrap_or(0)
    }

    /// Takes the points of all documents, in the order of their numbers.
    fn take_all(&mut self, mut use_points: impl FnMut(DocId, u16)) {
        for (first, bits) in (0..).step_by(64).zip(&mut self.marked) {
            let mut rest = std::mem::take(bits);
            while rest != 0 {
                let doc = first + rest.trailing_zeros();
                rest &= rest - 1;
                if let Some(points) = self.points.get_mut(doc as usize) {
                    use_points(doc, std::mem::take(points));
                }
            }
        }
    }
}

/// Matches a query with the documents of a segment.
pub(super) struct Matcher<'a> {
    pub(super) view: &'a FieldView,
    pub(super) field: SearchField,
    pub(super) max_doc: DocId,
    /// From this many matches, worse kinds of a match need not be found for a query of one word.
    pub(super) enough: usize,
    pub(super) budget: &'a mut TimeBudget,
    pub(super) scratch: &'a mut Scratch,
}

impl Matcher<'_> {
    /// The documents that match, with their scores, in the order of their numbers.
    pub(super) fn run(mut self, query: &CompiledQuery) -> Result<Vec<(DocId, u32)>, OutOfTime> {
        let mut found = self.match_words(&query.words)?;
        let sku = query.sku.as_ref();
        let sku = sku.and_then(|sku| self.view.index.terms().get(sku).ok().flatten());
        if let Some(info) = sku {
            self.read_all(&Expansion { info, kind: MatchKind::Sku })?;
            self.scratch.take_all(|doc, _| {
                match found.binary_search_by_key(&doc, |(doc, _)| *doc) {
                    Ok(at) => found.get_mut(at).into_iter().for_each(|hit| hit.1 += SKU_POINTS),
                    Err(at) => found.insert(at, (doc, SKU_POINTS)),
                }
            });
        }
        Ok(found)
    }

    fn match_words(&mut self, words: &[CompiledWord]) -> Result<Vec<(DocId, u32)>, OutOfTime> {
        let mut expanded: Vec<Vec<Expansion>> = Vec::with_capacity(words.len());
        for word in words {
            let terms = self.view.expand(word, self.budget)?;
            if terms.is_empty() {
                return Ok(Vec::new());
            }
            expanded.push(terms);
        }
        // The rarest word first leaves the fewest candidates for the others.
        expanded.sort_by_key(|terms| {
            terms.iter().map(|term| u64::from(term.info.doc_freq)).sum::<u64>()
        });
        let enough = if words.len() == 1 { self.enough } else { usize::MAX };
        let mut found: Option<Vec<(DocId, u32)>> = None;
        for terms in &expanded {
            found = Some(match found {
                None => self.first_word(terms, enough)?,
                Some(candidates) => self.next_word(terms, candidates)?,
            });
        }
        Ok(found.unwrap_or_default())
    }

    fn first_word(
        &mut self,
        terms: &[Expansion],
        enough: usize,
    ) -> Result<Vec<(DocId, u32)>, OutOfTime> {
        for same_kind in terms.chunk_by(|a, b| a.kind == b.kind) {
            for term in same_kind {
                self.read_all(term)?;
            }
            if enough < self.max_doc as usize && self.scratch.count() >= enough {
                break;
            }
        }
        let mut found = Vec::with_capacity(self.scratch.count());
        self.scratch.take_all(|doc, points| found.push((doc, u32::from(points))));
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
            let points = self.scratch.of(*doc);
            *score += u32::from(points);
            points > 0
        });
        self.scratch.clear();
        Ok(candidates)
    }

    /// Gives points to every document with the term.
    fn read_all(&mut self, term: &Expansion) -> Result<(), OutOfTime> {
        let index = &self.view.index;
        let Ok(mut postings) =
            index.read_block_postings_from_terminfo(&term.info, IndexRecordOption::WithFreqs)
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
            for (doc, frequency) in docs.iter().zip(postings.freqs()) {
                self.scratch.give(*doc, table.points(*frequency));
            }
            postings.advance();
        }
    }

    /// Gives points to the candidates with the term.
    fn look_up(&mut self, term: &Expansion, candidates: &[(DocId, u32)]) -> Result<(), OutOfTime> {
        let index = &self.view.index;
        let Ok(mut postings) =
            index.read_postings_from_terminfo(&term.info, IndexRecordOption::WithFreqs)
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
}

/// The points of a kind of match by frequency, from 0 to 7.
struct PointsTable([u16; 8]);

impl PointsTable {
    fn new(kind: MatchKind, field: SearchField) -> Self {
        let points = |frequency| match_points(field, kind, place_of_frequency(frequency));
        Self([0, 1, 2, 3, 4, 5, 6, 7].map(points))
    }

    /// The points for a frequency, which is at most 5.
    fn points(&self, frequency: u32) -> u16 {
        let Self(points) = self;
        points.get(frequency as usize & 7).copied().unwrap_or(0)
    }
}
