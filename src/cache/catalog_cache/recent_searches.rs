//! The first pages of recent searches and lists. Shoppers often search for the same, and what many
//! search for is often what many products have, so that it takes longest to find.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};

use super::{
    Facets,
    listing::{ListedProduct, ListingGeneration},
};
use crate::domain::{
    catalog::search::{MatchKind, ProductFilter, ProductSort, QueryWord, TextQuery},
    ids::ProductId,
};

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
        let texts = texts.map(|text| text.len() + size_of::<String>()).sum::<usize>()
            + filter.text.as_ref().map_or(0, text_bytes)
            + filter.ids.len() * size_of::<ProductId>();
        let facets = &result.facets;
        let attributes = facets.attributes.values().map(Vec::len).sum::<usize>();
        let values = facets.categories.len() + facets.tags.len() + attributes;
        let first = result.first.len() * size_of::<ListedProduct>();
        (RESULT_BYTES + texts + values * VALUE_BYTES + first) as u64
    }
}

/// What the words of a search take: up to four times as much as the rest of its result.
fn text_bytes(text: &TextQuery) -> usize {
    let terms = |terms: &Vec<(String, MatchKind)>| {
        let room = terms.capacity() * size_of::<(String, MatchKind)>();
        room + terms.iter().map(|(term, _)| term.capacity()).sum::<usize>()
    };
    let typos = |word: &QueryWord| word.typos.as_ref().map_or(0, |typos| typos.word.capacity());
    let words = text.words.iter();
    let words = words.map(|word| terms(&word.terms) + terms(&word.prefixes) + typos(word));
    text.words.capacity() * size_of::<QueryWord>() + words.sum::<usize>()
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

#[cfg(test)]
mod tests {
    use super::super::CatalogCache;
    use crate::domain::catalog::search::CatalogLanguage;

    use super::*;

    #[test]
    fn long_searches_without_a_match_take_no_more_than_the_limit() {
        let catalog = CatalogCache::new(|_, _| bytes::Bytes::new(), &CatalogLanguage::default());
        let search = |number: u32| {
            let words: Vec<_> = (0..16).map(|word| format!("w{number}x{word}")).collect();
            let text = catalog.rules().parse_query(&words.join(" "));
            (ProductFilter { text, ..ProductFilter::default() }, ProductSort::Relevance)
        };
        let mut least = u64::MAX;
        for number in 0..10_000 {
            let (filter, sort) = search(number);
            catalog.search(&filter, sort, None, 20).unwrap();
            let text = filter.text.as_ref().unwrap();
            assert_eq!(text.words.len(), 16);
            least = least.min(text_bytes(text) as u64);
            if let Some(result) = catalog.recent_searches.get(&(filter, sort)) {
                assert_eq!(result.first.capacity(), 0);
            }
        }
        let kept = catalog.recent_searches.0.len() as u64;
        assert!(kept > 1000, "{kept} are remembered");
        assert!(kept * least <= CAPACITY_BYTES, "{kept} of at least {least} bytes");
    }
}
