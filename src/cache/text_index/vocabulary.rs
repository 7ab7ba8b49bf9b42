//! The words of a dictionary in one piece of memory, so that words with typos are found without a
//! walk through the whole dictionary.

use std::{
    io,
    ops::{Range, RangeInclusive},
};

use tantivy::termdict::TermDictionary;

use super::automaton::TypoAutomaton;
use crate::domain::catalog::search::MatchKind;

/// The words that begin with a letter and have no digits, the shortest first.
#[derive(Default)]
pub(super) struct Vocabulary {
    text: Vec<u8>,
    words: Vec<Word>,
    /// A scan reads only these, and rules out nearly all words.
    letters: Vec<LetterSet>,
    /// The number of words with fewer characters than the index says.
    shorter: Vec<usize>,
}

/// Where a word is in the text.
#[derive(Clone, Copy)]
struct Word {
    start: u32,
    len: u16,
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

    /// Whether no more letters than `max` are missing in `other`. A typo makes one missing.
    pub(super) const fn is_nearly_in(self, other: Self, max: u8) -> bool {
        let missing = self.0 & !other.0;
        let without_one = missing & missing.wrapping_sub(1);
        without_one == 0 || (max > 1 && without_one & without_one.wrapping_sub(1) == 0)
    }
}

impl Vocabulary {
    pub(super) fn read(dictionary: &TermDictionary) -> io::Result<Self> {
        let mut builder = Builder::default();
        // Marks of terms, and digits, are below the letters.
        let mut terms = dictionary.range().ge("a").into_stream()?;
        while terms.advance() {
            builder.add(terms.key());
        }
        Ok(builder.finish())
    }

    /// The terms that `automaton` matches, with at least one typo. `look_at` is called with the
    /// number of words of each part, and may end the search.
    pub(super) fn with_typos<E>(
        &self,
        automaton: &TypoAutomaton,
        mut look_at: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Vec<(&[u8], MatchKind)>, E> {
        const PART: usize = 16_384;
        let words = self.words_of(automaton.lengths());
        let first = words.start;
        let sets = self.letters.get(words).unwrap_or_default();
        let mut found = Vec::new();
        for (number, part) in sets.chunks(PART).enumerate() {
            look_at(part.len())?;
            let candidates = part.iter().enumerate().filter(|(_, set)| automaton.may_match(**set));
            for (at, _) in candidates {
                let word = self.word(first + number * PART + at);
                found.extend(automaton.match_term(word).map(|kind| (word, kind)));
            }
        }
        Ok(found)
    }

    /// The words of these lengths.
    fn words_of(&self, lengths: RangeInclusive<usize>) -> Range<usize> {
        let shorter = |chars: usize| self.shorter.get(chars).copied().unwrap_or(self.words.len());
        shorter(*lengths.start())..shorter(lengths.end().saturating_add(1))
    }

    fn word(&self, index: usize) -> &[u8] {
        let word = self.words.get(index);
        let range =
            word.map(|word| word.start as usize..word.start as usize + usize::from(word.len));
        range.and_then(|range| self.text.get(range)).unwrap_or_default()
    }
}

/// Collects the words of a vocabulary.
#[derive(Default)]
struct Builder {
    text: Vec<u8>,
    /// With the number of characters.
    words: Vec<(usize, Word, LetterSet)>,
}

impl Builder {
    fn add(&mut self, term: &[u8]) {
        let Ok(word) = str::from_utf8(term) else { return };
        if term.iter().any(u8::is_ascii_digit) {
            return;
        }
        // Beyond four gigabytes of words, the rest has no typos.
        let (Ok(start), Ok(len)) = (u32::try_from(self.text.len()), u16::try_from(term.len()))
        else {
            return;
        };
        self.text.extend(term);
        self.words.push((word.chars().count(), Word { start, len }, LetterSet::of(word)));
    }

    fn finish(mut self) -> Vocabulary {
        self.text.shrink_to_fit();
        self.words.sort_by_key(|(chars, ..)| *chars);
        let longest = self.words.last().map_or(0, |(chars, ..)| *chars);
        let shorter = |len: usize| self.words.partition_point(|(chars, ..)| *chars < len);
        Vocabulary {
            shorter: (0..=longest).map(shorter).collect(),
            words: self.words.iter().map(|(_, word, _)| *word).collect(),
            letters: self.words.iter().map(|(.., letters)| *letters).collect(),
            text: self.text,
        }
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
            let mut builder = Builder::default();
            let mut wanted = Vec::new();
            for term in terms.iter().map(String::as_bytes) {
                builder.add(term);
                wanted.extend(automaton.match_term(term).map(|kind| (term, kind)));
            }
            let vocabulary = builder.finish();
            let found = vocabulary.with_typos(&automaton, |_| Ok::<_, Infallible>(()));
            let mut found = found.unwrap();
            found.sort_unstable();
            prop_assert_eq!(found, wanted);
        }
    }
}
