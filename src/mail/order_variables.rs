//! What the mail about an order says of it.

use minijinja::{Error, ErrorKind, Value as TemplateValue};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    domain::{money::Currency, order::Order},
    events::order::order_json,
};

/// The members of an order that it may not have, with the place that they are in. Templates find
/// them empty.
const OPTIONAL_MEMBERS: [(&str, &str); 14] = [
    ("", "shipping_address"),
    ("", "billing_address"),
    ("", "shipping_to"),
    ("", "shipping"),
    ("/discounts/*", "code"),
    ("/shipping", "tax"),
    ("", "expires_at"),
    ("", "actor"),
    ("/payment", "reference"),
    ("/payment", "failure"),
    ("/payment/refunds/*", "reason"),
    ("/shipments/*", "carrier"),
    ("/shipments/*", "tracking"),
    ("/shipments/*", "reference"),
];

/// The variables `order`, `shipment` and `refund` of templates, as the routes of orders have them.
#[derive(Debug, Default)]
pub(super) struct OrderVariables {
    pub(super) order: Value,
    pub(super) shipment: Value,
    pub(super) refund: Value,
}

impl OrderVariables {
    /// Those of a mail about an order and one of its shipments or refunds. `None` if the order does
    /// not have that part any more: the parts of a refund replace the sum that a provider reported.
    pub(super) fn of(order: &Order, part: Option<Uuid>) -> Option<Self> {
        let mut order: Value = serde_json::from_slice(&order_json(order)).unwrap_or_default();
        fill_optional_members(&mut order);
        let part = part.map(|id| Value::String(id.to_string()));
        let find = |list: &str| {
            let mut parts = order.pointer(list).and_then(Value::as_array).into_iter().flatten();
            parts.find(|entry| part.is_some() && entry.get("id") == part.as_ref()).cloned()
        };
        let (shipment, refund) = (find("/shipments"), find("/payment/refunds"));
        if part.is_some() && shipment.is_none() && refund.is_none() {
            return None;
        }
        let (shipment, refund) = (shipment.unwrap_or_default(), refund.unwrap_or_default());
        Some(Self { order, shipment, refund })
    }

    /// An example, to check templates with.
    pub(super) fn sample() -> Self {
        let item = json!({
            "product_id": Uuid::nil(), "sku": "TEA-1", "name": "Mint tea", "quantity": 3,
            "unit_price": 19.99, "total": 59.97, "discount": 6, "tax": 8.62, "fulfilled": 3,
        });
        let shipment = json!({
            "id": Uuid::nil(), "items": [{"product_id": Uuid::nil(), "quantity": 3}],
            "carrier": "DHL", "tracking": "00340434161094042557", "reference": null,
            "at": "2026-01-01T12:00:00.000Z",
        });
        let refund = json!({
            "id": Uuid::nil(), "amount": 19.99, "status": "succeeded", "reason": null,
            "at": "2026-01-01T12:00:00.000Z",
        });
        let mut order = json!({
            "id": Uuid::nil(), "number": "7KQ2-M9XF-4T0D", "user_id": Uuid::nil(),
            "email": "ada@example.com", "status": "paid", "version": 2, "currency": "EUR",
            "items": [item], "subtotal": 59.97,
            "discounts": [{"promotion_id": Uuid::nil(), "name": "Ten per cent", "amount": 6}],
            "codes": [], "shipping_to": {"country": "DE"},
            "shipping": {"method_id": Uuid::nil(), "name": "Parcel", "amount": 4.9},
            "taxes": [{"name": "VAT", "rate": "0.19", "amount": 9.4, "included": true}],
            "total_amount": 58.87,
            "payment": {
                "method": "manual", "status": "paid", "amount": 58.87, "refunded": 19.99,
                "refunds": [refund],
            },
            "shipments": [shipment], "placed_at": "2026-01-01T12:00:00.000Z",
            "updated_at": "2026-01-01T12:00:00.000Z",
        });
        fill_optional_members(&mut order);
        Self { order, shipment, refund }
    }
}

fn fill_optional_members(order: &mut Value) {
    for (place, member) in OPTIONAL_MEMBERS {
        let places: Vec<&mut Value> = match place.strip_suffix("/*") {
            None => order.pointer_mut(place).into_iter().collect(),
            Some(list) => {
                let list = order.pointer_mut(list).and_then(Value::as_array_mut);
                list.into_iter().flatten().collect()
            }
        };
        for place in places {
            if let Some(members) = place.as_object_mut() {
                members.entry(member).or_insert(Value::Null);
            }
        }
    }
}

