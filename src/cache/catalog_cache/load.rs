//! Loads the catalog from the store.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    CatalogCache, MIN_COMPRESSED_PRODUCTS,
    prepare::{PageInPreparation, PagePreparer},
};
use crate::{
    cache::text_index::IndexedTexts,
    domain::{catalog::product::Product, ids::ProductId, inventory::StockLevel},
    store::{Store, StoreUnavailable},
};

/// The number of products to read from the store at a time.
const PAGE_SIZE: u32 = 1000;
/// The most products that wait to be indexed, which bounds the memory that they take.
const MAX_PENDING: usize = 10_000;
/// The pages that are prepared while another one is read or put.
const PAGES_IN_PREPARATION: usize = 3;
/// How long to wait for the index.
const PAUSE: Duration = Duration::from_millis(2);

/// A page of products that is being prepared.
struct LoadingPage {
    products: Vec<Arc<Product>>,
    stock: Vec<StockLevel>,
    prepared: PageInPreparation,
}

impl CatalogCache {
    /// Loads all products from the store.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn load(&self, store: &dyn Store) -> Result<(), StoreUnavailable> {
        // Nobody reads an empty cache, so that its orders can be sorted once at the end.
        let is_first = self.is_empty();
        let mut indexed = Arc::default();
        if is_first {
            indexed = Arc::new(self.text.begin_load());
            self.listing.write().begin_load(indexed.slots().max());
        }
        let loaded = self.load_pages(store, &indexed).await;
        if is_first {
            // Their products have changed or no longer exist.
            for slot in self.listing.read().without_product(indexed.slots()) {
                self.text.remove(slot);
            }
            // The index is written while the orders are sorted.
            self.text.finish_load();
            self.listing.write().finish_load();
            while !self.text.is_loaded() {
                tokio::time::sleep(PAUSE).await;
            }
        }
        loaded
    }

    async fn load_pages(
        &self,
        store: &dyn Store,
        indexed: &Arc<IndexedTexts>,
    ) -> Result<(), StoreUnavailable> {
        let mut known: BTreeSet<ProductId> =
            self.products.iter().map(|entry| *entry.key()).collect();
        let preparer = PagePreparer::start(self, indexed);
        let mut in_preparation = VecDeque::new();
        let mut after = None;
        loop {
            let page = store.list_products(after, PAGE_SIZE).await?;
            after = page.last().map(|(product, _)| product.id);
            let is_last = page.len() < PAGE_SIZE as usize;
            for (product, _) in &page {
                known.remove(&product.id);
            }
            in_preparation.push_back(self.prepare_page(page, &preparer));
            let keep = if is_last { 0 } else { PAGES_IN_PREPARATION };
            while in_preparation.len() > keep
                && let Some(page) = in_preparation.pop_front()
            {
                self.put_page(page);
            }
            if is_last {
                break;
            }
            while self.text.pending_len() > MAX_PENDING {
                tokio::time::sleep(PAUSE).await;
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

    fn prepare_page(
        &self,
        page: Vec<(Product, StockLevel)>,
        preparer: &PagePreparer,
    ) -> LoadingPage {
        if page.len() >= MIN_COMPRESSED_PRODUCTS {
            self.codec.train(page.iter().map(|(product, _)| product));
        }
        let is_new = |product: &Product| {
            self.products
                .get(&product.id)
                .is_none_or(|known| known.product.version < product.version)
        };
        let (products, stock): (Vec<_>, Vec<_>) =
            page.into_iter().map(|(product, stock)| (Arc::new(product), stock)).unzip();
        let new = products.iter().map(|product| is_new(product).then(|| Arc::clone(product)));
        let prepared = preparer.begin(new.collect());
        LoadingPage { products, stock, prepared }
    }

    fn put_page(&self, page: LoadingPage) {
        let LoadingPage { products, stock, prepared } = page;
        let prepared = prepared.finish();
        let mut recently_deleted = self.lock_for_change();
        for ((product, stock), prepared) in products.into_iter().zip(stock).zip(prepared) {
            self.replace(product, stock, prepared, &mut recently_deleted);
        }
    }
}
