//! Orders, their lines and their payment.

use std::{borrow::Cow, collections::BTreeMap, str::FromStr};

use mongodb::bson::{DateTime, Uuid as BsonUuid};
use serde::{Deserialize, Serialize};

use super::{
    ActorDocument, DocumentError, id_from_bson, id_to_bson, parse_money,
    shipments::ShipmentDocument, timestamp_from_bson, timestamp_to_bson,
};
use crate::{
    domain::{
        account::Email,
        money::{Currency, Money},
        order::{Order, OrderAddress, OrderLine, OrderStatus, Payment, PaymentMethod, Shipment},
        payment::{Intent, PaymentFailure, ProviderState, Refund},
    },
    store::charges_codec::StoredCharges,
};

/// An order as stored in `orders`. All its prices are in `currency`.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct OrderDocument<'a> {
    #[serde(rename = "_id")]
    order_id: BsonUuid,
    user_id: BsonUuid,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    guest: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    email: Option<Cow<'a, str>>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    version: u64,
    #[serde(borrow)]
    currency: Cow<'a, str>,
    #[serde(borrow)]
    lines: Vec<OrderLineDocument<'a>>,
    /// The units of all lines, only in a pending order: the buyer's are counted in the index alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending_units: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    charges: Option<Box<StoredCharges>>,
    #[serde(borrow)]
    payment: PaymentDocument<'a>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shipments: Vec<ShipmentDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shipping_address: Option<Cow<'a, BTreeMap<String, String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    billing_address: Option<Cow<'a, BTreeMap<String, String>>>,
    placed_at: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<DateTime>,
    updated_at: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<ActorDocument>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    anonymized: bool,
}

#[derive(Serialize, Deserialize)]
struct OrderLineDocument<'a> {
    product_id: BsonUuid,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    sku: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    quantity: u32,
    unit_price: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    fulfilled: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    restocked: u32,
}

#[derive(Serialize, Deserialize)]
struct PaymentDocument<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    reference: Option<Cow<'a, str>>,
    /// Absent if it follows from the order's status. Orders are read and written often, so what is
    /// implied is left out.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    status: Option<Cow<'a, str>>,
    /// Absent if it is the order's total.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amount: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    refunds: Vec<RefundDocument<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    failure: Option<PaymentFailureDocument<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    provider: Option<ProviderDocument<'a>>,
}

#[derive(Serialize, Deserialize)]
struct PaymentFailureDocument<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct ProviderDocument<'a> {
    #[serde(borrow)]
    intents: Vec<IntentDocument<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_at: Option<DateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refunded: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct IntentDocument<'a> {
    attempt: u32,
    #[serde(borrow)]
    state: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    client_secret: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
struct RefundDocument<'a> {
    id: BsonUuid,
    amount: i64,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    at: DateTime,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    provider_id: Option<Cow<'a, str>>,
}

impl<'a> From<&'a Order> for OrderDocument<'a> {
    fn from(order: &'a Order) -> Self {
        let line = |line: &'a OrderLine| OrderLineDocument {
            product_id: id_to_bson(line.product_id.as_uuid()),
            sku: line.sku.as_deref().map(Cow::Borrowed),
            name: Cow::Borrowed(&line.name),
            quantity: line.quantity,
            unit_price: line.unit_price.minor_units(),
            fulfilled: line.fulfilled,
            restocked: line.restocked,
        };
        Self {
            order_id: id_to_bson(order.id.as_uuid()),
            user_id: id_to_bson(order.user_id.as_uuid()),
            guest: order.guest,
            email: order.email.as_ref().map(|email| Cow::Borrowed(email.as_str())),
            status: Cow::Borrowed(order.status.as_str()),
            version: order.version,
            currency: Cow::Owned(order.currency.code().to_owned()),
            lines: order.lines.iter().map(line).collect(),
            pending_units: (order.status == OrderStatus::PendingPayment)
                .then(|| i64::try_from(order.units()).unwrap_or(i64::MAX)),
            charges: order.charges.as_ref().map(|charges| Box::new((&**charges).into())),
            payment: PaymentDocument::of(order),
            shipments: order.shipments.iter().map(ShipmentDocument::from).collect(),
            shipping_address: address_fields(order.shipping_address.as_ref()),
            billing_address: address_fields(order.billing_address.as_ref()),
            placed_at: timestamp_to_bson(order.placed_at),
            expires_at: order.expires_at.map(timestamp_to_bson),
            updated_at: timestamp_to_bson(order.updated_at),
            actor: order.actor.map(Into::into),
            anonymized: order.anonymized,
        }
    }
}

