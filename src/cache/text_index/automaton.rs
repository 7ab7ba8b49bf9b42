//! Words with typos, as automata.

use std::{ops::RangeInclusive, sync::LazyLock};

use levenshtein_automata::{DFA, Distance, LevenshteinAutomatonBuilder, SINK_STATE};

use super::vocabulary::LetterSet;
use crate::domain::catalog::search::{MatchKind, Typos};

static ONE_TYPO: LazyLock<LevenshteinAutomatonBuilder> =
    LazyLock::new(|| LevenshteinAutomatonBuilder::new(1, true));
static TWO_TYPOS: LazyLock<LevenshteinAutomatonBuilder> =
    LazyLock::new(|| LevenshteinAutomatonBuilder::new(2, true));

/// The longest words for which typos are looked up: an automaton grows with its word.
const MAX_CHARS: usize = 32;

/// Matches a word with typos.
pub(super) struct TypoAutomaton {
    dfa: DFA,
    letters: LetterSet,
    chars: usize,
    max: u8,
    prefix: bool,
}

impl TypoAutomaton {
    /// `None` if the word is too long.
    pub(super) fn new(typos: &Typos) -> Option<Self> {
        let chars = typos.word.chars().count();
        if chars > MAX_CHARS {
            return None;
        }
        let builder: &LevenshteinAutomatonBuilder =
            if typos.max > 1 { &TWO_TYPOS } else { &ONE_TYPO };
        let dfa = match typos.prefix {
            true => builder.build_prefix_dfa(&typos.word),
            false => builder.build_dfa(&typos.word),
        };
        let letters = LetterSet::of(&typos.word);
        Some(Self { dfa, letters, chars, max: typos.max, prefix: typos.prefix })
    }

    /// The numbers of characters that a match may have.
    pub(super) fn lengths(&self) -> RangeInclusive<usize> {
        let max = usize::from(self.max);
        let longest = if self.prefix { usize::MAX } else { self.chars + max };
        self.chars.saturating_sub(max)..=longest
    }

    /// Whether a term with these letters may match.
    pub(super) const fn may_match(&self, term: LetterSet) -> bool {
        self.letters.is_nearly_in(term, self.max)
            && (self.prefix || term.is_nearly_in(self.letters, self.max))
    }

    /// How `term` matches, with at least one typo. Terms with digits and marked terms do not.
    pub(super) fn match_term(&self, term: &[u8]) -> Option<MatchKind> {
        let first = term.first()?;
        if !first.is_ascii_alphanumeric() && first.is_ascii() {
            return None;
        }
        let mut state = self.dfa.initial_state();
        for byte in term {
            state = self.dfa.transition(state, *byte);
            if state == SINK_STATE {
                return None;
            }
        }
        if term.iter().any(u8::is_ascii_digit) {
            return None;
        }
        match self.dfa.distance(state) {
            Distance::Exact(1) => Some(MatchKind::OneTypo),
            Distance::Exact(2) => Some(MatchKind::TwoTypos),
            _ => None,
        }
    }
}
