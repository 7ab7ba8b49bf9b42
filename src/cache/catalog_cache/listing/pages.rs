//! Pages of the listing in each order.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use roaring::RoaringBitmap;

use super::{Listing, name_start, sorted_slots::SortedSlots, text_scores::TextScores};
use crate::{cache::catalog_cache::PageKey, domain::catalog::search::ProductSort};

/// If fewer than one product in `WALK_SHARE` is on the list, the list is sorted; otherwise all
/// products are walked in their order.
pub(super) const WALK_SHARE: u64 = 32;

/// A product on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cache::catalog_cache) struct ListedProduct {
    pub(in crate::cache::catalog_cache) slot: u32,
    /// How well it matches, if the page is sorted by that.
    pub(super) score: u32,
}

/// How a page is sorted, unless it is by score.
#[derive(Clone, Copy)]
enum PageOrder {
    Price,
    PriceDescending,
    Name,
    Newest,
}

impl Listing {
    /// At most `limit` of `products` after `after`, sorted.
    pub(in crate::cache::catalog_cache) fn page(
        &self,
        products: &RoaringBitmap,
        sort: ProductSort,
        text: Option<&TextScores>,
        after: Option<&PageKey>,
        limit: usize,
    ) -> Vec<ListedProduct> {
        let order = match (sort, text) {
            (ProductSort::Relevance, Some(text)) => {
                let after = after.map(|key| (key.number, key.id));
                let is_listed = |slot| products.contains(slot);
                return self.best_of_text(text, after, limit, is_listed);
            }
            (ProductSort::Relevance | ProductSort::Name, _) => PageOrder::Name,
            (ProductSort::PriceAscending, _) => PageOrder::Price,
            (ProductSort::PriceDescending, _) => PageOrder::PriceDescending,
            (ProductSort::Newest, _) => PageOrder::Newest,
        };
        let slots = self.sorted_page(products, order, after, limit);
        slots.into_iter().map(|slot| ListedProduct { slot, score: 0 }).collect()
    }

    fn sorted_page(
        &self,
        products: &RoaringBitmap,
        order: PageOrder,
        after: Option<&PageKey>,
        limit: usize,
    ) -> Vec<u32> {
        let after_start = after.map_or(0, |key| name_start(&self.rules.sort_key(&key.name)));
        let is_after = |slot: u32| match (after, self.id(slot)) {
            (Some(after), Some(_)) => self.compare_to(order, slot, after, after_start).is_gt(),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if products.len() * WALK_SHARE < self.all.len() {
            // Backwards, so that the newest products are first: others that are equal then lose.
            let slots = products.iter().rev().filter(|slot| is_after(*slot));
            return self.first_sorted(self.with_pauses(slots), order, limit);
        }
        let on_list = |slot: &u32| products.contains(*slot);
        match order {
            PageOrder::PriceDescending | PageOrder::Newest => {
                let slots = if matches!(order, PageOrder::Newest) {
                    &self.by_creation
                } else {
                    &self.by_price
                };
                let position = match after {
                    None => slots.end(),
                    Some(_) => slots.position(is_after),
                };
                self.with_pauses(slots.back_from(position)).filter(on_list).take(limit).collect()
            }
            PageOrder::Name | PageOrder::Price => {
                let slots =
                    if matches!(order, PageOrder::Name) { &self.by_name } else { &self.by_price };
                let position = match after {
                    None => SortedSlots::start(),
                    Some(_) => slots.position(|slot| !is_after(slot)),
                };
                self.with_pauses(slots.from(position)).filter(on_list).take(limit).collect()
            }
        }
    }

    /// Where the page after `listed` begins, whose name is `name`.
    pub(in crate::cache::catalog_cache) fn page_key(
        &self,
        listed: ListedProduct,
        sort: ProductSort,
        name: &str,
    ) -> Option<PageKey> {
        let ListedProduct { slot, score } = listed;
        let (number, name) = match sort {
            // A match has a score.
            ProductSort::Relevance if score > 0 => (i64::from(score), ""),
            ProductSort::Relevance | ProductSort::Name => (0, name),
            ProductSort::PriceAscending | ProductSort::PriceDescending => (self.price(slot), ""),
            ProductSort::Newest => (self.created_at(slot), ""),
        };
        Some(PageKey { number, name: name.to_owned(), id: self.id(slot)? })
    }

    /// Compares the product in `slot` with a key, in the order of the page. The name of the key
    /// begins with `start` in the order of names.
    fn compare_to(&self, order: PageOrder, slot: u32, key: &PageKey, start: u128) -> Ordering {
        let key_of = |number| (number, Some(key.id));
        match order {
            PageOrder::Price => self.price_key(slot).cmp(&key_of(key.number)),
            PageOrder::PriceDescending => key_of(key.number).cmp(&self.price_key(slot)),
            PageOrder::Newest => key_of(key.number).cmp(&self.creation_key(slot)),
            PageOrder::Name => self.compare_name_to(slot, start, &key.name, Some(key.id)),
        }
    }

    fn first_sorted(
        &self,
        slots: impl Iterator<Item = u32>,
        order: PageOrder,
        limit: usize,
    ) -> Vec<u32> {
        match order {
            PageOrder::Price => first_by(slots, limit, |slot| self.price_key(slot)),
            PageOrder::PriceDescending => {
                first_by(slots, limit, |slot| Reverse(self.price_key(slot)))
            }
            PageOrder::Newest => first_by(slots, limit, |slot| Reverse(self.creation_key(slot))),
            PageOrder::Name => {
                let compare = |a: &u32, b: &u32| self.compare_names(*a, *b);
                let mut slots: Vec<u32> = slots.collect();
                if slots.len() > limit {
                    slots.select_nth_unstable_by(limit, compare);
                    slots.truncate(limit);
                }
                slots.sort_unstable_by(compare);
                slots
            }
        }
    }
}

/// The first `limit` slots by `key`, sorted.
fn first_by<K: Ord>(
    slots: impl Iterator<Item = u32>,
    limit: usize,
    key: impl Fn(u32) -> K,
) -> Vec<u32> {
    let mut first: BinaryHeap<(K, u32)> = BinaryHeap::with_capacity(limit + 1);
    for slot in slots {
        let key = key(slot);
        if first.len() < limit {
            first.push((key, slot));
        } else if let Some(mut last) = first.peek_mut()
            && key < last.0
        {
            *last = (key, slot);
        }
    }
    first.into_sorted_vec().into_iter().map(|(_, slot)| slot).collect()
}
