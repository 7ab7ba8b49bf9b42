//! Finds products.

use std::{sync::Arc, time::Duration};

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::{
    CatalogCache, Facets,
    listing::{ListedProduct, Listing},
    recent_searches::{MAX_PAGE, SearchResult},
};
use crate::{
    cache::text_index::{CompiledQuery, OutOfTime, SearchField, TextMatch, TimeBudget},
    domain::{
        catalog::search::{ProductFilter, ProductSort, TextQuery},
        ids::ProductId,
    },
    messages::catalog::ProductView,
};

/// With fewer matches, words with typos match, too. They rank below, so that they matter only if
/// there is room for them.
const MIN_MATCHES_WITHOUT_TYPOS: usize = MAX_PAGE;

/// The processor time of a search in the text index.
const MAX_TEXT_TIME: Duration = Duration::from_millis(30);

/// A page of search results.
#[derive(Debug)]
pub struct SearchPage {
    /// The products on the page.
    pub items: Vec<Arc<ProductView>>,
    /// Where the next page begins, if there is one.
    pub next: Option<PageKey>,
    /// The number of matches on all pages.
    pub total: u64,
    /// The number of matches by category, tag, price and attribute.
    pub facets: Arc<Facets>,
}

/// The last product of a page, as it was sorted: by number, then name, then id. The next page
/// begins after it, even if the product has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageKey {
    /// The price, the time, or the score.
    pub number: i64,
    /// The name, in the order of names.
    pub name: String,
    /// The product's identifier.
    pub id: ProductId,
}

/// A search was ended, because it took too much processor time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the search took too long")]
pub struct SearchTimeout;

impl From<OutOfTime> for SearchTimeout {
    fn from(_: OutOfTime) -> Self {
        Self
    }
}

impl CatalogCache {
    /// Finds the products that match `filter`, sorted: at most `limit` products after `after`.
    ///
    /// # Errors
    /// The search took too long.
    pub fn search(
        &self,
        filter: &ProductFilter,
        sort: ProductSort,
        after: Option<&PageKey>,
        limit: usize,
    ) -> Result<SearchPage, SearchTimeout> {
        if after.is_none() && limit <= MAX_PAGE {
            return self.search_first_page(filter, sort, limit);
        }
        let matches = self.search_text(filter)?;
        let listing = self.read_listing();
        let result = self.list(&listing, filter, matches, sort, after, limit + 1);
        Ok(self.page_of(&listing, &result, sort, limit))
    }

    /// The first page, which is remembered until the listing changes.
    fn search_first_page(
        &self,
        filter: &ProductFilter,
        sort: ProductSort,
        limit: usize,
    ) -> Result<SearchPage, SearchTimeout> {
        let key = (filter.clone(), sort);
        let known = self.recent_searches.get(&key);
        let listing = self.read_listing();
        let generation = listing.generation(filter);
        if let Some(known) = known.filter(|known| known.generation == generation) {
            return Ok(self.page_of(&listing, &known, sort, limit));
        }
        drop(listing);
        let matches = self.search_text(filter)?;
        let listing = self.read_listing();
        let result = self.list(&listing, filter, matches, sort, None, MAX_PAGE + 1);
        let result = Arc::new(result);
        // Otherwise the matches may be of another time.
        if result.generation == generation {
            self.recent_searches.insert(key, Arc::clone(&result));
        }
        Ok(self.page_of(&listing, &result, sort, limit))
    }

