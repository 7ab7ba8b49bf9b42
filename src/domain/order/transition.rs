//! Status transitions of orders.

use super::{Order, OrderStatus, Payment};
use crate::domain::{clock::Timestamp, ids::ProductId, inventory::StockChange};

/// A command for an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderCommand {
    /// Marks the order as paid.
    Pay {
        /// The payment's reference.
        reference: Option<String>,
    },
    /// Cancels the order.
    Cancel,
    /// Expires the order because it was not paid in time.
    Expire,
    /// Marks the order as shipped.
    Fulfill {
        /// The shipment's reference, which its stock movements carry.
        reference: Option<String>,
    },
}

/// The result of a command, which is stored atomically.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderTransition {
    /// The order after the command.
    pub order: Order,
    /// The stock changes.
    pub stock_changes: Vec<(ProductId, StockChange)>,
}

/// The reason a command is rejected. A rejected command changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

impl OrderCommand {
    /// The status that the command leads to.
    #[must_use]
    pub const fn target_status(&self) -> OrderStatus {
        match self {
            Self::Pay { .. } => OrderStatus::Paid,
            Self::Cancel => OrderStatus::Cancelled,
            Self::Expire => OrderStatus::Expired,
            Self::Fulfill { .. } => OrderStatus::Fulfilled,
        }
    }
}

impl Order {
    /// Decides what `command` does.
    ///
    /// # Errors
    /// The current status does not allow the command, or the command comes too early.
    pub fn decide(
        &self,
        command: OrderCommand,
        now: Timestamp,
    ) -> Result<OrderTransition, OrderError> {
        let (from, to) = (self.status, command.target_status());
        match (from, to) {
            (
                OrderStatus::PendingPayment,
                OrderStatus::Paid | OrderStatus::Cancelled | OrderStatus::Expired,
            )
            | (OrderStatus::Paid, OrderStatus::Fulfilled | OrderStatus::Cancelled) => {}
            _ => return Err(OrderError::InvalidTransition { from, to }),
        }
        if to == OrderStatus::Expired && self.expires_at.is_none_or(|deadline| now < deadline) {
            return Err(OrderError::NotYetExpired);
        }
        let payment = match command {
            OrderCommand::Pay { reference } => Payment { reference, ..self.payment },
            _ => self.payment.clone(),
        };
        let version = self.version + 1;
        let order = Self {
            status: to,
            version,
            payment,
            expires_at: None,
            updated_at: now,
            actor: None,
            ..self.clone()
        };
        Ok(OrderTransition { stock_changes: self.stock_changes_for(to), order })
    }

    /// The stock change for the reserved units when an order reaches `status`.
    fn stock_changes_for(&self, status: OrderStatus) -> Vec<(ProductId, StockChange)> {
        let change: fn(u64) -> StockChange = match status {
            OrderStatus::PendingPayment | OrderStatus::Paid => return Vec::new(),
            OrderStatus::Fulfilled => StockChange::Ship,
            OrderStatus::Cancelled | OrderStatus::Expired => StockChange::Release,
        };
        self.lines.iter().map(|line| (line.product_id, change(u64::from(line.quantity)))).collect()
    }
}
