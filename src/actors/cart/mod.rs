//! Carts: one actor a user that is active, found or started by the [`registry`].

mod actor;
mod checkout;
mod passivation;
pub mod registry;
#[cfg(test)]
mod tests;

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use arc_swap::ArcSwapOption;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

pub use self::{actor::CartActor, registry::CartRegistry};
use crate::{
    cache::{catalog_snapshot::Shelf, follower::Follower},
    domain::{
        cart::{Cart, CartLimits, CartOwner},
        clock::Clock,
        money::Currency,
        order::OrderRules,
    },
    messages::cart::{CartView, RenderCart},
    store::{Store, writer::CommitWriter},
};

/// What cart actors work with.
pub struct CartDeps {
    /// Where truth lives.
    pub store: Arc<dyn Store>,
    /// The way there.
    pub writer: CommitWriter,
    /// Products, prices and stock as last known.
    pub shelf: Arc<Shelf>,
    /// News of other nodes, when there are any.
    pub follower: Option<Arc<Follower>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Limits on carts.
    pub limits: CartLimits,
    /// Rules of orders.
    pub order_rules: OrderRules,
    /// The shop's currency.
    pub currency: Currency,
    /// How a cart becomes an answer.
    pub render: RenderCart,
}

/// A user's cart as its actor last had it, shared with readers: the actor is the only one to write it.
pub(crate) struct CartState {
    owner: CartOwner,
    /// The cart with its answer; `None`: the store must be asked.
    rendered: ArcSwapOption<RenderedCart>,
    /// The newest version heard of. What is shown with an older one is not current.
    newest_version: AtomicU64,
    /// Held by whoever changes it: its actor for the length of a message, or somebody who takes it over.
    change_lock: Mutex<()>,
    /// When it was last used, in seconds since the registry began.
    last_used: AtomicU32,
}

/// An answer, with the shelf's epoch it was made at.
struct RenderedCart {
    view: Arc<CartView>,
    epoch: u64,
}

impl CartState {
    fn new(owner: CartOwner) -> Self {
        Self {
            owner,
            rendered: ArcSwapOption::empty(),
            newest_version: AtomicU64::new(0),
            change_lock: Mutex::new(()),
            last_used: AtomicU32::new(0),
        }
    }

    /// The cart as the actor last had it, unless something newer was heard of.
    fn cached_cart(&self) -> Option<Arc<Cart>> {
        let shown = self.rendered.load();
        let cart = &shown.as_ref()?.view.cart;
        (cart.version >= self.newest_version.load(Ordering::Acquire)).then(|| Arc::clone(cart))
    }

    /// The answer, when it is still what it would be now.
    fn current_view(&self, shelf: &Shelf) -> Option<Arc<CartView>> {
        let shown = self.rendered.load();
        let shown = shown.as_ref()?;
        let current = shown.view.cart.version >= self.newest_version.load(Ordering::Acquire)
            && shown.epoch == shelf.epoch();
        current.then(|| Arc::clone(&shown.view))
    }

    fn cache_view(&self, view: Arc<CartView>, epoch: u64) {
        self.newest_version.fetch_max(view.cart.version, Ordering::AcqRel);
        self.rendered.store(Some(Arc::new(RenderedCart { view, epoch })));
    }

    fn invalidate(&self) {
        self.rendered.store(None);
    }

    fn observe_version(&self, version: u64) {
        self.newest_version.fetch_max(version, Ordering::AcqRel);
    }
}

impl CartDeps {
    /// The cart's answer at today's prices, with the epoch those were read at.
    fn render_view(&self, cart: Arc<Cart>) -> (Arc<CartView>, u64) {
        // Read before the prices: a change in between makes the answer look older than it is, never newer.
        let epoch = self.shelf.epoch();
        let priced = cart.with_prices(|id| self.shelf.offer(id), self.currency);
        let body = (self.render)(&cart, &priced);
        let digest = Sha256::digest(&body);
        let mark = digest.iter().take(6).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let etag = format!("{}.{mark:012x}", cart.version);
        (Arc::new(CartView { cart, body, etag }), epoch)
    }
}
