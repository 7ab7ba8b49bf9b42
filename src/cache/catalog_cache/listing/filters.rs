//! Applies filters to the listing.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::{Listing, facet_index::FacetField, text_scores::TextScores};
use crate::domain::catalog::search::ProductFilter;

/// What a filter is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Criterion {
    Field(FacetField),
    Price,
    Other,
}

/// The products that pass a filter.
pub(in crate::cache::catalog_cache) struct Filtered {
    /// The products that pass all criteria.
    pub(in crate::cache::catalog_cache) products: RoaringBitmap,
    /// For each criterion that a facet is about, the products that pass all others.
    pub(super) without: Vec<(Criterion, RoaringBitmap)>,
}

impl Listing {
    /// The products that pass `filter`, and of them those with `text` scores.
    pub(in crate::cache::catalog_cache) fn filter(
        &self,
        filter: &ProductFilter,
        text: Option<&TextScores>,
        slots_of_ids: Option<RoaringBitmap>,
    ) -> Filtered {
        let criteria = self.criteria(filter, text, slots_of_ids);
        if criteria.is_empty() {
            return Filtered { products: self.all.clone(), without: Vec::new() };
        }
        if criteria.iter().all(|(criterion, _)| *criterion == Criterion::Other) {
            let sets = criteria.into_iter().map(|(_, products)| products);
            let products = sets.reduce(|left, right| left & right).unwrap_or_default();
            return Filtered { products: products & &self.all, without: Vec::new() };
        }
        // `after` holds the intersection of all criteria from each one on.
        let mut after = vec![self.all.clone()];
        for (_, products) in criteria.iter().rev() {
            let next = after.last().map(|known| known & products);
            after.extend(next);
        }
        let products = after.pop().unwrap_or_default();
        let mut before = self.all.clone();
        let mut without = Vec::new();
        for (criterion, allowed) in criteria {
            let rest = after.pop().unwrap_or_default();
            if criterion != Criterion::Other {
                without.push((criterion, &before & rest));
            }
            before &= allowed;
        }
        Filtered { products, without }
    }

    fn criteria(
        &self,
        filter: &ProductFilter,
        text: Option<&TextScores>,
        slots_of_ids: Option<RoaringBitmap>,
    ) -> Vec<(Criterion, RoaringBitmap)> {
        let mut criteria = Vec::new();
        criteria.extend(text.map(|text| (Criterion::Other, text.slots.clone())));
        criteria.extend(slots_of_ids.map(|slots| (Criterion::Other, slots)));
        match filter.in_stock {
            None => {}
            Some(true) => criteria.push((Criterion::Other, self.in_stock.clone())),
            Some(false) => criteria.push((Criterion::Other, &self.all - &self.in_stock)),
        }
        if filter.min_price.is_some() || filter.max_price.is_some() {
            let bounds =
                (filter.min_price.unwrap_or(i64::MIN), filter.max_price.unwrap_or(i64::MAX));
            let priced = bitmap_of(&self.prices, |price| (bounds.0..=bounds.1).contains(price));
            criteria.push((Criterion::Price, priced));
        }
        // Two names of attributes may be equal but for how their accents are written.
        let mut fields: BTreeMap<FacetField, Vec<&String>> = BTreeMap::new();
        fields.entry(FacetField::Category).or_default().extend(&filter.categories);
        fields.entry(FacetField::Tag).or_default().extend(&filter.tags);
        for (name, values) in &filter.attributes {
            fields.entry(FacetField::attribute(name)).or_default().extend(values);
        }
        for (field, values) in fields.into_iter().filter(|(_, values)| !values.is_empty()) {
            let products = self.facets.products_with(&field, values);
            criteria.push((Criterion::Field(field), products));
        }
        criteria
    }
}

/// The places of the values that `includes`, 64 of them in one word at a time.
fn bitmap_of<T>(values: &[T], includes: impl Fn(&T) -> bool) -> RoaringBitmap {
    let word = |values: &[T]| {
        values.iter().rev().fold(0_u64, |word, value| word << 1 | u64::from(includes(value)))
    };
    let bytes: Vec<u8> = values.chunks(64).flat_map(|part| word(part).to_le_bytes()).collect();
    RoaringBitmap::from_lsb0_bytes(0, &bytes)
}
