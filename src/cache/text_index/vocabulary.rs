//! The words of a dictionary in one piece of memory, so that words with typos are found without a
//! walk through the whole dictionary.

use std::io;

use tantivy::termdict::{TermDictionary, TermOrdinal};

use super::automaton::TypoAutomaton;
use crate::domain::catalog::search::MatchKind;

/// The words that begin with a letter and have no digits, sorted.
#[derive(Default)]
pub(super) struct Vocabulary {
    text: Vec<u8>,
    /// A scan reads only these, and rules out nearly all words.
    letters: Vec<LetterSet>,
    words: Vec<Word>,
}

/// A word of the vocabulary. It ends where the next one begins.
#[derive(Clone, Copy)]
struct Word {
    start: u32,
    ordinal: u32,
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
            vocabulary.add(terms.key(), terms.term_ord());
        }
        vocabulary.text.shrink_to_fit();
        vocabulary.letters.shrink_to_fit();
        vocabulary.words.shrink_to_fit();
        Ok(vocabulary)
    }

    fn add(&mut self, term: &[u8], ordinal: TermOrdinal) {
        let Ok(word) = str::from_utf8(term) else { return };
        if term.iter().any(u8::is_ascii_digit) {
            return;
        }
        // More than four gigabytes of words, or four billions of them: the rest has no typos.
        let (Ok(start), Ok(ordinal)) = (u32::try_from(self.text.len()), u32::try_from(ordinal))
        else {
            return;
        };
        self.text.extend(term);
        self.letters.push(LetterSet::of(word));
        self.words.push(Word { start, ordinal });
    }

    /// The terms that `automaton` matches, with at least one typo. `look_at` is called with the
    /// number of words of each part, and may end the search.
    pub(super) fn with_typos<E>(
        &self,
        automaton: &TypoAutomaton,
        mut look_at: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Vec<(TermOrdinal, MatchKind)>, E> {
        const PART: usize = 16_384;
        let mut found = Vec::new();
        for (number, part) in self.letters.chunks(PART).enumerate() {
            look_at(part.len())?;
            let candidates = part.iter().enumerate().filter(|(_, set)| automaton.may_match(**set));
            for (at, _) in candidates {
                let index = number * PART + at;
                let Some(word) = self.words.get(index) else { continue };
                if let Some(kind) = automaton.match_term(self.text_of(index)) {
                    found.push((u64::from(word.ordinal), kind));
                }
            }
        }
        Ok(found)
    }

    fn text_of(&self, index: usize) -> &[u8] {
        let start = |index: usize| self.words.get(index).map(|word| word.start as usize);
        let end = start(index + 1).unwrap_or(self.text.len());
        start(index).and_then(|start| self.text.get(start..end)).unwrap_or_default()
    }
}
