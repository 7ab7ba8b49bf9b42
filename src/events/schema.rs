//! OpenAPI (`ToSchema`) and AsyncAPI (`JsonSchema`) schemas for members with domain types, which do
//! not define their JSON. The schemas use the domain's own lists and limits.

use std::borrow::Cow;

use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::Type},
};

use crate::domain::{account, action, order, payment, pricing, webhook};

/// Defines schema types for closed sets of strings.
macro_rules! string_enums {
    ($($(#[doc = $line:literal])+ $name:ident = $names:expr;)+) => {$(
        $(#[doc = $line])+
        #[derive(Debug)]
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                string_enum_schema(&$names, concat!($($line, "\n"),+))
            }
        }

        impl ToSchema for $name {}

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
                json_schema!({"enum": $names})
            }
        }
    )+};
}

string_enums! {
    /// The state of an order.
    OrderStatus = names_of(order::OrderStatus::ALL, order::OrderStatus::as_str);
    /// Why a code takes nothing off.
    CodeReason = names_of(pricing::CodeRefusal::ALL, pricing::CodeRefusal::as_str);
    /// A payment method. With `manual`, staff confirms the payment.
    PaymentMethod = names_of(payment::PaymentMethod::ALL, payment::PaymentMethod::as_str);
    /// The state of a payment.
    PaymentStatus = names_of(payment::PaymentStatus::ALL, payment::PaymentStatus::as_str);
    /// Whether the money of a refund went back.
    RefundStatus = names_of(payment::RefundStatus::ALL, payment::RefundStatus::as_str);
    /// The role of an account, which determines its permissions.
    AccountRole = names_of(
        &[account::Role::Customer, account::Role::Staff, account::Role::Admin],
        account::Role::as_str,
    );
    /// What a member of staff may do. `X` includes `X:read`.
    Scope = names_of(account::Scope::ALL, account::Scope::as_str);
    /// Who made a change: an account, an API key, or the server's command line.
    ActorKind = names_of(action::ActorKind::ALL, action::ActorKind::as_str);
    /// Why a session ended.
    RevocationReason =
        names_of(account::RevocationReason::ALL, account::RevocationReason::as_str);
    /// Why an endpoint gets nothing.
    PauseReason = names_of(webhook::PauseReason::ALL, webhook::PauseReason::as_str);
    /// What an attempt to deliver an event has led to.
    DeliveryStatus = names_of(webhook::DeliveryStatus::ALL, webhook::DeliveryStatus::as_str);
    /// Why an attempt to deliver an event got no answer.
    DeliveryError = names_of(webhook::DeliveryError::ALL, webhook::DeliveryError::as_str);
}

/// Returns the names of `values`.
pub fn names_of<T: Copy>(values: &[T], name: fn(T) -> &'static str) -> Vec<&'static str> {
    values.iter().map(|value| name(*value)).collect()
}

/// Builds the OpenAPI schema of a closed set of strings. The first is the example.
#[must_use]
pub fn string_enum_schema(names: &[&'static str], comment: &str) -> RefOr<Schema> {
    let description: Vec<&str> = comment.lines().map(str::trim).collect();
    let first = names.first().map(|name| Value::from(*name));
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description.join(" ")))
        .enum_values(Some(names.iter().copied()))
        .examples(first)
        .into()
}

/// The address of an order.
#[derive(Debug)]
pub struct Address;

impl PartialSchema for Address {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).max_length(Some(200));
        ObjectBuilder::new()
            .description(Some(
                "The members of the address that the buyer gave. Only `country` and `region` are \
                 left when the buyer has deleted the account. Orders of earlier versions may have \
                 other members.",
            ))
            .additional_properties(Some(text))
            .examples([json!({
                "name": "Ada Lovelace", "line1": "12 Mint Street", "city": "Paris",
                "postal_code": "75001", "country": "FR",
            })])
            .into()
    }
}

impl ToSchema for Address {}

impl JsonSchema for Address {
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        json_schema!({
            "type": "object",
            "description": "The address of an order.",
            "additionalProperties": {"type": "string"},
        })
    }
}

/// An amount of money in major units, such as dollars, with the currency's decimals.
#[derive(Debug)]
pub struct Amount;

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        json_schema!({"type": "number", "minimum": 0})
    }
}

/// The value of a product's attribute.
#[derive(Debug)]
pub struct AttributeValue;

impl JsonSchema for AttributeValue {
    fn schema_name() -> Cow<'static, str> {
        "AttributeValue".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        json_schema!({"type": ["string", "number", "boolean"]})
    }
}
