//! The in-memory state of a cart, which its actor shares with readers.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use arc_swap::ArcSwapOption;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::{CartDeps, reply_quota::ReplyUsage};
use crate::{
    cache::catalog_cache::CatalogCache,
    domain::{
        cart::{Cart, CartOwner, PricedCart},
        pricing::ShopPricing,
    },
    messages::cart::CartView,
};

/// The cached state of one cart. Readers share it; the actor writes it, and the registry what it
/// learns of newer versions.
pub(crate) struct CartState {
    pub(super) owner: CartOwner,
    /// The last rendered cart. `None` means that the cart must be read from the store.
    rendered: ArcSwapOption<RenderedCart>,
    /// The newest known version. A rendered cart with an older version is outdated.
    newest_version: AtomicU64,
    /// What is stored under the owner's idempotency keys.
    pub(super) reply_usage: ReplyUsage,
    /// Held by the actor during each command, and by a merge that closes this cart.
    pub(super) change_lock: Mutex<()>,
    /// When the cart was last used, in seconds since the registry started.
    pub(super) last_used: AtomicU32,
}

/// A rendered cart and the catalog epoch of its prices.
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
            reply_usage: ReplyUsage::default(),
            change_lock: Mutex::new(()),
            last_used: AtomicU32::new(0),
        }
    }

    /// Returns the cached cart, unless a newer version is known.
    pub(super) fn cached_cart(&self) -> Option<Arc<Cart>> {
        let rendered = self.rendered.load();
        let cart = &rendered.as_ref()?.view.cart;
        self.is_newest(cart.version).then(|| Arc::clone(cart))
    }

    /// Returns the rendered cart if neither the cart nor the catalog has changed since.
    pub(super) fn current_view(&self, catalog: &CatalogCache) -> Option<Arc<CartView>> {
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

    /// Drops the cached cart, so that the next command reads the store.
    pub(super) fn invalidate(&self) {
        self.rendered.store(None);
    }

    pub(super) fn observe_version(&self, version: u64) {
        self.newest_version.fetch_max(version, Ordering::AcqRel);
    }
}

impl CartDeps {
    /// What the shop prices with.
    pub(super) fn shop_pricing(&self) -> ShopPricing<'_> {
        ShopPricing { currency: self.currency, rules: &self.pricing_rules }
    }

    /// Prices a cart at current prices.
    pub(super) fn price_cart(&self, cart: &Cart) -> PricedCart {
        let offer = |id| self.catalog_cache.offer(id);
        cart.with_prices(offer, self.shop_pricing(), self.clock.now())
    }

    /// Renders a cart at current prices. Also returns the catalog epoch of the prices.
    pub(super) fn render_view(&self, cart: Arc<Cart>) -> (Arc<CartView>, u64) {
        // Read the epoch before the prices: a change in between then makes the view look outdated,
        // never too new.
        let epoch = self.catalog_cache.epoch();
        let priced = self.price_cart(&cart);
        let body = (self.render)(&cart, &priced);
        let digest = Sha256::digest(&body);
        let short_digest =
            digest.iter().take(6).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let etag = format!("{}.{short_digest:012x}", cart.version);
        (Arc::new(CartView { cart, body, etag }), epoch)
    }
}
