//! A query, ready to be compared with terms.

use super::automaton::TypoAutomaton;
use crate::domain::catalog::search::{QueryWord, TextQuery};

/// A query, ready to be compared with terms.
pub(crate) struct CompiledQuery {
    pub(super) words: Vec<CompiledWord>,
    pub(super) sku: Option<String>,
}

/// A word of a query. One match is enough.
pub(super) struct CompiledWord {
    pub(super) word: QueryWord,
    pub(super) typos: Option<TypoAutomaton>,
}

impl CompiledQuery {
    /// Compiles `query`, with or without typos.
    pub(crate) fn new(query: &TextQuery, with_typos: bool) -> Self {
        let compile = |word: &QueryWord| CompiledWord {
            typos: word.typos.as_ref().filter(|_| with_typos).and_then(TypoAutomaton::new),
            word: word.clone(),
        };
        Self { words: query.words.iter().map(compile).collect(), sku: query.sku.clone() }
    }
}
