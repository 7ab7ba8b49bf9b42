//! The data of `order.*` events, which is also the response of the order routes.

use std::collections::BTreeMap;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    actor::ActorData,
    charges::{CodeData, DestinationData, DiscountData, ShippingData, TaxData},
    schema,
};
use crate::domain::{
    account::Email,
    ids::{OrderId, ProductId, RefundId, ShipmentId, UserId},
    money::{Currency, Money},
    order::{Order, OrderLine, OrderUnits, Shipment},
    payment::{Payment, Refund},
    pricing::{Charges, LineAmounts},
};

/// An order. Its items are copies that later catalog changes do not affect.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "Order")]
#[schema(as = OrderResponse)]
pub struct OrderData<'a> {
    #[schemars(with = "Uuid")]
    #[schema(value_type = Uuid)]
    id: OrderId,
    /// What people call the order by. It tells nobody how many orders there are.
    #[schemars(regex(pattern = "^[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){2}$"))]
    #[schema(
        pattern = "^[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){2}$",
        example = "7KQ2-M9XF-4T0D"
    )]
    number: String,
    #[schemars(with = "Uuid")]
    #[schema(value_type = Uuid)]
    user_id: UserId,
    /// Where mails about the order go; null once the account was deleted. Events are without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    #[schema(value_type = Option<String>, required = true, format = Email,
        examples("ada@example.com"))]
    email: Option<Option<&'a str>>,
    #[schemars(with = "schema::OrderStatus")]
    #[schema(value_type = schema::OrderStatus)]
    status: &'static str,
    /// The version of the order. It counts changes from 1.
    #[schema(examples(1))]
    #[schemars(range(min = 1))]
    version: u64,
    #[schemars(with = "String", regex(pattern = "^[A-Z]{3}$"))]
    #[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "USD")]
    currency: Currency,
    items: Vec<OrderItemData<'a>>,
    /// The sum of the lines, before discounts.
    #[schemars(with = "schema::Amount")]
    #[schema(value_type = f64, example = 59.97)]
    subtotal: Money,
    /// What the promotions take off, in the order in which they were applied.
    discounts: Vec<DiscountData<'a>>,
    /// The codes that the buyer gave.
    codes: Vec<CodeData<'a>>,
    /// Where the goods go, if shipping or tax depends on it. Events are without its postal
    /// code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DestinationData<'_>")]
    #[schema(nullable = false)]
    shipping_to: Option<DestinationData<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ShippingData<'_>")]
    #[schema(nullable = false)]
    shipping: Option<ShippingData<'a>>,
    /// The taxes by name and rate, the highest rate first.
    taxes: Vec<TaxData<'a>>,
    /// What is to be paid: `subtotal` less `discounts`, with `shipping` and the `taxes` that prices
    /// do not include.
    #[schemars(with = "schema::Amount")]
    #[schema(value_type = f64, example = 59.97)]
    total_amount: Money,
    payment: PaymentData<'a>,
    /// The shipments, the oldest first.
    shipments: Vec<ShipmentData<'a>>,
    /// Events are without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    #[schema(value_type = schema::Address, required = false)]
    shipping_address: Option<&'a BTreeMap<String, String>>,
    /// Events are without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    #[schema(value_type = schema::Address, required = false)]
    billing_address: Option<&'a BTreeMap<String, String>>,
    #[schemars(extend("format" = "date-time"))]
    #[schema(format = DateTime)]
    placed_at: String,
    /// When the order expires. Only an order that is not paid has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    #[schema(format = DateTime, nullable = false)]
    expires_at: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    #[schema(format = DateTime)]
    updated_at: String,
    /// Who made the last change, if it was staff or an API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ActorData")]
    #[schema(nullable = false)]
    actor: Option<ActorData>,
}

/// A product in an order, as it was when the order was placed.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "OrderItem")]
#[schema(as = OrderItem)]
pub struct OrderItemData<'a> {
    #[schemars(with = "Uuid")]
    #[schema(value_type = Uuid)]
    product_id: ProductId,
    #[schema(required = true, examples("TEA-1"))]
    sku: Option<&'a str>,
    #[schema(examples("Mint tea"))]
    name: &'a str,
    #[schemars(range(min = 1))]
    #[schema(minimum = 1, examples(3))]
    quantity: u32,
    #[schemars(with = "schema::Amount")]
    #[schema(value_type = f64, example = 19.99)]
    unit_price: Money,
    #[schemars(with = "schema::Amount")]
    #[schema(value_type = f64, example = 59.97)]
    total: Money,
    /// The line's part of the discounts.
    #[schemars(with = "schema::Amount")]
    #[schema(value_type = f64, example = 6)]
    discount: Money,
    /// The tax on what the line costs after its discount.
    #[schemars(with = "schema::Amount")]
    #[schema(value_type = f64, example = 8.62)]
    tax: Money,
    /// The number of units that were shipped.
    #[schema(examples(0))]
    fulfilled: u32,
}

