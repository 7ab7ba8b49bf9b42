//! Orders: their lines and prices, their status, and its effect on stock.

mod address;
mod buyer;
mod checkout;
mod filter;
mod id_generator;
mod notice;
mod number;
mod provider;
mod refund;
mod shipment;
#[cfg(test)]
mod tests;
mod transition;

use std::time::Duration;

pub use self::{
    address::{KEPT_ADDRESS_FIELDS, OrderAddress},
    buyer::{Buyer, BuyerKey},
    checkout::{
        CheckoutError, CheckoutOptions, CheckoutOutcome, LimitedLine, PriceRise, PurchaseExcess,
    },
    filter::OrderFilter,
    id_generator::{ORDER_ID_WORKERS, ORDER_IDS_PER_MILLISECOND, OrderIdGenerator, OrderIdLease},
    notice::OrderNotice,
    number::{InvalidOrderNumber, OrderNumber},
    provider::{LateMoney, ProviderTransition},
    refund::RefundRequest,
    shipment::{OrderUnits, QuantityExcess, Shipment, ShipmentDetails, validate_units},
    transition::{CancelledBy, OrderCommand, OrderError, OrderTransition, UsesTransition},
};
pub use super::payment::{Payment, PaymentMethod};
use super::{
    account::Email,
    action::Actor,
    clock::Timestamp,
    ids::{OrderId, ProductId, UserId},
    money::{Currency, Money},
    payment::PaymentStatus,
    pricing::Charges,
};

/// An order. Its lines are copies, which later catalog changes do not affect.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Identifies the order, and determines its [`number`](Self::number).
    pub id: OrderId,
    /// The account or the guest that placed the order, or the account that it was moved to.
    pub user_id: UserId,
    /// Whether the buyer is a guest, without an account.
    pub guest: bool,
    /// Where mails about the order go. `None` in an anonymized order, and in orders from before
    /// there were guests' orders whose buyer has no account any more.
    pub email: Option<Email>,
    /// How far payment and shipment have come.
    pub status: OrderStatus,
    /// The version: 1 at first, plus 1 per change.
    pub version: u64,
    /// The currency of all prices.
    pub currency: Currency,
    /// The order lines, one per product.
    pub lines: Vec<OrderLine>,
    /// Discounts, shipping and taxes. `None` if there are none.
    pub charges: Option<Box<Charges>>,
    /// The payment, with its refunds.
    pub payment: Payment,
    /// The shipments, the oldest first.
    pub shipments: Vec<Shipment>,
    /// The shipping address.
    pub shipping_address: Option<OrderAddress>,
    /// The billing address.
    pub billing_address: Option<OrderAddress>,
    /// The time at which the order was placed.
    pub placed_at: Timestamp,
    /// The payment deadline, while the order is pending.
    pub expires_at: Option<Timestamp>,
    /// The time of the last change.
    pub updated_at: Timestamp,
    /// Who made the last change, if it needed rights that customers do not have.
    pub actor: Option<Actor>,
    /// Whether the buyer's account was deleted, and with it all that says who and where the buyer
    /// is. That is no change of the order: it has no version and no event. A guest's order that
    /// [awaits shipment](Self::awaits_shipment) keeps its addresses until it no longer does.
    pub anonymized: bool,
}

/// One product in an order, as it was when the order was placed.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderLine {
    /// The product's identifier.
    pub product_id: ProductId,
    /// The SKU when the order was placed.
    pub sku: Option<String>,
    /// The product's name.
    pub name: String,
    /// The number of units, at least 1.
    pub quantity: u32,
    /// The price of one unit.
    pub unit_price: Money,
    /// The number of units that were shipped.
    pub fulfilled: u32,
    /// The number of shipped units that came back into stock.
    pub restocked: u32,
}

impl OrderLine {
    /// The line total.
    #[must_use]
    pub fn total(&self) -> Money {
        self.unit_price.saturating_mul(self.quantity)
    }
}