    /// Filters, sorts and counts the products, or of them the `matches` of the text.
    fn list(
        &self,
        listing: &Listing,
        filter: &ProductFilter,
        matches: Option<Vec<TextMatch>>,
        sort: ProductSort,
        after: Option<&PageKey>,
        limit: usize,
    ) -> SearchResult {
        let words = filter.text.as_ref().map_or(0, |text| text.words.len());
        let scores = matches.map(|matches| listing.score_text(matches, words));
        let filtered = listing.filter(filter, scores.as_ref(), self.slots_of(filter));
        // It may have the room of a whole page, also without a match, and is remembered.
        let mut first = listing.page(&filtered.products, sort, scores.as_ref(), after, limit);
        first.shrink_to_fit();
        SearchResult {
            generation: listing.generation(filter),
            total: filtered.products.len(),
            first,
            facets: Arc::new(listing.count_facets(&filtered)),
        }
    }

    fn page_of(
        &self,
        listing: &Listing,
        result: &SearchResult,
        sort: ProductSort,
        limit: usize,
    ) -> SearchPage {
        let shown = result.first.get(..limit).unwrap_or(&result.first);
        // The listing is locked, so that these are the products that were filtered and sorted.
        let view = |listed: &ListedProduct| self.get(listing.id(listed.slot)?);
        let items: Vec<_> = shown.iter().filter_map(view).collect();
        let last = shown.last().zip(items.last()).filter(|_| result.first.len() > limit);
        let next = last
            .and_then(|(listed, view)| listing.page_key(*listed, sort, &view.product.details.name));
        SearchPage { items, next, total: result.total, facets: Arc::clone(&result.facets) }
    }

    /// Finds the ids of all products that match `filter`, the oldest product first.
    ///
    /// # Errors
    /// The search took too long.
    pub fn find_ids(&self, filter: &ProductFilter) -> Result<Vec<ProductId>, SearchTimeout> {
        let matches = self.search_text(filter)?;
        let listing = self.read_listing();
        let scores = matches.map(|matches| listing.score_text(matches, 0));
        let filtered = listing.filter(filter, scores.as_ref(), self.slots_of(filter));
        let ids = filtered.products.iter().filter_map(|slot| listing.id(slot));
        let mut ids: Vec<ProductId> = ids.collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// The products that match the text of the filter. `None` if it has none.
    fn search_text(&self, filter: &ProductFilter) -> Result<Option<Vec<TextMatch>>, OutOfTime> {
        let Some(text) = &filter.text else { return Ok(None) };
        let mut budget = TimeBudget::new(MAX_TEXT_TIME);
        let mut search = |with_typos| {
            let query = CompiledQuery::new(text, with_typos);
            self.text.search(SearchField::Text, &query, None, &mut budget)
        };
        let matches = search(false)?;
        let may_have_typos = text.words.iter().any(|word| word.typos.is_some());
        if matches.len() < MIN_MATCHES_WITHOUT_TYPOS && may_have_typos {
            return search(true).map(Some);
        }
        Ok(Some(matches))
    }

    fn slots_of(&self, filter: &ProductFilter) -> Option<RoaringBitmap> {
        let slot = |id| self.products.get(id).map(|entry| entry.slot);
        (!filter.ids.is_empty()).then(|| filter.ids.iter().filter_map(slot).collect())
    }

    /// Suggests products for the text typed so far. Names without a typo come first, then names
    /// that begin with the text, then the newest.
    ///
    /// # Errors
    /// The search took too long.
    pub fn suggest(
        &self,
        typed: &TextQuery,
        limit: usize,
    ) -> Result<Vec<Arc<ProductView>>, SearchTimeout> {
        let mut budget = TimeBudget::new(MAX_TEXT_TIME);
        let mut search = |with_typos| {
            let query = CompiledQuery::new(typed, with_typos);
            self.text.search(SearchField::Name, &query, Some(limit), &mut budget)
        };
        let mut matches = search(false)?;
        if matches.len() < limit && typed.words.iter().any(|word| word.typos.is_some()) {
            matches = search(true)?;
        }
        let listing = self.read_listing();
        let best = listing.best_matches(&matches, None, limit, |_| true);
        let ids = best.into_iter().filter_map(|found| listing.id(found.slot));
        Ok(ids.filter_map(|id| self.get(id)).collect())
    }
}
