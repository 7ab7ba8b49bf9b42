//! What may be asked of an order. Plain reads go to the store.

use std::sync::Arc;

use actix::Message;

use super::change::{CommandContext, Reply};
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
    /// Which.
    pub order_id: OrderId,
    /// Only when it is this user's; `None`: whoever's it is.
    pub owner: Option<UserId>,
    /// What to do.
    pub command: OrderCommand,
    /// What goes with it.
    pub context: CommandContext,
}
