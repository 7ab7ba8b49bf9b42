//! The terms under which a product is found.

use std::collections::HashMap;

use super::{
    fold::fold,
    language::TextRules,
    words::{Token, Unit, split_units},
};
use crate::domain::catalog::product::{AttributeValue, Product};

/// Marks a stem that differs from its word.
pub(super) const STEM_MARK: char = '%';
/// Marks the first letters of a word.
pub(super) const PREFIX_MARK: char = '&';
/// Marks the first word of a name.
pub(super) const FIRST_MARK: char = '+';
/// Marks a whole SKU.
pub(super) const SKU_MARK: char = '#';

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

/// The terms of a product.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProductTerms {
    /// Each term with the most important place where it occurs.
    pub text: HashMap<String, Place>,
    /// The terms of the name, for suggestions.
    pub name: HashMap<String, Place>,
    /// The number of words in the name, up to 255.
    pub name_words: u8,
}

impl TextRules {
    /// The terms of `product`.
    #[must_use]
    pub fn product_terms(&self, product: &Product) -> ProductTerms {
        let details = &product.details;
        let mut builder = TermsBuilder { rules: self, terms: ProductTerms::default() };
        builder.add_name(&details.name);
        for label in details.category.iter().chain(&details.tags) {
            builder.add_text(label, Place::Labels);
        }
        if let Some(sku) = &details.sku {
            builder.add_text(sku, Place::Labels);
            builder.add_term(sku_term(&fold(sku)), Place::Labels);
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
        builder.terms
    }
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

struct TermsBuilder<'a> {
    rules: &'a TextRules,
    terms: ProductTerms,
}

impl TermsBuilder<'_> {
    fn add_term(&mut self, term: String, place: Place) {
        let known = self.terms.text.entry(term).or_insert(place);
        *known = place.max(*known);
    }

    fn add_text(&mut self, text: &str, place: Place) {
        for unit in split_units(&fold(text)) {
            self.add_unit(&unit, place);
        }
    }

    fn add_name(&mut self, name: &str) {
        let units = split_units(&fold(name));
        let words: usize = units.iter().map(|unit| unit.tokens.len()).sum();
        self.terms.name_words = u8::try_from(words).unwrap_or(u8::MAX);
        for (position, unit) in units.iter().enumerate() {
            let place = if position == 0 { Place::NameStart } else { Place::Name };
            self.add_unit(unit, place);
            self.add_name_unit(unit);
        }
        self.add_first_word(units.first());
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

    fn add_unit(&mut self, unit: &Unit, place: Place) {
        for token in &unit.tokens {
            match token {
                Token::Word(word) => self.add_word(word, place),
                Token::Run(run) => {
                    run.iter().for_each(|c| self.add_term(c.to_string(), place));
                    run_terms(run).into_iter().for_each(|term| self.add_term(term, place));
                }
            }
        }
        for word in unit.elided.iter().chain(&unit.joined()) {
            self.add_word(word, place);
        }
    }

    fn add_word(&mut self, word: &str, place: Place) {
        if let Some(stem) = self.rules.stem(word).filter(|stem| stem != word) {
            self.add_term(format!("{STEM_MARK}{stem}"), place);
        }
        if place >= Place::Labels {
            for prefix in short_prefixes(word) {
                self.add_term(format!("{PREFIX_MARK}{prefix}"), place);
            }
        }
        self.add_term(word.to_owned(), place);
    }

    fn add_name_term(&mut self, term: String) {
        self.terms.name.insert(term, Place::Name);
    }

    fn add_name_unit(&mut self, unit: &Unit) {
        for token in &unit.tokens {
            match token {
                Token::Word(word) => self.add_name_word(word),
                Token::Run(run) => {
                    run.iter().for_each(|c| self.add_name_term(c.to_string()));
                    run_terms(run).into_iter().for_each(|term| self.add_name_term(term));
                }
            }
        }
        for word in unit.elided.iter().chain(&unit.joined()) {
            self.add_name_word(word);
        }
    }

    fn add_name_word(&mut self, word: &str) {
        for prefix in short_prefixes(word) {
            self.add_name_term(format!("{PREFIX_MARK}{prefix}"));
        }
        self.add_name_term(word.to_owned());
    }

    fn add_first_word(&mut self, unit: Option<&Unit>) {
        let Some(unit) = unit else { return };
        let first = match unit.tokens.first() {
            Some(Token::Word(word)) => unit.joined().into_iter().chain([word.clone()]).collect(),
            _ => Vec::new(),
        };
        for word in first {
            for prefix in short_prefixes(&word) {
                self.add_name_term(format!("{FIRST_MARK}{PREFIX_MARK}{prefix}"));
            }
            self.add_name_term(format!("{FIRST_MARK}{word}"));
        }
    }
}

/// The first letter of a word, the first two, and so on.
fn short_prefixes(word: &str) -> impl Iterator<Item = &str> {
    let ends = word.char_indices().map(|(at, c)| at + c.len_utf8());
    ends.take(MAX_PREFIX_TERM_CHARS).filter_map(|end| word.get(..end))
}
