//! Converts between orders and rows.

use std::{borrow::Cow, collections::BTreeMap, error::Error};

use rusqlite::Row;
use serde::{Deserialize, Serialize, Serializer};

use super::{
    conversion_error, id_column, optional_json, staff, text_column, timestamp_column, to_json,
};
use crate::{
    domain::{
        account::Email,
        clock::Timestamp,
        ids::{ProductId, RefundId, ShipmentId},
        money::{Currency, Money},
        order::{
            Order, OrderAddress, OrderLine, OrderStatus, OrderUnits, Payment, PaymentMethod,
            Shipment, ShipmentDetails,
        },
        payment::{Intent, PaymentFailure, ProviderState, Refund},
    },
    store::charges_codec::StoredCharges,
};

/// An order's lines, as stored.
pub(in crate::store::sqlite) struct OrderLinesToStore<'a>(
    pub(in crate::store::sqlite) &'a [OrderLine],
);

#[derive(Serialize, Deserialize)]
struct StoredOrderLine<'a> {
    product_id: ProductId,
    #[serde(borrow)]
    sku: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    quantity: u32,
    unit_price: i64,
    /// Missing in orders from before there were partial shipments.
    #[serde(default)]
    fulfilled: u32,
    #[serde(default)]
    restocked: u32,
}

impl Serialize for OrderLinesToStore<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|line| StoredOrderLine {
            product_id: line.product_id,
            sku: line.sku.as_deref().map(Cow::Borrowed),
            name: Cow::Borrowed(&line.name),
            quantity: line.quantity,
            unit_price: line.unit_price.minor_units(),
            fulfilled: line.fulfilled,
            restocked: line.restocked,
        }))
    }
}

/// An order, from all columns of `orders` in table order.
pub(in crate::store::sqlite) fn order_from_row(row: &Row<'_>) -> rusqlite::Result<Order> {
    let currency: Currency =
        text_column(row, 4)?.parse().map_err(|_| conversion_error(4)("no currency".into()))?;
    let status = order_status_column(row, 2)?;
    let mut order = Order {
        id: id_column(row, 0)?,
        user_id: id_column(row, 1)?,
        guest: row.get(21)?,
        email: row.get::<_, Option<String>>(19)?.map(Email::from_stored),
        status,
        version: row.get(3)?,
        currency,
        lines: parse_order_lines(text_column(row, 5)?, currency, status)
            .map_err(conversion_error(5))?,
        charges: optional_json::<StoredCharges>(row, 18)?
            .map(|stored| stored.into_charges(currency))
            .transpose()
            .map_err(|error| conversion_error(18)(error.into()))?,
        payment: Payment {
            status: status.implied_payment_status(),
            reference: row.get(7)?,
            ..Payment::awaiting(payment_method_column(row, 6)?, Money::zero(currency))
        },
        shipping_address: address_column(row, 8)?,
        billing_address: address_column(row, 20)?,
        placed_at: timestamp_column(row, 9)?,
        expires_at: row.get::<_, Option<i64>>(10)?.map(Timestamp::from_millis),
        updated_at: timestamp_column(row, 11)?,
        actor: staff::actor_from_row(row, 12)?,
        anonymized: row.get(14)?,
        shipments: parse_shipments(text_column(row, 15)?).map_err(conversion_error(15))?,
    };
    order.payment.amount = order.total();
    if let Some(json) = row.get_ref(16)?.as_str_or_null()? {
        read_payment(json, &mut order.payment).map_err(conversion_error(16))?;
    }
    if let Some(provider) = &mut order.payment.provider {
        provider.due_at = row.get::<_, Option<i64>>(17)?.map(Timestamp::from_millis);
    }
    Ok(order)
}

fn address_column(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<OrderAddress>> {
    let fields = optional_json::<BTreeMap<String, String>>(row, column)?;
    Ok(fields.and_then(OrderAddress::from_stored))
}

fn payment_method_column(row: &Row<'_>, column: usize) -> rusqlite::Result<PaymentMethod> {
    let method = text_column(row, column)?.parse::<PaymentMethod>();
    method.map_err(|_| conversion_error(column)("no way to pay".into()))
}

/// A payment, as stored besides its method and reference.
#[derive(Serialize, Deserialize)]
struct StoredPayment<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    amount: i64,
    #[serde(default)]
    refunds: Vec<StoredRefund>,
    /// The code and the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider: Option<StoredProvider>,
}

