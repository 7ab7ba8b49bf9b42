//! Counts products by category, tag, price and attribute.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::{
    Listing, PRICE_BANDS,
    facet_index::{FacetField, FieldCounts},
    filters::{Criterion, Filtered},
    pages::WALK_SHARE,
};
use crate::domain::catalog::product::AttributeValue;

/// The number of matches by category, tag, price and attribute. A facet counts under all filters
/// but its own.
#[derive(Debug, Default)]
pub struct Facets {
    /// Categories with their counts.
    pub categories: Vec<(AttributeValue, u64)>,
    /// Tags with their counts.
    pub tags: Vec<(AttributeValue, u64)>,
    /// Price bands with matches.
    pub prices: Vec<PriceBand>,
    /// The values of each attribute with their counts.
    pub attributes: BTreeMap<String, Vec<(AttributeValue, u64)>>,
}

/// Prices from `from` to `to`, both included, in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceBand {
    /// The lowest price of the band.
    pub from: i64,
    /// The highest price of the band; of the last band, the highest price of a match.
    pub to: i64,
    /// The number of matches.
    pub count: u64,
}

impl Listing {
    /// Counts the products that pass a filter.
    pub(in crate::cache::catalog_cache) fn count_facets(&self, filtered: &Filtered) -> Facets {
        let own = |field: &FacetField| {
            let own = |criterion: &Criterion| *criterion == Criterion::Field(field.clone());
            filtered.without.iter().any(|(criterion, _)| own(criterion))
        };
        let mut counts = self.count_fields(&filtered.products, |field| !own(field));
        let mut priced = &filtered.products;
        for (criterion, products) in &filtered.without {
            match criterion {
                Criterion::Field(field) => {
                    counts.extend(self.count_fields(products, |other| other == field));
                }
                Criterion::Price => priced = products,
                Criterion::Other => {}
            }
        }
        let mut facets = Facets { prices: self.count_prices(priced), ..Facets::default() };
        for (field, values) in counts {
            match field {
                FacetField::Category => facets.categories = values,
                FacetField::Tag => facets.tags = values,
                FacetField::Attribute(name) => {
                    facets.attributes.insert(name.as_ref().to_owned(), values);
                }
            }
        }
        facets
    }

    fn count_fields(
        &self,
        products: &RoaringBitmap,
        includes: impl Fn(&FacetField) -> bool,
    ) -> FieldCounts {
        self.facets.count(products, self.all.len(), &self.values, includes, || self.pause())
    }

    fn count_prices(&self, products: &RoaringBitmap) -> Vec<PriceBand> {
        let ends = PRICE_BANDS.iter().skip(1).map(|next| Some(next * self.scale - 1));
        let bands = PRICE_BANDS.iter().zip(ends.chain([None])).zip(&self.bands);
        let counted = bands.map(|((from, to), band)| {
            let count = band.intersection_len(products);
            let highest = || self.highest_price(&(band & products));
            PriceBand { from: from * self.scale, to: to.unwrap_or_else(highest), count }
        });
        counted.filter(|band| band.count > 0).collect()
    }

    fn highest_price(&self, products: &RoaringBitmap) -> i64 {
        let highest = match products.len() * WALK_SHARE < self.all.len() {
            true => products.iter().map(|slot| self.price(slot)).max(),
            false => {
                let mut dearest_first = self.by_price.back_from(self.by_price.end());
                dearest_first.find(|slot| products.contains(*slot)).map(|slot| self.price(slot))
            }
        };
        highest.unwrap_or(0)
    }
}
