//! The objects and events of Stripe, as far as they are read.

use serde::Deserialize;

use super::super::MessageError;
use crate::domain::{
    ids::{OrderId, RefundId},
    money::Currency,
    payment::{PaymentFailure, ProviderMessage, ProviderRefund, ProviderUpdate, shop_amount},
};

#[derive(Deserialize)]
pub(super) struct IntentObject {
    pub(super) id: String,
    status: String,
    #[serde(default)]
    amount: i64,
    #[serde(default)]
    amount_received: Option<i64>,
    #[serde(default)]
    currency: String,
    #[serde(default)]
    pub(super) client_secret: Option<String>,
    #[serde(default)]
    last_payment_error: Option<PaymentErrorObject>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Default, Deserialize)]
struct PaymentErrorObject {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    decline_code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    order_id: Option<String>,
    #[serde(default)]
    refund_id: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct RefundObject {
    pub(super) id: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    amount: i64,
    #[serde(default)]
    currency: String,
    #[serde(default)]
    payment_intent: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
pub(super) struct RefundPage {
    pub(super) data: Vec<RefundObject>,
}

#[derive(Deserialize)]
struct ChargeObject {
    #[serde(default)]
    payment_intent: Option<String>,
    #[serde(default)]
    amount_refunded: i64,
    #[serde(default)]
    currency: String,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct DisputeObject {
    #[serde(default)]
    payment_intent: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    data: EventData,
}

#[derive(Deserialize)]
struct EventData {
    object: serde_json::Value,
}

impl IntentObject {
    /// What the object says about the payment. `None` while the buyer has not paid.
    pub(super) fn update(&self, shop: Currency) -> Option<ProviderUpdate> {
        let is_declined = self.status == "requires_payment_method";
        let declined = || {
            self.last_payment_error.as_ref().filter(|_| is_declined)?;
            Some(self.declined())
        };
        self.outcome(shop).or_else(declined)
    }

    /// How the payment ended.
    pub(super) fn outcome(&self, shop: Currency) -> Option<ProviderUpdate> {
        match &*self.status {
            "succeeded" => Some(self.succeeded(shop)),
            "canceled" => Some(self.called_off()),
            _ => None,
        }
    }

    fn succeeded(&self, shop: Currency) -> ProviderUpdate {
        let units = self.amount_received.filter(|units| *units > 0).unwrap_or(self.amount);
        let amount = shop_amount(units, &self.currency, shop);
        ProviderUpdate::Succeeded { intent: self.id.clone(), amount }
    }

    fn called_off(&self) -> ProviderUpdate {
        ProviderUpdate::CalledOff { intent: self.id.clone() }
    }

    fn declined(&self) -> ProviderUpdate {
        let failure = match &self.last_payment_error {
            Some(error) => error.failure(),
            None => PaymentErrorObject::default().failure(),
        };
        ProviderUpdate::Declined { intent: self.id.clone(), failure }
    }

    fn order_id(&self) -> Option<OrderId> {
        self.metadata.as_ref().and_then(Metadata::order_id)
    }
}

impl PaymentErrorObject {
    fn failure(&self) -> PaymentFailure {
        let code = self.decline_code.as_ref().or(self.code.as_ref());
        let message = self.message.clone();
        PaymentFailure {
            code: code.cloned().unwrap_or_else(|| "declined".to_owned()),
            message: message.unwrap_or_else(|| "The payment was declined.".to_owned()),
        }
    }
}

impl Metadata {
    fn order_id(&self) -> Option<OrderId> {
        self.order_id.as_deref()?.parse().ok()
    }
}

impl RefundObject {
    /// The refund of the payment `intent`, unless the object names another one.
    pub(super) fn update(self, intent: &str, shop: Currency) -> ProviderUpdate {
        let outcome = match self.status.as_deref() {
            Some("succeeded") => Some(true),
            Some("failed" | "canceled") => Some(false),
            _ => None,
        };
        ProviderUpdate::Refund(ProviderRefund {
            refund: self.refund_id(),
            amount: shop_amount(self.amount, &self.currency, shop),
            intent: self.payment_intent.unwrap_or_else(|| intent.to_owned()),
            id: self.id,
            outcome,
        })
    }

    pub(super) fn refund_id(&self) -> Option<RefundId> {
        self.metadata.as_ref()?.refund_id.as_deref()?.parse().ok()
    }
}

/// Reads an event. `None` if it is of another type, or about nothing that concerns the shop.
pub(super) fn read_event(
    body: &[u8],
    shop: Currency,
) -> Result<Option<ProviderMessage>, MessageError> {
    let Event { kind, data } = parse(body)?;
    let (order_id, intent, update) = match &*kind {
        "payment_intent.succeeded"
        | "payment_intent.payment_failed"
        | "payment_intent.canceled" => {
            let object: IntentObject = parse_value(data.object)?;
            let update = match &*kind {
                "payment_intent.succeeded" => object.succeeded(shop),
                "payment_intent.canceled" => object.called_off(),
                _ => object.declined(),
            };
            (object.order_id(), Some(object.id), Some(update))
        }
        "charge.refunded" => {
            let charge: ChargeObject = parse_value(data.object)?;
            let order_id = charge.metadata.as_ref().and_then(Metadata::order_id);
            let total = shop_amount(charge.amount_refunded, &charge.currency, shop);
            let intent = charge.payment_intent;
            let update = intent.clone().zip(total);
            let update =
                update.map(|(intent, total)| ProviderUpdate::RefundedInAll { intent, total });
            (order_id, intent, update)
        }
        "refund.created" | "refund.updated" | "refund.failed" | "charge.refund.updated" => {
            let object: RefundObject = parse_value(data.object)?;
            let order_id = object.metadata.as_ref().and_then(Metadata::order_id);
            let intent = object.payment_intent.clone();
            let update = intent.as_deref().map(|intent| object.update(intent, shop));
            (order_id, intent, update)
        }
        "charge.dispute.created" => {
            let DisputeObject { payment_intent: intent, metadata } = parse_value(data.object)?;
            let update = intent.clone().map(|intent| ProviderUpdate::Disputed { intent });
            (metadata.as_ref().and_then(Metadata::order_id), intent, update)
        }
        _ => return Ok(None),
    };
    let message = intent.zip(update);
    Ok(message.map(|(intent, update)| ProviderMessage { order_id, intent, update }))
}

fn parse<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, MessageError> {
    serde_json::from_slice(body).map_err(|_| MessageError::Malformed)
}

fn parse_value<T: for<'a> Deserialize<'a>>(value: serde_json::Value) -> Result<T, MessageError> {
    serde_json::from_value(value).map_err(|_| MessageError::Malformed)
}
