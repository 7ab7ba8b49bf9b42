//! Finding products: what a query matches, in which order, and what a half-typed or mistyped word may mean.

use super::product::Product;
use crate::domain::ids::ProductId;

/// How results are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// Best match first; without a query, by name.
    #[default]
    Relevance,
    /// Cheapest first.
    Price,
    /// Dearest first.
    PriceDescending,
    /// By name.
    Name,
    /// Newest first.
    Newest,
}

/// What is looked for. Bounds are inclusive, in minor units.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Words that must all occur, in lower case.
    pub words: Vec<String>,
    /// The category, exactly.
    pub category: Option<String>,
    /// One of the tags, exactly.
    pub tag: Option<String>,
    /// Lowest price.
    pub min_price: Option<i64>,
    /// Highest price.
    pub max_price: Option<i64>,
    /// Whether it can be bought now.
    pub in_stock: Option<bool>,
}

/// Where a product stands in an order: by number, then text, then id.
pub type SortKey = (i64, String, ProductId);

/// A product's words, in lower case, kept so that a search does not fold case again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    name: String,
    labels: String,
    description: String,
}

impl Words {
    /// The words of `product`.
    #[must_use]
    pub fn of(product: &Product) -> Self {
        let facts = &product.facts;
        let labels = facts.sku.iter().chain(&facts.category).chain(&facts.tags);
        Self {
            name: facts.name.to_lowercase(),
            labels: labels.map(|label| label.to_lowercase()).collect::<Vec<_>>().join("\n"),
            description: facts.description.to_lowercase(),
        }
    }

    /// How well `word` matches, from 0 for not at all.
    fn score(&self, word: &str) -> i64 {
        let starts = |text: &str| {
            text.split(|c: char| !c.is_alphanumeric()).any(|part| part.starts_with(word))
        };
        match () {
            () if self.name == word => 20,
            () if starts(&self.name) => 8,
            () if self.name.contains(word) => 5,
            () if self.labels.contains(word) => 3,
            () if self.description.contains(word) => 1,
            () => 0,
        }
    }

    /// Whether a word of the name begins with `typed`, or would with one typo mended.
    #[must_use]
    pub fn suggests(&self, typed: &str) -> Option<u8> {
        let parts =
            || self.name.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
        if self.name.starts_with(typed) {
            return Some(0);
        }
        if parts().any(|part| part.starts_with(typed)) {
            return Some(1);
        }
        // One letter in two is no typo but another word.
        let long_enough = typed.chars().count() >= 3;
        (long_enough
            && (begins_almost(&self.name, typed) || parts().any(|part| begins_almost(part, typed))))
        .then_some(2)
    }
}

impl Filter {
    /// How well a product matches; `None`: not at all.
    #[must_use]
    pub fn score(&self, product: &Product, words: &Words, available: u64) -> Option<i64> {
        let facts = &product.facts;
        let price = facts.price.minor();
        let passes =
            self.category.as_ref().is_none_or(|wanted| facts.category.as_ref() == Some(wanted))
                && self.tag.as_ref().is_none_or(|wanted| facts.tags.contains(wanted))
                && self.min_price.is_none_or(|least| price >= least)
                && self.max_price.is_none_or(|most| price <= most)
                && self.in_stock.is_none_or(|wanted| (available > 0) == wanted);
        if !passes {
            return None;
        }
        self.words.iter().try_fold(0, |sum, word| match words.score(word) {
            0 => None,
            score => Some(sum + score),
        })
    }
}

impl Sort {
    /// Where a product with this score stands.
    #[must_use]
    pub fn key(self, product: &Product, words: &Words, score: i64) -> SortKey {
        let price = product.facts.price.minor();
        match self {
            Self::Relevance => (-score, words.name.clone(), product.id),
            Self::Price => (price, String::new(), product.id),
            Self::PriceDescending => (-price, String::new(), product.id),
            Self::Name => (0, words.name.clone(), product.id),
            Self::Newest => (-product.created_at.as_millis(), String::new(), product.id),
        }
    }
}

