//! Product search: filters, sort orders, and the text of products and queries.

mod fold;
mod language;
mod query;
mod searched_text;
mod term_list;
mod terms;
mod words;

use std::collections::{BTreeMap, BTreeSet};

pub use self::{
    fold::fold,
    language::{CatalogLanguage, TextRules, UnknownLanguage},
    query::{MatchKind, QueryWord, TextQuery, Typos},
    searched_text::SearchedText,
    term_list::TermList,
    terms::{Place, name_words},
};
use super::product::AttributeValue;
use crate::domain::ids::ProductId;

/// The order of results.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum ProductSort {
    /// Best match first; without a query, by name.
    #[default]
    Relevance,
    /// Lowest price first.
    #[strum(serialize = "price")]
    PriceAscending,
    /// Highest price first.
    #[strum(serialize = "-price")]
    PriceDescending,
    /// By name, as the catalog's language sorts.
    Name,
    /// The newest product first.
    Newest,
}

impl ProductSort {
    /// Every order, as declared.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The search criteria, all of which a product must meet. Of several values for a criterion, one is
/// enough. Bounds are inclusive, in minor units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ProductFilter {
    /// The text of the search.
    pub text: Option<TextQuery>,
    /// The products to choose from. Empty: all.
    pub ids: BTreeSet<ProductId>,
    /// Categories, exactly. Empty: all.
    pub categories: BTreeSet<String>,
    /// Tags, exactly. Empty: all.
    pub tags: BTreeSet<String>,
    /// Attributes by name, with their values as [`attribute_text`] writes them.
    pub attributes: BTreeMap<String, BTreeSet<String>>,
    /// The lowest price of a match.
    pub min_price: Option<i64>,
    /// The highest price of a match.
    pub max_price: Option<i64>,
    /// Whether the product is in stock.
    pub in_stock: Option<bool>,
}

/// The value of an attribute as a filter names it. Equal numbers have one text.
#[must_use]
pub fn attribute_text(value: &AttributeValue) -> String {
    match value {
        AttributeValue::Text(text) => text.clone(),
        AttributeValue::Bool(flag) => flag.to_string(),
        AttributeValue::Number(number) => match number.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "exact: a whole number below 2^53")]
            Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => (float as i64).to_string(),
            _ => number.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_have_one_text() {
        let text = |json: &str| attribute_text(&serde_json::from_str(json).unwrap());
        assert_eq!(
            (text("250"), text("250.0"), text("2.5e2")),
            ("250".into(), "250".into(), "250".into())
        );
        assert_eq!(
            (text("2.5"), text("true"), text("\"a b\"")),
            ("2.5".into(), "true".into(), "a b".into())
        );
    }
}
