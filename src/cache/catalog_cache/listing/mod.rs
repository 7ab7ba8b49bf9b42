//! Products in columns: sorted by each order, and with the products of each filter value, so that
//! no list looks at every product.

mod facet_index;
mod facets;
mod filters;
mod pages;
mod sorted_slots;
mod text_scores;
mod value_lists;

use std::{
    cmp::Ordering,
    collections::VecDeque,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering as MemoryOrdering},
    },
    thread,
};

use roaring::RoaringBitmap;

pub use self::facets::{Facets, PriceBand};
pub(super) use self::pages::ListedProduct;
use self::{facet_index::FacetIndex, sorted_slots::SortedSlots, value_lists::ValueLists};
use super::packed_product::PackedProduct;
use crate::domain::{
    catalog::{
        product::Product,
        search::{ProductFilter, TextRules, name_words},
    },
    ids::ProductId,
};

/// Lower bounds of the price facet, in major units.
const PRICE_BANDS: [i64; 8] = [0, 10, 25, 50, 100, 250, 500, 1000];
/// Free slots that are not used again yet, so that no search under way takes the next product in a
/// slot for the last one.
const MIN_FREE_SLOTS: usize = 4096;
/// The number of neighboring slots whose newest product is known.
const BLOCK_SLOTS: usize = 256;

/// The steps of a search between two [pauses](Listing::pause): about 20 µs of work.
const STEPS_BETWEEN_PAUSES: usize = 2048;

/// The products of a catalog in columns. A slot is the number of a product.
#[derive(Default)]
pub(super) struct Listing {
    rules: Arc<TextRules>,
    /// How many changes wait until no search reads the listing.
    waiting_changes: Arc<AtomicUsize>,
    products: Vec<Option<Arc<PackedProduct>>>,
    /// The product of each slot, apart from the products so that a scan reads little memory.
    ids: Vec<Option<ProductId>>,
    /// The newest product that each block of slots has had.
    newest: Vec<Option<ProductId>>,
    free: VecDeque<u32>,
    all: RoaringBitmap,
    in_stock: RoaringBitmap,
    /// The price of each slot in minor units.
    prices: Vec<i64>,
    /// How the name of each slot begins, in the order of names.
    name_starts: Vec<u128>,
    /// The number of words in the name of each slot.
    name_words: Vec<u8>,
    /// The products of each price band.
    bands: [RoaringBitmap; PRICE_BANDS.len()],
    /// Minor units in a major unit, from the currency of the last product.
    scale: i64,
    facets: FacetIndex,
    /// The numbers of the values that each slot has in `facets`.
    values: ValueLists,
    by_price: SortedSlots,
    by_name: SortedSlots,
    by_creation: SortedSlots,
    /// While a catalog is loaded, the orders are not kept.
    is_loading: bool,
    /// Counts changes, except those of stock.
    generation: u64,
    /// Counts changes of `in_stock`.
    stock_generation: u64,
}

/// The state of a listing, as far as a filter depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListingGeneration {
    products: u64,
    stock: u64,
}

/// What a product is listed with, computed before the listing is locked.
pub(super) struct ListingEntry {
    name_start: u128,
    name_words: u8,
}

impl ListingEntry {
    pub(super) fn new(rules: &TextRules, product: &Product) -> Self {
        let name = &product.details.name;
        Self { name_start: name_start(&rules.sort_key(name)), name_words: name_words(name) }
    }
}

/// The first bytes of a sort key as a number, which sorts as they do.
fn name_start(key: &[u8]) -> u128 {
    let byte = |at: usize| u128::from(key.get(at).copied().unwrap_or(0));
    (0..16).fold(0, |start, at| start << 8 | byte(at))
}

impl Listing {
    /// An empty listing of products whose names sort by `rules`. `waiting_changes` counts the
    /// changes that wait for it.
    pub(super) fn new(rules: Arc<TextRules>, waiting_changes: Arc<AtomicUsize>) -> Self {
        Self { rules, waiting_changes, ..Self::default() }
    }

    /// Lets threads that serve requests run before a search goes on, unless a change waits for its
    /// end.
    pub(super) fn pause(&self) {
        if self.waiting_changes.load(MemoryOrdering::Relaxed) == 0 {
            thread::yield_now();
        }
    }

