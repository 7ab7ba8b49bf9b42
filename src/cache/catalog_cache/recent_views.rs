//! The products that were read last, decoded and rendered.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};

use super::Entry;
use crate::{
    domain::{catalog::product::Product, ids::ProductId},
    messages::catalog::ProductView,
};

/// About how many bytes are kept.
const CAPACITY_BYTES: u64 = 16 * 1024 * 1024;

/// What a view takes beside its texts.
const VIEW_BYTES: u64 = 1024;

/// Views of products, the least recently read of which give way. A view that is not current is not
/// returned.
pub(super) struct RecentViews(Cache<ProductId, Arc<ProductView>, ViewWeighter>);

#[derive(Clone)]
struct ViewWeighter;

impl Weighter<ProductId, Arc<ProductView>> for ViewWeighter {
    fn weight(&self, _: &ProductId, view: &Arc<ProductView>) -> u64 {
        let details = &view.product.details;
        let labels = details.tags.iter().map(String::len).sum::<usize>() + details.name.len();
        // The details, and as much for the body.
        2 * (details.description.len() + labels) as u64
            + VIEW_BYTES
            + 128 * details.attributes.len() as u64
    }
}

impl RecentViews {
    pub(super) fn new() -> Self {
        let expected = usize::try_from(CAPACITY_BYTES / (2 * VIEW_BYTES)).unwrap_or(1);
        Self(Cache::with_weighter(expected, CAPACITY_BYTES, ViewWeighter))
    }

    /// The product of `entry`, if a view of it is known.
    pub(super) fn product_of(&self, entry: &Entry) -> Option<Arc<Product>> {
        let view = self.0.get(&entry.product.id)?;
        (view.product.version == entry.product.version).then(|| Arc::clone(&view.product))
    }

    /// The view of `entry`, or one that `create` makes.
    pub(super) fn get_or_create(
        &self,
        entry: &Entry,
        create: impl FnOnce() -> Option<Arc<ProductView>>,
    ) -> Option<Arc<ProductView>> {
        if let Some(view) = self.get(entry) {
            return Some(view);
        }
        let view = create()?;
        self.0.insert(entry.product.id, Arc::clone(&view));
        Some(view)
    }

    /// The view of `entry`, if it is known.
    pub(super) fn get(&self, entry: &Entry) -> Option<Arc<ProductView>> {
        let is_current = |view: &Arc<ProductView>| {
            view.product.version == entry.product.version && view.stock == entry.stock()
        };
        self.0.get(&entry.product.id).filter(is_current)
    }
}
