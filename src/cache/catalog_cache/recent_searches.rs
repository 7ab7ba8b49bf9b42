//! The first pages of recent searches and lists. Shoppers often search for the same, and what many
//! search for is often what many products have, so that it takes longest to find.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};

use super::{
    Facets,
    listing::{ListedProduct, ListingGeneration},
};
use crate::domain::catalog::search::{ProductFilter, ProductSort};

/// About how many bytes are kept.
const CAPACITY_BYTES: u64 = 16 * 1024 * 1024;
/// What a result takes beside its facets and products.
const RESULT_BYTES: usize = 2048;
/// What a value of a facet takes, with its rendered form.
const VALUE_BYTES: usize = 128;

/// The most products of a page that is remembered.
pub(super) const MAX_PAGE: usize = 100;

/// What was found.
pub(super) struct SearchResult {
    /// What it is about.
    pub(super) generation: ListingGeneration,
    pub(super) total: u64,
    /// The first matches, one more than a page may have.
    pub(super) first: Vec<ListedProduct>,
    pub(super) facets: Arc<Facets>,
}

/// A filter, and the order of the results.
pub(super) type SearchKey = (ProductFilter, ProductSort);

/// Results by search. The caller checks that a result is current.
pub(super) struct RecentSearches(Cache<SearchKey, Arc<SearchResult>, ResultWeighter>);

#[derive(Clone)]
struct ResultWeighter;

impl Weighter<SearchKey, Arc<SearchResult>> for ResultWeighter {
    fn weight(&self, (filter, _): &SearchKey, result: &Arc<SearchResult>) -> u64 {
        let attributes = filter.attributes.values().flatten();
        let texts = filter.categories.iter().chain(&filter.tags).chain(attributes);
        let texts = texts.map(|text| text.len() + size_of::<String>()).sum::<usize>();
        let facets = &result.facets;
        let attributes = facets.attributes.values().map(Vec::len).sum::<usize>();
        let values = facets.categories.len() + facets.tags.len() + attributes;
        let first = result.first.len() * size_of::<ListedProduct>();
        (RESULT_BYTES + texts + values * VALUE_BYTES + first) as u64
    }
}

impl RecentSearches {
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(1000, CAPACITY_BYTES, ResultWeighter))
    }

    pub(super) fn get(&self, key: &SearchKey) -> Option<Arc<SearchResult>> {
        self.0.get(key)
    }

    pub(super) fn insert(&self, key: SearchKey, result: Arc<SearchResult>) {
        self.0.insert(key, result);
    }
}
