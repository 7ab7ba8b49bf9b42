//! A cart in memory, as its actor and the readers of it share it.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use arc_swap::ArcSwapOption;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::CartDeps;
use crate::{
    cache::catalog_snapshot::CatalogSnapshot,
    domain::cart::{Cart, CartOwner},
    messages::cart::CartView,
};

/// A user's cart as its actor last had it. Readers share it; only the actor writes it.
pub(crate) struct CartState {
    pub(super) owner: CartOwner,
    /// The cart as rendered last; `None`: the store must be read.
    rendered: ArcSwapOption<RenderedCart>,
    /// The newest version heard of. A rendered cart with an older one is not current.
    newest_version: AtomicU64,
    /// Held by the actor for the length of a command, or by a merge that takes the cart over.
    pub(super) change_lock: Mutex<()>,
    /// When the cart was last used, in seconds since the registry started.
    pub(super) last_used: AtomicU32,
}

/// A rendered cart, with the catalog snapshot's epoch that its prices were read at.
struct RenderedCart {
    view: Arc<CartView>,
    epoch: u64,
}

impl CartState {
    pub(super) fn new(owner: CartOwner) -> Self {
        Self {
            owner,
            rendered: ArcSwapOption::empty(),
            newest_version: AtomicU64::new(0),
            change_lock: Mutex::new(()),
            last_used: AtomicU32::new(0),
        }
    }

    /// The cart as the actor last had it, unless a newer version was heard of.
    pub(super) fn cached_cart(&self) -> Option<Arc<Cart>> {
        let rendered = self.rendered.load();
        let cart = &rendered.as_ref()?.view.cart;
        self.is_newest(cart.version).then(|| Arc::clone(cart))
    }

    /// The rendered cart, when rendering it now would give the same.
    pub(super) fn current_view(&self, catalog: &CatalogSnapshot) -> Option<Arc<CartView>> {
        let rendered = self.rendered.load();
        let rendered = rendered.as_ref()?;
        let is_current =
            self.is_newest(rendered.view.cart.version) && rendered.epoch == catalog.epoch();
        is_current.then(|| Arc::clone(&rendered.view))
    }

    fn is_newest(&self, version: u64) -> bool {
        version >= self.newest_version.load(Ordering::Acquire)
    }

    pub(super) fn cache_view(&self, view: Arc<CartView>, epoch: u64) {
        self.observe_version(view.cart.version);
        self.rendered.store(Some(Arc::new(RenderedCart { view, epoch })));
    }

    /// Forgets the cart, so that the next command reads it from the store.
    pub(super) fn invalidate(&self) {
        self.rendered.store(None);
    }

    pub(super) fn observe_version(&self, version: u64) {
        self.newest_version.fetch_max(version, Ordering::AcqRel);
    }
}

impl CartDeps {
    /// Renders a cart at today's prices; also returns the epoch that those were read at.
    pub(super) fn render_view(&self, cart: Arc<Cart>) -> (Arc<CartView>, u64) {
        // Read before the prices: a change in between makes the view look older than it is, never
        // newer.
        let epoch = self.catalog_snapshot.epoch();
        let priced = cart.with_prices(|id| self.catalog_snapshot.offer(id), self.currency);
        let body = (self.render)(&cart, &priced);
        let digest = Sha256::digest(&body);
        let short_digest =
            digest.iter().take(6).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let etag = format!("{}.{short_digest:012x}", cart.version);
        (Arc::new(CartView { cart, body, etag }), epoch)
    }
}
