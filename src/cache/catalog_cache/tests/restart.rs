//! Tests that a catalog whose search index was saved finds what one with a new index finds.

use std::time::Instant;

use proptest::prelude::*;
use roaring::RoaringBitmap;

use super::{
    listing::{Sketch, details, sketch},
    *,
};
use crate::{
    domain::{
        catalog::search::{ProductFilter, ProductSort},
        clock::SystemClock,
    },
    store::{
        Store,
        commit::{Commit, Write},
        sqlite::{SqliteOptions, SqliteStore},
    },
};

const SEARCHES: [&str; 7] = ["", "name", "na", "name 3", "name 7", "t2", "c1 nmae"];

/// New details of the product with this number, or its end.
type Change = (usize, Option<Sketch>);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec((0..30_usize, prop::option::weighted(0.8, sketch())), 0..40)
}

/// The products of a shop, and their store.
struct Shop {
    store: SqliteStore,
    products: BTreeMap<usize, Product>,
    dir: tempfile::TempDir,
}

impl Shop {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteOptions::sample(dir.path());
        let store = SqliteStore::open(options, Arc::new(SystemClock)).unwrap();
        Self { store, products: BTreeMap::new(), dir }
    }

    /// Changes products in the store, and in `catalog`.
    async fn change(&mut self, changes: Vec<Change>, catalog: Option<&CatalogCache>) {
        let mut commits = Vec::new();
        for (number, sketch) in changes {
            let known = self.products.remove(&number);
            let product = match (known, sketch) {
                (None, None) => continue,
                (Some(old), None) => old.to_deleted(Timestamp::default()),
                (Some(old), Some(new)) => {
                    Product { details: details(&new), version: old.version + 1, ..old }
                }
                (None, Some(new)) => {
                    Product::new(ProductId::new(), details(&new), Timestamp::default())
                }
            };
            if !product.deleted {
                self.products.insert(number, product.clone());
            }
            let commit = Commit::new(Timestamp::from_millis(1), Instant::now());
            let writes = vec![Write::Product(Arc::new(product))];
            commits.push(Commit { writes, ..commit });
        }
        let applied = self.store.apply(commits.into()).await.unwrap();
        assert!(applied.outcomes.iter().all(Result::is_ok));
        if let Some(catalog) = catalog {
            catalog.apply(&applied.changes);
        }
    }

    /// Loads the catalog, with the index that was saved last.
    async fn restart(&self) -> CatalogCache {
        let path = self.dir.path().join("search.index");
        let language = CatalogLanguage::default();
        let catalog = CatalogCache::open(|_, _| bytes::Bytes::new(), &language, path);
        catalog.load(&self.store).await.unwrap();
        catalog
    }

    /// The slots of the index that was saved last.
    fn saved_slots(&self) -> RoaringBitmap {
        let path = self.dir.path().join("search.index");
        let saved = SavedIndex::new(path, CatalogLanguage::default());
        TextIndex::open(Some(saved)).begin_load().slots().clone()
    }

    /// Loads the catalog with a new index.
    async fn load(&self) -> CatalogCache {
        let catalog = CatalogCache::new(|_, _| bytes::Bytes::new(), &CatalogLanguage::default());
        catalog.load(&self.store).await.unwrap();
        catalog
    }
}

/// What searches find: the number of matches, and the products with their versions.
fn found(catalog: &CatalogCache) -> Vec<(u64, Vec<(ProductId, u64)>)> {
    let mut found = Vec::new();
    for text in SEARCHES {
        let text = catalog.rules().parse_query(text);
        let filter = ProductFilter { text, ..ProductFilter::default() };
        for sort in ProductSort::ALL {
            let page = catalog.search(&filter, *sort, None, 100).unwrap();
            let item = |view: &Arc<ProductView>| (view.product.id, view.product.version);
            found.push((page.total, page.items.iter().map(item).collect()));
        }
    }
    let typed = catalog.rules().parse_typed("nam").unwrap();
    let suggested = catalog.suggest(&typed, 10).unwrap();
    found.push((0, suggested.iter().map(|product| (product.id, 0)).collect()));
    found
}

/// Else a catalog whose products change would take ever more memory.
#[tokio::test]
async fn slots_of_products_that_are_gone_are_used_again() {
    const PRODUCTS: u32 = 6000;
    let shop = Shop::new();
    for _ in 0..3 {
        // The store has no products, so that those of the last round are gone.
        let catalog = shop.restart().await;
        for _ in 0..PRODUCTS {
            let new = product();
            let stock = StockLevel::empty(new.id);
            catalog.put(Arc::new(new), stock);
        }
        catalog.close();
        let slots = shop.saved_slots();
        assert_eq!(slots.len(), u64::from(PRODUCTS));
        assert!(slots.max() < Some(2 * PRODUCTS - 1000), "{:?}", slots.max());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn saved_index_finds_what_a_new_one_does(
        before in changes(),
        meanwhile in changes(),
        after in changes(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut shop = Shop::new();
            let catalog = shop.restart().await;
            shop.change(before, Some(&catalog)).await;
            let wanted = found(&shop.load().await);
            prop_assert_eq!(&found(&catalog), &wanted);
            catalog.close();
            prop_assert_eq!(&found(&shop.restart().await), &wanted, "unchanged");
            shop.change(meanwhile, None).await;
            let catalog = shop.restart().await;
            prop_assert_eq!(found(&catalog), found(&shop.load().await), "changed meanwhile");
            shop.change(after, Some(&catalog)).await;
            let wanted = found(&shop.load().await);
            prop_assert_eq!(&found(&catalog), &wanted, "changed after the restart");
            catalog.close();
            prop_assert_eq!(&found(&shop.restart().await), &wanted, "saved again");
            prop_assert_eq!(shop.saved_slots().len(), shop.products.len() as u64);
            Ok(())
        })?;
    }
}
