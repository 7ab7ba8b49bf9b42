//! Compares filters, orders and facets with those of a plain list of products.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;
use crate::domain::catalog::{
    product::AttributeValue,
    search::{ProductFilter, ProductSort},
};

/// What a random product is made of.
#[derive(Debug, Clone)]
pub(super) struct Sketch {
    name: u8,
    price: i64,
    category: Option<u8>,
    tags: Vec<u8>,
    size: u8,
    on_hand: u64,
}

pub(super) fn sketch() -> impl Strategy<Value = Sketch> {
    (
        0..20_u8,
        0..30_000_i64,
        prop::option::of(0..4_u8),
        prop::collection::vec(0..5_u8, 0..3),
        0..3_u8,
        0..2_u64,
    )
        .prop_map(|(name, price, category, tags, size, on_hand)| Sketch {
            name,
            price,
            category,
            tags,
            size,
            on_hand,
        })
}

/// A change of the product with this number: new details, another stock, or its end.
#[derive(Debug, Clone)]
enum Change {
    Put(usize, Sketch),
    Stock(usize, u64),
    Delete(usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (0..40_usize, sketch()).prop_map(|(number, sketch)| Change::Put(number, sketch)),
        2 => (0..40_usize, 0..2_u64).prop_map(|(number, on_hand)| Change::Stock(number, on_hand)),
        1 => (0..40_usize).prop_map(Change::Delete),
    ]
}

fn filter() -> impl Strategy<Value = ProductFilter> {
    let texts = |kind: &'static str| {
        prop::collection::btree_set((0..5_u8).prop_map(move |n| format!("{kind}{n}")), 0..3)
    };
    let sizes = prop::collection::btree_set((0..3_u8).prop_map(|n| n.to_string()), 0..3);
    let price = || prop::option::of(0..30_000_i64);
    (texts("c"), texts("t"), sizes, price(), price(), prop::option::of(any::<bool>())).prop_map(
        |(categories, tags, sizes, min_price, max_price, in_stock)| ProductFilter {
            categories,
            tags,
            attributes: [("size".to_owned(), sizes)]
                .into_iter()
                .filter(|(_, s)| !s.is_empty())
                .collect(),
            min_price,
            max_price,
            in_stock,
            ..ProductFilter::default()
        },
    )
}

pub(super) fn details(sketch: &Sketch) -> ProductDetails {
    let size = AttributeValue::Number(sketch.size.into());
    ProductDetails {
        sku: None,
        name: format!("Name {}", sketch.name),
        price: Money::from_minor_units(sketch.price, "EUR".parse().unwrap()).unwrap(),
        category: sketch.category.map(|n| format!("c{n}")),
        tags: sketch.tags.iter().map(|n| format!("t{n}")).collect(),
        attributes: [("size".to_owned(), size)].into(),
        ..product().details
    }
}

fn passes(filter: &ProductFilter, product: &Product, stock: &StockLevel) -> bool {
    let details = &product.details;
    let price = details.price.minor_units();
    let size = || details.attributes.values().map(crate::domain::catalog::search::attribute_text);
    (filter.categories.is_empty()
        || details.category.as_ref().is_some_and(|category| filter.categories.contains(category)))
        && (filter.tags.is_empty() || details.tags.iter().any(|tag| filter.tags.contains(tag)))
        && filter.attributes.values().all(|sizes| size().any(|size| sizes.contains(&size)))
        && filter.min_price.is_none_or(|min| price >= min)
        && filter.max_price.is_none_or(|max| price <= max)
        && filter.in_stock.is_none_or(|wanted| (stock.available() > 0) == wanted)
}

fn compare(sort: ProductSort, a: &Product, b: &Product) -> Ordering {
    let price = |product: &Product| product.details.price.minor_units();
    let name = |product: &Product| product.details.name.clone();
    let by_name = || {
        // Of equal length, or the shorter number is a prefix: as the collator sorts them.
        name(a).cmp(&name(b)).then(a.id.cmp(&b.id))
    };
    match sort {
        ProductSort::Relevance | ProductSort::Name => by_name(),
        ProductSort::PriceAscending => (price(a), a.id).cmp(&(price(b), b.id)),
        ProductSort::PriceDescending => (price(b), b.id).cmp(&(price(a), a.id)),
        ProductSort::Newest => (b.created_at, b.id).cmp(&(a.created_at, a.id)),
    }
}

