//! Pricing a cart at current prices.

use super::{Cart, CartLine, Offer};
use crate::domain::{
    ids::ProductId,
    money::{Currency, Money},
};

/// A cart at current prices.
#[derive(Debug, Clone, PartialEq)]
pub struct PricedCart {
    /// The lines, in the cart's order.
    pub lines: Vec<PricedLine>,
    /// The number of units in all lines.
    pub item_count: u64,
    /// The sum of all line totals.
    pub total: Money,
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
    /// Prices the cart with `offer`.
    #[must_use]
    pub fn with_prices(
        &self,
        offer: impl Fn(ProductId) -> Option<Offer>,
        currency: Currency,
    ) -> PricedCart {
        let lines: Vec<PricedLine> =
            self.lines.iter().map(|line| line.with_price(offer(line.product_id))).collect();
        let item_count = lines.iter().map(|line| u64::from(line.quantity)).sum();
        let total =
            lines.iter().fold(Money::zero(currency), |sum, line| sum.saturating_add(line.total));
        PricedCart { lines, item_count, total }
    }

    /// Whether the total at the prices of `offer` is at most
    /// [`MAX_MINOR_UNITS`](crate::domain::money::MAX_MINOR_UNITS).
    pub(super) fn is_total_within_limit(&self, offer: impl Fn(ProductId) -> Option<Offer>) -> bool {
        let total = |line: &CartLine| {
            let price = offer(line.product_id).map_or(line.price, |offer| offer.price);
            price.saturating_mul(line.quantity)
        };
        self.lines
            .iter()
            .map(total)
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
