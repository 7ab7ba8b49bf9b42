//! Products in columns: sorted by each order, and with the products of each filter value, so that
//! no list looks at every product.

mod facet_index;
mod facets;
mod filters;
mod pages;
mod sorted_slots;

use std::collections::VecDeque;

use roaring::RoaringBitmap;

pub use self::facets::{Facets, PriceBand};
use self::{facet_index::FacetIndex, sorted_slots::SortedSlots};
use crate::domain::{
    catalog::{product::Product, search::TextRules},
    ids::ProductId,
};

/// Lower bounds of the price facet, in major units.
const PRICE_BANDS: [i64; 8] = [0, 10, 25, 50, 100, 250, 500, 1000];
/// Free slots that are not used again yet, so that no search under way takes the next product in a
/// slot for the last one.
const MIN_FREE_SLOTS: usize = 4096;

/// The products of a catalog in columns. A slot is the number of a product.
#[derive(Debug, Default)]
pub(super) struct Listing {
    rows: Vec<Option<Row>>,
    /// The product of each slot, apart from the rows so that a scan reads little memory.
    ids: Vec<Option<ProductId>>,
    free: VecDeque<u32>,
    all: RoaringBitmap,
    in_stock: RoaringBitmap,
    /// The price of each slot in minor units.
    prices: Vec<i64>,
    /// The number of words in the name of each slot.
    name_words: Vec<u8>,
    /// The products of each price band.
    bands: [RoaringBitmap; PRICE_BANDS.len()],
    /// Minor units in a major unit, from the currency of the last product.
    scale: i64,
    facets: FacetIndex,
    by_price: SortedSlots,
    by_name: SortedSlots,
    by_creation: SortedSlots,
    /// While a catalog is loaded, the orders are not kept.
    is_loading: bool,
}

#[derive(Debug)]
struct Row {
    created_at: i64,
    name_key: Box<[u8]>,
    facets: Box<[u32]>,
}

/// What a product is listed with, computed before the listing is locked.
pub(super) struct ListingEntry {
    name_key: Box<[u8]>,
    name_words: u8,
}

impl ListingEntry {
    pub(super) fn new(rules: &TextRules, product: &Product, name_words: u8) -> Self {
        Self { name_key: rules.sort_key(&product.details.name), name_words }
    }
}

impl Listing {
    /// Adds a product, or replaces the one in `slot`. Returns its slot.
    pub(super) fn put(
        &mut self,
        slot: Option<u32>,
        product: &Product,
        entry: ListingEntry,
        is_in_stock: bool,
    ) -> u32 {
        if let Some(slot) = slot {
            self.take_out(slot);
        }
        let slot = slot.unwrap_or_else(|| self.new_slot());
        let price = &product.details.price;
        self.scale = 10_i64.pow(u32::from(price.currency().decimals()));
        let price = price.minor_units();
        let row = Row {
            created_at: product.created_at.as_millis(),
            // A copy, so that what stays is not scattered among what the analysis of texts frees.
            name_key: entry.name_key.as_ref().into(),
            facets: self.facets.add(slot, product),
        };
        let index = slot as usize;
        if self.rows.len() <= index {
            self.rows.resize_with(index + 1, || None);
            self.ids.resize(index + 1, None);
            self.prices.resize(index + 1, 0);
            self.name_words.resize(index + 1, 0);
        }
        if let Some(place) = self.rows.get_mut(index) {
            *place = Some(row);
        }
        if let Some(place) = self.ids.get_mut(index) {
            *place = Some(product.id);
        }
        if let (Some(known), Some(words)) =
            (self.prices.get_mut(index), self.name_words.get_mut(index))
        {
            (*known, *words) = (price, entry.name_words);
        }
        self.all.insert(slot);
        let band = self.band_of(price);
        if let Some(band) = self.bands.get_mut(band) {
            band.insert(slot);
        }
        self.set_in_stock(slot, is_in_stock);
        if !self.is_loading {
            self.add_to_orders(slot);
        }
        slot
    }

    /// Removes the product in `slot`.
    pub(super) fn remove(&mut self, slot: u32) {
        self.take_out(slot);
        self.free.push_back(slot);
    }

