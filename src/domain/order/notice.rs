//! What a buyer is told about an order.

use super::{Order, OrderStatus};
use crate::domain::{
    ids::{RefundId, ShipmentId},
    payment::{Refund, RefundStatus},
};

/// Something that a buyer is told about an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderNotice {
    /// The order was placed.
    Placed,
    /// The order was paid.
    Paid,
    /// Units were shipped.
    Shipped(ShipmentId),
    /// The order was cancelled.
    Cancelled,
    /// Money went back.
    Refunded(RefundId),
}

impl Order {
    /// What the buyer is told of the step from `before` to this order; `None` if it is new. An
    /// order that expires is no news: the buyer did not pay.
    #[must_use]
    pub fn notices_since(&self, before: Option<&Self>) -> Vec<OrderNotice> {
        let mut notices = Vec::new();
        let Some(before) = before else {
            notices.push(OrderNotice::Placed);
            return notices;
        };
        let becomes = |status| self.status == status && before.status != status;
        if becomes(OrderStatus::Paid) {
            notices.push(OrderNotice::Paid);
        }
        let shipments = self.shipments.iter().skip(before.shipments.len());
        notices.extend(shipments.map(|shipment| OrderNotice::Shipped(shipment.id)));
        if becomes(OrderStatus::Cancelled) {
            notices.push(OrderNotice::Cancelled);
        }
        let is_done = |refund: &&Refund| refund.status == RefundStatus::Succeeded;
        let known = |refund: &Refund| {
            before.payment.refunds.iter().filter(is_done).any(|known| known.id == refund.id)
        };
        let refunds = self.payment.refunds.iter().filter(is_done).filter(|refund| !known(refund));
        notices.extend(refunds.map(|refund| OrderNotice::Refunded(refund.id)));
        notices
    }
}
