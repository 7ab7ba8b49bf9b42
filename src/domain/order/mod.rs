//! Orders: what was bought at which price, what may become of it, and what that does to stock.

mod address;
mod checkout;
#[cfg(test)]
mod tests;
mod transition;

use std::time::Duration;

pub use self::{
    address::{MAX_ADDRESS_FIELDS, ShippingAddress},
    checkout::{CheckoutError, CheckoutOptions, CheckoutOutcome},
    transition::{OrderCommand, OrderError, OrderTransition},
};
use super::{
    clock::Timestamp,
    ids::{OrderId, ProductId, UserId},
    money::{Currency, Money},
};

/// An order. Its lines are a copy: later changes to the catalog leave them alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Which.
    pub id: OrderId,
    /// Whose.
    pub user_id: UserId,
    /// Where it stands.
    pub status: OrderStatus,
    /// Counts changes, from 1.
    pub version: u64,
    /// What its prices are in.
    pub currency: Currency,
    /// What was bought, each product once.
    pub lines: Vec<OrderLine>,
    /// How it is paid.
    pub payment: Payment,
    /// Where it goes.
    pub shipping_address: Option<ShippingAddress>,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// Until when it has to be paid, as long as it is not.
    pub expires_at: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// One product in an order, as it was when the order was placed.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderLine {
    /// The product.
    pub product_id: ProductId,
    /// Its article number.
    pub sku: Option<String>,
    /// Its name.
    pub name: String,
    /// Pieces, at least 1.
    pub quantity: u32,
    /// What a piece cost.
    pub unit_price: Money,
}

impl OrderLine {
    /// What the line costs.
    #[must_use]
    pub fn total(&self) -> Money {
        self.unit_price.saturating_mul(self.quantity)
    }
}

/// Where an order stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum OrderStatus {
    /// Its pieces are reserved until it is paid, or its time is over.
    PendingPayment,
    /// Its pieces stay reserved until they are shipped.
    Paid,
    /// Its pieces have left the house.
    Fulfilled,
    /// Its pieces were given back.
    Cancelled,
    /// It was not paid in time; its pieces were given back.
    Expired,
}

impl OrderStatus {
    /// Every status there is.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The word clients see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether an order in it has pieces reserved.
    #[must_use]
    pub const fn holds_reservation(self) -> bool {
        matches!(self, Self::PendingPayment | Self::Paid)
    }
}

/// How an order is paid, and by what that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The way chosen at checkout.
    pub method: PaymentMethod,
    /// What whoever confirmed the payment knows it by.
    pub reference: Option<String>,
}

/// A way to pay. Whatever it is, an order is paid by [`OrderCommand::Pay`], which whoever knows of the payment sends: for `manual` an
/// admin.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum PaymentMethod {
    /// An admin confirms that the money has come.
    #[default]
    Manual,
}

impl PaymentMethod {
    /// Every way there is.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The word clients use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Rules of orders from the shop's settings.
#[derive(Debug, Clone, Copy)]
pub struct OrderRules {
    /// Time to pay.
    pub payment_timeout: Duration,
    /// Most pending orders of one user.
    pub max_pending: u32,
}

impl Order {
    /// What all lines cost together.
    #[must_use]
    pub fn total(&self) -> Money {
        self.lines
            .iter()
            .fold(Money::zero(self.currency), |sum, line| sum.saturating_add(line.total()))
    }
}
