//! What may be asked about a cart.

use std::sync::Arc;

use actix::Message;
use bytes::Bytes;

use super::change::{CommandContext, Reply};
use crate::{
    domain::{
        cart::{Cart, CartCommand, PricedCart},
        ids::UserId,
        order::{CheckoutOptions, Order},
    },
    error::Error,
};

/// A cart with its answer, rendered once.
#[derive(Debug, Clone, PartialEq)]
pub struct CartView {
    /// The cart.
    pub cart: Arc<Cart>,
    /// Its answer as clients get it.
    pub body: Bytes,
    /// Changes whenever `body` does; without quotes.
    pub etag: String,
}

/// How a cart is made into an answer. Given to the actors by whoever knows what clients get.
pub type RenderCart = fn(&Cart, &PricedCart) -> Bytes;

/// Reads the cart as it is now.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Arc<CartView>, Error>")]
pub struct GetCart;

/// Changes the cart.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<Arc<CartView>>, Error>")]
pub struct ChangeCart {
    /// What to do.
    pub command: CartCommand,
    /// What goes with it.
    pub context: CommandContext,
}

/// Takes a guest's cart over into this one.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<Arc<CartView>>, Error>")]
pub struct MergeCart {
    /// Whose cart to take over.
    pub guest_id: UserId,
    /// What goes with it.
    pub context: CommandContext,
}

/// Makes an order of the cart.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<Arc<Order>>, Error>")]
pub struct PlaceOrder {
    /// What the buyer says.
    pub options: CheckoutOptions,
    /// What goes with it.
    pub context: CommandContext,
}
