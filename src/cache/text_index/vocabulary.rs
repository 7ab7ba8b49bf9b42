//! The words of a dictionary in one piece of memory, so that words with typos are found without a
//! walk through the whole dictionary.

use std::io;

use tantivy::termdict::TermDictionary;

use super::automaton::TypoAutomaton;
use crate::domain::catalog::search::MatchKind;

/// The words that begin with a letter and have no digits, sorted.
#[derive(Default)]
pub(super) struct Vocabulary {
    text: Vec<u8>,
    /// Where each word begins. It ends where the next one begins.
    starts: Vec<u32>,
    /// A scan reads only these, and rules out nearly all words.
    letters: Vec<LetterSet>,
}

/// The letters of a word, as bits. Letters beyond `a` to `z` share bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LetterSet(u32);

impl LetterSet {
    pub(super) fn of(word: &str) -> Self {
        let bit = |c: char| match c {
            'a'..='z' => c as u32 - 'a' as u32,
            _ => 26 + c as u32 % 6,
        };
        Self(word.chars().fold(0, |set, c| set | 1 << bit(c)))
    }

    /// The number of letters that are not in `other`. A typo adds no more than one.
    pub(super) const fn missing_in(self, other: Self) -> u32 {
        (self.0 & !other.0).count_ones()
    }
}

impl Vocabulary {
    pub(super) fn read(dictionary: &TermDictionary) -> io::Result<Self> {
        let mut vocabulary = Self::default();
        // Marks of terms, and digits, are below the letters.
        let mut terms = dictionary.range().ge("a").into_stream()?;
        while terms.advance() {
            vocabulary.add(terms.key());
        }
        vocabulary.text.shrink_to_fit();
        vocabulary.letters.shrink_to_fit();
        vocabulary.starts.shrink_to_fit();
        Ok(vocabulary)
    }

    fn add(&mut self, term: &[u8]) {
        let Ok(word) = str::from_utf8(term) else { return };
        if term.iter().any(u8::is_ascii_digit) {
            return;
        }
        // Beyond four gigabytes of words, the rest has no typos.
        let Ok(start) = u32::try_from(self.text.len()) else { return };
        self.text.extend(term);
        self.starts.push(start);
        self.letters.push(LetterSet::of(word));
    }

    /// The terms that `automaton` matches, with at least one typo. `look_at` is called with the
    /// number of words of each part, and may end the search.
    pub(super) fn with_typos<E>(
        &self,
        automaton: &TypoAutomaton,
        mut look_at: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Vec<(&[u8], MatchKind)>, E> {
        const PART: usize = 16_384;
        let mut found = Vec::new();
        for (number, part) in self.letters.chunks(PART).enumerate() {
            look_at(part.len())?;
            let candidates = part.iter().enumerate().filter(|(_, set)| automaton.may_match(**set));
            for (at, _) in candidates {
                let word = self.word(number * PART + at);
                found.extend(automaton.match_term(word).map(|kind| (word, kind)));
            }
        }
        Ok(found)
    }

    fn word(&self, index: usize) -> &[u8] {
        let start = |index: usize| self.starts.get(index).map(|start| *start as usize);
        let end = start(index + 1).unwrap_or(self.text.len());
        start(index).and_then(|start| self.text.get(start..end)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::catalog::search::Typos;

    proptest! {
        /// No word that matches is ruled out by its letters.
        #[test]
        fn every_word_with_typos_is_found(
            terms in prop::collection::btree_set("[abcßé]{1,9}[abcz1]{0,3}", 1..80),
            word in "[abcßé]{4,10}",
            max in 1..=2_u8,
            prefix: bool,
        ) {
            let automaton = TypoAutomaton::new(&Typos { word, max, prefix }).unwrap();
            let mut vocabulary = Vocabulary::default();
            let mut wanted = Vec::new();
            for term in terms.iter().map(String::as_bytes) {
                vocabulary.add(term);
                wanted.extend(automaton.match_term(term).map(|kind| (term, kind)));
            }
            let found = vocabulary.with_typos(&automaton, |_| Ok::<_, Infallible>(()));
            prop_assert_eq!(found.unwrap(), wanted);
        }
    }
}