/// Whether some beginning of `word` is `typed` but for one letter changed, added, left out, or swapped with its neighbour
/// (optimal string alignment distance of at most 1).
fn begins_almost(word: &str, typed: &str) -> bool {
    // One letter is four bytes at most, so longer ones cannot be what was meant.
    if typed.len() > word.len() + 4 {
        return false;
    }
    let (word, typed): (Vec<char>, Vec<char>) = (word.chars().collect(), typed.chars().collect());
    let same = word.iter().zip(&typed).take_while(|(a, b)| a == b).count();
    let rest = |of: &[char], skip: usize| {
        of.get((same + skip).min(of.len())..).unwrap_or_default().to_vec()
    };
    let (left, right) = (rest(&word, 0), rest(&typed, 0));
    if right.is_empty() {
        return true;
    }
    let swapped = match (&left[..], &right[..]) {
        ([a, b, ..], [c, d, ..]) => {
            a == d && b == c && rest(&word, 2).starts_with(&rest(&typed, 2))
        }
        _ => false,
    };
    swapped
        || rest(&word, 1).starts_with(&rest(&typed, 1)) && !left.is_empty()
        || left.starts_with(&rest(&typed, 1))
        || rest(&word, 1).starts_with(&right) && !left.is_empty()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::{catalog::product::ProductFacts, clock::Timestamp, money::Money};

    fn product(name: &str, price: &str) -> Product {
        let facts = ProductFacts {
            sku: Some("TEA-1".into()),
            name: name.into(),
            description: "From the Atlas mountains".into(),
            price: Money::parse(price, "USD".parse().unwrap()).unwrap(),
            category: Some("tea".into()),
            tags: vec!["green".into()],
            image_url: None,
            attributes: BTreeMap::new(),
        };
        Product::new(ProductId::new(), facts, Timestamp::default())
    }

    fn score(filter: &Filter, product: &Product) -> Option<i64> {
        filter.score(product, &Words::of(product), 0)
    }

    fn words(text: &str) -> Filter {
        Filter { words: text.split(' ').map(str::to_owned).collect(), ..Filter::default() }
    }

    #[test]
    fn every_word_must_match_and_the_name_counts_most() {
        let mint = product("Mint Tea", "4.50");
        assert_eq!(score(&words("coffee"), &mint), None);
        assert_eq!(score(&words("mint coffee"), &mint), None);
        assert!(score(&words("mint atlas"), &mint).is_some());
        assert!(score(&words("mint"), &mint) > score(&words("green"), &mint));
        assert!(score(&words("green"), &mint) > score(&words("atlas"), &mint));
        assert_eq!(score(&Filter::default(), &mint), Some(0));
    }

    #[test]
    fn bounds_are_inclusive() {
        let mint = product("Mint", "4.50");
        let between =
            |min, max| Filter { min_price: Some(min), max_price: Some(max), ..Filter::default() };
        assert!(score(&between(450, 450), &mint).is_some());
        assert!(score(&between(451, 500), &mint).is_none());
        assert!(score(&between(0, 449), &mint).is_none());
        assert!(score(&Filter { in_stock: Some(true), ..Filter::default() }, &mint).is_none());
        assert!(
            score(
                &Filter {
                    tag: Some("green".into()),
                    category: Some("tea".into()),
                    ..Filter::default()
                },
                &mint
            )
            .is_some()
        );
    }

    #[test]
    fn a_prefix_with_one_typo_is_understood() {
        let mint = Words::of(&product("Moroccan Mint Tea", "1"));
        for typed in
            ["moroc", "mint", "tea", "morocan", "moorc", "mnit", "mimt", "mintt", "omroccan", "int"]
        {
            assert!(mint.suggests(typed).is_some(), "{typed}");
        }
        for typed in ["coffee", "mxnx", "mrcoc", "ta"] {
            assert!(mint.suggests(typed).is_none(), "{typed}");
        }
        assert!(mint.suggests("moroc") < mint.suggests("mint"));
        assert!(mint.suggests("mint") < mint.suggests("mnit"));
    }

    #[test]
    fn orders_are_total() {
        let (cheap, dear) = (product("B", "1"), product("A", "2"));
        let key = |sort: Sort, p: &Product| sort.key(p, &Words::of(p), 0);
        assert!(key(Sort::Price, &cheap) < key(Sort::Price, &dear));
        assert!(key(Sort::PriceDescending, &dear) < key(Sort::PriceDescending, &cheap));
        assert!(key(Sort::Name, &dear) < key(Sort::Name, &cheap));
        assert!(key(Sort::Newest, &cheap) < key(Sort::Newest, &dear), "equal times: by id");
    }
}