impl TryFrom<OrderDocument<'_>> for Order {
    type Error = DocumentError;

    fn try_from(document: OrderDocument<'_>) -> Result<Self, DocumentError> {
        let status: OrderStatus = parse_name(&document.status, "order status")?;
        let is_fulfilled = status == OrderStatus::Fulfilled;
        let line = |line: OrderLineDocument<'_>| {
            Ok(OrderLine {
                product_id: id_from_bson(line.product_id),
                sku: line.sku.map(Cow::into_owned),
                name: line.name.into_owned(),
                quantity: line.quantity,
                unit_price: parse_money(line.unit_price, &document.currency)?,
                // Orders from before there were partial shipments do not say it.
                fulfilled: if is_fulfilled { line.quantity } else { line.fulfilled },
                restocked: line.restocked,
            })
        };
        let address = |fields: Cow<'_, BTreeMap<String, String>>| {
            OrderAddress::from_stored(fields.into_owned())
        };
        let currency: Currency = document
            .currency
            .parse()
            .map_err(|_| DocumentError(format!("{:?} is not a currency", document.currency)))?;
        let mut order = Self {
            id: id_from_bson(document.order_id),
            user_id: id_from_bson(document.user_id),
            guest: document.guest,
            email: document.email.map(|email| Email::from_stored(email.into_owned())),
            status,
            version: document.version,
            currency,
            lines: document.lines.into_iter().map(line).collect::<Result<_, DocumentError>>()?,
            charges: document
                .charges
                .map(|stored| stored.into_charges(currency))
                .transpose()
                .map_err(|error| DocumentError(error.to_string()))?,
            payment: Payment {
                status: status.implied_payment_status(),
                ..Payment::awaiting(PaymentMethod::Manual, Money::zero(currency))
            },
            shipments: document.shipments.into_iter().map(Shipment::from).collect(),
            shipping_address: document.shipping_address.and_then(address),
            billing_address: document.billing_address.and_then(address),
            placed_at: timestamp_from_bson(document.placed_at),
            expires_at: document.expires_at.map(timestamp_from_bson),
            updated_at: timestamp_from_bson(document.updated_at),
            actor: document.actor.map(TryInto::try_into).transpose()?,
            anonymized: document.anonymized,
        };
        order.payment.amount = order.total();
        document.payment.read_into(&mut order.payment)?;
        Ok(order)
    }
}

fn address_fields(address: Option<&OrderAddress>) -> Option<Cow<'_, BTreeMap<String, String>>> {
    address.map(|address| Cow::Borrowed(address.fields()))
}

/// Whether serde leaves a count out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl<'a> PaymentDocument<'a> {
    fn of(order: &'a Order) -> Self {
        let payment = &order.payment;
        let is_implied = payment.status == order.status.implied_payment_status();
        let refund = |refund: &'a Refund| RefundDocument {
            id: id_to_bson(refund.id.as_uuid()),
            amount: refund.amount.minor_units(),
            status: Cow::Borrowed(refund.status.as_str()),
            reason: refund.reason.as_deref().map(Cow::Borrowed),
            at: timestamp_to_bson(refund.refunded_at),
            provider_id: refund.provider_id.as_deref().map(Cow::Borrowed),
        };
        Self {
            method: Cow::Borrowed(payment.method.as_str()),
            reference: payment.reference.as_deref().map(Cow::Borrowed),
            status: (!is_implied).then(|| Cow::Borrowed(payment.status.as_str())),
            amount: (payment.amount != order.total()).then(|| payment.amount.minor_units()),
            refunds: payment.refunds.iter().map(refund).collect(),
            failure: payment.failure.as_ref().map(|failure| PaymentFailureDocument {
                code: Cow::Borrowed(&failure.code),
                message: Cow::Borrowed(&failure.message),
            }),
            provider: payment.provider.as_ref().map(ProviderDocument::from),
        }
    }
}

impl<'a> From<&'a ProviderState> for ProviderDocument<'a> {
    fn from(provider: &'a ProviderState) -> Self {
        let intent = |intent: &'a Intent| IntentDocument {
            attempt: intent.attempt,
            state: Cow::Borrowed(intent.state.as_str()),
            id: intent.id.as_deref().map(Cow::Borrowed),
            client_secret: intent.client_secret.as_deref().map(Cow::Borrowed),
        };
        Self {
            intents: provider.intents.iter().map(intent).collect(),
            due_at: provider.due_at.map(timestamp_to_bson),
            refunded: provider.refunded.map(Money::minor_units),
        }
    }
}

impl TryFrom<IntentDocument<'_>> for Intent {
    type Error = DocumentError;

    fn try_from(document: IntentDocument<'_>) -> Result<Self, DocumentError> {
        Ok(Self {
            attempt: document.attempt,
            state: parse_name(&document.state, "state of a payment")?,
            id: document.id.map(Cow::into_owned),
            client_secret: document.client_secret.map(Cow::into_owned),
        })
    }
}

impl PaymentDocument<'_> {
    /// Reads what is stored into `payment`, which has what an earlier version implied.
    fn read_into(self, payment: &mut Payment) -> Result<(), DocumentError> {
        let currency = payment.amount.currency();
        payment.method = parse_name(&self.method, "payment method")?;
        payment.reference = self.reference.map(Cow::into_owned);
        if let Some(status) = self.status {
            payment.status = parse_name(&status, "payment status")?;
        }
        if let Some(amount) = self.amount {
            payment.amount = parse_money(amount, currency.code())?;
        }
        let refund = |refund: RefundDocument<'_>| {
            Ok(Refund {
                id: id_from_bson(refund.id),
                amount: parse_money(refund.amount, currency.code())?,
                status: parse_name(&refund.status, "refund status")?,
                reason: refund.reason.map(Cow::into_owned),
                refunded_at: timestamp_from_bson(refund.at),
                provider_id: refund.provider_id.map(Cow::into_owned),
            })
        };
        let refunds = self.refunds.into_iter().map(refund);
        payment.refunds = refunds.collect::<Result<_, DocumentError>>()?;
        payment.failure = self.failure.map(|failure| PaymentFailure {
            code: failure.code.into_owned(),
            message: failure.message.into_owned(),
        });
        if let Some(provider) = self.provider {
            let refunded = provider.refunded.map(|units| parse_money(units, currency.code()));
            let intents = provider.intents.into_iter().map(Intent::try_from);
            payment.provider = Some(ProviderState {
                intents: intents.collect::<Result<_, DocumentError>>()?,
                due_at: provider.due_at.map(timestamp_from_bson),
                refunded: refunded.transpose()?,
            });
        }
        Ok(())
    }
}

fn parse_name<T: FromStr>(name: &str, meaning: &str) -> Result<T, DocumentError> {
    name.parse().map_err(|_| DocumentError(format!("{name:?} is not a valid {meaning}")))
}
