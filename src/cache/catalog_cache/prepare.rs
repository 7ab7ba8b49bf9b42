//! Prepares products for the cache, which takes longer than to put them there.

use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use super::{
    CatalogCache, details_codec::DetailsCodec, listing::ListingEntry, packed_product::PackedProduct,
};
use crate::{
    cache::text_index::{IndexedTexts, TextKey},
    domain::catalog::{
        product::Product,
        search::{TermList, TextRules},
    },
};

/// What a product is found by, and its packed form.
pub(super) struct Prepared {
    pub(super) text: PreparedText,
    pub(super) entry: ListingEntry,
    pub(super) packed: Arc<PackedProduct>,
}

impl Prepared {
    /// The slot of the text in the index, if it is there.
    pub(super) const fn indexed_slot(&self) -> Option<u32> {
        match self.text {
            PreparedText::Indexed(slot) => Some(slot),
            PreparedText::New(..) => None,
        }
    }
}

/// The text of a product, for the index.
pub(super) enum PreparedText {
    /// It is in the index, in this slot.
    Indexed(u32),
    /// It is not in the index.
    New(TextKey, TermList),
}

/// Prepares products.
pub(super) struct Preparer {
    rules: Arc<TextRules>,
    codec: Arc<DetailsCodec>,
    indexed: Arc<IndexedTexts>,
}

impl CatalogCache {
    /// A preparer of products whose texts are not in the index.
    pub(super) fn preparer(&self) -> Preparer {
        self.preparer_with(&Arc::default())
    }

    /// A preparer of products whose texts may be among `indexed`.
    pub(super) fn preparer_with(&self, indexed: &Arc<IndexedTexts>) -> Preparer {
        let (rules, codec) = (Arc::clone(&self.rules), Arc::clone(&self.codec));
        Preparer { rules, codec, indexed: Arc::clone(indexed) }
    }
}

impl Preparer {
    pub(super) fn prepare(&self, product: &Product) -> Prepared {
        let key = TextKey::of(product);
        let text = self.indexed.slot(key).map_or_else(
            || PreparedText::New(key, self.rules.product_terms(product)),
            PreparedText::Indexed,
        );
        let entry = ListingEntry::new(&self.rules, product);
        let packed = Arc::new(PackedProduct::new(product, &self.codec));
        Prepared { text, entry, packed }
    }

    /// Prepares those products that are there.
    fn prepare_all(&self, products: &[Option<Arc<Product>>]) -> Vec<Option<Prepared>> {
        let prepare = |product: &Option<Arc<Product>>| Some(self.prepare(product.as_ref()?));
        products.iter().map(prepare).collect()
    }
}

/// The threads that prepare a catalog that is loaded.
const THREADS: usize = 2;

/// Prepares pages of products on threads that live as long as this: a new thread for each page
/// would take new memory from the system each time.
pub(super) struct PagePreparer {
    pages: mpsc::Sender<Page>,
}

struct Page {
    products: Vec<Option<Arc<Product>>>,
    prepared: mpsc::Sender<Vec<Option<Prepared>>>,
}

/// A page that a thread prepares.
pub(super) struct PageInPreparation {
    len: usize,
    prepared: mpsc::Receiver<Vec<Option<Prepared>>>,
}

impl PagePreparer {
    pub(super) fn start(catalog: &CatalogCache, indexed: &Arc<IndexedTexts>) -> Self {
        let (pages, waiting) = mpsc::channel::<Page>();
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..THREADS {
            let (waiting, preparer) = (Arc::clone(&waiting), catalog.preparer_with(indexed));
            let run = move || {
                let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                while let Ok(Page { products, prepared }) = next() {
                    // The load may have failed meanwhile.
                    drop(prepared.send(preparer.prepare_all(&products)));
                }
            };
            let thread = thread::Builder::new().name(format!("catalog-load-{number}")).spawn(run);
            if let Err(error) = thread {
                tracing::error!(%error, "failed to start a thread that loads the catalog");
            }
        }
        Self { pages }
    }

    /// Begins to prepare those products that are there.
    pub(super) fn begin(&self, products: Vec<Option<Arc<Product>>>) -> PageInPreparation {
        let (len, (sender, prepared)) = (products.len(), mpsc::channel());
        // Without a thread, the page is answered as if one had failed.
        drop(self.pages.send(Page { products, prepared: sender }));
        PageInPreparation { len, prepared }
    }
}

impl PageInPreparation {
    /// Waits for the products of the page. There is nothing for those that were not there, and for
    /// all if no thread prepares pages.
    pub(super) fn finish(self) -> Vec<Option<Prepared>> {
        let mut prepared = self.prepared.recv().unwrap_or_default();
        prepared.resize_with(self.len, || None);
        prepared
    }
}
