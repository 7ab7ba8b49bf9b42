//! The terms of a segment that match a word of a query.

use std::{cmp::Reverse, io, sync::Arc};

use tantivy::{InvertedIndexReader, SegmentReader, postings::TermInfo, schema::Field};

use super::{
    compiled_query::CompiledWord,
    time_budget::{OutOfTime, TimeBudget},
    vocabulary::Vocabulary,
};
use crate::domain::catalog::search::MatchKind;

/// The most terms that are looked at for a prefix.
const MAX_PREFIX_TERMS: usize = 4000;
/// The most terms that a prefix, or a word with typos, stands for: the most common ones.
pub(super) const MAX_TERMS: usize = 400;

/// A field of a segment.
#[derive(Clone)]
pub(super) struct FieldView {
    pub(super) index: Arc<InvertedIndexReader>,
    vocabulary: Arc<Vocabulary>,
}

/// A term that matches a word.
pub(super) struct Expansion {
    pub(super) info: TermInfo,
    pub(super) kind: MatchKind,
}

impl FieldView {
    /// Opens a field, with the vocabulary that is `known` of it.
    pub(super) fn open(
        reader: &SegmentReader,
        field: Field,
        known: Option<&Self>,
    ) -> tantivy::Result<Self> {
        let index = reader.inverted_index(field)?;
        let vocabulary = match known {
            Some(known) => Arc::clone(&known.vocabulary),
            None => Arc::new(Vocabulary::read(index.terms())?),
        };
        Ok(Self { index, vocabulary })
    }

    /// The terms that match a word, the best kind of match first.
    pub(super) fn expand(
        &self,
        query: &CompiledWord,
        budget: &mut TimeBudget,
    ) -> Result<Vec<Expansion>, OutOfTime> {
        let dictionary = self.index.terms();
        let mut found = Vec::new();
        for (term, kind) in &query.word.terms {
            if let Ok(Some(info)) = dictionary.get(term) {
                found.push(Expansion { info, kind: *kind });
            }
        }
        for (prefix, kind) in &query.word.prefixes {
            let mut begun = self.with_prefix(prefix, budget)?;
            keep_most_common(&mut begun, |info| info.doc_freq);
            found.extend(begun.into_iter().map(|info| Expansion { info, kind: *kind }));
        }
        if let Some(automaton) = &query.typos {
            let words = self.vocabulary.with_typos(automaton, |words| budget.use_steps(words))?;
            let expansion = |(word, kind): (&[u8], _)| {
                Some(Expansion { info: dictionary.get(word).ok().flatten()?, kind })
            };
            let mut mistyped: Vec<Expansion> = words.into_iter().filter_map(expansion).collect();
            keep_most_common(&mut mistyped, |found| found.info.doc_freq);
            found.append(&mut mistyped);
        }
        found.sort_by_key(|term| term.kind);
        Ok(found)
    }

    fn with_prefix(
        &self,
        prefix: &str,
        budget: &mut TimeBudget,
    ) -> Result<Vec<TermInfo>, OutOfTime> {
        let stream: io::Result<_> = self.index.terms().range().ge(prefix).into_stream();
        let Ok(mut terms) = stream else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        while found.len() < MAX_PREFIX_TERMS && terms.advance() {
            if !terms.key().starts_with(prefix.as_bytes()) {
                break;
            }
            budget.use_steps(32)?;
            found.push(terms.value().clone());
        }
        Ok(found)
    }
}

fn keep_most_common<T>(terms: &mut Vec<T>, frequency: impl Fn(&T) -> u32) {
    if terms.len() > MAX_TERMS {
        terms.select_nth_unstable_by_key(MAX_TERMS, |term| Reverse(frequency(term)));
        terms.truncate(MAX_TERMS);
    }
}
