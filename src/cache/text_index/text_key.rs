//! Identifies the texts of products.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::domain::catalog::{product::Product, search::SearchedText};

/// Identifies a text of a product: equal keys mean the same product with the same text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TextKey(pub(super) u64);

impl TextKey {
    /// The key of the text that `product` has now.
    pub(crate) fn of(product: &Product) -> Self {
        // If a later version hashes differently, all texts are indexed again.
        let mut hasher = DefaultHasher::new();
        (product.id, SearchedText::of(&product.details)).hash(&mut hasher);
        Self(hasher.finish())
    }
}
