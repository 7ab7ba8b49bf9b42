//! The terms under which a product is found.

use super::{
    fold::fold,
    language::TextRules,
    term_list::TermList,
    words::{Token, Unit, split_units},
};
use crate::domain::catalog::product::{AttributeValue, Product};

/// Marks a stem that differs from its word.
pub(super) const STEM_MARK: &str = "%";
/// Marks the first letters of a word.
pub(super) const PREFIX_MARK: &str = "&";
/// Marks the first word of a name.
pub(super) const FIRST_MARK: &str = "+";
/// Marks a whole SKU.
pub(super) const SKU_MARK: &str = "#";

/// The longest prefixes that are terms of their own: longer ones are found among the words.
pub(super) const MAX_PREFIX_TERM_CHARS: usize = 3;

/// Where a term occurs in a product, from the least to the most important place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The description.
    Description = 1,
    /// The values of attributes.
    Attributes = 2,
    /// The category, the tags, and the parts of the SKU.
    Labels = 3,
    /// The name.
    Name = 4,
    /// The first word of the name.
    NameStart = 5,
}

impl TextRules {
    /// The terms of `product`.
    #[must_use]
    pub fn product_terms(&self, product: &Product) -> TermList {
        let details = &product.details;
        let mut builder = TermsBuilder::default();
        let bytes = details.name.len() + details.description.len();
        builder.words.reserve(bytes / BYTES_OF_TEXT_WORD, bytes);
        builder.add_name(&details.name);
        for label in details.category.iter().chain(&details.tags) {
            builder.add_text(label, Place::Labels);
        }
        if let Some(sku) = &details.sku {
            builder.add_sku(&fold(sku));
        }
        for (name, value) in &details.attributes {
            match value {
                AttributeValue::Text(text) => builder.add_text(text, Place::Attributes),
                AttributeValue::Number(number) => {
                    builder.add_text(&number.to_string(), Place::Attributes);
                }
                AttributeValue::Bool(true) => builder.add_text(name, Place::Attributes),
                AttributeValue::Bool(false) => {}
            }
        }
        builder.add_text(&details.description, Place::Description);
        builder.finish(self)
    }
}

/// The number of words in the name of a product, up to 255.
#[must_use]
pub fn name_words(name: &str) -> u8 {
    let words = split_units(&fold(name)).iter().map(|unit| unit.tokens.len()).sum::<usize>();
    u8::try_from(words).unwrap_or(u8::MAX)
}

/// The term of a whole SKU, folded. Terms have no spaces.
pub(super) fn sku_term(folded: &str) -> String {
    let sku = folded.split_whitespace().collect::<Vec<_>>().join("\u{1}");
    format!("{SKU_MARK}{sku}")
}

/// The terms of a run without spaces: one character, or each two neighbors.
pub(super) fn run_terms(run: &[char]) -> Vec<String> {
    match run {
        [single] => vec![single.to_string()],
        _ => run.windows(2).map(|pair| pair.iter().collect()).collect(),
    }
}

/// The usual bytes of a word in a text, with the space after it. This and the next two say how much
/// room to make for terms before they are added.
const BYTES_OF_TEXT_WORD: usize = 6;
/// The usual number of terms of a distinct word.
const TERMS_OF_WORD: usize = 4;
/// The usual bytes of those terms.
const BYTES_OF_WORD: usize = 20;

#[derive(Default)]
struct TermsBuilder {
    /// The words, to which stems and prefixes are added at the end, once for each word.
    words: TermList,
    /// Further terms.
    terms: TermList,
}

impl TermsBuilder {
    fn add_text(&mut self, text: &str, place: Place) {
        for unit in split_units(&fold(text)) {
            self.add_unit(&unit, place);
        }
    }

    /// A SKU is found as it is, by its parts, and without its hyphens.
    fn add_sku(&mut self, folded: &str) {
        for unit in split_units(folded) {
            self.add_tokens(&unit, Place::Labels);
            if let Some(joined) = unit.joined() {
                self.terms.push(&[SKU_MARK, &joined], Place::Labels);
            }
        }
        self.terms.push(&[&sku_term(folded)], Place::Labels);
    }

    fn add_unit(&mut self, unit: &Unit, place: Place) {
        self.add_tokens(unit, place);
        for word in unit.elided.iter().chain(&unit.joined()) {
            self.add_word(word, place);
        }
    }

    fn add_tokens(&mut self, unit: &Unit, place: Place) {
        for token in &unit.tokens {
            match token {
                Token::Word(word) => self.add_word(word, place),
                Token::Run(run) => self.add_run(run, place),
            }
        }
    }

    fn add_word(&mut self, word: &str, place: Place) {
        self.words.push(&[word], place);
    }

    fn add_run(&mut self, run: &[char], place: Place) {
        let characters = run.iter().map(char::to_string);
        for term in characters.chain(run_terms(run)) {
            self.terms.push(&[&term], place);
        }
    }

    fn add_name(&mut self, name: &str) {
        let units = split_units(&fold(name));
        for (position, unit) in units.iter().enumerate() {
            let place = if position == 0 { Place::NameStart } else { Place::Name };
            self.add_unit(unit, place);
        }
        if let Some(first) = units.first() {
            self.add_first_word(first);
        }
        // `t shirt` is found by `tshirt`.
        for pair in units.windows(2) {
            if let [Unit { tokens: left, .. }, Unit { tokens: right, .. }] = pair
                && let ([Token::Word(left)], [Token::Word(right)]) = (&left[..], &right[..])
                && left.chars().count().min(right.chars().count()) <= 2
            {
                self.add_word(&format!("{left}{right}"), Place::Name);
            }
        }
    }

    fn add_first_word(&mut self, unit: &Unit) {
        let Some(Token::Word(word)) = unit.tokens.first() else { return };
        for word in unit.joined().iter().chain([word]) {
            for prefix in short_prefixes(word) {
                self.terms.push(&[FIRST_MARK, PREFIX_MARK, prefix], Place::Name);
            }
            self.terms.push(&[FIRST_MARK, word], Place::Name);
        }
    }

    fn finish(self, rules: &TextRules) -> TermList {
        let words = self.words.finish();
        let mut terms = self.terms;
        terms.reserve(words.len() * TERMS_OF_WORD, words.len() * BYTES_OF_WORD);
        for (word, place) in words.iter() {
            if let Some(stem) = rules.stem(word).filter(|stem| stem != word) {
                terms.push(&[STEM_MARK, &stem], place);
            }
            if place >= Place::Labels {
                for prefix in short_prefixes(word) {
                    terms.push(&[PREFIX_MARK, prefix], place);
                }
            }
            terms.push(&[word], place);
        }
        terms.finish()
    }
}

/// The first letter of a word, the first two, and so on.
fn short_prefixes(word: &str) -> impl Iterator<Item = &str> {
    let ends = word.char_indices().map(|(at, c)| at + c.len_utf8());
    ends.take(MAX_PREFIX_TERM_CHARS).filter_map(|end| word.get(..end))
}
