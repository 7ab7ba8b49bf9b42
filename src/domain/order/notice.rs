//! What a buyer is told about an order.

use super::{Order, OrderStatus};
use crate::domain::{
    ids::{RefundId, ShipmentId},
    payment::Refund,
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
        notices.extend(self.new_refunds(before).map(|refund| OrderNotice::Refunded(refund.id)));
        notices
    }

    /// The refunds that have succeeded since `before`. There are none unless more went back: what a
    /// provider reported as a sum at first is no news when it reports the parts.
    fn new_refunds(&self, before: &Self) -> impl Iterator<Item = &Refund> {
        let (payment, known) = (&self.payment, &before.payment);
        let has_more = payment.succeeded_refunds().exceeds(known.succeeded_refunds());
        let is_known = |refund: &&Refund| {
            let mut known = known.refunds.iter().filter(|known| known.has_succeeded());
            known.any(|known| known.id == refund.id && !refund.amount.exceeds(known.amount))
        };
        let done = payment.refunds.iter().filter(move |refund| has_more && refund.has_succeeded());
        done.filter(move |refund| !is_known(refund))
    }
}
