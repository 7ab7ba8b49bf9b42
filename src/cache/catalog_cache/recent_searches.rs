//! The first pages of recent searches and lists, and recent suggestions. Shoppers often ask for the
//! same, and what many ask for is often what many products have, so that it takes longest to find.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
};

use quick_cache::{Weighter, sync::Cache};

use super::listing::{ListedProduct, ListingGeneration};
use crate::domain::ids::ProductId;

/// About how many bytes of pages are kept.
const PAGE_BYTES: u64 = 8 * 1024 * 1024;
/// About how many bytes of suggestions are kept.
const SUGGESTION_BYTES: u64 = 4 * 1024 * 1024;
/// What an answer takes beside its texts and products.
const ANSWER_BYTES: usize = 256;

/// The most products of a page that is remembered.
pub(super) const MAX_PAGE: usize = 100;

/// The first page of a search.
#[derive(Debug)]
pub(super) struct FirstPage {
    /// What it is about.
    pub(super) generation: ListingGeneration,
    pub(super) total: u64,
    /// The first matches, one more than a page may have.
    pub(super) products: Box<[ListedProduct]>,
    /// The rendered facets, compressed.
    pub(super) facets: Box<[u8]>,
}

/// Products that were suggested.
pub(super) struct Suggested {
    /// What they are of.
    pub(super) generation: ListingGeneration,
    pub(super) products: Arc<[SuggestedProduct]>,
}

/// A suggested product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuggestedProduct {
    /// Its identifier.
    pub id: ProductId,
    /// Its name.
    pub name: Box<str>,
}

/// Identifies a search: two hashes with random keys, of which nobody can find two that are equal.
/// The words of a search take more memory than its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SearchKey(u64, u64);

/// Answers by search. The caller checks that an answer is current.
pub(super) struct RecentSearches {
    hashers: [RandomState; 2],
    pages: Cache<SearchKey, Arc<FirstPage>, AnswerWeighter>,
    suggestions: Cache<SearchKey, Arc<Suggested>, AnswerWeighter>,
}

#[derive(Clone)]
struct AnswerWeighter;

impl Weighter<SearchKey, Arc<FirstPage>> for AnswerWeighter {
    fn weight(&self, _: &SearchKey, page: &Arc<FirstPage>) -> u64 {
        (ANSWER_BYTES + page.facets.len() + size_of_val(&*page.products)) as u64
    }
}

impl Weighter<SearchKey, Arc<Suggested>> for AnswerWeighter {
    fn weight(&self, _: &SearchKey, suggested: &Arc<Suggested>) -> u64 {
        let products = &suggested.products;
        let names = products.iter().map(|product| product.name.len()).sum::<usize>();
        (ANSWER_BYTES + names + size_of_val(&**products)) as u64
    }
}

impl RecentSearches {
    pub(super) fn new() -> Self {
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            pages: Cache::with_weighter(5000, PAGE_BYTES, AnswerWeighter),
            suggestions: Cache::with_weighter(5000, SUGGESTION_BYTES, AnswerWeighter),
        }
    }

    /// The key of a search for `parameters`.
    pub(super) fn key(&self, parameters: impl Hash) -> SearchKey {
        let [first, second] = &self.hashers;
        SearchKey(first.hash_one(&parameters), second.hash_one(&parameters))
    }

    pub(super) fn page(&self, key: SearchKey) -> Option<Arc<FirstPage>> {
        self.pages.get(&key)
    }

    pub(super) fn insert_page(&self, key: SearchKey, page: FirstPage) {
        self.pages.insert(key, Arc::new(page));
    }

    pub(super) fn suggested(&self, key: SearchKey) -> Option<Arc<Suggested>> {
        self.suggestions.get(&key)
    }

    pub(super) fn insert_suggested(&self, key: SearchKey, suggested: Suggested) {
        self.suggestions.insert(key, Arc::new(suggested));
    }
}

#[cfg(test)]
mod tests {
    use super::super::CatalogCache;
    use crate::domain::catalog::search::{CatalogLanguage, ProductFilter, ProductSort};

    use super::*;

    #[test]
    fn many_searches_take_no_more_than_the_limit() {
        let catalog = CatalogCache::new(|_, _| bytes::Bytes::new(), &CatalogLanguage::default());
        let facets = vec![b' '; 4000];
        for number in 0..10_000 {
            let text = catalog.rules().parse_query(&format!("w{number}"));
            let filter = ProductFilter { text, ..ProductFilter::default() };
            let page = catalog.search(&filter, ProductSort::Relevance, None, 20).unwrap();
            catalog.render_facets(page.facets, |_| Some(facets.clone())).unwrap();
        }
        let kept = catalog.recent_searches.pages.len() as u64;
        assert!(kept > 1000, "{kept} are remembered");
        assert!(kept * facets.len() as u64 <= PAGE_BYTES, "{kept} are remembered");
    }
}
