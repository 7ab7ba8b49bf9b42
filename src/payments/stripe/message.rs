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
                update.map(|(intent, total)| ProviderUpdate::RefundedTotal { intent, total });
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::money::Money;

    const ORDER: &str = "0197b0c4-0000-7000-8000-000000000000";

    fn read(kind: &str, object: &Value) -> Result<Option<ProviderMessage>, MessageError> {
        let event = json!({"id": "evt_1", "type": kind, "data": {"object": object}});
        read_event(event.to_string().as_bytes(), "USD".parse().unwrap())
    }

    fn dollars(text: &str) -> Option<Money> {
        Some(Money::parse(text, "USD".parse().unwrap()).unwrap())
    }

    #[test]
    fn events_of_payments_are_read() {
        let intent = |status: &str| {
            json!({"id": "pi_1", "status": status, "amount": 1800, "amount_received": 1799,
                "currency": "usd", "metadata": {"order_id": ORDER},
                "last_payment_error": {"code": "card_declined", "decline_code": "lost_card",
                    "message": "Declined."}})
        };
        let intent_id = || "pi_1".to_owned();
        let failure = PaymentFailure { code: "lost_card".into(), message: "Declined.".into() };
        for (kind, update) in [
            (
                "payment_intent.succeeded",
                ProviderUpdate::Succeeded { intent: intent_id(), amount: dollars("17.99") },
            ),
            (
                "payment_intent.payment_failed",
                ProviderUpdate::Declined { intent: intent_id(), failure },
            ),
            ("payment_intent.canceled", ProviderUpdate::CalledOff { intent: intent_id() }),
        ] {
            let order_id = Some(ORDER.parse().unwrap());
            let expected = ProviderMessage { order_id, intent: intent_id(), update };
            // The event is taken at its word, whatever the status of the object.
            assert_eq!(read(kind, &intent("processing")), Ok(Some(expected)), "{kind}");
        }
        let other = json!({"id": "pi_1", "status": "succeeded", "amount": 1, "currency": "eur"});
        let update = ProviderUpdate::Succeeded { intent: intent_id(), amount: None };
        let expected = ProviderMessage { order_id: None, intent: intent_id(), update };
        assert_eq!(read("payment_intent.succeeded", &other), Ok(Some(expected)));
        assert_eq!(read("payment_intent.processing", &other), Ok(None));
        assert_eq!(read("payment_intent.succeeded", &json!({})), Err(MessageError::Malformed));
    }

    #[test]
    fn events_of_refunds_are_read() {
        let id = RefundId::new();
        let refund = |status: &str, metadata: Value| {
            json!({"id": "re_1", "payment_intent": "pi_1", "amount": 300, "currency": "usd",
                "status": status, "metadata": metadata})
        };
        let ours = json!({"refund_id": id});
        for (object, refund_id, outcome) in [
            (refund("succeeded", ours.clone()), Some(id), Some(true)),
            (refund("failed", ours), Some(id), Some(false)),
            (refund("pending", json!({})), None, None),
            (refund("canceled", json!({"refund_id": "of another system"})), None, Some(false)),
        ] {
            let update = ProviderUpdate::Refund(ProviderRefund {
                intent: "pi_1".into(),
                id: "re_1".into(),
                refund: refund_id,
                amount: dollars("3"),
                outcome,
            });
            let expected = ProviderMessage { order_id: None, intent: "pi_1".into(), update };
            assert_eq!(read("refund.updated", &object), Ok(Some(expected)));
        }
        let charge = json!({"id": "ch_1", "payment_intent": "pi_1", "amount": 1800,
            "amount_refunded": 300, "currency": "usd"});
        let total = dollars("3").unwrap();
        let update = ProviderUpdate::RefundedTotal { intent: "pi_1".into(), total };
        let expected = ProviderMessage { order_id: None, intent: "pi_1".into(), update };
        assert_eq!(read("charge.refunded", &charge), Ok(Some(expected)));
        let dispute =
            read("charge.dispute.created", &json!({"id": "dp_1", "payment_intent": "pi_1"}));
        let update = ProviderUpdate::Disputed { intent: "pi_1".into() };
        assert_eq!(dispute.unwrap().unwrap().update, update);
        assert_eq!(read("charge.dispute.created", &json!({"id": "dp_1"})), Ok(None));
    }
}
