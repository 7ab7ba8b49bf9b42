//! Checkout: a cart becomes an order.

use std::{collections::HashMap, sync::Arc};

use super::{Order, OrderLine, OrderRules, OrderStatus, Payment, PaymentMethod, ShippingAddress};
use crate::domain::{
    cart::{Cart, CartEvent, CartRefusal, Changed, Line, Shortage},
    catalog::product::Product,
    clock::Timestamp,
    ids::{OrderId, ProductId},
    money::{Currency, Money},
};

/// What a buyer says at checkout.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkout {
    /// The most that it may cost.
    pub expected_total: Option<Money>,
    /// Where it goes.
    pub shipping_address: Option<ShippingAddress>,
    /// How it is paid.
    pub payment_method: PaymentMethod,
    /// The most pieces to buy of each product, and of others none: what else is in the cart stays there. `None`: everything.
    pub at_most: Option<HashMap<ProductId, u32>>,
}

impl Checkout {
    /// How many pieces of a line to buy.
    fn pieces(&self, line: &Line) -> u32 {
        let bound = |most: &HashMap<_, u32>| most.get(&line.product_id).copied().unwrap_or(0);
        self.at_most.as_ref().map_or(line.quantity, |most| line.quantity.min(bound(most)))
    }
}

/// What a checkout does; it is stored whole or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedOut {
    /// The cart without what was bought.
    pub cart: Changed,
    /// The order, whose pieces have to be reserved.
    pub order: Order,
    /// The products' versions that names and prices were taken from.
    pub decided_on: Vec<(ProductId, u64)>,
}

/// An order's lines, with the products' versions that they were copied from.
#[derive(Default)]
struct Bought {
    lines: Vec<OrderLine>,
    decided_on: Vec<(ProductId, u64)>,
}

/// Why a cart cannot be checked out. Nothing has changed.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckoutRefusal {
    /// It cannot be changed at all.
    Cart(CartRefusal),
    /// It has nothing to buy.
    CartEmpty,
    /// Not enough of these products, or they are gone.
    InsufficientStock(Vec<Shortage>),
    /// It costs this now, which is more than the buyer expects.
    PriceChanged(Money),
}

impl Cart {
    /// What checking it out would do. `ware` gives a living product and how many of it are available.
    ///
    /// # Errors
    /// There is nothing to buy, a product is short or gone, or it costs more than expected.
    pub fn check_out(
        &self,
        checkout: Checkout,
        order_id: OrderId,
        ware: impl Fn(ProductId) -> Option<(Arc<Product>, u64)>,
        currency: Currency,
        rules: OrderRules,
        now: Timestamp,
    ) -> Result<CheckedOut, CheckoutRefusal> {
        self.check_open().map_err(CheckoutRefusal::Cart)?;
        let Bought { lines, decided_on } = self.bought(&checkout, ware)?;
        if lines.is_empty() {
            return Err(CheckoutRefusal::CartEmpty);
        }
        let cart = self.without(|line| checkout.pieces(line), now);
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
            expires_at: Some(now.plus(rules.payment_timeout)),
            updated_at: now,
        };
        let total = order.total();
        if checkout.expected_total.is_some_and(|expected| total.minor() > expected.minor()) {
            return Err(CheckoutRefusal::PriceChanged(total));
        }
        Ok(CheckedOut { cart: (cart, CartEvent::CheckedOut { order_id }), order, decided_on })
    }

    fn bought(
        &self,
        checkout: &Checkout,
        ware: impl Fn(ProductId) -> Option<(Arc<Product>, u64)>,
    ) -> Result<Bought, CheckoutRefusal> {
        let (mut bought, mut short) = (Bought::default(), Vec::new());
        for line in &self.lines {
            let (product_id, quantity) = (line.product_id, checkout.pieces(line));
            if quantity == 0 {
                continue;
            }
            let requested = u64::from(quantity);
            let found = ware(product_id);
            let available = found.as_ref().map_or(0, |(_, available)| *available);
            match found {
                Some((product, _)) if requested <= available => {
                    bought.decided_on.push((product_id, product.version));
                    bought.lines.push(order_line(product_id, quantity, &product));
                }
                _ => short.push(Shortage { product_id, requested, available }),
            }
        }
        if short.is_empty() { Ok(bought) } else { Err(CheckoutRefusal::InsufficientStock(short)) }
    }
}

fn order_line(product_id: ProductId, quantity: u32, product: &Product) -> OrderLine {
    let facts = &product.facts;
    OrderLine {
        product_id,
        sku: facts.sku.clone(),
        name: facts.name.clone(),
        quantity,
        unit_price: facts.price,
    }
}
