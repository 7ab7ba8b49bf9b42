//! The commands that other systems may send, and their strict parser.

use serde::Deserialize;
use uuid::Uuid;

use crate::{
    domain::{catalog::trim::trim, inventory::StockChange, validation::ValidationErrors},
    error::{Error, ErrorCode},
    input::json,
    messages::catalog::ProductRef,
};

/// Largest message body that is accepted as a command.
pub(super) const MAX_COMMAND_BYTES: usize = 64 * 1024;

/// The only command type so far.
pub(super) const ADJUST_STOCK_TYPE: &str = "inventory.adjust";

/// Longest command id, in characters.
pub(super) const MAX_COMMAND_ID_CHARS: usize = 255;

/// A command that changes the stock of one product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdjustStock {
    /// Idempotency key: the store applies each command id once.
    pub id: Box<str>,
    /// The product whose stock changes.
    pub product: ProductRef,
    /// The change: `Adjust` by a delta, or `Set` to a quantity.
    pub stock: StockChange,
    /// Why the stock changes, recorded with the movement.
    pub reason: String,
    /// The sender's own reference, such as a delivery note, recorded with the movement.
    pub reference: Option<String>,
}

#[derive(Deserialize)]
struct CommandBody {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    product_id: Option<Uuid>,
    sku: Option<String>,
    delta: Option<i64>,
    set: Option<i64>,
    reason: String,
    reference: Option<String>,
}

impl AdjustStock {
    /// Parses and validates the body of a message.
    ///
    /// # Errors
    /// `payload_too_large`, `malformed_json` or `validation_failed`, with the reason in `detail`.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        if body.len() > MAX_COMMAND_BYTES {
            let detail = format!(
                "The body has {} bytes; at most {MAX_COMMAND_BYTES} are allowed.",
                body.len()
            );
            return Err(Error::new(ErrorCode::PayloadTooLarge, detail));
        }
        json::parse::<CommandBody>(body, &[])?.validate()
    }
}

impl CommandBody {
    fn validate(self) -> Result<AdjustStock, Error> {
        let mut errors = ValidationErrors::new();
        let length = self.id.chars().count();
        if !(1..=MAX_COMMAND_ID_CHARS).contains(&length) {
            errors.add(
                "id",
                "out_of_range",
                format!("id has {length} characters; 1 to {MAX_COMMAND_ID_CHARS} are allowed"),
            );
        }
        if self.kind != ADJUST_STOCK_TYPE {
            errors.add("type", "unknown", format!("type must be {ADJUST_STOCK_TYPE:?}"));
        }
        let reference = self.reference.as_deref();
        let stock = errors.record_result(StockChange::from_request(
            self.delta,
            self.set,
            &self.reason,
            reference,
        ));
        let product = match (self.product_id, self.sku) {
            (Some(id), None) => Some(ProductRef::Id(id.into())),
            (None, Some(sku)) => Some(ProductRef::Sku(trim(sku))),
            _ => None,
        };
        if product.is_none() {
            errors.add("product_id", "required", "send either product_id or sku");
        }
        match (stock, product, errors.is_empty()) {
            (Some(stock), Some(product), true) => Ok(AdjustStock {
                id: self.id.into(),
                product,
                stock,
                reason: self.reason,
                reference: self.reference,
            }),
            _ => Err(errors.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn valid_command() -> Value {
        json!({
            "id": "1", "type": "inventory.adjust", "sku": "TEA", "delta": 5, "reason": "delivery",
        })
    }

    fn parse_error(body: &Value) -> (ErrorCode, String) {
        let error = AdjustStock::parse(body.to_string().as_bytes()).unwrap_err();
        (error.code, error.detail.into_owned())
    }

    #[test]
    fn valid_command_is_parsed() {
        let command = AdjustStock::parse(valid_command().to_string().as_bytes()).unwrap();
        let (id, product, stock) =
            ("1".into(), ProductRef::Sku("TEA".into()), StockChange::Adjust(5));
        assert_eq!(
            command,
            AdjustStock { id, product, stock, reason: "delivery".into(), reference: None }
        );
        let id = "018f4d7e-0000-7000-8000-000000000001";
        let body = json!({
            "id": "x".repeat(255), "type": ADJUST_STOCK_TYPE, "product_id": id,
            "set": 0, "reason": "count", "reference": "S-1",
        });
        let command = AdjustStock::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(command.product, ProductRef::Id(id.parse::<Uuid>().unwrap().into()));
        assert_eq!(
            (command.stock, command.reference.as_deref()),
            (StockChange::Set(0), Some("S-1"))
        );
    }

    #[test]
    fn invalid_field_is_rejected_with_a_reason() {
        for (field, value, reason) in [
            ("id", json!(""), "id has 0 characters; 1 to 255 are allowed"),
            ("id", json!("x".repeat(256)), "id has 256 characters; 1 to 255 are allowed"),
            ("id", json!(7), "id must be a string, not 7"),
            ("type", json!("inventory.set"), "type must be \"inventory.adjust\""),
            ("delta", json!("5"), "delta must be a whole number, not the string \"5\""),
            ("delta", json!(1.5), "delta must be a whole number, not 1.5"),
            (
                "delta",
                json!(2_000_000_000_000_i64),
                "delta must be from -1000000000000 to 1000000000000",
            ),
            ("delta", Value::Null, "send either delta or set"),
            ("set", json!(5), "send either delta or set"),
            ("sku", Value::Null, "send either product_id or sku"),
            (
                "product_id",
                json!("018f4d7e-0000-7000-8000-000000000001"),
                "send either product_id or sku",
            ),
            ("product_id", json!("tea"), "UUID parsing failed"),
            ("reason", json!(" "), "reason must not be empty"),
            (
                "reference",
                json!("x".repeat(201)),
                "reference has 201 characters; at most 200 are allowed",
            ),
            ("warehouse", json!(1), "warehouse is not a field of this request"),
        ] {
            let mut body = valid_command();
            body[field] = value;
            let (code, detail) = parse_error(&body);
            assert_eq!(code, ErrorCode::ValidationFailed, "{detail}");
            assert!(detail.contains(reason), "{detail}");
        }
        let mut body = valid_command();
        body.as_object_mut().unwrap().remove("reason");
        assert!(parse_error(&body).1.contains("reason is required"));
    }

    #[test]
    fn malformed_or_oversized_body_is_rejected() {
        let code = |body: &[u8]| AdjustStock::parse(body).unwrap_err().code;
        for body in [&b""[..], b"restock", b"{", b"{\"id\": \"1\"", b"{\"id\": \"\xff\"}"] {
            assert_eq!(code(body), ErrorCode::MalformedJson, "{}", String::from_utf8_lossy(body));
        }
        for body in [&b"[\"1\"]"[..], b"null"] {
            assert_eq!(
                code(body),
                ErrorCode::ValidationFailed,
                "{}",
                String::from_utf8_lossy(body)
            );
        }
        assert_eq!(code(&[b'{'; MAX_COMMAND_BYTES + 1]), ErrorCode::PayloadTooLarge);
        let padded = format!(
            "{}{}",
            valid_command(),
            " ".repeat(MAX_COMMAND_BYTES - valid_command().to_string().len())
        );
        assert!(
            AdjustStock::parse(padded.as_bytes()).is_ok(),
            "a body of exactly the maximum size is valid"
        );
        assert_eq!(
            code(format!("{}{}", valid_command(), valid_command()).as_bytes()),
            ErrorCode::MalformedJson,
            "a body holds one command"
        );
    }
}
