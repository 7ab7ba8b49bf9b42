//! Messages for an order. Plain reads use the store.

use std::sync::Arc;

use actix::Message;

use super::command_context::{CommandContext, Reply, Ticket};
use crate::{
    domain::{
        ids::{OrderId, UserId},
        order::{Order, OrderCommand},
        payment::ProviderMessage,
    },
    error::Error,
};

/// Begins the payment of an order with its provider, if it was not begun, and returns the order.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Order, Error>")]
pub struct BeginPayment {
    /// The order's identifier.
    pub order_id: OrderId,
    /// The deadline.
    pub ticket: Ticket,
}

/// Applies a message of the payment provider.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct ApplyProviderMessage {
    /// The message.
    pub message: ProviderMessage,
    /// The deadline.
    pub ticket: Ticket,
}

/// Changes an order.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<Arc<Order>>, Error>")]
pub struct ChangeOrder {
    /// The order's identifier.
    pub order_id: OrderId,
    /// The user that must own the order. `None` skips the check.
    pub owner: Option<UserId>,
    /// The change to make.
    pub command: OrderCommand,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}