    /// Records whether the product in `slot` is in stock.
    pub(super) fn set_in_stock(&mut self, slot: u32, is_in_stock: bool) {
        if is_in_stock {
            self.in_stock.insert(slot);
        } else {
            self.in_stock.remove(slot);
        }
    }

    /// Begins the load of a catalog that nobody reads yet.
    pub(super) fn begin_load(&mut self) {
        self.is_loading = true;
    }

    /// Sorts what was put since [`Self::begin_load`].
    pub(super) fn finish_load(&mut self) {
        self.is_loading = false;
        let mut slots: Vec<u32> = self.all.iter().collect();
        slots.sort_by_key(|slot| self.price_key(*slot));
        self.by_price = SortedSlots::from_sorted(&slots);
        slots.sort_by_key(|slot| self.creation_key(*slot));
        self.by_creation = SortedSlots::from_sorted(&slots);
        slots.sort_by(|a, b| self.name_key(*a).cmp(&self.name_key(*b)));
        self.by_name = SortedSlots::from_sorted(&slots);
    }

    fn new_slot(&mut self) -> u32 {
        let free = (self.free.len() > MIN_FREE_SLOTS).then(|| self.free.pop_front()).flatten();
        free.unwrap_or_else(|| u32::try_from(self.rows.len()).unwrap_or(u32::MAX))
    }

    fn take_out(&mut self, slot: u32) {
        if !self.is_loading {
            self.remove_from_orders(slot);
        }
        let band = self.band_of(self.price(slot));
        if let Some(band) = self.bands.get_mut(band) {
            band.remove(slot);
        }
        self.all.remove(slot);
        self.in_stock.remove(slot);
        if let Some(row) = self.rows.get_mut(slot as usize).and_then(Option::take) {
            self.facets.remove(slot, &row.facets);
        }
        if let Some(id) = self.ids.get_mut(slot as usize) {
            *id = None;
        }
    }

    fn add_to_orders(&mut self, slot: u32) {
        let mut order = std::mem::take(&mut self.by_price);
        let key = self.price_key(slot);
        order.insert(slot, |other| self.price_key(other) < key);
        self.by_price = order;
        let mut order = std::mem::take(&mut self.by_creation);
        let key = self.creation_key(slot);
        order.insert(slot, |other| self.creation_key(other) < key);
        self.by_creation = order;
        let mut order = std::mem::take(&mut self.by_name);
        let key = self.name_key(slot);
        order.insert(slot, |other| self.name_key(other) < key);
        self.by_name = order;
    }

    fn remove_from_orders(&mut self, slot: u32) {
        let mut order = std::mem::take(&mut self.by_price);
        let key = self.price_key(slot);
        order.remove(slot, |other| self.price_key(other) < key);
        self.by_price = order;
        let mut order = std::mem::take(&mut self.by_creation);
        let key = self.creation_key(slot);
        order.remove(slot, |other| self.creation_key(other) < key);
        self.by_creation = order;
        let mut order = std::mem::take(&mut self.by_name);
        let key = self.name_key(slot);
        order.remove(slot, |other| self.name_key(other) < key);
        self.by_name = order;
    }

    fn row(&self, slot: u32) -> Option<&Row> {
        self.rows.get(slot as usize)?.as_ref()
    }

    /// The product in `slot`.
    pub(super) fn id(&self, slot: u32) -> Option<ProductId> {
        self.ids.get(slot as usize).copied().flatten()
    }

    fn price(&self, slot: u32) -> i64 {
        self.prices.get(slot as usize).copied().unwrap_or(0)
    }

    fn price_key(&self, slot: u32) -> (i64, Option<ProductId>) {
        (self.price(slot), self.id(slot))
    }

    fn creation_key(&self, slot: u32) -> (i64, Option<ProductId>) {
        (self.row(slot).map_or(0, |row| row.created_at), self.id(slot))
    }

    fn name_key(&self, slot: u32) -> (&[u8], Option<ProductId>) {
        (self.row(slot).map_or(&[], |row| &row.name_key), self.id(slot))
    }

    fn values_of(&self, slot: u32) -> &[u32] {
        self.row(slot).map_or(&[], |row| &row.facets)
    }

    fn band_of(&self, price: i64) -> usize {
        let scale = self.scale;
        PRICE_BANDS.partition_point(|from| from * scale <= price).saturating_sub(1)
    }
}
