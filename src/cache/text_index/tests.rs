//! Tests that changes are found at once, and the same way when they are in the index.

use std::time::Duration;

use super::*;
use crate::domain::{
    catalog::{
        product::{Product, ProductDetails},
        search::{CatalogLanguage, TextRules},
    },
    clock::Timestamp,
    ids::ProductId,
};

const MINUTE: Duration = Duration::from_secs(60);

struct Fixture {
    index: TextIndex,
    rules: TextRules,
}

impl Fixture {
    fn new() -> Self {
        let rules = TextRules::new(&CatalogLanguage::default());
        Self { index: TextIndex::open(None), rules }
    }

    fn put(&self, slot: u32, name: &str, description: &str) {
        let details = ProductDetails {
            sku: Some(format!("SKU-{slot}")),
            description: description.into(),
            ..ProductDetails::sample(name)
        };
        let product = Product::new(ProductId::new(), details, Timestamp::default());
        self.index.put(slot, TextKey::of(&product), self.rules.product_terms(&product));
    }

    /// Waits until all changes are in the index.
    fn wait(&self) {
        let mut state = self.index.shared.lock();
        while !state.pending.is_empty() {
            state = self.index.shared.changed.wait(state).unwrap();
        }
    }

    /// Waits until the segments of a load are one.
    fn wait_for_merge(&self) {
        let mut state = self.index.shared.lock();
        while state.view.segments.len() > 1 {
            state = self.index.shared.changed.wait(state).unwrap();
        }
    }

    fn run(&self, field: SearchField, query: &CompiledQuery) -> Vec<u32> {
        let mut budget = TimeBudget::new(MINUTE);
        let mut found = self.index.search(field, query, None, &mut budget).unwrap();
        found.sort_by_key(|found| (u32::MAX - found.score, found.slot));
        found.into_iter().map(|found| found.slot).collect()
    }

    fn search(&self, text: &str) -> Vec<u32> {
        let query = self.rules.parse_query(text).unwrap();
        self.run(SearchField::Text, &CompiledQuery::new(&query, true))
    }

    fn suggest(&self, text: &str) -> Vec<u32> {
        let query = self.rules.parse_typed(text).unwrap();
        self.run(SearchField::Name, &CompiledQuery::new(&query, true))
    }
}

const SEARCHES: [(&str, &[u32]); 17] = [
    ("mint", &[1, 2, 3]),
    ("mints", &[1, 2, 3]),
    ("mi", &[1, 2]),
    ("mint tea", &[2, 3]),
    ("tea mint", &[2, 3]),
    ("library", &[4, 5]),
    ("libary", &[5, 4]),
    ("lbirary", &[4]),
    ("t-shirt", &[6, 7, 8]),
    ("tshirt", &[6, 7, 8]),
    ("t shirt", &[6, 7, 8]),
    ("rock n roll", &[9]),
    ("rocknroll", &[9]),
    ("rock'n'roll", &[9]),
    ("rock roll", &[9]),
    ("sku-4", &[4]),
    ("nothing", &[]),
];

#[test]
fn changes_are_found_before_and_after_they_are_indexed() {
    let fixture = Fixture::new();
    fixture.put(1, "Mint", "");
    fixture.put(2, "Mint tea", "");
    fixture.put(3, "Tea", "with mint leaves");
    fixture.put(4, "Library card", "");
    fixture.put(5, "Libary shelf", "");
    fixture.put(6, "T-shirt", "");
    fixture.put(7, "Tshirt", "");
    fixture.put(8, "T shirt", "");
    fixture.put(9, "Rock'n'roll", "");
    for (text, wanted) in SEARCHES {
        assert_eq!(fixture.search(text), wanted, "{text}, not indexed");
    }
    fixture.wait();
    for (text, wanted) in SEARCHES {
        assert_eq!(fixture.search(text), wanted, "{text}, indexed");
    }
    fixture.put(2, "Sage tea", "");
    fixture.index.remove(1);
    assert_eq!(fixture.search("mint"), [3]);
    fixture.wait();
    assert_eq!(fixture.search("mint"), [3]);
    assert_eq!(fixture.search("sage"), [2]);
}

#[test]
fn suggestions_match_names_by_prefix() {
    let fixture = Fixture::new();
    fixture.put(1, "Mint candy", "moroccan");
    fixture.put(2, "Moroccan mint", "");
    let check = || {
        for (typed, wanted) in [
            ("m", &[1, 2][..]),
            ("min", &[1, 2]),
            ("mint", &[1, 2]),
            ("mint mor", &[2]),
            ("mor", &[2]),
            ("moroccna", &[2]),
            ("nint", &[1, 2]),
            ("candle", &[]),
        ] {
            assert_eq!(fixture.suggest(typed), wanted, "{typed}");
        }
    };
    check();
    fixture.wait();
    check();
}

#[test]
fn load_is_searchable_when_it_is_finished() {
    let fixture = Fixture::new();
    fixture.index.begin_load();
    for slot in 0..3000 {
        fixture.put(slot, &format!("Cup number {slot}"), "porcelain");
    }
    // It is written already, but not committed.
    fixture.wait();
    fixture.put(1, "Plate", "porcelain");
    fixture.index.finish_load();
    while !fixture.index.is_loaded() {
        thread::yield_now();
    }
    assert_eq!(fixture.search("porcelain").len(), 3000);
    assert_eq!((fixture.search("plate"), fixture.search("cup").len()), (vec![1], 2999));
    assert_eq!(fixture.search("cup 2999"), [2999]);
    fixture.put(2999, "Saucer", "");
    assert_eq!(fixture.search("cup 2999"), [0; 0]);
    fixture.wait();
    assert_eq!(fixture.search("saucer"), [2999]);
}

#[test]
fn index_that_fails_can_be_closed() {
    let fixture = Fixture::new();
    // The library allows a single writer.
    let index = &fixture.index.shared.index;
    let _writer: tantivy::IndexWriter = index.writer_with_num_threads(1, 15 << 20).unwrap();
    fixture.put(1, "Mint", "");
    fixture.index.close();
    assert_eq!(fixture.search("mint"), [1]);
}

/// What a search costs depends on the terms that it reads, so they are bounded: the most common
/// ones count.
#[test]
fn prefix_stands_for_the_most_common_terms() {
    let fixture = Fixture::new();
    fixture.index.begin_load();
    (0..3000).for_each(|slot| fixture.put(slot, &format!("Library{slot}"), ""));
    (3000..3010).for_each(|slot| fixture.put(slot, "Librarian", ""));
    fixture.index.finish_load();
    while !fixture.index.is_loaded() {
        thread::yield_now();
    }
    // The terms are counted in each segment.
    fixture.wait_for_merge();
    let found = fixture.search("libra");
    assert_eq!(found.len(), 10 + expand::MAX_TERMS - 1);
    assert!((3000..3010).all(|slot| found.contains(&slot)));
    assert_eq!(fixture.search("library2999"), [2999]);
}

#[test]
fn search_ends_when_its_time_is_used_up() {
    let fixture = Fixture::new();
    for slot in 0..10_000 {
        fixture.put(slot, "Cup", "");
    }
    fixture.wait();
    let query = CompiledQuery::new(&fixture.rules.parse_query("cup").unwrap(), true);
    let mut none = TimeBudget::new(Duration::ZERO);
    assert_eq!(fixture.index.search(SearchField::Text, &query, None, &mut none), Err(OutOfTime));
    assert_eq!(fixture.search("cup").len(), 10_000);
}
