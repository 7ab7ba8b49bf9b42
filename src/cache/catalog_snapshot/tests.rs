//! Tests the snapshot with concurrent and unordered changes.

use std::{sync::Barrier, thread};

use super::*;
use crate::domain::{catalog::product::ProductDetails, clock::Timestamp, money::Money};

fn product() -> Product {
    let details = ProductDetails {
        sku: Some("TEA-1".into()),
        name: "Tea".into(),
        description: String::new(),
        price: Money::zero("EUR".parse().unwrap()),
        category: None,
        tags: Vec::new(),
        image_url: None,
        purchase_limit: None,
        attributes: BTreeMap::new(),
    };
    Product::new(ProductId::new(), details, Timestamp::default())
}

#[test]
fn older_version_does_not_replace_a_newer_one() {
    let snapshot = CatalogSnapshot::new(|_, _| bytes::Bytes::new());
    let both = Barrier::new(2);
    for _ in 0..2_000 {
        let old = product();
        let id = old.id;
        let new = Product { version: 2, ..old.clone() };
        let put = |product: Product| {
            both.wait();
            snapshot.put(Arc::new(product), StockLevel::empty(id));
        };
        thread::scope(|scope| {
            scope.spawn(|| put(old));
            scope.spawn(|| put(new));
        });
        assert_eq!(snapshot.get(id).unwrap().product.version, 2);
    }
}

/// Changes of several nodes arrive in no order.
#[test]
fn newest_of_several_versions_takes_effect() {
    let snapshot = CatalogSnapshot::new(|_, _| bytes::Bytes::new());
    let first = product();
    let id = first.id;
    snapshot.put(Arc::new(first.clone()), StockLevel::empty(id));
    let level = |version| StockLevel { version, ..StockLevel::empty(id) };
    let product = |version| Arc::new(Product { version, ..first.clone() });
    snapshot.apply(&CommittedChanges {
        products: vec![product(3), product(2)],
        stock: vec![level(5), level(4)],
        ..CommittedChanges::default()
    });
    let view = snapshot.get(id).unwrap();
    assert_eq!((view.product.version, view.stock.version), (3, 5));
}

#[test]
fn deleted_product_does_not_come_back() {
    let snapshot = CatalogSnapshot::new(|_, _| bytes::Bytes::new());
    let read = Arc::new(product());
    let stock = StockLevel::empty(read.id);
    snapshot.put(Arc::clone(&read), stock);
    snapshot.put(Arc::new(read.to_deleted(Timestamp::default())), stock);
    let next = Arc::new(product());
    snapshot.put(Arc::clone(&next), StockLevel::empty(next.id));
    snapshot.refresh(Arc::clone(&read), stock);
    snapshot.apply(&CommittedChanges {
        products: vec![Arc::clone(&read)],
        stock: vec![stock],
        ..CommittedChanges::default()
    });
    assert!(snapshot.get(read.id).is_none());
    assert_eq!(
        snapshot.by_sku("TEA-1").unwrap().product.id,
        next.id,
        "the next product keeps the sku"
    );
}
