//! The catalog cache: all products and their stock in memory. It serves all catalog reads.
//!
//! The writer applies each batch in commit order before it acknowledges the batch, so readers see
//! every change that this node has acknowledged.

mod details_codec;
mod listing;
mod listing_lock;
mod load;
mod packed_product;
mod page_facets;
mod prepare;
mod recent_searches;
mod recent_views;
mod search;
mod sku_slots;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use dashmap::DashMap;

use self::{
    details_codec::DetailsCodec,
    listing_lock::ListingLock,
    packed_product::PackedProduct,
    prepare::{Prepared, PreparedText},
    recent_searches::RecentSearches,
    recent_views::RecentViews,
    sku_slots::SkuSlots,
};
pub use self::{
    listing::{Facets, PriceBand},
    page_facets::{PageFacets, UnsavedPage},
    recent_searches::SuggestedProduct,
    search::{PageKey, SearchPage, SearchTimeout},
};
use super::text_index::{SavedIndex, TextIndex};
use crate::{
    domain::{
        cart::Offer,
        catalog::{
            product::Product,
            search::{CatalogLanguage, SearchedText, TextRules},
        },
        ids::ProductId,
        inventory::StockLevel,
    },
    messages::catalog::{ProductView, RenderProduct},
    store::CommittedChanges,
};

/// All products and their stock, without deleted products.
///
/// A change takes `change_lock`, then `listing`, then a shard of `products`.
pub struct CatalogCache {
    products: DashMap<ProductId, Entry>,
    skus: SkuSlots,
    codec: Arc<DetailsCodec>,
    /// The products in sorted columns. It and `products` change together while it is locked.
    listing: ListingLock,
    text: TextIndex,
    rules: Arc<TextRules>,
    epoch: AtomicU64,
    render: RenderProduct,
    recent_views: RecentViews,
    recent_searches: RecentSearches,
    /// Held during each change, so that two changes cannot both compare with the same entry, and an
    /// older version never replaces a newer one. Readers do not take it.
    change_lock: Mutex<RecentlyDeleted>,
}

/// The most recently deleted products. A late `put` of an older version must not restore them.
#[derive(Default)]
struct RecentlyDeleted(VecDeque<ProductId>);

impl RecentlyDeleted {
    /// More than the number of concurrent reads that could still put an old version.
    const CAPACITY: usize = 1000;

    fn add(&mut self, id: ProductId) {
        if self.0.len() == Self::CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(id);
    }
}

#[derive(Clone)]
struct Entry {
    product: Arc<PackedProduct>,
    stock: PackedStock,
    slot: u32,
}

impl Entry {
    fn stock(&self) -> StockLevel {
        let PackedStock { on_hand, reserved, version, last_movement } = self.stock;
        StockLevel { product_id: self.product.id, on_hand, reserved, version, last_movement }
    }
}

/// A [`StockLevel`] without the id, which the product beside it has.
#[derive(Clone, Copy)]
struct PackedStock {
    on_hand: u64,
    reserved: u64,
    version: u64,
    last_movement: u64,
}

impl From<StockLevel> for PackedStock {
    fn from(level: StockLevel) -> Self {
        let StockLevel { product_id: _, on_hand, reserved, version, last_movement } = level;
        Self { on_hand, reserved, version, last_movement }
    }
}

/// The size of a catalog from which on its details are compressed.
const MIN_COMPRESSED_PRODUCTS: usize = 1000;

impl CatalogCache {
    /// Creates an empty cache of products in `language`.
    #[must_use]
    pub fn new(render: RenderProduct, language: &CatalogLanguage) -> Self {
        Self::with_text(render, language, TextIndex::open(None))
    }

    /// Creates an empty cache that keeps its search index in the file `saved_index` between runs,
    /// so that loading is faster. The file need not exist.
    #[must_use]
    pub fn open(render: RenderProduct, language: &CatalogLanguage, saved_index: PathBuf) -> Self {
        let saved = SavedIndex::new(saved_index, language.clone());
        Self::with_text(render, language, TextIndex::open(Some(saved)))
    }

