//! Status transitions of orders.

use super::{
    Order, OrderStatus, OrderUnits, QuantityExcess, RefundRequest, Shipment, ShipmentDetails,
};
use crate::domain::{
    clock::Timestamp,
    ids::{ProductId, RefundId, ShipmentId},
    inventory::StockChange,
    payment::RefundError,
};

/// A command for an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderCommand {
    /// Books that staff has the money. An order that has expired takes its units again.
    Pay {
        /// The payment's reference.
        reference: Option<String>,
    },
    /// Cancels the order.
    Cancel(CancelledBy),
    /// Expires the order because it was not paid in time.
    Expire,
    /// Ships units of the order.
    Fulfill {
        /// The id of the new shipment.
        shipment_id: ShipmentId,
        /// The units to ship. `None` ships all that are left.
        items: Option<Vec<OrderUnits>>,
        /// The carrier, the tracking number, and the reference, which the stock movements carry.
        details: ShipmentDetails,
    },
    /// Books a refund. It changes the payment and the stock, not the status.
    Refund(RefundRequest),
}

/// Who cancels an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelledBy {
    /// The buyer, who may cancel what is not paid.
    Owner,
    /// The shop, which may cancel what is not shipped completely. The price of what is not shipped
    /// goes back.
    Staff {
        /// The id of the refund, if something was paid.
        refund_id: RefundId,
    },
}

/// The result of a command, which is stored atomically.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderTransition {
    /// The order after the command.
    pub order: Order,
    /// The stock changes.
    pub stock_changes: Vec<(ProductId, StockChange)>,
    /// What happens to the uses of the order's promotions.
    pub uses: UsesTransition,
}

/// What a command on an order does to the uses of its promotions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsesTransition {
    /// Nothing.
    Kept,
    /// The order has come back, and takes them again.
    Taken,
    /// The order was cancelled or has expired.
    GivenBack,
}

impl UsesTransition {
    /// What the step from one status to another does.
    #[must_use]
    pub const fn between(before: OrderStatus, after: OrderStatus) -> Self {
        match (before.counts_as_purchase(), after.counts_as_purchase()) {
            (true, false) => Self::GivenBack,
            (false, true) => Self::Taken,
            _ => Self::Kept,
        }
    }
}

/// The reason a command is rejected. A rejected command changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderError {
    /// The order's status does not allow the transition.
    InvalidTransition {
        /// The current status.
        from: OrderStatus,
        /// The requested status.
        to: OrderStatus,
    },
    /// The payment deadline has not passed.
    NotYetExpired,
    /// The order is paid, so only the shop may cancel it.
    PaidOrder,
    /// The order was refunded in full, so it is not shipped.
    RefundedOrder,
    /// The money came after the order had expired, and went back.
    LateMoneyReturned,
    /// Less money is left of the payment.
    Refund(RefundError),
    /// More units are to be shipped than are left of these products.
    QuantityExceedsOrder(Vec<QuantityExcess>),
}

impl OrderCommand {
    /// Ships all units that are left, without details.
    #[must_use]
    pub fn fulfill_all() -> Self {
        let shipment_id = ShipmentId::new();
        Self::Fulfill { shipment_id, items: None, details: ShipmentDetails::default() }
    }

    /// Cancels the order for the shop.
    #[must_use]
    pub fn cancel_by_staff() -> Self {
        Self::Cancel(CancelledBy::Staff { refund_id: RefundId::new() })
    }

    /// The status that the command leads to from `from` when it concerns the whole order.
    #[must_use]
    pub const fn target_status(&self, from: OrderStatus) -> OrderStatus {
        match self {
            Self::Pay { .. } => OrderStatus::Paid,
            Self::Cancel(_) => OrderStatus::Cancelled,
            Self::Expire => OrderStatus::Expired,
            Self::Fulfill { .. } => OrderStatus::Fulfilled,
            Self::Refund(_) => from,
        }
    }
}

impl Order {
    /// Decides what `command` does.
    ///
    /// # Errors
    /// The current status does not allow the command, the command comes too early, or the order has
    /// fewer units left.
    pub fn decide(
        &self,
        command: OrderCommand,
        now: Timestamp,
    ) -> Result<OrderTransition, OrderError> {
        self.ensure_allowed(&command, now)?;
        let mut order = Self {
            status: command.target_status(self.status),
            version: self.version + 1,
            expires_at: None,
            updated_at: now,
            actor: None,
            ..self.clone()
        };
        let stock_changes = match command {
            OrderCommand::Pay { reference } => {
                order.payment.confirm(reference, now);
                match self.status {
                    OrderStatus::Expired => {
                        stock_changes(&self.unshipped_units(), StockChange::Reserve)
                    }
                    _ => Vec::new(),
                }
            }
            OrderCommand::Cancel(by) => {
                order.payment.call_off(now);
                if let CancelledBy::Staff { refund_id } = by {
                    order.refund_unshipped(refund_id, now);
                }
                stock_changes(&self.unshipped_units(), StockChange::Release)
            }
            OrderCommand::Expire => {
                order.payment.call_off(now);
                stock_changes(&self.unshipped_units(), StockChange::Release)
            }
            OrderCommand::Refund(request) => {
                order.expires_at = self.expires_at;
                let changes = stock_changes(&request.restock, StockChange::Return);
                order.refund(request, now)?;
                changes
            }
            OrderCommand::Fulfill { shipment_id, items, details } => {
                let items = self.units_to_ship(items)?;
                order.add_fulfilled(&items);
                if !order.unshipped_units().is_empty() {
                    order.status = OrderStatus::PartiallyFulfilled;
                }
                let changes = stock_changes(&items, StockChange::Ship);
                order.shipments.push(Shipment { id: shipment_id, items, details, shipped_at: now });
                changes
            }
        };
        order.erase_addresses_if_done();
        let uses = UsesTransition::between(self.status, order.status);
        Ok(OrderTransition { order, stock_changes, uses })
    }

    fn ensure_allowed(&self, command: &OrderCommand, now: Timestamp) -> Result<(), OrderError> {
        use OrderStatus::{Expired, Paid, PartiallyFulfilled, PendingPayment};
        let from = self.status;
        let is_allowed = match command {
            OrderCommand::Pay { .. } => matches!(from, PendingPayment | Expired),
            OrderCommand::Expire => from == PendingPayment,
            OrderCommand::Refund(_) => true,
            OrderCommand::Cancel(_) => matches!(from, PendingPayment | Paid | PartiallyFulfilled),
            OrderCommand::Fulfill { .. } => matches!(from, Paid | PartiallyFulfilled),
        };
        if !is_allowed {
            return Err(OrderError::InvalidTransition { from, to: command.target_status(from) });
        }
        let is_early = self.expires_at.is_none_or(|deadline| now < deadline);
        match command {
            OrderCommand::Cancel(CancelledBy::Owner) if from != PendingPayment => {
                Err(OrderError::PaidOrder)
            }
            OrderCommand::Fulfill { .. } if self.payment.is_refunded_in_full() => {
                Err(OrderError::RefundedOrder)
            }
            OrderCommand::Pay { .. } if from == Expired && self.payment.has_refunds() => {
                Err(OrderError::LateMoneyReturned)
            }
            OrderCommand::Expire if is_early => Err(OrderError::NotYetExpired),
            _ => Ok(()),
        }
    }
}

pub(super) fn stock_changes(
    units: &[OrderUnits],
    change: fn(u64) -> StockChange,
) -> Vec<(ProductId, StockChange)> {
    units.iter().map(|units| (units.product_id, change(u64::from(units.quantity)))).collect()
}
