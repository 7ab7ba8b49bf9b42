//! What stays of stored replies about an account that is erased.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::domain::order::KEPT_ADDRESS_FIELDS;

/// The members of a reply that name a person. An account has both; an order has an e-mail address.
const NAMING_MEMBERS: [&str; 2] = ["email", "name"];

/// The members of a reply that are addresses.
const ADDRESS_MEMBERS: [&str; 3] = ["shipping_address", "billing_address", "shipping_to"];

/// A stored reply about an account or one of its orders, without what tells whose it was.
pub(super) fn anonymize_reply(body: &[u8]) -> Bytes {
    let Ok(Value::Object(mut reply)) = serde_json::from_slice(body) else { return Bytes::new() };
    for member in NAMING_MEMBERS {
        if let Some(value) = reply.get_mut(member) {
            *value = Value::Null;
        }
    }
    for member in ADDRESS_MEMBERS {
        match reply.get_mut(member) {
            Some(Value::Object(address)) => keep_place(address),
            Some(value) => *value = Value::Null,
            None => {}
        }
    }
    serde_json::to_vec(&reply).unwrap_or_default().into()
}

fn keep_place(address: &mut Map<String, Value>) {
    address.retain(|field, _| KEPT_ADDRESS_FIELDS.contains(&field.as_str()));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn anonymized(reply: &Value) -> Value {
        let body = anonymize_reply(reply.to_string().as_bytes());
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn replies_lose_names_and_keep_the_rest() {
        let account = json!({"id": "7", "email": "ada@example.com", "name": "Ada", "version": 3});
        let expected = json!({"id": "7", "email": null, "name": null, "version": 3});
        assert_eq!(anonymized(&account), expected);
        let address = json!({"name": "Ada", "line1": "12 Mint Street", "country": "FR"});
        let items = json!([{"name": "Mint tea"}]);
        let order = json!({"items": items, "total_amount": 4.5, "shipping_address": address});
        let place = json!({"country": "FR"});
        let expected = json!({"items": items, "total_amount": 4.5, "shipping_address": place});
        assert_eq!(anonymized(&order), expected);
        assert_eq!(anonymize_reply(b"[\"Ada\"]"), Bytes::new());
    }
}
