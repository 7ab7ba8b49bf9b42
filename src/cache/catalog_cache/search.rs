//! Finds products.

use std::{sync::Arc, time::Duration};

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::{
    CatalogCache, Facets,
    listing::{ListedProduct, Listing},
    page_facets::{PageFacets, UnsavedPage},
    recent_searches::{FirstPage, MAX_PAGE, SearchKey, Suggested, SuggestedProduct},
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
    pub facets: PageFacets,
}

/// The matches of a search, as far as a page needs them.
struct Found {
    products: Vec<ListedProduct>,
    total: u64,
    facets: Facets,
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
        let listing = self.listing.read();
        let found = self.list(&listing, filter, matches, sort, after, limit + 1);
        let (items, next) = self.found_page(&listing, &found, sort, limit);
        let facets = PageFacets::Counted { facets: found.facets, page: None };
        Ok(SearchPage { items, next, total: found.total, facets })
    }

    /// The first page, which is remembered until the listing changes.
    fn search_first_page(
        &self,
        filter: &ProductFilter,
        sort: ProductSort,
        limit: usize,
    ) -> Result<SearchPage, SearchTimeout> {
        let key = self.recent_searches.key((filter, sort));
        let listing = self.listing.read();
        let view = |id| self.get(id);
        if let Some(known) = self.known_page(&listing, key, (filter, sort), limit, view) {
            return Ok(known);
        }
        let generation = listing.generation(filter);
        drop(listing);
        let matches = self.search_text(filter)?;
        let listing = self.listing.read();
        let found = self.list(&listing, filter, matches, sort, None, MAX_PAGE + 1);
        let (items, next) = self.found_page(&listing, &found, sort, limit);
        // Otherwise the matches may be of another time.
        let page = (listing.generation(filter) == generation).then(|| {
            let products = found.products.into_boxed_slice();
            let page =
                FirstPage { generation, total: found.total, products, facets: Box::default() };
            UnsavedPage(key, page)
        });
        let facets = PageFacets::Counted { facets: found.facets, page };
        Ok(SearchPage { items, next, total: found.total, facets })
    }

    /// The first page of a search, if it is at hand. This does not wait, and takes little time.
    #[must_use]
    pub fn recent_page(
        &self,
        filter: &ProductFilter,
        sort: ProductSort,
        limit: usize,
    ) -> Option<SearchPage> {
        let key = self.recent_searches.key((filter, sort));
        let listing = self.listing.try_read()?;
        let view = |id| self.recent_views.get(&self.entry(id)?);
        self.known_page(&listing, key, (filter, sort), limit, view)
    }

    /// The remembered page, if it is current and `view` returns all its products.
    fn known_page(
        &self,
        listing: &Listing,
        key: SearchKey,
        (filter, sort): (&ProductFilter, ProductSort),
        limit: usize,
        view: impl Fn(ProductId) -> Option<Arc<ProductView>>,
    ) -> Option<SearchPage> {
        let known = self.recent_searches.page(key)?;
        if known.generation != listing.generation(filter) {
            return None;
        }
        let (items, next) = page_of(listing, &known.products, sort, limit, view);
        if items.len() < limit.min(known.products.len()) {
            return None;
        }
        let facets = PageFacets::Rendered(self.codec.decompress(&known.facets).ok()?.into_owned());
        Some(SearchPage { items, next, total: known.total, facets })
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
    ) -> Found {
        let words = filter.text.as_ref().map_or(0, |text| text.words.len());
        let scores = matches.map(|matches| listing.score_text(matches, words));
        listing.pause();
        let filtered = listing.filter(filter, scores.as_ref(), self.slots_of(filter));
        listing.pause();
        Found {
            products: listing.page(&filtered.products, sort, scores.as_ref(), after, limit),
            total: filtered.products.len(),
            facets: listing.count_facets(&filtered),
        }
    }

    /// The page of what was found, with pauses, and where the next one begins.
    fn found_page(
        &self,
        listing: &Listing,
        found: &Found,
        sort: ProductSort,
        limit: usize,
    ) -> (Vec<Arc<ProductView>>, Option<PageKey>) {
        page_of(listing, &found.products, sort, limit, |id| {
            listing.pause();
            self.get(id)
        })
    }

    /// Finds the ids of all products that match `filter`, the oldest product first.
    ///
    /// # Errors
    /// The search took too long.
    pub fn find_ids(&self, filter: &ProductFilter) -> Result<Vec<ProductId>, SearchTimeout> {
        let matches = self.search_text(filter)?;
        let listing = self.listing.read();
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
    ) -> Result<Arc<[SuggestedProduct]>, SearchTimeout> {
        let generation = self.listing.read().generation(&ProductFilter::default());
        let mut budget = TimeBudget::new(MAX_TEXT_TIME);
        let mut search = |with_typos| {
            let query = CompiledQuery::new(typed, with_typos);
            self.text.search(SearchField::Name, &query, Some(limit), &mut budget)
        };
        let mut matches = search(false)?;
        if matches.len() < limit && typed.words.iter().any(|word| word.typos.is_some()) {
            matches = search(true)?;
        }
        let listing = self.listing.read();
        let suggestion = |found: ListedProduct| {
            let id = listing.id(found.slot)?;
            Some(SuggestedProduct { id, name: listing.name(found.slot).into() })
        };
        let best = listing.best_matches(&matches, limit).into_iter();
        let products: Arc<[SuggestedProduct]> = best.filter_map(suggestion).collect();
        if listing.generation(&ProductFilter::default()) == generation {
            let suggested = Suggested { generation, products: Arc::clone(&products) };
            let key = self.recent_searches.key((typed, limit));
            self.recent_searches.insert_suggested(key, suggested);
        }
        Ok(products)
    }

    /// What [`Self::suggest`] returned, if it is at hand. This does not wait.
    #[must_use]
    pub fn recent_suggestions(
        &self,
        typed: &TextQuery,
        limit: usize,
    ) -> Option<Arc<[SuggestedProduct]>> {
        let known = self.recent_searches.suggested(self.recent_searches.key((typed, limit)))?;
        let listing = self.listing.try_read()?;
        let is_current = listing.generation(&ProductFilter::default()) == known.generation;
        is_current.then(|| Arc::clone(&known.products))
    }
}

/// The products of a page, and where the next one begins. `found` has one product more if there are
/// more. The listing is still locked, so that they are the products that were filtered and sorted.
fn page_of(
    listing: &Listing,
    found: &[ListedProduct],
    sort: ProductSort,
    limit: usize,
    view: impl Fn(ProductId) -> Option<Arc<ProductView>>,
) -> (Vec<Arc<ProductView>>, Option<PageKey>) {
    let shown = found.get(..limit).unwrap_or(found);
    let items: Vec<_> = shown.iter().filter_map(|listed| view(listing.id(listed.slot)?)).collect();
    let last = shown.last().zip(items.last()).filter(|_| found.len() > limit);
    let next =
        last.and_then(|(listed, view)| listing.page_key(*listed, sort, &view.product.details.name));
    (items, next)
}
