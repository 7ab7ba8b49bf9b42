//! Messages for an order. Plain reads use the store.

use std::sync::Arc;

use actix::Message;

use super::command_context::{CommandContext, Reply};
use crate::{
    domain::{
        ids::{OrderId, UserId},
        order::{Order, OrderCommand},
    },
    error::Error,
};

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
