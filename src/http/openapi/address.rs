//! The address of an order, whose members have names of the client's choice.

use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::Type},
};

/// An address, in fields of the shop's choice.
pub(crate) struct Address;

impl PartialSchema for Address {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).max_length(Some(200));
        ObjectBuilder::new()
            .description(Some(
                "An address in fields of the shop's choice. Their names have 1 to 40 letters, \
                 digits, `_` and `-`.",
            ))
            .min_properties(Some(1))
            .max_properties(Some(20))
            .additional_properties(Some(text))
            .examples([json!({"name": "Ada", "street": "12 Mint Lane", "city": "Springfield"})])
            .into()
    }
}

impl ToSchema for Address {}
