//! Checkout: creating an order from a cart.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Buyer, Order, OrderAddress, OrderCommand, OrderLine, OrderRules, OrderStatus, Payment,
    PaymentMethod,
};
use crate::domain::{
    account::Email,
    cart::{Cart, CartChange, CartError, CartEvent, CartLine, Shortage},
    catalog::product::Product,
    clock::Timestamp,
    ids::{OrderId, ProductId, UserId},
    money::Money,
    payment::provider_amount,
    pricing::{self, Basket, BasketLine, Charges, CodeRefusal, ShopPricing, TakenUse},
};

/// The buyer's options at checkout.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckoutOptions {
    /// The highest total that the buyer accepts.
    pub expected_total: Option<Money>,
    /// Where mails about the order go. `None` is the address of the buyer's account.
    pub email: Option<Email>,
    /// The address of the buyer's account. A guest has none.
    pub account_email: Option<Email>,
    /// The shipping address.
    pub shipping_address: Option<OrderAddress>,
    /// The billing address.
    pub billing_address: Option<OrderAddress>,
    /// The payment method.
    pub payment_method: PaymentMethod,
    /// The most units to buy of each product. Other products stay in the cart. `None` buys
    /// everything.
    pub max_quantities: Option<HashMap<ProductId, u32>>,
    /// The codes of the cart that the buyer was shown as not applied. They do not hinder checkout.
    pub refused_codes: Vec<String>,
}

impl CheckoutOptions {
    /// The buyer, whom other orders are recognized by.
    #[must_use]
    pub fn buyer(&self, user_id: UserId) -> Buyer {
        let named = self.email.iter().filter(|named| Some(*named) != self.account_email.as_ref());
        Buyer { user_id, emails: self.account_email.iter().chain(named).cloned().collect() }
    }

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
    /// The version of the rules that the order was priced with.
    pub rules_version: u64,
    /// The uses of promotions that the order takes.
    pub uses: Vec<TakenUse>,
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
    /// The product of each line, and the units to buy.
    products: Vec<(Arc<Product>, u32)>,
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
    /// A code that the buyer counts on does not hold any more.
    CodeLost {
        /// The code.
        code: String,
        /// Why.
        reason: CodeRefusal,
    },
    /// What the order comes to depends on where it goes, and no address is known.
    AddressRequired,
    /// Taxes depend on the address's region, which is not a code.
    RegionUnknown,
    /// No shipping method reaches the address.
    MethodNotAvailable,
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
        let PurchasedLines { lines, products, product_versions, limited_lines } =
            self.collect_order_lines(&checkout, find_product)?;
        if lines.is_empty() {
            return Err(CheckoutError::CartEmpty);
        }
        let (charges, total) = self.price_order(&checkout, &products, shop, now)?;
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
        let uses = charges.as_deref().map_or_else(Vec::new, |charges| taken_uses(charges, shop));
        let cart = self.without_purchased(|line| checkout.units_to_buy(line), now);
        let order = Order {
            id: order_id,
            user_id: self.owner.id,
            guest: self.owner.is_guest,
            email: checkout.email.or(checkout.account_email),
            status: OrderStatus::PendingPayment,
            version: 1,
            currency: shop.currency,
            lines,
            charges,
            payment: Payment::placed(method, total, now),
            shipments: Vec::new(),
            shipping_address: checkout.shipping_address,
            billing_address: checkout.billing_address,
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
            rules_version: shop.rules.version(),
            uses,
        })
    }

    /// What the order comes to, priced like a cart, and what of it is not the price of a line.
    fn price_order(
        &self,
        checkout: &CheckoutOptions,
        products: &[(Arc<Product>, u32)],
        shop: ShopPricing<'_>,
        now: Timestamp,
    ) -> Result<(Option<Box<Charges>>, Money), CheckoutError> {
        let given = checkout.shipping_address.as_ref().and_then(OrderAddress::destination);
        let of_cart = || self.shipping.as_ref().map(|shipping| shipping.destination.clone());
        // Without rules, an address that is not the cart's has nothing to do with prices.
        let is_priced = !shop.rules.is_empty() || self.shipping.is_some();
        let destination = given.or_else(of_cart).filter(|_| is_priced);
        if destination.is_none() && shop.rules.needs_destination() {
            return Err(CheckoutError::AddressRequired);
        }
        if destination.as_ref().is_some_and(|to| shop.rules.mistakes_region(to)) {
            return Err(CheckoutError::RegionUnknown);
        }
        let lines: Vec<BasketLine<'_>> = products
            .iter()
            .map(|(product, quantity)| BasketLine::of_product(product, *quantity))
            .collect();
        let basket = Basket {
            codes: &self.codes,
            destination: destination.as_ref(),
            method: self.shipping.as_ref().and_then(|shipping| shipping.method),
            buyer_uses: shop.buyer_uses,
            ..Basket::of_lines(&lines, shop.currency)
        };
        for code in self.codes.iter().filter(|code| !checkout.refused_codes.contains(code)) {
            if let Some(reason) = pricing::lost_code(code, &basket, shop.rules, now) {
                return Err(CheckoutError::CodeLost { code: code.clone(), reason });
            }
        }
        let breakdown = pricing::price(&basket, shop.rules, now);
        if breakdown.unreachable {
            return Err(CheckoutError::MethodNotAvailable);
        }
        let total = breakdown.total;
        if !total.is_within_limit() {
            return Err(CheckoutError::TotalLimitExceeded);
        }
        Ok((Charges::of(breakdown, destination), total))
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
                    bought.products.push((product, quantity));
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

/// The uses of promotions that an order with these charges takes.
fn taken_uses(charges: &Charges, shop: ShopPricing<'_>) -> Vec<TakenUse> {
    let taken = |promotion_id| {
        let promotion = shop.rules.find_promotion(promotion_id);
        TakenUse {
            promotion_id,
            limit: promotion.and_then(|found| found.usage_limit),
            per_customer_limit: promotion.and_then(|found| found.per_customer_limit),
        }
    };
    charges.promotions().map(taken).collect()
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
