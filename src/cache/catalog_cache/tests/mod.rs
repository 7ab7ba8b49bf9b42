//! Tests the cache with concurrent and unordered changes.

use std::{sync::Barrier, thread};

mod facets;
mod listing;
mod restart;
mod searches;

use super::*;
use crate::domain::{catalog::product::ProductDetails, clock::Timestamp, money::Money};

fn product() -> Product {
    let details = ProductDetails { sku: Some("TEA-1".into()), ..ProductDetails::sample("Tea") };
    Product::new(ProductId::new(), details, Timestamp::default())
}

/// The facets of a page that is not remembered.
fn counted(facets: PageFacets) -> Facets {
    match facets {
        PageFacets::Counted { facets, .. } => facets,
        PageFacets::Rendered(_) => panic!("the page is remembered"),
    }
}

#[test]
fn older_version_does_not_replace_a_newer_one() {
    let cache = CatalogCache::new(|_, _| bytes::Bytes::new(), &CatalogLanguage::default());
    let both = Barrier::new(2);
    for _ in 0..2_000 {
        let old = product();
        let id = old.id;
        let new = Product { version: 2, ..old.clone() };
        let put = |product: Product| {
            both.wait();
            cache.put(Arc::new(product), StockLevel::empty(id));
        };
        thread::scope(|scope| {
            scope.spawn(|| put(old));
            scope.spawn(|| put(new));
        });
        assert_eq!(cache.get(id).unwrap().product.version, 2);
    }
}

/// What was decoded for one reader serves the next, until the product or its stock changes.
#[test]
fn view_is_shared_until_it_changes() {
    let cache = CatalogCache::new(|_, _| bytes::Bytes::new(), &CatalogLanguage::default());
    let first = product();
    let id = first.id;
    cache.put(Arc::new(first.clone()), StockLevel::empty(id));
    let view = cache.get(id).unwrap();
    assert!(Arc::ptr_eq(&view, &cache.get(id).unwrap()));
    let stock = StockLevel { version: 1, on_hand: 7, ..StockLevel::empty(id) };
    cache.put(Arc::new(first.clone()), stock);
    assert_eq!(cache.get(id).unwrap().stock, stock);
    let second = Product { version: 2, ..first };
    cache.put(Arc::new(second), stock);
    assert_eq!(cache.get(id).unwrap().product.version, 2);
}

/// Changes of several nodes arrive in no order.
#[test]
fn newest_of_several_versions_takes_effect() {
    let cache = CatalogCache::new(|_, _| bytes::Bytes::new(), &CatalogLanguage::default());
    let first = product();
    let id = first.id;
    cache.put(Arc::new(first.clone()), StockLevel::empty(id));
    let level = |version| StockLevel { version, ..StockLevel::empty(id) };
    let product = |version| Arc::new(Product { version, ..first.clone() });
    cache.apply(&CommittedChanges {
        products: vec![product(3), product(2)],
        stock: vec![level(5), level(4)],
        ..CommittedChanges::default()
    });
    let view = cache.get(id).unwrap();
    assert_eq!((view.product.version, view.stock.version), (3, 5));
}

#[test]
fn deleted_product_does_not_come_back() {
    let cache = CatalogCache::new(|_, _| bytes::Bytes::new(), &CatalogLanguage::default());
    let read = Arc::new(product());
    let stock = StockLevel::empty(read.id);
    cache.put(Arc::clone(&read), stock);
    cache.put(Arc::new(read.to_deleted(Timestamp::default())), stock);
    let next = Arc::new(product());
    cache.put(Arc::clone(&next), StockLevel::empty(next.id));
    cache.refresh(Arc::clone(&read), stock);
    cache.apply(&CommittedChanges {
        products: vec![Arc::clone(&read)],
        stock: vec![stock],
        ..CommittedChanges::default()
    });
    assert!(cache.get(read.id).is_none());
    assert_eq!(
        cache.by_sku("TEA-1").unwrap().product.id,
        next.id,
        "the next product keeps the sku"
    );
}
