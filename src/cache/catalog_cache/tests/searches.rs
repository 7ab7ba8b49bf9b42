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

    /// The first page, which is remembered. Its facets are rendered as text.
    fn first_page(&self, filter: &ProductFilter, limit: usize) -> SearchPage {
        let page = self.0.search(filter, ProductSort::Relevance, None, limit).unwrap();
        let render = |facets: &Facets| Some(format!("{facets:?}").into_bytes());
        let facets = self.0.render_facets(page.facets, render).unwrap();
        SearchPage { facets: PageFacets::Rendered(facets), ..page }
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
    let PageFacets::Rendered(facets) = page.facets else { panic!("the facets are rendered") };
    assert!(String::from_utf8(facets).unwrap().contains("to: 200000"));
    let sold_out = StockLevel { version: 1, ..StockLevel::empty(last.id) };
    shop.0.apply(&CommittedChanges { stock: vec![sold_out], ..CommittedChanges::default() });
    assert_eq!(shop.first_page(&in_stock, 2).total, 4);
    assert_eq!(shop.first_page(&filter, 2).items[0].stock.on_hand, 0);
    shop.0.put(Arc::new(last.to_deleted(Timestamp::default())), sold_out);
    assert_eq!(shop.total("cup"), 4);
}

#[test]
fn page_is_at_hand_until_its_products_change() {
    let shop = Shop::new();
    let mut product = named("Cup", 1000);
    shop.put(&product);
    let filter = shop.filter("cup");
    let recent = || shop.0.recent_page(&filter, ProductSort::Relevance, 20);
    assert!(recent().is_none());
    let PageFacets::Rendered(facets) = shop.first_page(&filter, 20).facets else { panic!() };
    let page = recent().unwrap();
    assert_eq!((page.items.len(), page.total, page.next), (1, 1, None));
    assert_eq!(*page.items[0].product, product);
    assert!(matches!(page.facets, PageFacets::Rendered(known) if known == facets));
    // The page is still the same, but the product would have to be read and rendered again.
    let level = StockLevel { on_hand: 9, version: 5, ..StockLevel::empty(product.id) };
    shop.0.apply(&CommittedChanges { stock: vec![level], ..CommittedChanges::default() });
    assert!(recent().is_none());
    assert_eq!(shop.first_page(&filter, 20).items[0].stock, level);
    assert_eq!(recent().unwrap().items[0].stock, level);
    product.version += 1;
    shop.put(&product);
    assert!(recent().is_none());
}

#[test]
fn suggestions_are_at_hand_until_products_change() {
    let shop = Shop::new();
    let typed = shop.0.rules().parse_typed("cu").unwrap();
    let names = |found: Arc<[SuggestedProduct]>| -> Vec<String> {
        found.iter().map(|found| found.name.to_string()).collect()
    };
    let recent = |limit| shop.0.recent_suggestions(&typed, limit).map(names);
    shop.put(&named("Cup", 1));
    assert_eq!(recent(2), None);
    assert_eq!(names(shop.0.suggest(&typed, 2).unwrap()), ["Cup"]);
    assert_eq!((recent(2), recent(3)), (Some(vec!["Cup".to_owned()]), None));
    shop.put(&named("Curtain", 1));
    assert_eq!(recent(2), None);
    assert_eq!(names(shop.0.suggest(&typed, 2).unwrap()), ["Curtain", "Cup"]);
}

/// Products that replaced older ones in their slots are newer than their neighbors.
#[test]
fn newest_of_many_equal_products_come_first() {
    let shop = Shop::new();
    let mut products: Vec<Product> = (0..6000).map(|_| named("Cup", 1)).collect();
    // Not in the order of their slots.
    products.iter().skip(1).step_by(2).for_each(|product| shop.put(product));
    products.iter().step_by(2).for_each(|product| shop.put(product));
    for _ in 0..5000 {
        let gone = products.remove(products.len() / 2);
        shop.0.put(Arc::new(gone.to_deleted(Timestamp::default())), StockLevel::empty(gone.id));
        let new = named("Cup", 1);
        shop.put(&new);
        products.push(new);
    }
    let wanted: Vec<ProductId> = products.iter().rev().map(|product| product.id).collect();
    let found = shop.first_page(&shop.filter("cup"), 100);
    let found: Vec<_> = found.items.iter().map(|view| view.product.id).collect();
    assert_eq!(found, wanted[..100]);
    let typed = shop.0.rules().parse_typed("cup").unwrap();
    let suggested = shop.0.suggest(&typed, 100).unwrap();
    assert!(suggested.iter().map(|found| found.id).eq(wanted[..100].iter().copied()));
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