/// The status of an order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum OrderStatus {
    /// Pending: placed and not paid. The units are reserved, and released if the order expires or
    /// is cancelled.
    PendingPayment,
    /// Paid. The units stay reserved until they ship.
    Paid,
    /// Some units were shipped. The others stay reserved.
    PartiallyFulfilled,
    /// All units were shipped.
    Fulfilled,
    /// Cancelled. The units that were not shipped were released.
    Cancelled,
    /// Not paid in time. The reserved units were released.
    Expired,
}

impl OrderStatus {
    /// Every status, in the order of declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The statuses of orders that are paid, and of which units are still to be shipped.
    pub const TO_SHIP: [Self; 2] = [Self::Paid, Self::PartiallyFulfilled];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether an order with this status counts towards purchase limits. Others give back what was
    /// bought.
    #[must_use]
    pub const fn counts_as_purchase(self) -> bool {
        !matches!(self, Self::Cancelled | Self::Expired)
    }

    /// The status of the payment of an order that was stored before payments had one.
    #[must_use]
    pub const fn implied_payment_status(self) -> PaymentStatus {
        match self {
            Self::PendingPayment => PaymentStatus::Awaiting,
            Self::Paid | Self::PartiallyFulfilled | Self::Fulfilled => PaymentStatus::Paid,
            Self::Cancelled | Self::Expired => PaymentStatus::Cancelled,
        }
    }

    /// Whether the units of an order with this status that were not shipped are reserved.
    #[must_use]
    pub const fn holds_reservation(self) -> bool {
        matches!(self, Self::PendingPayment | Self::Paid | Self::PartiallyFulfilled)
    }
}

/// The order rules from the shop's settings.
#[derive(Debug, Clone, Copy)]
pub struct OrderRules {
    /// The time a buyer has to pay.
    pub payment_timeout: Duration,
    /// The most pending orders per user: orders that are placed and not paid.
    pub max_pending: u32,
    /// The most units in all pending orders of a user.
    pub max_pending_units: u32,
}

impl Order {
    /// The number that people call the order by.
    #[must_use]
    pub const fn number(&self) -> OrderNumber {
        OrderNumber::of(self.id)
    }

    /// The tag of what clients read of the order. An anonymized order has another one, so that a
    /// client does not keep what it read before.
    #[must_use]
    pub fn etag(&self) -> String {
        let version = self.version;
        if self.anonymized { format!("{version}.anonymized") } else { version.to_string() }
    }

    /// How long ago the order was placed.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        let millis = now.as_millis().saturating_sub(self.placed_at.as_millis());
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// The sum of all line totals.
    #[must_use]
    pub fn subtotal(&self) -> Money {
        self.lines
            .iter()
            .fold(Money::zero(self.currency), |sum, line| sum.saturating_add(line.total()))
    }

    /// What is to be paid.
    #[must_use]
    pub fn total(&self) -> Money {
        let subtotal = self.subtotal();
        self.charges.as_ref().map_or(subtotal, |charges| charges.total(subtotal))
    }

    /// The buyer, if the order has promotions: how many orders of theirs have them depends on it.
    #[must_use]
    pub fn promotion_buyer(&self) -> Option<UserId> {
        let charges = self.charges.as_ref()?;
        (!charges.discounts.is_empty()).then_some(self.user_id)
    }

    /// Whether the shop owes the buyer goods: the order is paid, and neither all of its units were
    /// shipped nor all of its money went back.
    #[must_use]
    pub fn awaits_shipment(&self) -> bool {
        OrderStatus::TO_SHIP.contains(&self.status)
            && self.payment.status != PaymentStatus::Refunded
    }

    /// Erases the addresses of an anonymized order once nothing is left to ship.
    fn erase_addresses_if_done(&mut self) {
        if self.anonymized && !self.awaits_shipment() {
            self.erase_addresses();
        }
    }

    /// Erases the addresses, except
    /// [`KEPT_ADDRESS_FIELDS`].
    pub fn erase_addresses(&mut self) {
        for address in [&mut self.shipping_address, &mut self.billing_address] {
            *address = address.take().and_then(OrderAddress::anonymized);
        }
        if let Some(destination) =
            self.charges.as_mut().and_then(|charges| charges.destination.as_mut())
        {
            destination.postal_code = None;
        }
    }

    /// The number of units in all lines.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.lines.iter().map(|line| u64::from(line.quantity)).sum()
    }
}
