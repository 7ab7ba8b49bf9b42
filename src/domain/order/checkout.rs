//! Checkout: creating an order from a cart.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Order, OrderCommand, OrderLine, OrderRules, OrderStatus, Payment, PaymentMethod,
    ShippingAddress,
};
use crate::domain::{
    cart::{Cart, CartChange, CartError, CartEvent, CartLine, Shortage},
    catalog::product::Product,
    clock::Timestamp,
    ids::{OrderId, ProductId},
    money::Money,
    payment::provider_amount,
    pricing::{self, Basket, BasketLine, ShopPricing},
};

/// The buyer's options at checkout.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckoutOptions {
    /// The highest total that the buyer accepts.
    pub expected_total: Option<Money>,
    /// The shipping address.
    pub shipping_address: Option<ShippingAddress>,
    /// The payment method.
    pub payment_method: PaymentMethod,
    /// The most units to buy of each product. Other products stay in the cart. `None` buys
    /// everything.
    pub max_quantities: Option<HashMap<ProductId, u32>>,
}

impl CheckoutOptions {
    /// The number of units of a line to buy.
    fn units_to_buy(&self, line: &CartLine) -> u32 {
        let bound = |most: &HashMap<_, u32>| most.get(&line.product_id).copied().unwrap_or(0);
        self.max_quantities.as_ref().map_or(line.quantity, |most| line.quantity.min(bound(most)))
    }
}

/// The result of a checkout, which is stored atomically.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckoutOutcome {
    /// The cart without the purchased units.
    pub cart: CartChange,
    /// The new order. Its units must be reserved.
    pub order: Order,
    /// The order after its payment, if there is nothing to pay.
    pub paid: Option<Order>,
    /// The product versions that names and prices come from.
    pub product_versions: Vec<(ProductId, u64)>,
    /// The lines whose products have a purchase limit. Whether the buyer is within the limit
    /// depends on their other orders.
    pub limited_lines: Vec<LimitedLine>,
}

/// A line of a new order whose product has a purchase limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitedLine {
    /// The product.
    pub product_id: ProductId,
    /// The units in the new order.
    pub quantity: u32,
    /// The most units that one buyer gets.
    pub limit: u32,
}

/// A line of a cart whose price rose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceRise {
    /// The product.
    pub product_id: ProductId,
    /// The unit price when the line was last changed.
    pub was: Money,
    /// The current unit price.
    pub now: Money,
}

/// A line that would take its buyer beyond the product's purchase limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurchaseExcess {
    /// The product.
    pub product_id: ProductId,
    /// The units that were requested.
    pub requested: u64,
    /// The units that the buyer may still buy.
    pub left: u64,
}

/// An order's lines, and what of their products the checkout depends on.
#[derive(Default)]
struct PurchasedLines {
    lines: Vec<OrderLine>,
    product_versions: Vec<(ProductId, u64)>,
    limited_lines: Vec<LimitedLine>,
}

/// The reason a checkout is rejected. A rejected checkout changes nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckoutError {
    /// The cart cannot be changed.
    Cart(CartError),
    /// There is nothing to buy.
    CartEmpty,
    /// These products have too few units available, or were deleted.
    InsufficientStock(Vec<Shortage>),
    /// The total exceeds [`MAX_MINOR_UNITS`](crate::domain::money::MAX_MINOR_UNITS).
    TotalLimitExceeded,
    /// The provider does not charge this total.
    AmountNotPayable(Money),
    /// The total is higher than the buyer accepts.
    PriceChanged {
        /// The total.
        total: Money,
        /// The lines whose prices rose since the buyer put them into the cart.
        rises: Vec<PriceRise>,
    },
}