/// Units of an order that were shipped together.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "Shipment")]
#[schema(as = Shipment)]
pub struct ShipmentData<'a> {
    #[schemars(with = "Uuid")]
    #[schema(value_type = Uuid)]
    id: ShipmentId,
    items: Vec<ShipmentItemData>,
    /// Who carries it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    #[schema(nullable = false, examples("DHL"))]
    carrier: Option<&'a str>,
    /// The carrier's tracking number or address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    #[schema(nullable = false, examples("00340434161094042557"))]
    tracking: Option<&'a str>,
    /// The caller's own reference. The stock movements have it, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    #[schema(nullable = false, examples("PARCEL-4"))]
    reference: Option<&'a str>,
    #[schemars(extend("format" = "date-time"))]
    #[schema(format = DateTime)]
    at: String,
}

/// Units of a product in a shipment.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "ShipmentItem")]
#[schema(as = ShipmentItem)]
pub struct ShipmentItemData {
    #[schemars(with = "Uuid")]
    #[schema(value_type = Uuid)]
    product_id: ProductId,
    #[schemars(range(min = 1))]
    #[schema(minimum = 1, examples(3))]
    quantity: u32,
}

/// The payment of an order.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "OrderPayment")]
#[schema(as = OrderPayment)]
pub struct PaymentData<'a> {
    #[schemars(with = "schema::PaymentMethod")]
    #[schema(value_type = schema::PaymentMethod)]
    method: &'static str,
    #[schemars(with = "schema::PaymentStatus")]
    #[schema(value_type = schema::PaymentStatus)]
    status: &'static str,
    /// The reference given when the payment was confirmed, or the provider's id of the payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    #[schema(nullable = false, examples("TRANSFER-4711"))]
    reference: Option<&'a str>,
    /// What the buyer's browser pays with. Only the buyer sees it, while the order can be paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    #[schema(nullable = false)]
    client_secret: Option<&'a str>,
    /// Why the last try was declined.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "FailureData<'a>")]
    #[schema(nullable = false)]
    failure: Option<FailureData<'a>>,
    /// What is to be paid.
    #[schemars(with = "schema::Amount")]
    #[schema(value_type = f64, example = 59.97)]
    amount: Money,
    /// The sum of the refunds.
    #[schemars(with = "schema::Amount")]
    #[schema(value_type = f64, example = 19.99)]
    refunded: Money,
    /// The refunds, the oldest first.
    refunds: Vec<RefundData<'a>>,
}

/// Why a try to pay was declined.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "PaymentFailure")]
#[schema(as = PaymentFailure)]
pub struct FailureData<'a> {
    /// The provider's code.
    #[schema(examples("card_declined"))]
    code: &'a str,
    /// A sentence for the buyer.
    #[schema(examples("Your card was declined."))]
    message: &'a str,
}

/// Money that goes back to the buyer.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "Refund")]
#[schema(as = Refund)]
pub struct RefundData<'a> {
    #[schemars(with = "Uuid")]
    #[schema(value_type = Uuid)]
    id: RefundId,
    #[schemars(with = "schema::Amount")]
    #[schema(value_type = f64, example = 19.99)]
    amount: Money,
    #[schemars(with = "schema::RefundStatus")]
    #[schema(value_type = schema::RefundStatus)]
    status: &'static str,
    /// The reason that staff gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    #[schema(nullable = false, examples("arrived broken"))]
    reason: Option<&'a str>,
    #[schemars(extend("format" = "date-time"))]
    #[schema(format = DateTime)]
    at: String,
}

impl<'a> From<&'a Payment> for PaymentData<'a> {
    fn from(payment: &'a Payment) -> Self {
        let refund = |refund: &'a Refund| RefundData {
            id: refund.id,
            amount: refund.amount,
            status: refund.status.as_str(),
            reason: refund.reason.as_deref(),
            at: refund.refunded_at.to_string(),
        };
        Self {
            method: payment.method.as_str(),
            status: payment.status.as_str(),
            reference: payment.reference.as_deref(),
            client_secret: None,
            failure: payment
                .failure
                .as_ref()
                .map(|failure| FailureData { code: &failure.code, message: &failure.message }),
            amount: payment.amount,
            refunded: payment.refunded(),
            refunds: payment.refunds.iter().map(refund).collect(),
        }
    }
}

