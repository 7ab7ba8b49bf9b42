//! Pricing a cart at current prices.

use std::sync::Arc;

use super::{Cart, CartLine, Offer};
use crate::domain::{
    catalog::product::Product,
    clock::Timestamp,
    ids::ProductId,
    money::Money,
    pricing::{self, Basket, BasketLine, Breakdown, LineAmounts, ShippingOffer, ShopPricing},
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
    /// The product, if it exists and the offer has it.
    pub product: Option<Arc<Product>>,
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
    /// The line's discount and tax. `None` if both are 0.
    pub amounts: Option<LineAmounts>,
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
        let offers: Vec<Option<Offer>> =
            self.lines.iter().map(|line| offer(line.product_id)).collect();
        let counted: Vec<BasketLine<'_>> = self
            .lines
            .iter()
            .zip(&offers)
            .filter_map(|(line, offer)| Some(basket_line(line, offer.as_ref()?)))
            .collect();
        let breakdown = pricing::price(&self.basket(&counted, shop), shop.rules, now);
        let item_count = counted.iter().map(|line| u64::from(line.quantity)).sum();
        // The lines whose product exists are those of the breakdown, in the same order.
        let mut amounts = breakdown.lines.iter().copied();
        let lines = self.lines.iter().zip(offers).map(|(line, offer)| {
            let amounts = if offer.is_some() { amounts.next() } else { None };
            line.with_price(offer, amounts)
        });
        PricedCart { lines: lines.collect(), item_count, breakdown }
    }

    /// The shipping methods that the owner can choose at the prices of `offer`, the cheapest first.
    #[must_use]
    pub fn shipping_offers(
        &self,
        offer: impl Fn(ProductId) -> Option<Offer>,
        shop: ShopPricing<'_>,
        now: Timestamp,
    ) -> Vec<ShippingOffer> {
        let offers: Vec<(&CartLine, Offer)> =
            self.lines.iter().filter_map(|line| Some((line, offer(line.product_id)?))).collect();
        let lines: Vec<BasketLine<'_>> =
            offers.iter().map(|(line, offer)| basket_line(line, offer)).collect();
        let basket = self.basket(&lines, shop);
        let goods = pricing::price(&basket, shop.rules, now).goods_cost();
        pricing::shipping_offers(&basket, shop.rules, goods)
    }

    /// What the pricing rules see of this cart with these lines.
    fn basket<'a>(&'a self, lines: &'a [BasketLine<'a>], shop: ShopPricing<'a>) -> Basket<'a> {
        Basket {
            currency: shop.currency,
            lines,
            codes: &self.codes,
            destination: self.shipping.as_ref().map(|shipping| &shipping.destination),
            method: self.shipping.as_ref().and_then(|shipping| shipping.method),
            buyer_uses: shop.buyer_uses,
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

impl Offer {
    /// The offer of a product that has this many units available.
    #[must_use]
    pub fn of_product(product: &Arc<Product>, available: u64) -> Self {
        Self {
            name: product.details.name.clone(),
            price: product.details.price,
            available,
            product: Some(Arc::clone(product)),
        }
    }
}

impl CartLine {
    fn with_price(&self, offer: Option<Offer>, amounts: Option<LineAmounts>) -> PricedLine {
        let (name, unit_price, available, product) = match offer {
            Some(offer) => (offer.name, offer.price, offer.available, offer.product),
            None => (self.name.clone(), self.price, 0, None),
        };
        let was = (unit_price != self.price).then_some(self.price);
        let total = unit_price.saturating_mul(self.quantity);
        PricedLine {
            product_id: self.product_id,
            name,
            product,
            quantity: self.quantity,
            unit_price,
            total,
            available,
            previous_price: was,
            amounts,
        }
    }
}

/// What the pricing rules see of a line whose product exists.
fn basket_line<'a>(line: &CartLine, offer: &'a Offer) -> BasketLine<'a> {
    match &offer.product {
        Some(product) => BasketLine::of_product(product, line.quantity),
        None => BasketLine::plain(line.product_id, line.quantity, offer.price),
    }
}