    /// `items`, with pauses between them.
    fn with_pauses<T>(&self, items: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        let mut steps = 0;
        items.inspect(move |_| {
            steps += 1;
            if steps == STEPS_BETWEEN_PAUSES {
                self.pause();
                steps = 0;
            }
        })
    }

    /// Adds a product, or replaces the one in `slot`. Returns its slot.
    pub(super) fn put(
        &mut self,
        slot: Option<u32>,
        product: &Product,
        packed: &Arc<PackedProduct>,
        entry: &ListingEntry,
        is_in_stock: bool,
    ) -> u32 {
        self.generation += 1;
        if let Some(slot) = slot {
            self.unlist(slot);
        }
        let slot = slot.unwrap_or_else(|| self.new_slot());
        let price = &product.details.price;
        self.scale = 10_i64.pow(u32::from(price.currency().decimals()));
        let price = price.minor_units();
        let values = self.facets.add(slot, product);
        self.values.set(slot, &values);
        let index = slot as usize;
        self.make_room_for(index);
        set(&mut self.products, slot, Some(Arc::clone(packed)));
        set(&mut self.ids, slot, Some(product.id));
        if let Some(newest) = self.newest.get_mut(index / BLOCK_SLOTS) {
            *newest = Some(product.id).max(*newest);
        }
        set(&mut self.prices, slot, price);
        set(&mut self.name_starts, slot, entry.name_start);
        set(&mut self.name_words, slot, entry.name_words);
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

    fn make_room_for(&mut self, index: usize) {
        if self.products.len() <= index {
            self.products.resize(index + 1, None);
            self.ids.resize(index + 1, None);
            self.prices.resize(index + 1, 0);
            self.name_starts.resize(index + 1, 0);
            self.name_words.resize(index + 1, 0);
            self.newest.resize(index / BLOCK_SLOTS + 1, None);
        }
    }

    /// Removes the product in `slot`.
    pub(super) fn remove(&mut self, slot: u32) {
        self.generation += 1;
        self.unlist(slot);
        self.free.push_back(slot);
    }

    /// As long as it is equal, a search with `filter` finds the same.
    pub(super) fn generation(&self, filter: &ProductFilter) -> ListingGeneration {
        let stock = filter.in_stock.map_or(0, |_| self.stock_generation);
        ListingGeneration { products: self.generation, stock }
    }

    /// Records whether the product in `slot` is in stock.
    pub(super) fn set_in_stock(&mut self, slot: u32, is_in_stock: bool) {
        self.stock_generation += 1;
        if is_in_stock {
            self.in_stock.insert(slot);
        } else {
            self.in_stock.remove(slot);
        }
    }

    /// Begins the load of a catalog that nobody reads yet. Slots up to `last_slot` are reserved for
    /// products that are put with their slot; others get later slots.
    pub(super) fn begin_load(&mut self, last_slot: Option<u32>) {
        self.is_loading = true;
        if let Some(last_slot) = last_slot.map(|slot| slot as usize) {
            // With room for new products: while a column grows, it is in memory twice.
            let capacity = last_slot + 1 + last_slot / 16;
            self.products.reserve_exact(capacity);
            self.ids.reserve_exact(capacity);
            self.prices.reserve_exact(capacity);
            self.name_starts.reserve_exact(capacity);
            self.name_words.reserve_exact(capacity);
            self.make_room_for(last_slot);
        }
    }

    /// The slots among `slots` that have no product.
    pub(super) fn without_product(&self, slots: &RoaringBitmap) -> RoaringBitmap {
        slots - &self.all
    }

    /// Sorts what was put since [`Self::begin_load`].
    pub(super) fn finish_load(&mut self) {
        self.is_loading = false;
        self.free = (0..u32::try_from(self.products.len()).unwrap_or(u32::MAX))
            .filter(|slot| !self.all.contains(*slot))
            .collect();
        self.values.compact();
        let (by_name, by_price, by_creation) = thread::scope(|scope| {
            let by_name = scope.spawn(|| self.sort_by_name());
            let by_price = self.sort_by_key(|slot| self.price_key(slot));
            let by_creation = self.sort_by_key(|slot| self.creation_key(slot));
            (by_name.join().unwrap_or_else(|panic| resume_unwind(panic)), by_price, by_creation)
        });
        (self.by_name, self.by_price, self.by_creation) = (by_name, by_price, by_creation);
    }

    fn sort_by_key<K: Ord>(&self, key: impl Fn(u32) -> K) -> SortedSlots {
        let mut slots: Vec<u32> = self.all.iter().collect();
        slots.sort_by_key(|slot| key(*slot));
        SortedSlots::from_sorted(&slots)
    }

    fn sort_by_name(&self) -> SortedSlots {
        let mut slots: Vec<u32> = self.all.iter().collect();
        slots.sort_unstable_by_key(|slot| self.name_start(*slot));
        let same_start = |a: &u32, b: &u32| self.name_start(*a) == self.name_start(*b);
        let key = |slot: &u32| (self.rules.sort_key(self.name(*slot)), self.id(*slot));
        for same in slots.chunk_by_mut(same_start) {
            same.sort_by_cached_key(key);
        }
        SortedSlots::from_sorted(&slots)
    }

    fn new_slot(&mut self) -> u32 {
        let free = (self.free.len() > MIN_FREE_SLOTS).then(|| self.free.pop_front()).flatten();
        free.unwrap_or_else(|| u32::try_from(self.products.len()).unwrap_or(u32::MAX))
    }

    /// Removes the product in `slot` from all orders, bands and facets.
    fn unlist(&mut self, slot: u32) {
        if !self.is_loading {
            self.remove_from_orders(slot);
        }
        let band = self.band_of(self.price(slot));
        if let Some(band) = self.bands.get_mut(band) {
            band.remove(slot);
        }
        self.all.remove(slot);
        self.in_stock.remove(slot);
        self.facets.remove(slot, self.values.get(slot));
        self.values.set(slot, &[]);
        set(&mut self.products, slot, None);
        set(&mut self.ids, slot, None);
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
        order.insert(slot, |other| self.compare_names(other, slot).is_lt());
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
        order.remove(slot, |other| self.compare_names(other, slot).is_lt());
        self.by_name = order;
    }

    fn product(&self, slot: u32) -> Option<&PackedProduct> {
        self.products.get(slot as usize)?.as_deref()
    }

    /// The product in `slot`.
    pub(super) fn id(&self, slot: u32) -> Option<ProductId> {
        self.ids.get(slot as usize).copied().flatten()
    }

    /// A product that is at least as new as the one in `slot`.
    fn newest_near(&self, slot: u32) -> Option<ProductId> {
        self.newest.get(slot as usize / BLOCK_SLOTS).copied().flatten()
    }

    /// The name of the product in `slot`.
    pub(super) fn name(&self, slot: u32) -> &str {
        self.product(slot).map_or("", PackedProduct::name)
    }

    fn name_start(&self, slot: u32) -> u128 {
        self.name_starts.get(slot as usize).copied().unwrap_or(0)
    }

    fn created_at(&self, slot: u32) -> i64 {
        self.product(slot).map_or(0, |product| product.created_at().as_millis())
    }

    fn price(&self, slot: u32) -> i64 {
        self.prices.get(slot as usize).copied().unwrap_or(0)
    }

    fn price_key(&self, slot: u32) -> (i64, Option<ProductId>) {
        (self.price(slot), self.id(slot))
    }

    fn creation_key(&self, slot: u32) -> (i64, Option<ProductId>) {
        (self.created_at(slot), self.id(slot))
    }

    /// Compares two products by name, then by id.
    fn compare_names(&self, a: u32, b: u32) -> Ordering {
        self.compare_name_to(a, self.name_start(b), self.name(b), self.id(b))
    }

    /// Compares the product in `slot` with a name, which begins with `start` in the order of names,
    /// and an id.
    fn compare_name_to(
        &self,
        slot: u32,
        start: u128,
        name: &str,
        id: Option<ProductId>,
    ) -> Ordering {
        let by_rules = || self.rules.compare(self.name(slot), name);
        let by_start = self.name_start(slot).cmp(&start);
        by_start.then_with(by_rules).then_with(|| self.id(slot).cmp(&id))
    }

    fn band_of(&self, price: i64) -> usize {
        let scale = self.scale;
        PRICE_BANDS.partition_point(|from| from * scale <= price).saturating_sub(1)
    }
}

/// Sets the value of a slot that the column has.
fn set<T>(column: &mut [T], slot: u32, value: T) {
    if let Some(place) = column.get_mut(slot as usize) {
        *place = value;
    }
}
