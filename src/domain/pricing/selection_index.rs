//! Finds the promotions that are on a line without asking every promotion.

use std::collections::HashMap;

use super::{BasketLine, Selection};
use crate::domain::ids::ProductId;

/// Selections, identified by their positions in a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SelectionIndex {
    /// Those that are every product.
    everything: Vec<usize>,
    by_product: HashMap<ProductId, Vec<usize>>,
    by_category: HashMap<String, Vec<usize>>,
    by_tag: HashMap<String, Vec<usize>>,
}

impl SelectionIndex {
    pub(super) fn new<'a>(selections: impl Iterator<Item = &'a Selection>) -> Self {
        let mut index = Self::default();
        for (at, selection) in selections.enumerate() {
            if selection.is_everything() {
                index.everything.push(at);
            }
            for product in &selection.product_ids {
                index.by_product.entry(*product).or_default().push(at);
            }
            for category in &selection.categories {
                index.by_category.entry(category.clone()).or_default().push(at);
            }
            for tag in &selection.tags {
                index.by_tag.entry(tag.clone()).or_default().push(at);
            }
        }
        index
    }

    /// The selections that are every product, in order.
    pub(super) fn everything(&self) -> &[usize] {
        &self.everything
    }

    /// The other selections that a line is in, some of them several times.
    pub(super) fn of_line(&self, line: &BasketLine<'_>) -> impl Iterator<Item = usize> {
        let by_category = line.category.and_then(|category| self.by_category.get(category));
        let by_tag = line.tags.iter().filter_map(|tag| self.by_tag.get(tag));
        let found = self.by_product.get(&line.product_id).into_iter().chain(by_category);
        found.chain(by_tag).flatten().copied()
    }
}
