//! The catalog as last known: what every read is served from.
//!
//! It is brought up to date by the writer's news, in commit order and before anyone hears that a change is done, so a reader
//! finds here whatever was acknowledged on this node.

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

/// All living products with their stock.
pub struct CatalogSnapshot {
    products: DashMap<ProductId, Entry>,
    skus: DashMap<String, ProductId>,
    epoch: AtomicU64,
    render: RenderProduct,
    /// Held by whoever changes something here, so that what is older is never put over what is newer.
    changing: Mutex<Gone>,
}

/// Products that were deleted last: what was read of them before may still be on its way here.
#[derive(Default)]
struct Gone(VecDeque<ProductId>);

impl Gone {
    /// More than can be on their way.
    const KEPT: usize = 1000;

    fn note(&mut self, id: ProductId) {
        if self.0.len() == Self::KEPT {
            self.0.pop_front();
        }
        self.0.push_back(id);
    }
}

#[derive(Clone)]
struct Entry {
    view: Arc<ProductView>,
    words: Arc<SearchText>,
}

/// One page of a search.
#[derive(Debug)]
pub struct Found {
    /// The page's products.
    pub items: Vec<Arc<ProductView>>,
    /// Where the next page begins.
    pub next: Option<SortKey>,
    /// How many match in all.
    pub total: usize,
    /// How many of the matches are in each category.
    pub categories: BTreeMap<String, usize>,
    /// The matches' prices in minor units, sorted.
    pub prices: Vec<i64>,
}

impl CatalogSnapshot {
    /// An empty shelf.
    #[must_use]
    pub fn new(render: RenderProduct) -> Self {
        Self {
            products: DashMap::new(),
            skus: DashMap::new(),
            epoch: AtomicU64::new(0),
            render,
            changing: Mutex::default(),
        }
    }

