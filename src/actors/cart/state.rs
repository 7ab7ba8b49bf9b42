//! The in-memory state of a cart, which its actor shares with readers.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::{
    CartDeps,
    idempotency_quota::ReplyUsage,
    memory::{CartMemory, rendered_bytes},
};
use crate::{
    cache::pricing_rules::PricingEpoch,
    domain::{
        cart::{Cart, CartOwner, PricedCart},
        ids::PromotionId,
        pricing::{ShippingOffer, ShopPricing},
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
    /// How many of the owner's orders have the promotions with a per-customer limit.
    /// `None` means that it must be read from the store if the cart can have such a promotion.
    buyer_uses: ArcSwapOption<BuyerUses>,
    /// Counts how often these have changed. What was read or rendered before is outdated.
    uses_epoch: AtomicU64,
    /// The last checkout that was refused for a code.
    refused_checkout: ArcSwapOption<RefusedCheckout>,
    /// Held by the actor during each command, and by a merge that closes this cart.
    pub(super) change_lock: Mutex<()>,
    /// When the cart was last used, in seconds since the registry started.
    pub(super) last_used: AtomicU32,
    /// Counts the bytes of `rendered`.
    memory: Arc<CartMemory>,
}

/// How often the catalog and the pricing rules have changed.
type PriceEpoch = (u64, PricingEpoch);

/// How many of the owner's orders have promotions, as it was read.
pub(super) struct BuyerUses {
    pub(super) counts: HashMap<PromotionId, u32>,
    epoch: u64,
}

/// A checkout that was refused for a code.
struct RefusedCheckout {
    key: Box<str>,
    /// The codes that the buyer had been shown as not applied before.
    shown: Vec<String>,
}

/// A rendered cart and the epochs of its prices.
pub(super) struct RenderedCart {
    pub(super) view: Arc<CartView>,
    epoch: PriceEpoch,
    uses_epoch: u64,
    /// The codes that it shows as not applied.
    refused_codes: Vec<String>,
    /// About how much memory it takes.
    bytes: usize,
}

impl CartState {
    pub(super) fn new(owner: CartOwner, memory: Arc<CartMemory>) -> Self {
        Self {
            owner,
            rendered: ArcSwapOption::empty(),
            newest_version: AtomicU64::new(0),
            reply_usage: ReplyUsage::default(),
            buyer_uses: ArcSwapOption::empty(),
            uses_epoch: AtomicU64::new(0),
            refused_checkout: ArcSwapOption::empty(),
            change_lock: Mutex::new(()),
            last_used: AtomicU32::new(0),
            memory,
        }
    }

    /// When the cart was last used, in seconds since the registry started.
    pub(super) fn last_used(&self) -> u32 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// Returns the cached cart, unless a newer version is known.
    pub(super) fn cached_cart(&self) -> Option<Arc<Cart>> {
        let rendered = self.rendered.load();
        let cart = &rendered.as_ref()?.view.cart;
        self.is_newest(cart.version).then(|| Arc::clone(cart))
    }

    /// Returns the rendered cart if neither the cart, the catalog, the rules nor what the owner has
    /// ordered have changed since.
    pub(super) fn current_view(&self, deps: &CartDeps) -> Option<Arc<CartView>> {
        let rendered = self.rendered.load();
        let rendered = rendered.as_ref()?;
        let is_current = self.is_newest(rendered.view.cart.version)
            && rendered.uses_epoch == self.uses_epoch()
            && rendered.epoch == deps.epoch();
        is_current.then(|| Arc::clone(&rendered.view))
    }

    fn is_newest(&self, version: u64) -> bool {
        version >= self.newest_version.load(Ordering::Acquire)
    }

    pub(super) fn cache_view(&self, rendered: Arc<RenderedCart>) {
        self.observe_version(rendered.view.cart.version);
        self.set_rendered(Some(rendered));
    }

    /// Drops the rendered cart, so that the next command reads the store.
    pub(super) fn drop_view(&self) {
        self.set_rendered(None);
    }

    fn set_rendered(&self, rendered: Option<Arc<RenderedCart>>) {
        // Before the swap, so that whoever swaps it out again subtracts what was added.
        self.memory.add(rendered.as_ref().map_or(0, |rendered| rendered.bytes));
        let previous = self.rendered.swap(rendered);
        self.memory.remove(previous.map_or(0, |previous| previous.bytes));
    }

    /// The codes that the cart was last shown with as not applied, to whoever checks out under this
    /// key. A repeat of a checkout that was refused may not have had the answer, so it is as
    /// before until the cart is shown again.
    pub(super) fn refused_codes(&self, key: Option<&str>) -> Vec<String> {
        let refused = self.refused_checkout.load();
        let repeated = refused.as_ref().filter(|refused| Some(&*refused.key) == key);
        let rendered = self.rendered.load();
        match (repeated, rendered.as_ref()) {
            (Some(refused), _) => refused.shown.clone(),
            (None, Some(rendered)) => rendered.refused_codes.clone(),
            (None, None) => Vec::new(),
        }
    }

    /// Takes note that the checkout under this key is refused for a code. Before, the buyer had
    /// been `shown` that these do not apply.
    pub(super) fn note_refused_checkout(&self, key: &str, shown: &[String]) {
        let refused = RefusedCheckout { key: key.into(), shown: shown.to_vec() };
        self.refused_checkout.store(Some(Arc::new(refused)));
    }

    /// Takes note that the buyer is shown the cart as it is now.
    pub(super) fn note_shown(&self) {
        if self.refused_checkout.load().is_some() {
            self.refused_checkout.store(None);
        }
    }

    pub(super) fn buyer_uses(&self) -> Option<Arc<BuyerUses>> {
        self.buyer_uses.load_full()
    }

    /// The same, unless they have changed since.
    pub(super) fn current_buyer_uses(&self) -> Option<Arc<BuyerUses>> {
        self.buyer_uses().filter(|uses| uses.epoch == self.uses_epoch())
    }

    /// The epoch in which uses that are read from now on are current.
    pub(super) fn uses_epoch(&self) -> u64 {
        self.uses_epoch.load(Ordering::Acquire)
    }

    /// Takes over uses whose read began in `epoch`. If they differ from those that were known, a
    /// cart that is rendered with the latter is outdated.
    pub(super) fn set_buyer_uses(
        &self,
        counts: HashMap<PromotionId, u32>,
        epoch: u64,
    ) -> Arc<BuyerUses> {
        let known = self.buyer_uses.load();
        // A guest's cart was rendered without any.
        let differs = known.as_ref().map_or(self.owner.is_guest, |known| known.counts != counts);
        let next = epoch + u64::from(differs);
        // Uses that have changed meanwhile stay outdated.
        let moved =
            self.uses_epoch.compare_exchange(epoch, next, Ordering::AcqRel, Ordering::Acquire);
        let uses = Arc::new(BuyerUses { counts, epoch: moved.map_or(epoch, |_| next) });
        self.buyer_uses.store(Some(Arc::clone(&uses)));
        uses
    }

    /// Drops what no rule depends on any more.
    pub(super) fn drop_buyer_uses(&self) {
        self.buyer_uses.store(None);
    }

    /// Takes note that other orders of the owner have promotions now. The prices that depend on it
    /// are outdated.
    pub(super) fn outdate_buyer_uses(&self) {
        self.uses_epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Drops the cached cart, so that the next command reads the store.
    pub(super) fn invalidate(&self) {
        self.drop_view();
        self.buyer_uses.store(None);
    }

    pub(super) fn observe_version(&self, version: u64) {
        self.newest_version.fetch_max(version, Ordering::AcqRel);
    }
}

impl Drop for CartState {
    fn drop(&mut self) {
        self.drop_view();
    }
}

impl CartDeps {
    /// Prices a cart at current prices.
    pub(super) fn price_cart(&self, cart: &Cart, uses: Option<&BuyerUses>) -> PricedCart {
        let buyer_uses = uses.map(|uses| &uses.counts);
        let rules = self.pricing_rules.current();
        let offer = |id| self.catalog_cache.offer_with_product(id);
        let shop = ShopPricing { currency: self.currency, rules: &rules, buyer_uses };
        cart.with_prices(offer, shop, self.clock.now())
    }

    /// The shipping methods for a cart at current prices.
    pub(super) fn shipping_offers(&self, cart: &Cart) -> Vec<ShippingOffer> {
        let rules = self.pricing_rules.current();
        let offer = |id| self.catalog_cache.offer_with_product(id);
        let shop = ShopPricing { currency: self.currency, rules: &rules, buyer_uses: None };
        cart.shipping_offers(offer, shop, self.clock.now())
    }

    /// What the prices of a cart depend on, besides the cart: how often the catalog and the rules
    /// have changed.
    fn epoch(&self) -> PriceEpoch {
        (self.catalog_cache.epoch(), self.pricing_rules.epoch(|| self.clock.now()))
    }

    /// Renders a cart at current prices. Without `uses` nothing depends on them in `uses_epoch`.
    pub(super) fn render_view(
        &self,
        cart: Arc<Cart>,
        uses: Option<&BuyerUses>,
        uses_epoch: u64,
    ) -> Arc<RenderedCart> {
        // Read the epoch before the prices: a change in between then makes the view look outdated,
        // never too new.
        let epoch = self.epoch();
        let uses_epoch = uses.map_or(uses_epoch, |uses| uses.epoch);
        let priced = self.price_cart(&cart, uses);
        let body = (self.render)(&cart, &priced);
        let digest = Sha256::digest(&body);
        let short_digest =
            digest.iter().take(6).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let etag = format!("{}.{short_digest:012x}", cart.version);
        let codes = priced.breakdown.codes.into_iter();
        let refused_codes =
            codes.filter(|code| code.refusal.is_some()).map(|code| code.code).collect();
        let bytes = rendered_bytes(&cart, &body);
        let view = Arc::new(CartView { cart, body, etag });
        Arc::new(RenderedCart { view, epoch, uses_epoch, refused_codes, bytes })
    }
}
