//! Loads the catalog from the store.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{CatalogCache, MIN_COMPRESSED_PRODUCTS, prepare::PagePreparer};
use crate::{
    domain::{catalog::product::Product, ids::ProductId, inventory::StockLevel},
    store::{Store, StoreUnavailable},
};

/// The number of products to read from the store at a time.
const PAGE_SIZE: u32 = 1000;
/// The most products that wait to be indexed, which bounds the memory that they take.
const MAX_PENDING: usize = 10_000;
/// How long to wait for the index.
const PAUSE: Duration = Duration::from_millis(2);

impl CatalogCache {
    /// Loads all products from the store.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn load(&self, store: &dyn Store) -> Result<(), StoreUnavailable> {
        // Nobody reads an empty cache, so that its orders can be sorted once at the end.
        let is_first = self.is_empty();
        if is_first {
            self.write_listing().begin_load();
            self.text.begin_load();
        }
        let loaded = self.load_pages(store).await;
        if is_first {
            self.write_listing().finish_load();
            self.text.finish_load();
            while !self.text.is_loaded() {
                tokio::time::sleep(PAUSE).await;
            }
        }
        loaded
    }

    async fn load_pages(&self, store: &dyn Store) -> Result<(), StoreUnavailable> {
        let mut known: BTreeSet<ProductId> =
            self.products.iter().map(|entry| *entry.key()).collect();
        let mut preparer = PagePreparer::start(self);
        let mut page = store.list_products(None, PAGE_SIZE).await?;
        while let Some((last, _)) = page.last() {
            let (after, is_last) = (last.id, page.len() < PAGE_SIZE as usize);
            for (product, _) in &page {
                known.remove(&product.id);
            }
            // The store reads the next page while this one is put.
            let next = async {
                if is_last {
                    Ok(Vec::new())
                } else {
                    store.list_products(Some(after), PAGE_SIZE).await
                }
            };
            let (next, ()) = tokio::join!(next, async { self.put_page(page, &mut preparer) });
            page = next?;
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

    fn put_page(&self, page: Vec<(Product, StockLevel)>, preparer: &mut PagePreparer) {
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
        let prepared = preparer.prepare(new.collect());
        let mut recently_deleted = self.lock_for_change();
        for ((product, stock), prepared) in products.into_iter().zip(stock).zip(prepared) {
            self.replace(product, stock, prepared, &mut recently_deleted);
        }
    }
}
