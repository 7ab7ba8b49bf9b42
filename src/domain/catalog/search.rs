//! Product search: matching, ordering, and suggestions for incomplete or mistyped words.

use super::product::Product;
use crate::domain::ids::ProductId;

/// The order of results.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum ProductSort {
    /// Best match first; without a query, by name.
    #[default]
    Relevance,
    /// Lowest price first.
    #[strum(serialize = "price")]
    PriceAscending,
    /// Highest price first.
    #[strum(serialize = "-price")]
    PriceDescending,
    /// By name; upper and lower case are the same.
    Name,
    /// The newest product first.
    Newest,
}

/// The search criteria. Bounds are inclusive, in minor units.
#[derive(Debug, Clone, Default)]
pub struct ProductFilter {
    /// Words that must all occur, in lower case.
    pub terms: Vec<String>,
    /// The product is one of these; none: any product.
    pub ids: Vec<ProductId>,
    /// The product is in one of these categories, exactly; none: in any or in no category.
    pub categories: Vec<String>,
    /// The product has one of these tags, exactly; none: any tags or none.
    pub tags: Vec<String>,
    /// The lowest price of a match.
    pub min_price: Option<i64>,
    /// The highest price of a match.
    pub max_price: Option<i64>,
    /// Whether the product is in stock.
    pub in_stock: Option<bool>,
}

/// A sort key: by number, then text, then id.
pub type SortKey = (i64, String, ProductId);

/// A product's text in lower case, so that a search does not fold case each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchText {
    name: String,
    labels: String,
    description: String,
}

impl SearchText {
    /// The text of `product`.
    #[must_use]
    pub fn from_product(product: &Product) -> Self {
        let details = &product.details;
        let labels = details.sku.iter().chain(&details.category).chain(&details.tags);
        Self {
            name: details.name.to_lowercase(),
            labels: labels.map(|label| label.to_lowercase()).collect::<Vec<_>>().join("\n"),
            description: details.description.to_lowercase(),
        }
    }

