//! Words with typos, as automata over the dictionary of the index.

use std::sync::LazyLock;

use levenshtein_automata::{DFA, Distance, LevenshteinAutomatonBuilder, SINK_STATE};
use tantivy_fst::Automaton;

use crate::domain::catalog::search::{MatchKind, Typos};

static ONE_TYPO: LazyLock<LevenshteinAutomatonBuilder> =
    LazyLock::new(|| LevenshteinAutomatonBuilder::new(1, true));
static TWO_TYPOS: LazyLock<LevenshteinAutomatonBuilder> =
    LazyLock::new(|| LevenshteinAutomatonBuilder::new(2, true));

/// The longest words for which typos are looked up: an automaton grows with its word.
const MAX_CHARS: usize = 32;

/// Matches a word with typos.
pub(super) struct TypoAutomaton(DFA);

impl TypoAutomaton {
    /// `None` if the word is too long.
    pub(super) fn new(typos: &Typos) -> Option<Self> {
        if typos.word.chars().count() > MAX_CHARS {
            return None;
        }
        let builder: &LevenshteinAutomatonBuilder =
            if typos.max > 1 { &TWO_TYPOS } else { &ONE_TYPO };
        Some(Self(match typos.prefix {
            true => builder.build_prefix_dfa(&typos.word),
            false => builder.build_dfa(&typos.word),
        }))
    }

    /// How `term` matches, with at least one typo. Terms with digits and marked terms do not.
    pub(super) fn match_term(&self, term: &[u8]) -> Option<MatchKind> {
        let first = term.first()?;
        if !first.is_ascii_alphanumeric() && first.is_ascii() {
            return None;
        }
        if term.iter().any(u8::is_ascii_digit) {
            return None;
        }
        match self.0.eval(term) {
            Distance::Exact(1) => Some(MatchKind::OneTypo),
            Distance::Exact(2) => Some(MatchKind::TwoTypos),
            _ => None,
        }
    }
}

impl Automaton for &TypoAutomaton {
    type State = u32;

    fn start(&self) -> u32 {
        self.0.initial_state()
    }

    fn is_match(&self, state: &u32) -> bool {
        matches!(self.0.distance(*state), Distance::Exact(_))
    }

    fn can_match(&self, state: &u32) -> bool {
        *state != SINK_STATE
    }

    fn accept(&self, state: &u32, byte: u8) -> u32 {
        self.0.transition(*state, byte)
    }
}
