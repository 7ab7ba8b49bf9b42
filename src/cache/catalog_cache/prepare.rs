//! Prepares products for the cache, which takes longer than to put them there.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
};

use super::{
    CatalogCache, details_codec::DetailsCodec, listing::ListingEntry, packed_product::PackedProduct,
};
use crate::domain::catalog::{
    product::Product,
    search::{ProductTerms, TextRules},
};

/// What a product is found by, and its packed form.
pub(super) struct Prepared {
    pub(super) terms: ProductTerms,
    pub(super) entry: ListingEntry,
    pub(super) packed: Arc<PackedProduct>,
}

/// Prepares products.
pub(super) struct Preparer {
    rules: Arc<TextRules>,
    codec: Arc<DetailsCodec>,
}

impl CatalogCache {
    pub(super) fn preparer(&self) -> Preparer {
        Preparer { rules: Arc::clone(&self.rules), codec: Arc::clone(&self.codec) }
    }
}

impl Preparer {
    pub(super) fn prepare(&self, product: &Product) -> Prepared {
        let terms = self.rules.product_terms(product);
        let entry = ListingEntry::new(&self.rules, product, terms.name_words);
        let packed = Arc::new(PackedProduct::new(product, &self.codec));
        Prepared { terms, entry, packed }
    }

    /// Prepares those products that are there.
    fn prepare_all(&self, products: &[Option<Arc<Product>>]) -> Vec<Option<Prepared>> {
        let prepare = |product: &Option<Arc<Product>>| Some(self.prepare(product.as_ref()?));
        products.iter().map(prepare).collect()
    }
}

type Part = Vec<Option<Arc<Product>>>;

/// Prepares products on two threads: the current one, and one that lives as long as this. A new
/// thread for each page would take new memory from the system each time.
pub(super) struct PagePreparer {
    preparer: Preparer,
    /// Nothing if it cannot be started.
    thread: Option<PreparingThread>,
}

struct PreparingThread {
    parts: mpsc::Sender<Part>,
    prepared: mpsc::Receiver<Vec<Option<Prepared>>>,
}

impl PagePreparer {
    pub(super) fn start(catalog: &CatalogCache) -> Self {
        let thread = PreparingThread::start(catalog.preparer());
        let thread = thread.inspect_err(|error| {
            tracing::error!(%error, "failed to start a thread that loads the catalog");
        });
        Self { preparer: catalog.preparer(), thread: thread.ok() }
    }

    /// Prepares those products that are there. Of others, and of some if the thread has failed, the
    /// answer has nothing.
    pub(super) fn prepare(&mut self, mut products: Part) -> Vec<Option<Prepared>> {
        let len = products.len();
        let thread = self.thread.as_ref().filter(|thread| {
            let half = products.split_off(len / 2);
            thread.parts.send(half).is_ok()
        });
        let mut prepared = self.preparer.prepare_all(&products);
        let other_half = thread.and_then(|thread| thread.prepared.recv().ok());
        prepared.extend(other_half.unwrap_or_default());
        prepared.resize_with(len, || None);
        prepared
    }
}

impl PreparingThread {
    fn start(preparer: Preparer) -> io::Result<Self> {
        let (parts, waiting) = mpsc::channel::<Part>();
        let (sender, prepared) = mpsc::channel();
        thread::Builder::new().name("catalog-load".to_owned()).spawn(move || {
            for part in waiting {
                if sender.send(preparer.prepare_all(&part)).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { parts, prepared })
    }
}
