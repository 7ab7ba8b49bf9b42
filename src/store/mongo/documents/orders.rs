//! Orders.

use std::{borrow::Cow, collections::BTreeMap};

use mongodb::bson::{DateTime, Uuid as Id};
use serde::{Deserialize, Serialize};

use super::{Unfit, date, id, money, own, time};
use crate::domain::{
    money::Currency,
    order::{Order, OrderLine, OrderStatus, Payment, PaymentMethod, ShippingAddress},
};

/// An order. Its prices are in its currency.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct OrderDocument<'a> {
    #[serde(rename = "_id")]
    order_id: Id,
    user_id: Id,
    #[serde(borrow)]
    status: Cow<'a, str>,
    version: u64,
    #[serde(borrow)]
    currency: Cow<'a, str>,
    #[serde(borrow)]
    lines: Vec<LineDocument<'a>>,
    #[serde(borrow)]
    payment: PaymentDocument<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shipping_address: Option<Cow<'a, BTreeMap<String, String>>>,
    placed_at: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<DateTime>,
    updated_at: DateTime,
}

#[derive(Serialize, Deserialize)]
struct LineDocument<'a> {
    product_id: Id,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    sku: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    quantity: u32,
    unit_price: i64,
}

#[derive(Serialize, Deserialize)]
struct PaymentDocument<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    reference: Option<Cow<'a, str>>,
}

impl<'a> From<&'a Order> for OrderDocument<'a> {
    fn from(order: &'a Order) -> Self {
        let line = |line: &'a OrderLine| LineDocument {
            product_id: id(line.product_id.as_uuid()),
            sku: line.sku.as_deref().map(Cow::Borrowed),
            name: Cow::Borrowed(&line.name),
            quantity: line.quantity,
            unit_price: line.unit_price.minor(),
        };
        Self {
            order_id: id(order.id.as_uuid()),
            user_id: id(order.user_id.as_uuid()),
            status: Cow::Borrowed(order.status.as_str()),
            version: order.version,
            currency: Cow::Owned(order.currency.code().to_owned()),
            lines: order.lines.iter().map(line).collect(),
            payment: PaymentDocument {
                method: Cow::Borrowed(order.payment.method.as_str()),
                reference: order.payment.reference.as_deref().map(Cow::Borrowed),
            },
            shipping_address: order
                .shipping_address
                .as_ref()
                .map(|address| Cow::Borrowed(address.fields())),
            placed_at: date(order.placed_at),
            expires_at: order.expires_at.map(date),
            updated_at: date(order.updated_at),
        }
    }
}

impl TryFrom<OrderDocument<'_>> for Order {
    type Error = Unfit;

    fn try_from(document: OrderDocument<'_>) -> Result<Self, Unfit> {
        let (status, method) = (&*document.status, &*document.payment.method);
        let line = |line: LineDocument<'_>| {
            Ok(OrderLine {
                product_id: own(line.product_id),
                sku: line.sku.map(Cow::into_owned),
                name: line.name.into_owned(),
                quantity: line.quantity,
                unit_price: money(line.unit_price, &document.currency)?,
            })
        };
        let currency: Currency = document
            .currency
            .parse()
            .map_err(|_| Unfit(format!("{:?} is not a currency", document.currency)))?;
        Ok(Self {
            id: own(document.order_id),
            user_id: own(document.user_id),
            status: OrderStatus::from_word(status)
                .ok_or_else(|| Unfit(format!("{status:?} is no status of an order")))?,
            version: document.version,
            currency,
            lines: document.lines.into_iter().map(line).collect::<Result<_, Unfit>>()?,
            payment: Payment {
                method: PaymentMethod::from_word(method)
                    .ok_or_else(|| Unfit(format!("{method:?} is no way to pay")))?,
                reference: document.payment.reference.map(Cow::into_owned),
            },
            shipping_address: document
                .shipping_address
                .map(|fields| ShippingAddress::stored(fields.into_owned())),
            placed_at: time(document.placed_at),
            expires_at: document.expires_at.map(time),
            updated_at: time(document.updated_at),
        })
    }
}
