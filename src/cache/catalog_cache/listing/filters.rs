//! Applies filters to the listing.

use roaring::RoaringBitmap;

use super::{Listing, facet_index::FacetField};
use crate::{cache::text_index::TextMatch, domain::catalog::search::ProductFilter};

/// If at least one product in `MANY_SHARE` matches, their slots are collected as bits.
const MANY_SHARE: usize = 32;

/// The products that match the text of a search, with their scores, in no order.
pub(in crate::cache::catalog_cache) struct TextScores {
    pub(super) matches: Vec<TextMatch>,
    slots: RoaringBitmap,
}

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
    /// The scores of the matches. Among equals, the name with the fewest further words is best.
    pub(in crate::cache::catalog_cache) fn score_text(
        &self,
        mut matches: Vec<TextMatch>,
        query_words: usize,
    ) -> TextScores {
        let share = |words: usize| query_words.min(words) * 99 / words.max(1);
        let shares: [u32; 256] =
            std::array::from_fn(|words| u32::try_from(share(words.max(1))).unwrap_or(0));
        for found in &mut matches {
            let words = self.name_words.get(found.slot as usize).copied().unwrap_or(0);
            let share = shares.get(usize::from(words)).copied().unwrap_or(0);
            found.score = found.score.saturating_mul(100).saturating_add(share);
        }
        let slots = if matches.len() * MANY_SHARE < self.products.len() {
            matches.iter().map(|found| found.slot).collect()
        } else {
            bitmap_of_slots(&matches, self.products.len())
        };
        TextScores { matches, slots }
    }

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
        let fields = [(FacetField::Category, &filter.categories), (FacetField::Tag, &filter.tags)];
        let attributes = filter.attributes.iter();
        let attributes =
            attributes.map(|(name, values)| (FacetField::Attribute(name.as_str().into()), values));
        for (field, values) in fields.into_iter().chain(attributes) {
            if !values.is_empty() {
                let products = self.facets.products_with(&field, values);
                criteria.push((Criterion::Field(field), products));
            }
        }
        criteria
    }
}

fn bitmap_of_slots(matches: &[TextMatch], slots: usize) -> RoaringBitmap {
    let mut bytes = vec![0_u8; slots / 8 + 1];
    for found in matches {
        if let Some(byte) = bytes.get_mut(found.slot as usize / 8) {
            *byte |= 1 << (found.slot % 8);
        }
    }
    RoaringBitmap::from_lsb0_bytes(0, &bytes)
}

/// The places of the values that `includes`, 64 of them in one word at a time.
fn bitmap_of<T>(values: &[T], includes: impl Fn(&T) -> bool) -> RoaringBitmap {
    let word = |values: &[T]| {
        values.iter().rev().fold(0_u64, |word, value| word << 1 | u64::from(includes(value)))
    };
    let bytes: Vec<u8> = values.chunks(64).flat_map(|part| word(part).to_le_bytes()).collect();
    RoaringBitmap::from_lsb0_bytes(0, &bytes)
}
