//! Checkout: a cart becomes an order.

use std::{collections::HashMap, sync::Arc};

use super::{Order, OrderLine, OrderRules, OrderStatus, Payment, PaymentMethod, ShippingAddress};
use crate::domain::{
    cart::{Cart, CartChange, CartError, CartEvent, CartLine, Shortage},
    catalog::product::Product,
    clock::Timestamp,
    ids::{OrderId, ProductId},
    money::{Currency, Money},
};

/// What a buyer says at checkout.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckoutOptions {
    /// The most that it may cost.
    pub expected_total: Option<Money>,
    /// Where it goes.
    pub shipping_address: Option<ShippingAddress>,
    /// How it is paid.
    pub payment_method: PaymentMethod,
    /// The most pieces to buy of each product, and of others none: what else is in the cart stays there. `None`: everything.
    pub max_quantities: Option<HashMap<ProductId, u32>>,
}

impl CheckoutOptions {
    /// How many pieces of a line to buy.
    fn units_to_buy(&self, line: &CartLine) -> u32 {
        let bound = |most: &HashMap<_, u32>| most.get(&line.product_id).copied().unwrap_or(0);
        self.max_quantities.as_ref().map_or(line.quantity, |most| line.quantity.min(bound(most)))
    }
}

/// What a checkout does; it is stored whole or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckoutOutcome {
    /// The cart without what was bought.
    pub cart: CartChange,
    /// The order, whose pieces have to be reserved.
    pub order: Order,
    /// The products' versions that names and prices were taken from.
    pub product_versions: Vec<(ProductId, u64)>,
}

/// An order's lines, with the products' versions that they were copied from.
#[derive(Default)]
struct PurchasedLines {
    lines: Vec<OrderLine>,
    product_versions: Vec<(ProductId, u64)>,
}

/// Why a cart cannot be checked out. Nothing has changed.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckoutError {
    /// It cannot be changed at all.
    Cart(CartError),
    /// It has nothing to buy.
    CartEmpty,
    /// Not enough of these products, or they are gone.
    InsufficientStock(Vec<Shortage>),
    /// It costs more than [`MAX_MINOR_UNITS`](crate::domain::money::MAX_MINOR_UNITS).
    TotalLimitExceeded,
    /// It costs this now, which is more than the buyer expects.
    PriceChanged(Money),
}

impl Cart {
    /// What checking it out would do. `ware` gives a living product and how many of it are available.
    ///
    /// # Errors
    /// There is nothing to buy, a product is short or gone, or the total is above the limit or
    /// above what the buyer expects.
    pub fn check_out(
        &self,
        checkout: CheckoutOptions,
        order_id: OrderId,
        ware: impl Fn(ProductId) -> Option<(Arc<Product>, u64)>,
        currency: Currency,
        rules: OrderRules,
        now: Timestamp,
    ) -> Result<CheckoutOutcome, CheckoutError> {
        self.ensure_open().map_err(CheckoutError::Cart)?;
        let PurchasedLines { lines, product_versions: decided_on } =
            self.collect_order_lines(&checkout, ware)?;
        if lines.is_empty() {
            return Err(CheckoutError::CartEmpty);
        }
        let cart = self.without_purchased(|line| checkout.units_to_buy(line), now);
        let order = Order {
            id: order_id,
            user_id: self.owner.id,
            status: OrderStatus::PendingPayment,
            version: 1,
            currency,
            lines,
            payment: Payment { method: checkout.payment_method, reference: None },
            shipping_address: checkout.shipping_address,
            placed_at: now,
            expires_at: Some(now.saturating_add(rules.payment_timeout)),
            updated_at: now,
        };
        let total = order.total();
        if !total.is_within_limit() {
            return Err(CheckoutError::TotalLimitExceeded);
        }
        if checkout.expected_total.is_some_and(|expected| total.exceeds(expected)) {
            return Err(CheckoutError::PriceChanged(total));
        }
        Ok(CheckoutOutcome {
            cart: (cart, CartEvent::CheckedOut { order_id }),
            order,
            product_versions: decided_on,
        })
    }

    fn collect_order_lines(
        &self,
        checkout: &CheckoutOptions,
        ware: impl Fn(ProductId) -> Option<(Arc<Product>, u64)>,
    ) -> Result<PurchasedLines, CheckoutError> {
        let (mut bought, mut short) = (PurchasedLines::default(), Vec::new());
        for line in &self.lines {
            let (product_id, quantity) = (line.product_id, checkout.units_to_buy(line));
            if quantity == 0 {
                continue;
            }
            let requested = u64::from(quantity);
            let found = ware(product_id);
            let available = found.as_ref().map_or(0, |(_, available)| *available);
            match found {
                Some((product, _)) if requested <= available => {
                    bought.product_versions.push((product_id, product.version));
                    bought.lines.push(order_line(product_id, quantity, &product));
                }
                _ => short.push(Shortage { product_id, requested, available }),
            }
        }
        if short.is_empty() { Ok(bought) } else { Err(CheckoutError::InsufficientStock(short)) }
    }
}

fn order_line(product_id: ProductId, quantity: u32, product: &Product) -> OrderLine {
    let facts = &product.details;
    OrderLine {
        product_id,
        sku: facts.sku.clone(),
        name: facts.name.clone(),
        quantity,
        unit_price: facts.price,
    }
}