impl Cart {
    /// Decides what checking out the cart does. `find_product` returns an active product and its
    /// available units.
    ///
    /// # Errors
    /// There is nothing to buy, a product is short or deleted, or the total exceeds the limit or
    /// the total that the buyer accepts.
    pub fn check_out(
        &self,
        checkout: CheckoutOptions,
        order_id: OrderId,
        find_product: impl Fn(ProductId) -> Option<(Arc<Product>, u64)>,
        shop: ShopPricing<'_>,
        rules: OrderRules,
        now: Timestamp,
    ) -> Result<CheckoutOutcome, CheckoutError> {
        self.ensure_open().map_err(CheckoutError::Cart)?;
        let PurchasedLines { lines, product_versions, limited_lines } =
            self.collect_order_lines(&checkout, find_product)?;
        if lines.is_empty() {
            return Err(CheckoutError::CartEmpty);
        }
        let total = price_lines(&lines, shop, now);
        if !total.is_within_limit() {
            return Err(CheckoutError::TotalLimitExceeded);
        }
        if checkout.expected_total.is_some_and(|expected| total.exceeds(expected)) {
            let rises = self.price_rises(&lines);
            return Err(CheckoutError::PriceChanged { total, rises });
        }
        let method = match total == Money::zero(shop.currency) {
            // There is nothing to ask a provider for.
            true => PaymentMethod::Manual,
            false => checkout.payment_method,
        };
        if method == PaymentMethod::Stripe && provider_amount(total).is_none() {
            return Err(CheckoutError::AmountNotPayable(total));
        }
        let cart = self.without_purchased(|line| checkout.units_to_buy(line), now);
        let order = Order {
            id: order_id,
            user_id: self.owner.id,
            status: OrderStatus::PendingPayment,
            version: 1,
            currency: shop.currency,
            lines,
            payment: Payment::placed(method, total, now),
            shipments: Vec::new(),
            shipping_address: checkout.shipping_address,
            placed_at: now,
            expires_at: Some(now.saturating_add(rules.payment_timeout)),
            updated_at: now,
            actor: None,
            anonymized: false,
        };
        Ok(CheckoutOutcome {
            cart: (cart, CartEvent::CheckedOut { order_id }),
            paid: order.paid_if_free(now),
            order,
            product_versions,
            limited_lines,
        })
    }

    /// The lines whose prices are above those of the cart.
    fn price_rises(&self, lines: &[OrderLine]) -> Vec<PriceRise> {
        let rise = |line: &OrderLine| {
            let was = self.lines.iter().find(|known| known.product_id == line.product_id)?.price;
            let now = line.unit_price;
            let product_id = line.product_id;
            now.exceeds(was).then_some(PriceRise { product_id, was, now })
        };
        lines.iter().filter_map(rise).collect()
    }

    fn collect_order_lines(
        &self,
        checkout: &CheckoutOptions,
        find_product: impl Fn(ProductId) -> Option<(Arc<Product>, u64)>,
    ) -> Result<PurchasedLines, CheckoutError> {
        let (mut bought, mut short) = (PurchasedLines::default(), Vec::new());
        for line in &self.lines {
            let (product_id, quantity) = (line.product_id, checkout.units_to_buy(line));
            if quantity == 0 {
                continue;
            }
            let requested = u64::from(quantity);
            let found = find_product(product_id);
            let available = found.as_ref().map_or(0, |(_, available)| *available);
            match found {
                Some((product, _)) if requested <= available => {
                    bought.product_versions.push((product_id, product.version));
                    if let Some(limit) = product.details.purchase_limit {
                        bought.limited_lines.push(LimitedLine { product_id, quantity, limit });
                    }
                    bought.lines.push(order_line(product_id, quantity, &product));
                }
                _ => short.push(Shortage { product_id, requested, available }),
            }
        }
        if short.is_empty() { Ok(bought) } else { Err(CheckoutError::InsufficientStock(short)) }
    }
}

impl Order {
    /// The order after its payment, if there is nothing to pay.
    fn paid_if_free(&self, now: Timestamp) -> Option<Self> {
        let is_free = self.total() == Money::zero(self.currency);
        let pay = OrderCommand::Pay { reference: None };
        is_free.then(|| self.decide(pay, now)).and_then(Result::ok).map(|paid| paid.order)
    }
}

/// What the lines come to, priced like a cart's.
fn price_lines(lines: &[OrderLine], shop: ShopPricing<'_>, now: Timestamp) -> Money {
    let line =
        |line: &OrderLine| BasketLine::plain(line.product_id, line.quantity, line.unit_price);
    let lines: Vec<BasketLine<'_>> = lines.iter().map(line).collect();
    pricing::price(&Basket::of_lines(&lines, shop.currency), shop.rules, now).total
}

fn order_line(product_id: ProductId, quantity: u32, product: &Product) -> OrderLine {
    let details = &product.details;
    OrderLine {
        product_id,
        sku: details.sku.clone(),
        name: details.name.clone(),
        quantity,
        unit_price: details.price,
        fulfilled: 0,
        restocked: 0,
    }
}
