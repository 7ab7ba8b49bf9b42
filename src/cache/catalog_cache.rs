//! The catalog cache: all products and their stock in memory. It serves all catalog reads.
//!
//! The writer applies each batch to the cache in commit order before it acknowledges the batch,
//! so readers see every change that this node has acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use dashmap::DashMap;

use crate::{
    domain::{
        cart::Offer,
        catalog::{
            product::Product,
            search::{ProductFilter, ProductSort, SearchText, SortKey},
        },
        ids::ProductId,
        inventory::StockLevel,
    },
    messages::catalog::{ProductView, RenderProduct},
    store::{CommittedChanges, Store, StoreUnavailable},
};

/// All products and their stock, without deleted products.
pub struct CatalogCache {
    products: DashMap<ProductId, Entry>,
    skus: DashMap<String, ProductId>,
    epoch: AtomicU64,
    render: RenderProduct,
    /// Held during each change, so that two changes cannot both compare with the same entry, and an
    /// older version never replaces a newer one. Readers do not take it.
    change_lock: Mutex<RecentlyDeleted>,
}

/// The most recently deleted products. A late `put` of an older version must not restore them.
#[derive(Default)]
struct RecentlyDeleted(VecDeque<ProductId>);

impl RecentlyDeleted {
    /// More than the number of concurrent reads that could still put an old version.
    const CAPACITY: usize = 1000;

    fn add(&mut self, id: ProductId) {
        if self.0.len() == Self::CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(id);
    }
}

#[derive(Clone)]
struct Entry {
    view: Arc<ProductView>,
    search_text: Arc<SearchText>,
}

/// One page of search results.
#[derive(Debug)]
pub struct SearchPage {
    /// The products on the page.
    pub items: Vec<Arc<ProductView>>,
    /// The last key of the page, when another page follows.
    pub next: Option<SortKey>,
    /// The number of matches on all pages.
    pub total: usize,
    /// The number of matches in each category.
    pub categories: BTreeMap<String, usize>,
    /// The prices of all matches in minor units, sorted.
    pub prices: Vec<i64>,
}

impl CatalogCache {
    /// Creates an empty cache.
    #[must_use]
    pub fn new(render: RenderProduct) -> Self {
        Self {
            products: DashMap::new(),
            skus: DashMap::new(),
            epoch: AtomicU64::new(0),
            render,
            change_lock: Mutex::default(),
        }
    }

