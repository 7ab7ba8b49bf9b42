//! What may be asked of an order, and what an order looks like to those who ask. Plain reads go to the store.

use std::{collections::BTreeMap, sync::Arc};

use actix::Message;
use bytes::Bytes;
use serde::Serialize;

use super::change::{CommandContext, Reply};
use crate::{
    domain::{
        ids::{OrderId, ProductId, UserId},
        money::{Currency, Money},
        order::{Order, OrderCommand, OrderLine},
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

/// The shape of an order, in answers and events alike.
#[derive(Serialize)]
pub struct OrderData<'a> {
    id: OrderId,
    user_id: UserId,
    status: &'static str,
    version: u64,
    currency: Currency,
    items: Vec<OrderItemData<'a>>,
    total_amount: Money,
    payment: PaymentData<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shipping_address: Option<&'a BTreeMap<String, String>>,
    placed_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    updated_at: String,
}

#[derive(Serialize)]
struct OrderItemData<'a> {
    product_id: ProductId,
    sku: Option<&'a str>,
    name: &'a str,
    quantity: u32,
    unit_price: Money,
    total: Money,
}

#[derive(Serialize)]
struct PaymentData<'a> {
    method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
}

impl<'a> From<&'a Order> for OrderData<'a> {
    fn from(order: &'a Order) -> Self {
        Self {
            id: order.id,
            user_id: order.user_id,
            status: order.status.as_str(),
            version: order.version,
            currency: order.currency,
            items: order.lines.iter().map(OrderItemData::from).collect(),
            total_amount: order.total(),
            payment: PaymentData {
                method: order.payment.method.as_str(),
                reference: order.payment.reference.as_deref(),
            },
            shipping_address: order.shipping_address.as_ref().map(|address| address.fields()),
            placed_at: order.placed_at.to_string(),
            expires_at: order.expires_at.map(|at| at.to_string()),
            updated_at: order.updated_at.to_string(),
        }
    }
}

impl<'a> From<&'a OrderLine> for OrderItemData<'a> {
    fn from(line: &'a OrderLine) -> Self {
        Self {
            product_id: line.product_id,
            sku: line.sku.as_deref(),
            name: &line.name,
            quantity: line.quantity,
            unit_price: line.unit_price,
            total: line.total(),
        }
    }
}

/// An order as clients read it.
#[must_use]
pub fn order_json(order: &Order) -> Bytes {
    // Plain structs with string keys: serialising them cannot fail.
    serde_json::to_vec(&OrderData::from(order)).unwrap_or_default().into()
}