/// The filter `money` of templates: an amount with all of its currency's decimals, and the
/// currency. `{{ order.total_amount | money(order.currency) }}` is `60.00 EUR`.
pub(super) fn money(amount: &TemplateValue, currency: &str) -> Result<String, Error> {
    let wrong = |reason: &'static str| Error::new(ErrorKind::InvalidOperation, reason);
    let amount = f64::try_from(amount.clone()).map_err(|_| wrong("money needs an amount"))?;
    let currency: Currency = currency.parse().map_err(|_| wrong("money needs a currency"))?;
    let decimals = usize::from(currency.decimals());
    // Exact: amounts are below 2^53 of the smallest units.
    Ok(format!("{amount:.decimals$} {}", currency.code()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::{
        clock::Timestamp,
        ids::{OrderId, ProductId, RefundId, ShipmentId, UserId},
        money::Money,
        order::{
            OrderLine, OrderStatus, OrderUnits, Payment, PaymentMethod, Shipment, ShipmentDetails,
        },
        payment::{Refund, RefundStatus},
    };

    /// An order with a line, a shipment and a refund.
    fn order() -> Order {
        let (product_id, time) = (ProductId::new(), Timestamp::from_millis(1));
        let price = Money::from_minor_units(450, "EUR".parse().unwrap()).unwrap();
        let line = OrderLine {
            product_id,
            sku: None,
            name: "Mint tea".to_owned(),
            quantity: 1,
            unit_price: price,
            fulfilled: 1,
            restocked: 0,
        };
        let shipment = Shipment {
            id: ShipmentId::new(),
            items: vec![OrderUnits { product_id, quantity: 1 }],
            details: ShipmentDetails::default(),
            shipped_at: time,
        };
        let refund = Refund {
            id: RefundId::new(),
            amount: price,
            status: RefundStatus::Succeeded,
            reason: None,
            refunded_at: time,
            provider_id: None,
        };
        let mut payment = Payment::awaiting(PaymentMethod::Manual, price);
        payment.refunds.push(refund);
        Order {
            id: OrderId::new(),
            user_id: UserId::new(),
            status: OrderStatus::Fulfilled,
            version: 4,
            currency: price.currency(),
            lines: vec![line],
            charges: None,
            payment,
            shipments: vec![shipment],
            email: None,
            guest: false,
            shipping_address: None,
            billing_address: None,
            placed_at: time,
            expires_at: None,
            updated_at: time,
            actor: None,
            anonymized: false,
        }
    }

    fn keys(value: &Value, place: &str) -> BTreeSet<String> {
        value.pointer(place).unwrap().as_object().unwrap().keys().cloned().collect()
    }

    /// Otherwise a template that is valid would stop the start, or one that is not would pass.
    #[test]
    fn sample_has_the_members_of_an_order() {
        let (order, sample) = (order(), OrderVariables::sample());
        let shipment = order.shipments.first().map(|it| it.id.as_uuid());
        let shipped = OrderVariables::of(&order, shipment).unwrap();
        for place in ["", "/items/0", "/payment", "/payment/refunds/0", "/shipments/0"] {
            assert_eq!(keys(&shipped.order, place), keys(&sample.order, place), "{place}");
        }
        assert_eq!(keys(&shipped.shipment, ""), keys(&sample.shipment, ""));
        assert!(shipped.refund.is_null());
        let refund = order.payment.refunds.first().map(|it| it.id.as_uuid());
        let refunded = OrderVariables::of(&order, refund).unwrap();
        assert_eq!(keys(&refunded.refund, ""), keys(&sample.refund, ""));
    }

    #[test]
    fn part_that_is_gone_leaves_nothing_to_say() {
        let order = order();
        assert!(OrderVariables::of(&order, None).is_some());
        assert!(OrderVariables::of(&order, Some(RefundId::new().as_uuid())).is_none());
    }

    #[test]
    fn amounts_have_all_decimals_of_their_currency() {
        for (amount, currency, expected) in [
            (TemplateValue::from(59.97), "EUR", "59.97 EUR"),
            (TemplateValue::from(60), "EUR", "60.00 EUR"),
            (TemplateValue::from(1000), "JPY", "1000 JPY"),
            (TemplateValue::from(1.5), "KWD", "1.500 KWD"),
        ] {
            assert_eq!(money(&amount, currency).unwrap(), expected);
        }
        assert!(money(&TemplateValue::from("x"), "EUR").is_err());
        assert!(money(&TemplateValue::from(1), "euro").is_err());
    }
}
