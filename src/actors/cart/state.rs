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

use super::{CartDeps, reply_quota::ReplyUsage};
use crate::{
    cache::pricing_rules::PricingEpoch,
    domain::{
        cart::{Cart, CartOwner, Offer, PricedCart},
        ids::{ProductId, PromotionId},
        pricing::{PricingRules, ShippingOffer, ShopPricing},
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
    /// How many of the owner's orders have the promotions that one buyer can have only so often.
    /// `None` means that it must be read from the store if the cart can have such a promotion.
    buyer_uses: ArcSwapOption<BuyerUses>,
    /// Held by the actor during each command, and by a merge that closes this cart.
    pub(super) change_lock: Mutex<()>,
    /// When the cart was last used, in seconds since the registry started.
    pub(super) last_used: AtomicU32,
}

/// How often the catalog and the rules of prices have changed.
type PriceEpoch = (u64, PricingEpoch);

/// How many of the owner's orders have promotions.
pub(super) type BuyerUses = HashMap<PromotionId, u32>;

/// A rendered cart and the epoch of its prices.
pub(super) struct RenderedCart {
    pub(super) view: Arc<CartView>,
    epoch: PriceEpoch,
    /// The codes that it shows as not applied.
    refused_codes: Vec<String>,
}

impl CartState {
    pub(super) fn new(owner: CartOwner) -> Self {
        Self {
            owner,
            rendered: ArcSwapOption::empty(),
            newest_version: AtomicU64::new(0),
            reply_usage: ReplyUsage::default(),
            buyer_uses: ArcSwapOption::empty(),
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

    /// Returns the rendered cart if neither the cart, the catalog nor the rules have changed since.
    pub(super) fn current_view(&self, deps: &CartDeps) -> Option<Arc<CartView>> {
        let rendered = self.rendered.load();
        let rendered = rendered.as_ref()?;
        let is_current =
            self.is_newest(rendered.view.cart.version) && rendered.epoch == deps.epoch();
        is_current.then(|| Arc::clone(&rendered.view))
    }

    fn is_newest(&self, version: u64) -> bool {
        version >= self.newest_version.load(Ordering::Acquire)
    }

    pub(super) fn cache_view(&self, rendered: Arc<RenderedCart>) {
        self.observe_version(rendered.view.cart.version);
        self.rendered.store(Some(rendered));
    }

    /// The codes that the cart was last shown with as not applied.
    pub(super) fn refused_codes(&self) -> Vec<String> {
        let rendered = self.rendered.load();
        rendered.as_ref().map_or_else(Vec::new, |rendered| rendered.refused_codes.clone())
    }

    pub(super) fn buyer_uses(&self) -> Option<Arc<BuyerUses>> {
        self.buyer_uses.load_full()
    }

    pub(super) fn set_buyer_uses(&self, uses: BuyerUses) -> Arc<BuyerUses> {
        let uses = Arc::new(uses);
        self.buyer_uses.store(Some(Arc::clone(&uses)));
        uses
    }

    /// Forgets how many of the owner's orders have promotions, and the prices that depend on it.
    pub(super) fn forget_buyer_uses(&self) {
        if self.buyer_uses.swap(None).is_some() {
            self.rendered.store(None);
        }
    }

    /// Drops the cached cart, so that the next command reads the store.
    pub(super) fn invalidate(&self) {
        self.rendered.store(None);
        self.buyer_uses.store(None);
    }

    pub(super) fn observe_version(&self, version: u64) {
        self.newest_version.fetch_max(version, Ordering::AcqRel);
    }
}

impl CartDeps {
    /// Prices a cart at current prices.
    pub(super) fn price_cart(&self, cart: &Cart, buyer_uses: Option<&BuyerUses>) -> PricedCart {
        let rules = self.pricing_rules.current();
        let offer = |id| self.priced_offer(&rules, id);
        let shop = ShopPricing { currency: self.currency, rules: &rules, buyer_uses };
        cart.with_prices(offer, shop, self.clock.now())
    }

    /// The shipping methods for a cart at current prices.
    pub(super) fn shipping_offers(&self, cart: &Cart) -> Vec<ShippingOffer> {
        let rules = self.pricing_rules.current();
        let offer = |id| self.priced_offer(&rules, id);
        let shop = ShopPricing { currency: self.currency, rules: &rules, buyer_uses: None };
        cart.shipping_offers(offer, shop, self.clock.now())
    }

    /// A product as the rules of prices see it. Without rules, its price is enough.
    fn priced_offer(&self, rules: &PricingRules, id: ProductId) -> Option<Offer> {
        match rules.is_empty() {
            true => self.catalog_cache.offer(id),
            false => self.catalog_cache.offer_with_product(id),
        }
    }

    /// What the prices of a cart depend on, besides the cart: how often the catalog and the rules
    /// have changed.
    fn epoch(&self) -> PriceEpoch {
        (self.catalog_cache.epoch(), self.pricing_rules.epoch(|| self.clock.now()))
    }

    /// Renders a cart at current prices.
    pub(super) fn render_view(
        &self,
        cart: Arc<Cart>,
        buyer_uses: Option<&BuyerUses>,
    ) -> Arc<RenderedCart> {
        // Read the epoch before the prices: a change in between then makes the view look outdated,
        // never too new.
        let epoch = self.epoch();
        let priced = self.price_cart(&cart, buyer_uses);
        let body = (self.render)(&cart, &priced);
        let digest = Sha256::digest(&body);
        let short_digest =
            digest.iter().take(6).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let etag = format!("{}.{short_digest:012x}", cart.version);
        let codes = priced.breakdown.codes.into_iter();
        let refused_codes =
            codes.filter(|code| code.refusal.is_some()).map(|code| code.code).collect();
        let view = Arc::new(CartView { cart, body, etag });
        Arc::new(RenderedCart { view, epoch, refused_codes })
    }
}
