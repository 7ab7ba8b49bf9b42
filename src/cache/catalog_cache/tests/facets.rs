//! Tests of what facets count, and of the types of their values.

use super::*;
use crate::domain::catalog::{
    product::AttributeValue,
    search::{ProductFilter, ProductSort},
};

fn cache() -> CatalogCache {
    CatalogCache::new(|_, _| bytes::Bytes::new(), &CatalogLanguage::default())
}

fn put(cache: &CatalogCache, details: ProductDetails, on_hand: u64) -> Product {
    let product = Product::new(ProductId::new(), details, Timestamp::default());
    let stock = StockLevel { on_hand, ..StockLevel::empty(product.id) };
    cache.put(Arc::new(product.clone()), stock);
    product
}

fn facets(cache: &CatalogCache, filter: &ProductFilter) -> Facets {
    counted(cache.search(filter, ProductSort::Name, None, 1).unwrap().facets)
}

/// A field with very many values does not hide those of others.
#[test]
fn each_field_lists_its_most_common_values() {
    let cache = cache();
    for number in 0..2100 {
        let details = ProductDetails {
            category: Some(format!("c{number}")),
            tags: vec![format!("t{number}"), format!("u{}", number % 120)],
            attributes: [
                ("color".to_owned(), AttributeValue::Text(format!("v{}", number % 60))),
                ("part".to_owned(), AttributeValue::Text(format!("p{number}"))),
            ]
            .into(),
            ..ProductDetails::sample("Cup")
        };
        put(&cache, details, u64::from(number != 0));
    }
    let in_stock = ProductFilter { in_stock: Some(true), ..ProductFilter::default() };
    for filter in [ProductFilter::default(), in_stock] {
        let found = facets(&cache, &filter);
        assert_eq!((found.categories.len(), found.tags.len()), (200, 100));
        assert!(found.tags.iter().all(|(_, count)| *count >= 17), "{:?}", found.tags);
        for (name, least) in [("color", 34), ("part", 1)] {
            let values = &found.attributes[name];
            assert_eq!(values.len(), 50, "{name}");
            assert!(values.iter().all(|(_, count)| *count >= least), "{values:?}");
        }
    }
}

/// The types of values do not depend on what other products have or had.
#[test]
fn values_of_equal_text_keep_their_types() {
    let cache = cache();
    let value = |value: &str| serde_json::from_str::<AttributeValue>(value).unwrap();
    let sized = |text: &str| ProductDetails {
        attributes: [("size".to_owned(), value(text))].into(),
        ..ProductDetails::sample("Cup")
    };
    let number = put(&cache, sized("2.5"), 1);
    put(&cache, sized("\"2.5\""), 1);
    put(&cache, sized("true"), 1);
    put(&cache, sized("\"true\""), 1);
    let sizes = || facets(&cache, &ProductFilter::default()).attributes.remove("size").unwrap();
    let mut wanted =
        vec![(value("2.5"), 1), (value("\"2.5\""), 1), (value("\"true\""), 1), (value("true"), 1)];
    assert_eq!(sizes(), wanted);
    let attributes = [("size".to_owned(), ["2.5".to_owned()].into())].into();
    let filter = ProductFilter { attributes, ..ProductFilter::default() };
    assert_eq!(cache.search(&filter, ProductSort::Name, None, 5).unwrap().total, 2);
    let deleted = number.to_deleted(Timestamp::default());
    cache.put(Arc::new(deleted), StockLevel::empty(number.id));
    wanted.remove(0);
    assert_eq!(sizes(), wanted);
}

/// Labels that look equal are one, in whatever characters they are written.
#[test]
fn letters_with_accents_are_equal_however_they_are_written() {
    let cache = cache();
    let forms = ["Caf\u{e9}", "Cafe\u{301}"];
    for form in forms {
        let details = ProductDetails {
            category: Some(form.to_owned()),
            tags: vec![form.to_owned()],
            attributes: [(form.to_owned(), AttributeValue::Text(form.to_owned()))].into(),
            ..ProductDetails::sample("Cup")
        };
        put(&cache, details, 1);
    }
    let wanted = vec![(AttributeValue::Text(forms[0].to_owned()), 2)];
    let found = facets(&cache, &ProductFilter::default());
    assert_eq!((&found.categories, &found.tags), (&wanted, &wanted));
    assert_eq!(found.attributes, [(forms[0].to_owned(), wanted)].into());
    for form in forms {
        let text = || std::collections::BTreeSet::from([form.to_owned()]);
        let none = ProductFilter::default;
        for filter in [
            ProductFilter { categories: text(), ..none() },
            ProductFilter { tags: text(), ..none() },
            ProductFilter { attributes: [(form.to_owned(), text())].into(), ..none() },
            ProductFilter {
                attributes: forms.map(|name| (name.to_owned(), [name.to_owned()].into())).into(),
                ..none()
            },
        ] {
            let page = cache.search(&filter, ProductSort::Name, None, 5).unwrap();
            assert_eq!(page.total, 2, "{filter:?}");
        }
    }
}
