//! Tests of searches that are remembered, and of typos among many matches.

use super::*;
use crate::domain::catalog::search::{ProductFilter, ProductSort};

fn named(name: &str, price: i64) -> Product {
    let price = Money::from_minor_units(price, "EUR".parse().unwrap()).unwrap();
    let mut product = product();
    product.details = ProductDetails { name: name.into(), sku: None, price, ..product.details };
    product
}

struct Shop(CatalogCache);

impl Shop {
    fn new() -> Self {
        Self(CatalogCache::new(|_, _| bytes::Bytes::new(), &CatalogLanguage::default()))
    }

    fn put(&self, product: &Product) {
        let stock = StockLevel { on_hand: 1, ..StockLevel::empty(product.id) };
        self.0.put(Arc::new(product.clone()), stock);
    }

    fn filter(&self, text: &str) -> ProductFilter {
        ProductFilter { text: self.0.rules().parse_query(text), ..ProductFilter::default() }
    }

    fn first_page(&self, filter: &ProductFilter, limit: usize) -> SearchPage {
        self.0.search(filter, ProductSort::Relevance, None, limit).unwrap()
    }

    fn total(&self, text: &str) -> u64 {
        self.first_page(&self.filter(text), 1).total
    }
}

#[test]
fn typos_matter_only_if_few_products_match() {
    let shop = Shop::new();
    shop.put(&named("Library", 1));
    (0..99).for_each(|_| shop.put(&named("Libary", 1)));
    assert_eq!((shop.total("libary"), shop.total("library")), (100, 100));
    shop.put(&named("Libary", 1));
    assert_eq!((shop.total("libary"), shop.total("library")), (100, 101));
}

#[test]
fn remembered_page_changes_with_its_products() {
    let shop = Shop::new();
    let mut products: Vec<Product> = (1..=5).map(|n| named("Cup", n * 1000)).collect();
    products.iter().for_each(|product| shop.put(product));
    let filter = shop.filter("cup");
    let in_stock = ProductFilter { in_stock: Some(true), ..ProductFilter::default() };
    for limit in [2, 5, 3] {
        let page = shop.first_page(&filter, limit);
        let newest: Vec<_> = page.items.iter().map(|view| view.product.id).collect();
        let wanted: Vec<_> = products.iter().rev().take(limit).map(|product| product.id).collect();
        assert_eq!((newest, page.total, page.next.is_some()), (wanted, 5, limit < 5));
        let rest = page.next.map(|next| {
            let rest = shop.0.search(&filter, ProductSort::Relevance, Some(&next), 100);
            rest.unwrap().items.len()
        });
        assert_eq!(rest.unwrap_or(0), 5 - limit);
        assert_eq!(shop.first_page(&in_stock, limit).total, 5);
    }
    let last = products.last_mut().unwrap();
    last.details.price = Money::from_minor_units(200_000, last.details.price.currency()).unwrap();
    last.version += 1;
    shop.put(last);
    let page = shop.first_page(&filter, 2);
    assert_eq!(page.items[0].product.details.price, last.details.price);
    assert_eq!(page.facets.prices.last().unwrap().to, 200_000);
    let sold_out = StockLevel { version: 1, ..StockLevel::empty(last.id) };
    shop.0.apply(&CommittedChanges { stock: vec![sold_out], ..CommittedChanges::default() });
    assert_eq!(shop.first_page(&in_stock, 2).total, 4);
    assert_eq!(shop.first_page(&filter, 2).items[0].stock.on_hand, 0);
    shop.0.put(Arc::new(last.to_deleted(Timestamp::default())), sold_out);
    assert_eq!(shop.total("cup"), 4);
}

/// The details of a large catalog are compressed, with a dictionary that the first products make.
#[test]
fn large_catalog_is_packed_and_read_as_it_is() {
    let shop = Shop::new();
    let described = |number: usize| {
        let mut product = named(&format!("Cup {number}"), 1);
        product.details.description = format!("A cup of porcelain, the number {number} of all.");
        product.details.sku = Some(format!("CUP-{number}"));
        product
    };
    let products: Vec<Product> = (0..MIN_COMPRESSED_PRODUCTS + 50).map(described).collect();
    products.iter().for_each(|product| shop.put(product));
    assert!(shop.0.codec.is_trained());
    for (number, product) in products.iter().enumerate() {
        assert_eq!(*shop.0.get(product.id).unwrap().product, *product);
        let found = shop.0.by_sku(&format!("CUP-{number}")).unwrap();
        assert_eq!(found.product.id, product.id);
    }
}