    fn with_text(render: RenderProduct, language: &CatalogLanguage, text: TextIndex) -> Self {
        let rules = Arc::new(TextRules::new(language));
        Self {
            products: DashMap::new(),
            skus: SkuSlots::default(),
            codec: Arc::default(),
            listing: ListingLock::new(&rules),
            text,
            rules,
            epoch: AtomicU64::new(0),
            render,
            recent_views: RecentViews::new(),
            recent_searches: RecentSearches::new(),
            change_lock: Mutex::default(),
        }
    }

    /// Saves the search index. Call it last, after all changes. Blocks until the file is written.
    pub fn close(&self) {
        self.text.close();
    }

    /// The number of changes so far. An equal epoch means an unchanged cache.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The number of products in the cache.
    #[must_use]
    pub fn len(&self) -> usize {
        self.products.len()
    }

    /// Whether the cache has no products.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.products.is_empty()
    }

    /// The rules of the catalog's language.
    #[must_use]
    pub fn rules(&self) -> &TextRules {
        &self.rules
    }

    /// Finds a product by id.
    #[must_use]
    pub fn get(&self, id: ProductId) -> Option<Arc<ProductView>> {
        let entry = self.entry(id)?;
        let create = || Some(self.view(entry.product.unpack(&self.codec)?, entry.stock()));
        self.recent_views.get_or_create(&entry, create)
    }

    fn entry(&self, id: ProductId) -> Option<Entry> {
        self.products.get(&id).map(|entry| entry.value().clone())
    }

    /// Finds a product by sku.
    #[must_use]
    pub fn by_sku(&self, sku: &str) -> Option<Arc<ProductView>> {
        let slot = self.skus.slot(sku)?;
        let id = self.listing.read().id(slot)?;
        self.get(id).filter(|view| view.product.details.sku.as_deref() == Some(sku))
    }

    /// Returns the name, price and available units of a product, as carts need them.
    #[must_use]
    pub fn offer(&self, id: ProductId) -> Option<Offer> {
        let entry = self.products.get(&id)?;
        let product = &entry.product;
        let (name, available) = (product.name().to_owned(), entry.stock().available());
        Some(Offer { name, price: product.price(), available, product: None })
    }

    /// As [`offer`](Self::offer), with the product, for what carts show and prices depend on.
    #[must_use]
    pub fn offer_with_product(&self, id: ProductId) -> Option<Offer> {
        let entry = self.entry(id)?;
        // Stock changes often, and a view with other stock has the product as well.
        let known = self.recent_views.product_of(&entry);
        let product = known.or_else(|| Some(Arc::clone(&self.get(id)?.product)));
        Some(Offer::of_product(&product?, entry.stock().available()))
    }

    /// Renders the response body of a product.
    #[must_use]
    pub fn render(&self, product: &Product, stock: &StockLevel) -> bytes::Bytes {
        (self.render)(product, stock)
    }

    /// The view of a product with this stock.
    #[must_use]
    pub fn view(&self, product: Arc<Product>, stock: StockLevel) -> Arc<ProductView> {
        Arc::new(ProductView::new(product, stock, self.render))
    }

    /// Applies changes, which may be of several versions of a product, in any order.
    pub fn apply(&self, changes: &CommittedChanges) {
        let mut recently_deleted = self.lock_for_change();
        let (mut newest_products, mut newest_stock) =
            (changes.products.iter().collect::<Vec<_>>(), changes.stock.clone());
        newest_products.sort_by_key(|product| product.version);
        newest_stock.sort_by_key(|level| level.version);
        // Of several values for a key, the last one is kept.
        let mut products: BTreeMap<ProductId, &Arc<Product>> =
            newest_products.into_iter().map(|product| (product.id, product)).collect();
        let stock: BTreeMap<ProductId, StockLevel> =
            newest_stock.into_iter().map(|level| (level.product_id, level)).collect();
        let ids: BTreeSet<ProductId> = products.keys().chain(stock.keys()).copied().collect();
        for id in ids {
            let level = stock.get(&id).copied();
            if let Some(product) = products.remove(&id) {
                let level = level.unwrap_or(StockLevel::empty(id));
                self.replace(Arc::clone(product), level, None, &mut recently_deleted);
            } else if let (Some(known), Some(level)) = (self.entry(id), level) {
                self.replace_stock(&known, level);
            }
        }
    }

    /// Adds or replaces a product, or removes a deleted product. Ignores older versions.
    pub fn put(&self, product: Arc<Product>, stock: StockLevel) {
        let mut recently_deleted = self.lock_for_change();
        self.replace(product, stock, None, &mut recently_deleted);
    }

    /// Replaces a product with a version read from the store, unless it was removed meanwhile.
    pub fn refresh(&self, product: Arc<Product>, stock: StockLevel) {
        let mut recently_deleted = self.lock_for_change();
        if self.products.contains_key(&product.id) {
            self.replace(product, stock, None, &mut recently_deleted);
        }
    }

    fn lock_for_change(&self) -> MutexGuard<'_, RecentlyDeleted> {
        self.change_lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(
        &self,
        product: Arc<Product>,
        stock: StockLevel,
        prepared: Option<Prepared>,
        recently_deleted: &mut RecentlyDeleted,
    ) {
        let known = self.entry(product.id);
        if known.is_none() && recently_deleted.0.contains(&product.id) {
            return;
        }
        if let Some(known) = &known
            && known.product.version >= product.version
        {
            self.replace_stock(known, stock);
            return;
        }
        let stock = match &known {
            Some(known) if known.stock.version > stock.version => known.stock(),
            _ => stock,
        };
        let old = known.as_ref().and_then(|known| known.product.unpack(&self.codec));
        let old_slot = known.as_ref().map(|known| known.slot);
        if product.deleted {
            recently_deleted.add(product.id);
            if let Some(known) = &known {
                self.remove(known);
            }
            self.skus.replace(old.as_deref().zip(old_slot), None);
        } else {
            // A product that is known keeps its slot, so the slot of the saved index is of no use.
            let prepared = prepared.filter(|new| known.is_none() || new.indexed_slot().is_none());
            let slot = self.replace_product(old_slot, old.as_deref(), &product, stock, prepared);
            self.skus.replace(old.as_deref().zip(old_slot), Some((&product, slot)));
        }
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    fn remove(&self, known: &Entry) {
        let mut listing = self.listing.write();
        self.products.remove(&known.product.id);
        listing.remove(known.slot);
        self.text.remove(known.slot);
    }

    /// Replaces older stock. Only a product that sells out, or is in stock again, changes the
    /// listing.
    fn replace_stock(&self, known: &Entry, stock: StockLevel) {
        if stock.version < known.stock.version {
            return;
        }
        let is_in_stock = stock.available() > 0;
        let changes_listing = is_in_stock != (known.stock().available() > 0);
        let mut listing = changes_listing.then(|| self.listing.write());
        let entry = Entry { stock: stock.into(), ..known.clone() };
        self.products.insert(known.product.id, entry);
        if let Some(listing) = &mut listing {
            listing.set_in_stock(known.slot, is_in_stock);
        }
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    fn replace_product(
        &self,
        slot: Option<u32>,
        old: Option<&Product>,
        product: &Product,
        stock: StockLevel,
        prepared: Option<Prepared>,
    ) -> u32 {
        self.train_codec();
        let Prepared { text, entry, packed } =
            prepared.unwrap_or_else(|| self.preparer().prepare(product));
        let searched = SearchedText::of(&product.details);
        let has_same_text = old.is_some_and(|old| SearchedText::of(&old.details) == searched);
        let mut listing = self.listing.write();
        let slot = match text {
            PreparedText::Indexed(slot) => Some(slot),
            PreparedText::New(..) => slot,
        };
        let slot = listing.put(slot, product, &packed, &entry, stock.available() > 0);
        if let PreparedText::New(key, terms) = text
            && !has_same_text
        {
            self.text.put(slot, key, terms);
        }
        self.products.insert(product.id, Entry { product: packed, stock: stock.into(), slot });
        slot
    }

    /// Begins to compress details when a catalog has grown.
    fn train_codec(&self) {
        if self.codec.is_trained() || self.products.len() < MIN_COMPRESSED_PRODUCTS {
            return;
        }
        let known = self.products.iter().take(MIN_COMPRESSED_PRODUCTS);
        let known: Vec<_> = known.filter_map(|entry| entry.product.unpack(&self.codec)).collect();
        self.codec.train(known.iter().map(Arc::as_ref));
    }
}

#[cfg(test)]
mod tests;
