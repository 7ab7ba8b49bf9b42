//! What a cart costs today.

use super::{Cart, CartLine, Offer};
use crate::domain::{
    ids::ProductId,
    money::{Currency, Money},
};

/// A cart at today's prices.
#[derive(Debug, Clone, PartialEq)]
pub struct PricedCart {
    /// Its lines, in the cart's order.
    pub lines: Vec<PricedLine>,
    /// Pieces in all lines together.
    pub item_count: u64,
    /// What all lines cost together.
    pub total: Money,
}

/// A line at today's price.
#[derive(Debug, Clone, PartialEq)]
pub struct PricedLine {
    /// The product.
    pub product_id: ProductId,
    /// Its name today, or its last when it is gone.
    pub name: String,
    /// Pieces.
    pub quantity: u32,
    /// What a piece costs today, or cost last when the product is gone.
    pub unit_price: Money,
    /// What the line costs.
    pub total: Money,
    /// How many could be bought now; 0 when the product is gone.
    pub available: u64,
    /// The price when the line was last written, when it was another one.
    pub previous_price: Option<Money>,
}

impl Cart {
    /// The cart at the prices of `offer`.
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