/// What a provider has of a payment, as stored besides when it is due.
#[derive(Serialize, Deserialize)]
struct StoredProvider {
    intents: Vec<StoredIntent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refunded: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct StoredIntent {
    attempt: u32,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredRefund {
    id: RefundId,
    amount: i64,
    status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider_id: Option<String>,
}

/// A payment without its method and reference, as stored.
pub(in crate::store::sqlite) fn payment_json(payment: &Payment) -> rusqlite::Result<String> {
    let refund = |refund: &Refund| StoredRefund {
        id: refund.id,
        amount: refund.amount.minor_units(),
        status: refund.status.as_str().to_owned(),
        reason: refund.reason.clone(),
        at: refund.refunded_at.as_millis(),
        provider_id: refund.provider_id.clone(),
    };
    let intent = |intent: &Intent| StoredIntent {
        attempt: intent.attempt,
        state: intent.state.as_str().to_owned(),
        id: intent.id.clone(),
        client_secret: intent.client_secret.clone(),
    };
    to_json(&StoredPayment {
        status: Cow::Borrowed(payment.status.as_str()),
        amount: payment.amount.minor_units(),
        refunds: payment.refunds.iter().map(refund).collect(),
        failure: payment.failure.clone().map(|failure| (failure.code, failure.message)),
        provider: payment.provider.as_ref().map(|provider| StoredProvider {
            intents: provider.intents.iter().map(intent).collect(),
            refunded: provider.refunded.map(Money::minor_units),
        }),
    })
}

/// Reads what is stored into `payment`.
fn read_payment(json: &str, payment: &mut Payment) -> Result<(), Box<dyn Error + Send + Sync>> {
    let stored: StoredPayment<'_> = serde_json::from_str(json)?;
    let currency = payment.amount.currency();
    payment.status = stored.status.parse()?;
    payment.amount = Money::from_minor_units(stored.amount, currency)?;
    let refund = |refund: StoredRefund| {
        Ok(Refund {
            id: refund.id,
            amount: Money::from_minor_units(refund.amount, currency)?,
            status: refund.status.parse()?,
            reason: refund.reason,
            refunded_at: Timestamp::from_millis(refund.at),
            provider_id: refund.provider_id,
        })
    };
    let refunds = stored.refunds.into_iter().map(refund);
    payment.refunds = refunds.collect::<Result<_, Box<dyn Error + Send + Sync>>>()?;
    let failure = stored.failure;
    payment.failure = failure.map(|(code, message)| PaymentFailure { code, message });
    let intent = |intent: StoredIntent| {
        Ok(Intent {
            attempt: intent.attempt,
            state: intent.state.parse()?,
            id: intent.id,
            client_secret: intent.client_secret,
        })
    };
    if let Some(provider) = stored.provider {
        let intents = provider.intents.into_iter().map(intent);
        let refunded = provider.refunded.map(|units| Money::from_minor_units(units, currency));
        payment.provider = Some(ProviderState {
            intents: intents.collect::<Result<_, Box<dyn Error + Send + Sync>>>()?,
            due_at: None,
            refunded: refunded.transpose()?,
        });
    }
    Ok(())
}

fn parse_order_lines(
    json: &str,
    currency: Currency,
    status: OrderStatus,
) -> Result<Vec<OrderLine>, Box<dyn Error + Send + Sync>> {
    let read: Vec<StoredOrderLine<'_>> = serde_json::from_str(json)?;
    let line = |line: StoredOrderLine<'_>| {
        Ok(OrderLine {
            product_id: line.product_id,
            sku: line.sku.map(Cow::into_owned),
            name: line.name.into_owned(),
            quantity: line.quantity,
            unit_price: Money::from_minor_units(line.unit_price, currency)?,
            fulfilled: match status {
                OrderStatus::Fulfilled => line.quantity,
                _ => line.fulfilled,
            },
            restocked: line.restocked,
        })
    };
    read.into_iter().map(line).collect()
}

/// The order status in a column.
pub(in crate::store::sqlite) fn order_status_column(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<OrderStatus> {
    text_column(row, column)?
        .parse::<OrderStatus>()
        .map_err(|_| conversion_error(column)("no status of an order".into()))
}

/// An order's shipments, as stored.
pub(in crate::store::sqlite) struct ShipmentsToStore<'a>(
    pub(in crate::store::sqlite) &'a [Shipment],
);

#[derive(Serialize, Deserialize)]
struct StoredShipment {
    id: ShipmentId,
    items: Vec<StoredUnits>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    carrier: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracking: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    at: i64,
}

#[derive(Serialize, Deserialize)]
struct StoredUnits {
    product_id: ProductId,
    quantity: u32,
}

impl Serialize for ShipmentsToStore<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let units = |units: &OrderUnits| StoredUnits {
            product_id: units.product_id,
            quantity: units.quantity,
        };
        serializer.collect_seq(self.0.iter().map(|shipment| StoredShipment {
            id: shipment.id,
            items: shipment.items.iter().map(units).collect(),
            carrier: shipment.details.carrier.clone(),
            tracking: shipment.details.tracking.clone(),
            reference: shipment.details.reference.clone(),
            at: shipment.shipped_at.as_millis(),
        }))
    }
}

fn parse_shipments(json: &str) -> Result<Vec<Shipment>, Box<dyn Error + Send + Sync>> {
    let units =
        |units: StoredUnits| OrderUnits { product_id: units.product_id, quantity: units.quantity };
    let read: Vec<StoredShipment> = serde_json::from_str(json)?;
    let shipment = |stored: StoredShipment| Shipment {
        id: stored.id,
        items: stored.items.into_iter().map(units).collect(),
        details: ShipmentDetails {
            carrier: stored.carrier,
            tracking: stored.tracking,
            reference: stored.reference,
        },
        shipped_at: Timestamp::from_millis(stored.at),
    };
    Ok(read.into_iter().map(shipment).collect())
}

/// The products and quantities in an order's lines, from the column `lines`.
pub(in crate::store::sqlite) fn ordered_units(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Vec<(ProductId, u64)>> {
    #[derive(Deserialize)]
    struct OrderedUnits {
        product_id: ProductId,
        quantity: u64,
    }
    let lines: Vec<OrderedUnits> = serde_json::from_str(text_column(row, column)?)
        .map_err(|error| conversion_error(column)(error.into()))?;
    Ok(lines.into_iter().map(|line| (line.product_id, line.quantity)).collect())
}
