//! The text by which a product is found.

use std::collections::BTreeMap;

use crate::domain::catalog::product::{AttributeValue, ProductDetails};

/// The text of a product that a search looks at. Products with equal texts have equal
/// [terms](super::TextRules::product_terms).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SearchedText<'a> {
    name: &'a str,
    description: &'a str,
    category: Option<&'a str>,
    tags: &'a [String],
    sku: Option<&'a str>,
    attributes: &'a BTreeMap<String, AttributeValue>,
}

impl<'a> SearchedText<'a> {
    /// The text of a product with these details.
    #[must_use]
    pub fn of(details: &'a ProductDetails) -> Self {
        Self {
            name: &details.name,
            description: &details.description,
            category: details.category.as_deref(),
            tags: &details.tags,
            sku: details.sku.as_deref(),
            attributes: &details.attributes,
        }
    }
}
