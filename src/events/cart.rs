//! The data of `cart.*` events: a summary of the change. `GET /api/cart` returns the whole cart.

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::domain::{
    cart::{Cart, CartEvent},
    ids::{OrderId, ProductId, UserId},
};

/// The members that all cart events share. `cart.cleared`, `cart.abandoned`, `cart.codes.changed`
/// and `cart.shipping.changed` have no others.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Cart")]
pub struct CartData {
    #[schemars(with = "Uuid")]
    user_id: UserId,
    guest: bool,
    #[schemars(range(min = 1))]
    version: u64,
    lines: usize,
}

/// Units of a product that were added to a cart, and the new quantity of the line.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CartItemAdded")]
pub struct CartItemAddedData {
    #[serde(flatten)]
    cart: CartData,
    #[schemars(with = "Uuid")]
    product_id: ProductId,
    added: u32,
    quantity: u32,
}

/// A line whose quantity was changed.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CartItemUpdated")]
pub struct CartItemUpdatedData {
    #[serde(flatten)]
    cart: CartData,
    #[schemars(with = "Uuid")]
    product_id: ProductId,
    quantity: u32,
}

/// A line that was removed; its quantity is 0.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CartItemRemoved")]
pub struct CartItemRemovedData {
    #[serde(flatten)]
    cart: CartData,
    #[schemars(with = "Uuid")]
    product_id: ProductId,
    #[schemars(extend("const" = 0))]
    quantity: u32,
}

/// A cart whose lines became an order.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CartCheckedOut")]
pub struct CartCheckedOutData {
    #[serde(flatten)]
    cart: CartData,
    #[schemars(with = "Uuid")]
    order_id: OrderId,
}

/// A user's cart that a guest's cart was merged into.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CartMerged")]
pub struct CartMergedData {
    #[serde(flatten)]
    cart: CartData,
    #[schemars(with = "Uuid")]
    guest_id: UserId,
}

/// A guest's cart that was merged into a user's cart and closed.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CartClosed")]
pub struct CartClosedData {
    #[serde(flatten)]
    cart: CartData,
    #[schemars(with = "Uuid")]
    merged_into: UserId,
}

/// The data of any cart event.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum CartEventData {
    Plain(CartData),
    ItemAdded(CartItemAddedData),
    ItemUpdated(CartItemUpdatedData),
    ItemRemoved(CartItemRemovedData),
    CheckedOut(CartCheckedOutData),
    Merged(CartMergedData),
    Closed(CartClosedData),
}

pub(super) const fn event_data(cart: &Cart, event: &CartEvent) -> CartEventData {
    let cart = CartData {
        user_id: cart.owner.id,
        guest: cart.owner.is_guest,
        version: cart.version,
        lines: cart.lines.len(),
    };
    match *event {
        CartEvent::ItemAdded { product_id, added, quantity } => {
            CartEventData::ItemAdded(CartItemAddedData { cart, product_id, added, quantity })
        }
        CartEvent::ItemUpdated { product_id, quantity } => {
            CartEventData::ItemUpdated(CartItemUpdatedData { cart, product_id, quantity })
        }
        CartEvent::ItemRemoved { product_id } => {
            CartEventData::ItemRemoved(CartItemRemovedData { cart, product_id, quantity: 0 })
        }
        CartEvent::Merged { guest_id } => CartEventData::Merged(CartMergedData { cart, guest_id }),
        CartEvent::Closed { merged_into } => {
            CartEventData::Closed(CartClosedData { cart, merged_into })
        }
        CartEvent::CheckedOut { order_id } => {
            CartEventData::CheckedOut(CartCheckedOutData { cart, order_id })
        }
        CartEvent::Cleared
        | CartEvent::Abandoned
        | CartEvent::CodesChanged
        | CartEvent::ShippingChanged => CartEventData::Plain(cart),
    }
}