impl<'a> From<&'a Order> for OrderData<'a> {
    fn from(order: &'a Order) -> Self {
        let charges = order.charges.as_deref();
        let item = |(at, line): (usize, &'a OrderLine)| {
            OrderItemData::new(line, charges.and_then(|charges| charges.line(at)))
        };
        Self {
            id: order.id,
            number: order.number().to_string(),
            user_id: order.user_id,
            email: Some(order.email.as_ref().map(Email::as_str)),
            status: order.status.as_str(),
            version: order.version,
            currency: order.currency,
            items: order.lines.iter().enumerate().map(item).collect(),
            subtotal: order.subtotal(),
            discounts: list(charges, |charges| &charges.discounts),
            codes: list(charges, |charges| &charges.codes),
            shipping_to: charges.and_then(|charges| charges.destination.as_ref()).map(Into::into),
            shipping: charges.and_then(|charges| charges.shipping.as_ref()).map(Into::into),
            taxes: list(charges, |charges| &charges.taxes),
            total_amount: order.total(),
            payment: PaymentData::from(&order.payment),
            shipments: order.shipments.iter().map(ShipmentData::from).collect(),
            shipping_address: order.shipping_address.as_ref().map(|address| address.fields()),
            billing_address: order.billing_address.as_ref().map(|address| address.fields()),
            placed_at: order.placed_at.to_string(),
            expires_at: order.expires_at.map(|at| at.to_string()),
            updated_at: order.updated_at.to_string(),
            actor: order.actor.map(Into::into),
        }
    }
}

impl<'a> OrderData<'a> {
    /// The data of an event: the order without what only its buyer and the shop need to know.
    #[must_use]
    pub fn of_event(order: &'a Order) -> Self {
        let data = Self::from(order);
        let shipping_to = data.shipping_to.map(DestinationData::without_postal_code);
        Self { email: None, shipping_address: None, billing_address: None, shipping_to, ..data }
    }
}

impl<'a> From<&'a Shipment> for ShipmentData<'a> {
    fn from(shipment: &'a Shipment) -> Self {
        let item = |units: &OrderUnits| ShipmentItemData {
            product_id: units.product_id,
            quantity: units.quantity,
        };
        let details = &shipment.details;
        Self {
            id: shipment.id,
            items: shipment.items.iter().map(item).collect(),
            carrier: details.carrier.as_deref(),
            tracking: details.tracking.as_deref(),
            reference: details.reference.as_deref(),
            at: shipment.shipped_at.to_string(),
        }
    }
}

/// The records of one kind in an order's charges.
fn list<'a, T: 'a, D: From<&'a T>>(
    charges: Option<&'a Charges>,
    of: impl Fn(&'a Charges) -> &'a [T],
) -> Vec<D> {
    charges.map(of).unwrap_or_default().iter().map(D::from).collect()
}

impl<'a> OrderItemData<'a> {
    fn new(line: &'a OrderLine, amounts: Option<LineAmounts>) -> Self {
        let zero = Money::zero(line.unit_price.currency());
        Self {
            product_id: line.product_id,
            sku: line.sku.as_deref(),
            name: &line.name,
            quantity: line.quantity,
            unit_price: line.unit_price,
            total: line.total(),
            discount: amounts.map_or(zero, |amounts| amounts.discount),
            tax: amounts.map_or(zero, |amounts| amounts.tax),
            fulfilled: line.fulfilled,
        }
    }
}

impl<'a> PaymentData<'a> {
    /// The payment as its buyer sees it, with what the buyer pays with.
    #[must_use]
    pub fn of_buyer(payment: &'a Payment) -> Self {
        Self { client_secret: payment.client_secret(), ..Self::from(payment) }
    }
}

/// Serializes an order as its buyer sees it, for no other reader.
#[must_use]
pub fn order_json_of_buyer(order: &Order) -> Bytes {
    let payment = PaymentData::of_buyer(&order.payment);
    let order = OrderData { payment, ..OrderData::from(order) };
    serde_json::to_vec(&order).unwrap_or_default().into()
}

/// Serializes an order for order responses and order events.
#[must_use]
pub fn order_json(order: &Order) -> Bytes {
    // Plain structs with string keys: serializing them cannot fail.
    serde_json::to_vec(&OrderData::from(order)).unwrap_or_default().into()
}