fn count(values: impl Iterator<Item = String>) -> Vec<(AttributeValue, u64)> {
    let mut counts = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_insert(0) += 1;
    }
    counts.into_iter().map(|(value, count)| (AttributeValue::Text(value), count)).collect()
}

/// The products that are not deleted, by number.
type Model = BTreeMap<usize, (Product, StockLevel)>;

fn apply(change: Change, cache: &CatalogCache, model: &mut Model) {
    match change {
        Change::Put(number, sketch) => {
            let (product, stock) = match model.remove(&number) {
                Some((old, stock)) => {
                    let version = old.version + 1;
                    (Product { details: details(&sketch), version, ..old }, stock)
                }
                None => {
                    let id = ProductId::new();
                    let created = Timestamp::from_millis((number % 7) as i64);
                    let stock = StockLevel { on_hand: sketch.on_hand, ..StockLevel::empty(id) };
                    (Product::new(id, details(&sketch), created), stock)
                }
            };
            cache.put(Arc::new(product.clone()), stock);
            model.insert(number, (product, stock));
        }
        Change::Stock(number, on_hand) => {
            if let Some((_, stock)) = model.get_mut(&number) {
                *stock = StockLevel { on_hand, version: stock.version + 1, ..*stock };
                let stock = vec![*stock];
                cache.apply(&CommittedChanges { stock, ..CommittedChanges::default() });
            }
        }
        Change::Delete(number) => {
            if let Some((product, stock)) = model.remove(&number) {
                cache.put(Arc::new(product.to_deleted(Timestamp::default())), stock);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn lists_are_those_of_a_plain_list(
        changes in prop::collection::vec(change(), 1..120),
        filters in prop::collection::vec(filter(), 1..6),
        limit in 1..9_usize,
    ) {
        let cache = CatalogCache::new(|_, _| bytes::Bytes::new(), &CatalogLanguage::default());
        let mut model = Model::new();
        for change in changes {
            apply(change, &cache, &mut model);
        }
        for filter in filters {
            let matches = |filter: &ProductFilter| -> Vec<Product> {
                let found =
                    model.values().filter(|(product, stock)| passes(filter, product, stock));
                found.map(|(product, _)| product.clone()).collect()
            };
            for sort in ProductSort::ALL {
                let mut wanted = matches(&filter);
                wanted.sort_by(|a, b| compare(*sort, a, b));
                let (mut found, mut after) = (Vec::new(), None);
                loop {
                    let page = cache.search(&filter, *sort, after.as_ref(), limit).unwrap();
                    prop_assert_eq!(page.total, wanted.len() as u64);
                    found.extend(page.items.iter().map(|view| (*view.product).clone()));
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                prop_assert_eq!(&found, &wanted, "{:?}", sort);
            }
            let facets = cache.search(&filter, ProductSort::Name, None, 1).unwrap().facets;
            let facets = counted(facets);
            let others = ProductFilter { categories: BTreeSet::new(), ..filter.clone() };
            let others = matches(&others).into_iter();
            let categories = others.filter_map(|product| product.details.category);
            prop_assert_eq!(&facets.categories, &count(categories));
            let others = ProductFilter { tags: BTreeSet::new(), ..filter.clone() };
            let tags = matches(&others).into_iter().flat_map(|product| {
                product.details.tags.into_iter().collect::<BTreeSet<_>>()
            });
            prop_assert_eq!(&facets.tags, &count(tags));
            let others = ProductFilter { min_price: None, max_price: None, ..filter.clone() };
            let counted: u64 = facets.prices.iter().map(|band| band.count).sum();
            prop_assert_eq!(counted, matches(&others).len() as u64);
        }
    }
}
