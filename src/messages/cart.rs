//! Messages for a cart.

use std::sync::Arc;

use actix::Message;
use bytes::Bytes;

use super::command_context::{CommandContext, Reply};
use crate::{
    domain::{
        cart::{Cart, CartCommand, CartShipping, PricedCart},
        ids::UserId,
        order::{CheckoutOptions, Order},
    },
    error::Error,
};

/// A cart and its response body, rendered once.
#[derive(Debug, Clone, PartialEq)]
pub struct CartView {
    /// The cart that the body shows.
    pub cart: Arc<Cart>,
    /// The response body.
    pub body: Bytes,
    /// The entity tag, without quotes. It changes whenever `body` does.
    pub etag: String,
}

/// Renders a cart as a response body. The HTTP layer supplies it.
pub type RenderCart = fn(&Cart, &PricedCart) -> Bytes;

/// Reads the cart with current prices and stock.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Arc<CartView>, Error>")]
pub struct GetCart;

/// Changes the cart.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<Arc<CartView>>, Error>")]
pub struct ChangeCart {
    /// The change to make.
    pub command: CartCommand,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}

/// Changes what the cart's price depends on besides its lines.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<Arc<CartView>>, Error>")]
pub struct PricingChange {
    /// The change to make.
    pub command: PricingCommand,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}

/// A change of what a cart's price depends on besides its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PricingCommand {
    /// Sets the address and the shipping method.
    SetShipping(CartShipping),
    /// Gives a code.
    AddCode(String),
    /// Removes a code.
    RemoveCode(String),
}

/// Merges a guest's cart into this one, and moves the guest's orders to the account.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<Arc<CartView>>, Error>")]
pub struct MergeCart {
    /// The guest that owns the other cart.
    pub guest_id: UserId,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}

/// Moves a guest's orders to the account, and leaves the guest's cart alone.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct MoveGuestOrders {
    /// The guest that has placed the orders.
    pub guest_id: UserId,
    /// The deadline and the trace.
    pub context: CommandContext,
}

/// A placed order, and its JSON, which is also stored for repeats of the request.
#[derive(Debug, Clone)]
pub struct PlacedOrder {
    /// The order.
    pub order: Arc<Order>,
    /// The response body.
    pub body: Bytes,
}

/// Creates an order from the cart.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<PlacedOrder>, Error>")]
pub struct PlaceOrder {
    /// The buyer's checkout options.
    pub options: CheckoutOptions,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}
