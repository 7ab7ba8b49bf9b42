//! Pricing a cart at current prices.

use super::{Cart, CartLine, Offer};
use crate::domain::{
    clock::Timestamp,
    ids::ProductId,
    money::Money,
    pricing::{self, Basket, BasketLine, Breakdown, ShopPricing},
};

/// A cart at current prices.
#[derive(Debug, Clone, PartialEq)]
pub struct PricedCart {
    /// The lines, in the cart's order.
    pub lines: Vec<PricedLine>,
    /// The number of units in all lines whose product exists.
    pub item_count: u64,
    /// What the lines whose product exists come to.
    pub breakdown: Breakdown,
}

/// A line at the current price.
#[derive(Debug, Clone, PartialEq)]
pub struct PricedLine {
    /// The product's identifier.
    pub product_id: ProductId,
    /// The current name, or the last known name of a deleted product.
    pub name: String,
    /// The number of units.
    pub quantity: u32,
    /// The current unit price, or the last known price of a deleted product.
    pub unit_price: Money,
    /// The line total.
    pub total: Money,
    /// The number of units available. 0 for a deleted product.
    pub available: u64,
    /// The unit price when the line was last written, if it has changed since.
    pub previous_price: Option<Money>,
}

impl Cart {
    /// Prices the cart with `offer` at the time `now`. A line whose product was deleted counts in
    /// no sum.
    #[must_use]
    pub fn with_prices(
        &self,
        offer: impl Fn(ProductId) -> Option<Offer>,
        shop: ShopPricing<'_>,
        now: Timestamp,
    ) -> PricedCart {
        let (mut lines, mut counted) = (Vec::with_capacity(self.lines.len()), Vec::new());
        for line in &self.lines {
            let offer = offer(line.product_id);
            if let Some(offer) = &offer {
                counted.push(BasketLine::plain(line.product_id, line.quantity, offer.price));
            }
            lines.push(line.with_price(offer));
        }
        let basket = Basket::of_lines(&counted, shop.currency);
        PricedCart {
            lines,
            item_count: counted.iter().map(|line| u64::from(line.quantity)).sum(),
            breakdown: pricing::price(&basket, shop.rules, now),
        }
    }

    /// Whether the total at the prices of `offer` is at most
    /// [`MAX_MINOR_UNITS`](crate::domain::money::MAX_MINOR_UNITS).
    pub(super) fn is_total_within_limit(&self, offer: impl Fn(ProductId) -> Option<Offer>) -> bool {
        let total = |line: &CartLine| {
            offer(line.product_id).map(|offer| offer.price.saturating_mul(line.quantity))
        };
        self.lines
            .iter()
            .filter_map(total)
            .reduce(Money::saturating_add)
            .is_none_or(Money::is_within_limit)
    }
}

impl CartLine {
    fn with_price(&self, offer: Option<Offer>) -> PricedLine {
        let (name, unit_price, available) = match offer {
            Some(offer) => (offer.name, offer.price, offer.available),
            None => (self.name.clone(), self.price, 0),
        };
        let was = (unit_price != self.price).then_some(self.price);
        let total = unit_price.saturating_mul(self.quantity);
        PricedLine {
            product_id: self.product_id,
            name,
            quantity: self.quantity,
            unit_price,
            total,
            available,
            previous_price: was,
        }
    }
}