    /// How well `word` matches, from 0 for not at all.
    fn score_term(&self, word: &str) -> i64 {
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

    /// The rank of `typed` as a prefix of a word of the name, with at most one typo. `None`: no
    /// match.
    #[must_use]
    pub fn suggestion_rank(&self, typed: &str) -> Option<u8> {
        let parts =
            || self.name.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
        if self.name.starts_with(typed) {
            return Some(0);
        }
        if parts().any(|part| part.starts_with(typed)) {
            return Some(1);
        }
        // Allow no typo in a short word: it is more likely another word.
        let long_enough = typed.chars().count() >= 3;
        (long_enough
            && (starts_with_typo(&self.name, typed)
                || parts().any(|part| starts_with_typo(part, typed))))
        .then_some(2)
    }
}

impl ProductFilter {
    /// How well a product matches. `None`: not at all.
    #[must_use]
    pub fn score_product(
        &self,
        product: &Product,
        text: &SearchText,
        available: u64,
    ) -> Option<i64> {
        let details = &product.details;
        let price = details.price.minor_units();
        let is_in = |category: &String| self.categories.contains(category);
        let passes = (self.ids.is_empty() || self.ids.contains(&product.id))
            && (self.categories.is_empty() || details.category.as_ref().is_some_and(is_in))
            && (self.tags.is_empty() || details.tags.iter().any(|tag| self.tags.contains(tag)))
            && self.min_price.is_none_or(|least| price >= least)
            && self.max_price.is_none_or(|most| price <= most)
            && self.in_stock.is_none_or(|wanted| (available > 0) == wanted);
        if !passes {
            return None;
        }
        self.terms.iter().try_fold(0, |sum, word| match text.score_term(word) {
            0 => None,
            score => Some(sum + score),
        })
    }
}

impl ProductSort {
    /// Every order, as declared.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The sort key of a product with this score.
    #[must_use]
    pub fn sort_key(self, product: &Product, text: &SearchText, score: i64) -> SortKey {
        let price = product.details.price.minor_units();
        match self {
            Self::Relevance => (-score, text.name.clone(), product.id),
            Self::PriceAscending => (price, String::new(), product.id),
            Self::PriceDescending => (-price, String::new(), product.id),
            Self::Name => (0, text.name.clone(), product.id),
            Self::Newest => (-product.created_at.as_millis(), String::new(), product.id),
        }
    }
}

/// Whether some prefix of `word` equals `typed` except for one changed, added, missing, or swapped
/// letter (optimal string alignment distance of at most 1).
fn starts_with_typo(word: &str, typed: &str) -> bool {
    // A letter has at most four bytes, so a longer prefix cannot match.
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
    use crate::domain::{catalog::product::ProductDetails, clock::Timestamp, money::Money};

    fn sample_product(name: &str, price: &str) -> Product {
        let details = ProductDetails {
            sku: Some("TEA-1".into()),
            name: name.into(),
            description: "From the Atlas mountains".into(),
            price: Money::parse(price, "USD".parse().unwrap()).unwrap(),
            category: Some("tea".into()),
            tags: vec!["green".into()],
            image_url: None,
            purchase_limit: None,
            attributes: BTreeMap::new(),
        };
        Product::new(ProductId::new(), details, Timestamp::default())
    }

    fn score(filter: &ProductFilter, product: &Product) -> Option<i64> {
        filter.score_product(product, &SearchText::from_product(product), 0)
    }

    fn filter_for(text: &str) -> ProductFilter {
        ProductFilter {
            terms: text.split(' ').map(str::to_owned).collect(),
            ..ProductFilter::default()
        }
    }

    #[test]
    fn every_term_must_match_and_name_ranks_highest() {
        let mint = sample_product("Mint Tea", "4.50");
        assert_eq!(score(&filter_for("coffee"), &mint), None);
        assert_eq!(score(&filter_for("mint coffee"), &mint), None);
        assert!(score(&filter_for("mint atlas"), &mint).is_some());
        assert!(score(&filter_for("mint"), &mint) > score(&filter_for("green"), &mint));
        assert!(score(&filter_for("green"), &mint) > score(&filter_for("atlas"), &mint));
        assert_eq!(score(&ProductFilter::default(), &mint), Some(0));
    }

    #[test]
    fn price_bounds_are_inclusive() {
        let mint = sample_product("Mint", "4.50");
        let between = |min, max| ProductFilter {
            min_price: Some(min),
            max_price: Some(max),
            ..ProductFilter::default()
        };
        assert!(score(&between(450, 450), &mint).is_some());
        assert!(score(&between(451, 500), &mint).is_none());
        assert!(score(&between(0, 449), &mint).is_none());
        assert!(
            score(&ProductFilter { in_stock: Some(true), ..ProductFilter::default() }, &mint)
                .is_none()
        );
        assert!(
            score(
                &ProductFilter {
                    tags: vec!["black".into(), "green".into()],
                    categories: vec!["coffee".into(), "tea".into()],
                    ids: vec![mint.id],
                    ..ProductFilter::default()
                },
                &mint
            )
            .is_some()
        );
    }

    #[test]
    fn suggestions_tolerate_one_typo() {
        let mint = SearchText::from_product(&sample_product("Moroccan Mint Tea", "1"));
        for typed in
            ["moroc", "mint", "tea", "morocan", "moorc", "mnit", "mimt", "mintt", "omroccan", "int"]
        {
            assert!(mint.suggestion_rank(typed).is_some(), "{typed}");
        }
        for typed in ["coffee", "mxnx", "mrcoc", "ta"] {
            assert!(mint.suggestion_rank(typed).is_none(), "{typed}");
        }
        assert!(mint.suggestion_rank("moroc") < mint.suggestion_rank("mint"));
        assert!(mint.suggestion_rank("mint") < mint.suggestion_rank("mnit"));
    }

    #[test]
    fn sort_keys_order_products() {
        let (cheap, dear) = (sample_product("B", "1"), sample_product("A", "2"));
        let key =
            |sort: ProductSort, p: &Product| sort.sort_key(p, &SearchText::from_product(p), 0);
        assert!(key(ProductSort::PriceAscending, &cheap) < key(ProductSort::PriceAscending, &dear));
        assert!(
            key(ProductSort::PriceDescending, &dear) < key(ProductSort::PriceDescending, &cheap)
        );
        assert!(key(ProductSort::Name, &dear) < key(ProductSort::Name, &cheap));
        assert!(
            key(ProductSort::Newest, &cheap) < key(ProductSort::Newest, &dear),
            "equal times: by id"
        );
    }
}
