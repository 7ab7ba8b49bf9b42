//! Finds products.

use std::{sync::Arc, time::Duration};

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::{CatalogCache, Facets};
use crate::{
    cache::text_index::{CompiledQuery, OutOfTime, SearchField, TextMatch, TimeBudget},
    domain::{
        catalog::search::{ProductFilter, ProductSort, TextQuery},
        ids::ProductId,
    },
    messages::catalog::ProductView,
};

/// With fewer matches, words with typos match, too. They rank below, so that they matter only if
/// there is room for them: no page is longer.
const MIN_MATCHES_WITHOUT_TYPOS: usize = 100;

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
    pub facets: Facets,
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
        let text = filter.text.as_ref();
        let matches = text.map(|text| self.search_text(text)).transpose()?;
        let listing = self.read_listing();
        let scores = text.zip(matches);
        let scores = scores.map(|(text, matches)| listing.score_text(matches, text.words.len()));
        let scores = scores.as_ref();
        let filtered = listing.filter(filter, scores, self.slots_of(filter));
        let products = &filtered.products;
        let mut slots = listing.page(products, sort, scores, after, limit + 1);
        let has_more = slots.len() > limit;
        slots.truncate(limit);
        let ids = slots.iter().filter_map(|slot| listing.id(*slot));
        // The listing is locked, so that these are the products that were filtered and sorted.
        let items: Vec<_> = ids.filter_map(|id| self.get(id)).collect();
        let last = slots.last().zip(items.last()).filter(|_| has_more);
        let next = last.and_then(|(slot, view)| {
            listing.page_key(*slot, sort, scores, &view.product.details.name)
        });
        let facets = listing.count_facets(&filtered);
        Ok(SearchPage { items, next, total: products.len(), facets })
    }

    /// Finds the ids of all products that match `filter`, the oldest product first.
    ///
    /// # Errors
    /// The search took too long.
    pub fn find_ids(&self, filter: &ProductFilter) -> Result<Vec<ProductId>, SearchTimeout> {
        let text = filter.text.as_ref();
        let matches = text.map(|text| self.search_text(text)).transpose()?;
        let listing = self.read_listing();
        let scores = text.zip(matches);
        let scores = scores.map(|(text, matches)| listing.score_text(matches, text.words.len()));
        let filtered = listing.filter(filter, scores.as_ref(), self.slots_of(filter));
        let ids = filtered.products.iter().filter_map(|slot| listing.id(slot));
        let mut ids: Vec<ProductId> = ids.collect();
        ids.sort_unstable();
        Ok(ids)
    }

    fn search_text(&self, text: &TextQuery) -> Result<Vec<TextMatch>, OutOfTime> {
        let mut budget = TimeBudget::new(MAX_TEXT_TIME);
        let mut search = |with_typos| {
            let query = CompiledQuery::new(text, with_typos);
            self.text.search(SearchField::Text, &query, None, &mut budget)
        };
        let matches = search(false)?;
        let may_have_typos = text.words.iter().any(|word| word.typos.is_some());
        if matches.len() < MIN_MATCHES_WITHOUT_TYPOS && may_have_typos {
            return search(true);
        }
        Ok(matches)
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
        let slots = listing.best_matches(&matches, None, limit, |_| true);
        let ids = slots.into_iter().filter_map(|slot| listing.id(slot));
        Ok(ids.filter_map(|id| self.get(id)).collect())
    }
}