    /// Loads all products from the store.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn load(&self, store: &dyn Store) -> Result<(), StoreUnavailable> {
        const PAGE_SIZE: u32 = 1000;
        let mut known: BTreeSet<ProductId> =
            self.products.iter().map(|entry| *entry.key()).collect();
        let mut after = None;
        loop {
            let page = store.list_products(after, PAGE_SIZE).await?;
            after = page.last().map(|(product, _)| product.id);
            let count = page.len();
            for (product, stock) in page {
                known.remove(&product.id);
                self.put(Arc::new(product), stock);
            }
            if count < PAGE_SIZE as usize {
                break;
            }
        }
        // Cached products that the store no longer lists were deleted.
        for id in known {
            if let Some((product, stock)) = store.find_product(id).await? {
                self.put(Arc::new(product), stock);
            }
        }
        Ok(())
    }

    /// The number of changes so far. An equal epoch means an unchanged cache.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The number of products in the cache.
    #[must_use]
    pub fn len(&self) -> usize {
        self.products.len()
    }

    /// Whether the cache has no products.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.products.is_empty()
    }

    /// Finds a product by id.
    #[must_use]
    pub fn get(&self, id: ProductId) -> Option<Arc<ProductView>> {
        self.products.get(&id).map(|entry| Arc::clone(&entry.view))
    }

    /// Finds a product by sku.
    #[must_use]
    pub fn by_sku(&self, sku: &str) -> Option<Arc<ProductView>> {
        let id = *self.skus.get(sku)?;
        self.get(id)
    }

    /// Returns the name, price and available units of a product, as carts need them.
    #[must_use]
    pub fn offer(&self, id: ProductId) -> Option<Offer> {
        let view = self.get(id)?;
        let details = &view.product.details;
        Some(Offer {
            name: details.name.clone(),
            price: details.price,
            available: view.stock.available(),
        })
    }

    /// Renders the response body of a product.
    #[must_use]
    pub fn render(&self, product: &Product, stock: &StockLevel) -> bytes::Bytes {
        (self.render)(product, stock)
    }

    /// Renders a product, and returns it with the body and the ETag.
    #[must_use]
    pub fn view(&self, product: Arc<Product>, stock: StockLevel) -> Arc<ProductView> {
        let body = self.render(&product, &stock);
        let etag = format!("{}.{}", product.version, stock.version);
        Arc::new(ProductView { product, stock, body, etag })
    }

    /// Applies changes, which may be of several versions of a product, in any order.
    pub fn apply(&self, changes: &CommittedChanges) {
        let mut recently_deleted = self.lock_for_change();
        let (mut newest_products, mut newest_stock) =
            (changes.products.iter().collect::<Vec<_>>(), changes.stock.clone());
        newest_products.sort_by_key(|product| product.version);
        newest_stock.sort_by_key(|level| level.version);
        // Of several values for a key, the last one is kept.
        let mut products: BTreeMap<ProductId, &Arc<Product>> =
            newest_products.into_iter().map(|product| (product.id, product)).collect();
        let stock: BTreeMap<ProductId, StockLevel> =
            newest_stock.into_iter().map(|level| (level.product_id, level)).collect();
        let ids: BTreeSet<ProductId> = products.keys().chain(stock.keys()).copied().collect();
        for id in ids {
            let known = self.get(id);
            let product = products
                .remove(&id)
                .cloned()
                .or_else(|| known.as_ref().map(|view| Arc::clone(&view.product)));
            let level = stock
                .get(&id)
                .copied()
                .or_else(|| known.map(|view| view.stock))
                .unwrap_or(StockLevel::empty(id));
            if let Some(product) = product {
                self.replace(product, level, &mut recently_deleted);
            }
        }
    }

    /// Adds or replaces a product, or removes a deleted product. Ignores older versions.
    pub fn put(&self, product: Arc<Product>, stock: StockLevel) {
        let mut recently_deleted = self.lock_for_change();
        self.replace(product, stock, &mut recently_deleted);
    }

    /// Replaces a product with a version read from the store, unless it was removed meanwhile.
    pub fn refresh(&self, product: Arc<Product>, stock: StockLevel) {
        let mut recently_deleted = self.lock_for_change();
        if self.products.contains_key(&product.id) {
            self.replace(product, stock, &mut recently_deleted);
        }
    }

    fn lock_for_change(&self) -> MutexGuard<'_, RecentlyDeleted> {
        self.change_lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(
        &self,
        product: Arc<Product>,
        stock: StockLevel,
        recently_deleted: &mut RecentlyDeleted,
    ) {
        let known = self.get(product.id);
        if known.is_none() && recently_deleted.0.contains(&product.id) {
            return;
        }
        let (product, stock) = match &known {
            Some(known) => newest_versions(known, product, stock),
            None => (product, stock),
        };
        let old_sku = known.and_then(|view| view.product.details.sku.clone());
        if let Some(sku) =
            old_sku.filter(|sku| product.deleted || product.details.sku.as_ref() != Some(sku))
        {
            self.skus.remove_if(&sku, |_, owner| *owner == product.id);
        }
        if product.deleted {
            recently_deleted.add(product.id);
            self.products.remove(&product.id);
        } else {
            if let Some(sku) = &product.details.sku {
                self.skus.insert(sku.clone(), product.id);
            }
            let search_text = Arc::new(SearchText::from_product(&product));
            self.products
                .insert(product.id, Entry { view: self.view(product, stock), search_text });
        }
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Finds the products that match `filter`, sorted: at most `limit` products after `after`.
    #[must_use]
    pub fn search(
        &self,
        filter: &ProductFilter,
        sort: ProductSort,
        after: Option<&SortKey>,
        limit: usize,
    ) -> SearchPage {
        let mut matches: Vec<(SortKey, Arc<ProductView>)> = Vec::new();
        for entry in &self.products {
            let Entry { view, search_text } = entry.value();
            if let Some(score) =
                filter.score_product(&view.product, search_text, view.stock.available())
            {
                matches.push((sort.sort_key(&view.product, search_text, score), Arc::clone(view)));
            }
        }
        matches.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut categories = BTreeMap::new();
        for category in matches.iter().filter_map(|(_, view)| view.product.details.category.clone())
        {
            *categories.entry(category).or_insert(0) += 1;
        }
        let mut prices: Vec<i64> =
            matches.iter().map(|(_, view)| view.product.details.price.minor_units()).collect();
        prices.sort_unstable();
        let total = matches.len();
        let start = after.map_or(0, |after| matches.partition_point(|(key, _)| key <= after));
        let page: Vec<_> = matches.into_iter().skip(start).take(limit).collect();
        let more = start + page.len() < total;
        let next = page.last().filter(|_| more).map(|(key, _)| key.clone());
        SearchPage {
            items: page.into_iter().map(|(_, view)| view).collect(),
            next,
            total,
            categories,
            prices,
        }
    }

    /// Finds the ids of all products that match `filter`, the oldest product first.
    #[must_use]
    pub fn find_ids(&self, filter: &ProductFilter) -> Vec<ProductId> {
        let matches = |entry: &Entry| {
            let Entry { view, search_text } = entry;
            filter.score_product(&view.product, search_text, view.stock.available()).is_some()
        };
        let mut ids: Vec<ProductId> = self
            .products
            .iter()
            .filter(|entry| matches(entry.value()))
            .map(|entry| *entry.key())
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Suggests products for the text typed so far, in lower case. The best match is first.
    #[must_use]
    pub fn suggest(&self, typed: &str, limit: usize) -> Vec<Arc<ProductView>> {
        if typed.is_empty() {
            return Vec::new();
        }
        let rank = |entry: &Entry| {
            entry.search_text.suggestion_rank(typed).map(|rank| (rank, Arc::clone(&entry.view)))
        };
        let mut found: Vec<_> =
            self.products.iter().filter_map(|entry| rank(entry.value())).collect();
        let key = |(rank, view): &(u8, Arc<ProductView>)| {
            (*rank, view.product.details.name.clone(), view.product.id)
        };
        found.sort_by_cached_key(key);
        found.into_iter().take(limit).map(|(_, view)| view).collect()
    }
}

/// Picks the newer version of the product, and the newer version of its stock.
fn newest_versions(
    known: &ProductView,
    product: Arc<Product>,
    stock: StockLevel,
) -> (Arc<Product>, StockLevel) {
    let product =
        if product.version >= known.product.version { product } else { Arc::clone(&known.product) };
    let stock = if stock.version >= known.stock.version { stock } else { known.stock };
    (product, stock)
}

#[cfg(test)]
mod tests;
