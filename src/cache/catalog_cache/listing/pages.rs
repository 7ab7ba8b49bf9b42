//! Pages of the listing in each order.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use roaring::RoaringBitmap;

use super::{Listing, Row, filters::TextScores, sorted_slots::SortedSlots};
use crate::{
    cache::catalog_cache::PageKey,
    domain::catalog::search::{ProductSort, TextRules},
};

/// If fewer than one product in so many is on the list, the list is sorted; otherwise the order of
/// all products is walked.
pub(super) const WALK_SHARE: u64 = 32;

/// How a page is sorted.
#[derive(Clone, Copy)]
enum Order<'a> {
    Price,
    PriceDescending,
    Name,
    Newest,
    Score(&'a TextScores),
}

impl Listing {
    /// The slots of at most `limit` of `products` after `after`, sorted.
    pub(in crate::cache::catalog_cache) fn page(
        &self,
        products: &RoaringBitmap,
        sort: ProductSort,
        text: Option<&TextScores>,
        after: Option<&PageKey>,
        limit: usize,
        rules: &TextRules,
    ) -> Vec<u32> {
        let order = match (sort, text) {
            (ProductSort::Relevance, Some(text)) => Order::Score(text),
            (ProductSort::Relevance | ProductSort::Name, _) => Order::Name,
            (ProductSort::PriceAscending, _) => Order::Price,
            (ProductSort::PriceDescending, _) => Order::PriceDescending,
            (ProductSort::Newest, _) => Order::Newest,
        };
        let name_key = after.map(|key| rules.sort_key(&key.name)).unwrap_or_default();
        let is_after = |slot: u32| match (after, self.row(slot)) {
            (Some(after), Some(row)) => {
                self.compare_to(order, slot, row, after, &name_key) == Ordering::Greater
            }
            (None, Some(_)) => true,
            (_, None) => false,
        };
        let is_sparse = products.len() * WALK_SHARE < self.all.len();
        if is_sparse || matches!(order, Order::Score(_)) {
            // Backwards, so that the newest products are first: others that are equal then lose.
            let slots = products.iter().rev().filter(|slot| is_after(*slot));
            return self.first_sorted(slots, order, limit);
        }
        let on_list = |slot: &u32| products.contains(*slot);
        match order {
            Order::PriceDescending | Order::Newest => {
                let slots =
                    if matches!(order, Order::Newest) { &self.by_creation } else { &self.by_price };
                let place = match after {
                    None => slots.end(),
                    Some(_) => slots.place(is_after),
                };
                slots.back_from(place).filter(on_list).take(limit).collect()
            }
            _ => {
                let slots =
                    if matches!(order, Order::Name) { &self.by_name } else { &self.by_price };
                let place = match after {
                    None => SortedSlots::start(),
                    Some(_) => slots.place(|slot| !is_after(slot)),
                };
                slots.from(place).filter(on_list).take(limit).collect()
            }
        }
    }

    /// Where the page after `slot` begins.
    pub(in crate::cache::catalog_cache) fn page_key(
        &self,
        slot: u32,
        sort: ProductSort,
        text: Option<&TextScores>,
        name: &str,
    ) -> Option<PageKey> {
        let row = self.row(slot)?;
        let (number, name) = match (sort, text) {
            (ProductSort::Relevance, Some(text)) => (i64::from(text.score(slot)), ""),
            (ProductSort::Relevance | ProductSort::Name, _) => (0, name),
            (ProductSort::PriceAscending | ProductSort::PriceDescending, _) => {
                (self.price(slot), "")
            }
            (ProductSort::Newest, _) => (row.created_at, ""),
        };
        Some(PageKey { number, name: name.to_owned(), id: self.id(slot)? })
    }

    /// Compares the product in `slot` with a key, in the order of the page.
    fn compare_to(
        &self,
        order: Order<'_>,
        slot: u32,
        row: &Row,
        key: &PageKey,
        name_key: &[u8],
    ) -> Ordering {
        let id = self.id(slot);
        let key_id = Some(key.id);
        match order {
            Order::Price => (self.price(slot), id).cmp(&(key.number, key_id)),
            Order::PriceDescending => (key.number, key_id).cmp(&(self.price(slot), id)),
            Order::Newest => (key.number, key_id).cmp(&(row.created_at, id)),
            Order::Name => (&*row.name_key, id).cmp(&(name_key, key_id)),
            Order::Score(text) => (key.number, key_id).cmp(&(i64::from(text.score(slot)), id)),
        }
    }

    fn first_sorted(
        &self,
        slots: impl Iterator<Item = u32>,
        order: Order<'_>,
        limit: usize,
    ) -> Vec<u32> {
        match order {
            Order::Price => first_by(slots, limit, |slot| self.price_key(slot)),
            Order::PriceDescending => first_by(slots, limit, |slot| Reverse(self.price_key(slot))),
            Order::Newest => first_by(slots, limit, |slot| Reverse(self.creation_key(slot))),
            Order::Name => first_by(slots, limit, |slot| self.name_key(slot)),
            Order::Score(text) => {
                first_by(slots, limit, |slot| Reverse((text.score(slot), self.id(slot))))
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
