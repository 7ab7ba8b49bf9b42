//! The attributes of a product as the OpenAPI document describes them: objects whose members have
//! names of the client's choice.

use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, Ref, RefOr, Schema,
        schema::{SchemaType, Type},
    },
};

/// The attributes of a product.
pub(crate) struct Attributes;

/// The attributes in a merge patch, where null removes one.
pub(crate) struct AttributeChanges;

/// The value of one attribute.
pub(crate) struct AttributeValue;

/// The value of an attribute in a merge patch, or null to remove it.
struct AttributeChange;

/// The JSON types that an attribute may have.
const TYPES: [Type; 3] = [Type::String, Type::Number, Type::Boolean];

impl PartialSchema for Attributes {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .description(Some("Further properties of a product by name."))
            .max_properties(Some(100))
            .additional_properties(Some(Ref::from_schema_name("AttributeValue")))
            .examples([json!({"organic": true, "weight_grams": 100, "origin": "Morocco"})])
            .into()
    }
}

impl ToSchema for Attributes {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("AttributeValue".into(), AttributeValue::schema()));
    }
}

impl PartialSchema for AttributeChanges {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .description(Some("Attributes to change by name. Null removes one."))
            .additional_properties(Some(Ref::from_schema_name("AttributeChange")))
            .examples([json!({"organic": null, "origin": "Egypt"})])
            .into()
    }
}

impl ToSchema for AttributeChanges {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("AttributeChange".into(), AttributeChange::schema()));
    }
}

impl PartialSchema for AttributeValue {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter(TYPES))
            .description(Some("The value of an attribute: a string, a number or a boolean."))
            .examples([json!("Morocco"), json!(100), json!(true)])
            .into()
    }
}

impl ToSchema for AttributeValue {}

impl PartialSchema for AttributeChange {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter(TYPES.into_iter().chain([Type::Null])))
            .description(Some("The new value of an attribute. Null removes the attribute."))
            .examples([json!("Egypt"), json!(null)])
            .into()
    }
}
