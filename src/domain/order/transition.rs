//! What may become of an order.

use super::{Order, OrderStatus, Payment};
use crate::domain::{clock::Timestamp, ids::ProductId, inventory::StockChange};

/// Something that may be asked of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderCommand {
    /// Notes that it was paid.
    Pay {
        /// What the payment is known by.
        reference: Option<String>,
    },
    /// Calls it off.
    Cancel,
    /// Ends it because it was not paid in time.
    Expire,
    /// Notes that its pieces have left the house.
    Fulfill {
        /// What the shipment is known by; its movements of stock carry it.
        reference: Option<String>,
    },
}

/// What a command does; it is stored whole or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderTransition {
    /// The order after it.
    pub order: Order,
    /// What it does to stock.
    pub stock_changes: Vec<(ProductId, StockChange)>,
}

/// Why a command is refused. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderError {
    /// An order that stands there cannot go there.
    InvalidTransition {
        /// Where it stands.
        from: OrderStatus,
        /// Where it was to go.
        to: OrderStatus,
    },
    /// There is still time to pay it.
    NotYetExpired,
}

impl OrderCommand {
    /// Where it leads to.
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
    /// What `command` would do.
    ///
    /// # Errors
    /// It does not lead on from where the order stands, or comes too early.
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
            ..self.clone()
        };
        Ok(OrderTransition { stock_changes: self.stock_changes_for(to), order })
    }

    /// What reaching `status` does to the pieces that are reserved for it.
    fn stock_changes_for(&self, status: OrderStatus) -> Vec<(ProductId, StockChange)> {
        let change: fn(u64) -> StockChange = match status {
            OrderStatus::PendingPayment | OrderStatus::Paid => return Vec::new(),
            OrderStatus::Fulfilled => StockChange::Ship,
            OrderStatus::Cancelled | OrderStatus::Expired => StockChange::Release,
        };
        self.lines.iter().map(|line| (line.product_id, change(u64::from(line.quantity)))).collect()
    }
}