    /// Takes in everything the store has.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn load(&self, store: &dyn Store) -> Result<(), StoreUnavailable> {
        const PAGE: u32 = 1000;
        let mut held: BTreeSet<ProductId> =
            self.products.iter().map(|entry| *entry.key()).collect();
        let mut after = None;
        loop {
            let page = store.list_products(after, PAGE).await?;
            after = page.last().map(|(product, _)| product.id);
            let count = page.len();
            for (product, stock) in page {
                held.remove(&product.id);
                self.put(Arc::new(product), stock);
            }
            if count < PAGE as usize {
                break;
            }
        }
        // What was held and is not among the living any more was deleted.
        for id in held {
            if let Some((product, stock)) = store.find_product(id).await? {
                self.put(Arc::new(product), stock);
            }
        }
        Ok(())
    }

    /// Counts what changed here: as long as it is the same, so is everything on the shelf.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// How many products there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.products.len()
    }

    /// Whether there is nothing on it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.products.is_empty()
    }

    /// A product.
    #[must_use]
    pub fn get(&self, id: ProductId) -> Option<Arc<ProductView>> {
        self.products.get(&id).map(|entry| Arc::clone(&entry.view))
    }

    /// The living product with this sku.
    #[must_use]
    pub fn by_sku(&self, sku: &str) -> Option<Arc<ProductView>> {
        let id = *self.skus.get(sku)?;
        self.get(id)
    }

    /// What a cart needs to know of a product.
    #[must_use]
    pub fn offer(&self, id: ProductId) -> Option<Offer> {
        let view = self.get(id)?;
        let facts = &view.product.details;
        Some(Offer {
            name: facts.name.clone(),
            price: facts.price,
            available: view.stock.available(),
        })
    }

    /// A product's answer.
    #[must_use]
    pub fn render(&self, product: &Product, stock: &StockLevel) -> bytes::Bytes {
        (self.render)(product, stock)
    }

    /// A product with its answer.
    #[must_use]
    pub fn view(&self, product: Arc<Product>, stock: StockLevel) -> Arc<ProductView> {
        let body = self.render(&product, &stock);
        let etag = format!("{}.{}", product.version, stock.version);
        Arc::new(ProductView { product, stock, body, etag })
    }

    /// Brings the shelf up to date with what a batch changed.
    pub fn apply(&self, news: &CommittedChanges) {
        let mut gone = self.alone();
        let mut products: BTreeMap<ProductId, &Arc<Product>> =
            news.products.iter().map(|p| (p.id, p)).collect();
        let stock: BTreeMap<ProductId, StockLevel> =
            news.stock.iter().map(|s| (s.product_id, *s)).collect();
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
                self.replace(product, level, &mut gone);
            }
        }
    }

    /// Puts a product on the shelf, or takes it off when it is deleted. What is older than what is there is ignored.
    pub fn put(&self, product: Arc<Product>, stock: StockLevel) {
        let mut gone = self.alone();
        self.replace(product, stock, &mut gone);
    }

    /// Brings a product up to date that was read from the store. One that was taken off meanwhile stays off.
    pub fn refresh(&self, product: Arc<Product>, stock: StockLevel) {
        let mut gone = self.alone();
        if self.products.contains_key(&product.id) {
            self.replace(product, stock, &mut gone);
        }
    }

    fn alone(&self) -> MutexGuard<'_, Gone> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, product: Arc<Product>, stock: StockLevel, gone: &mut Gone) {
        let known = self.get(product.id);
        if known.is_none() && gone.0.contains(&product.id) {
            return;
        }
        let (product, stock) = match &known {
            Some(known) => newest(known, product, stock),
            None => (product, stock),
        };
        let old_sku = known.and_then(|view| view.product.details.sku.clone());
        if let Some(sku) =
            old_sku.filter(|sku| product.deleted || product.details.sku.as_ref() != Some(sku))
        {
            self.skus.remove_if(&sku, |_, holder| *holder == product.id);
        }
        if product.deleted {
            gone.note(product.id);
            self.products.remove(&product.id);
        } else {
            if let Some(sku) = &product.details.sku {
                self.skus.insert(sku.clone(), product.id);
            }
            let words = Arc::new(SearchText::from_product(&product));
            self.products.insert(product.id, Entry { view: self.view(product, stock), words });
        }
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Everything that matches `filter`, in order, the first `limit` after `after`.
    #[must_use]
    pub fn search(
        &self,
        filter: &ProductFilter,
        sort: ProductSort,
        after: Option<&SortKey>,
        limit: usize,
    ) -> Found {
        let mut matches: Vec<(SortKey, Arc<ProductView>)> = Vec::new();
        for entry in &self.products {
            let Entry { view, words } = entry.value();
            if let Some(score) = filter.score_product(&view.product, words, view.stock.available())
            {
                matches.push((sort.sort_key(&view.product, words, score), Arc::clone(view)));
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
        Found {
            items: page.into_iter().map(|(_, view)| view).collect(),
            next,
            total,
            categories,
            prices,
        }
    }

    /// Products whose name somebody may be typing, in lower case; the likeliest first.
    #[must_use]
    pub fn suggest(&self, typed: &str, limit: usize) -> Vec<Arc<ProductView>> {
        if typed.is_empty() {
            return Vec::new();
        }
        let close = |entry: &Entry| {
            entry.words.suggestion_rank(typed).map(|rank| (rank, Arc::clone(&entry.view)))
        };
        let mut found: Vec<_> =
            self.products.iter().filter_map(|entry| close(entry.value())).collect();
        let key = |(rank, view): &(u8, Arc<ProductView>)| {
            (*rank, view.product.details.name.clone(), view.product.id)
        };
        found.sort_by_cached_key(key);
        found.into_iter().take(limit).map(|(_, view)| view).collect()
    }
}

/// The newer of what is known and what is told, of the product and of its stock.
fn newest(
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
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;
    use crate::domain::{catalog::product::ProductDetails, clock::Timestamp, money::Money};

    fn product() -> Product {
        let facts = ProductDetails {
            sku: Some("TEA-1".into()),
            name: "Tea".into(),
            description: String::new(),
            price: Money::zero("EUR".parse().unwrap()),
            category: None,
            tags: Vec::new(),
            image_url: None,
            attributes: BTreeMap::new(),
        };
        Product::new(ProductId::new(), facts, Timestamp::default())
    }

    #[test]
    fn what_is_older_is_not_put_over_what_is_newer() {
        let shelf = CatalogSnapshot::new(|_, _| bytes::Bytes::new());
        let both = Barrier::new(2);
        for _ in 0..2_000 {
            let old = product();
            let id = old.id;
            let new = Product { version: 2, ..old.clone() };
            let put = |product: Product| {
                both.wait();
                shelf.put(Arc::new(product), StockLevel::empty(id));
            };
            thread::scope(|scope| {
                scope.spawn(|| put(old));
                scope.spawn(|| put(new));
            });
            assert_eq!(shelf.get(id).unwrap().product.version, 2);
        }
    }

    #[test]
    fn what_was_read_before_it_was_deleted_does_not_come_back() {
        let shelf = CatalogSnapshot::new(|_, _| bytes::Bytes::new());
        let read = Arc::new(product());
        let stock = StockLevel::empty(read.id);
        shelf.put(Arc::clone(&read), stock);
        shelf.put(Arc::new(read.to_deleted(Timestamp::default())), stock);
        let next = Arc::new(product());
        shelf.put(Arc::clone(&next), StockLevel::empty(next.id));
        shelf.refresh(Arc::clone(&read), stock);
        shelf.apply(&CommittedChanges {
            products: vec![Arc::clone(&read)],
            stock: vec![stock],
            ..CommittedChanges::default()
        });
        assert!(shelf.get(read.id).is_none());
        assert_eq!(shelf.by_sku("TEA-1").unwrap().product.id, next.id, "it has the sku now");
    }
}
