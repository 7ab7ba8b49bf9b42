//! What a cart or an order comes to besides its lines, in events and in responses.

use schemars::JsonSchema;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::schema;
use crate::domain::{
    ids::{PromotionId, ShippingMethodId},
    money::Money,
    pricing::{CodeOutcome, Destination, Discount, Shipping, Tax},
};

/// What a promotion takes off.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "Discount")]
#[schema(as = Discount)]
pub struct DiscountData<'a> {
    #[schemars(with = "Uuid")]
    #[schema(value_type = Uuid)]
    promotion_id: PromotionId,
    #[schema(examples("Ten per cent off"))]
    name: &'a str,
    /// The code that the buyer gave. A promotion that applies by itself has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    #[schema(nullable = false, examples("TEN"))]
    code: Option<&'a str>,
    #[schemars(with = "schema::Amount")]
    #[schema(value_type = f64, example = 6)]
    amount: Money,
}

/// A code of a promotion that the buyer gave.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "Code")]
#[schema(as = Code)]
pub struct CodeData<'a> {
    #[schema(examples("TEN"))]
    code: &'a str,
    /// Whether it takes something off.
    #[schema(examples(true))]
    applied: bool,
    /// Why it takes nothing off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "schema::CodeReason")]
    #[schema(value_type = schema::CodeReason, required = false)]
    reason: Option<&'static str>,
}

/// Where the goods go, as far as shipping and tax depend on it.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "Destination")]
#[schema(as = Destination)]
pub struct DestinationData<'a> {
    /// The country, ISO 3166-1 alpha-2.
    #[schema(examples("DE"))]
    country: &'a str,
    /// The region, the part of ISO 3166-2 after the dash.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    #[schema(nullable = false, examples("BE"))]
    region: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    #[schema(nullable = false, examples("10115"))]
    postal_code: Option<&'a str>,
}

/// How the goods are shipped, and what it costs.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "Shipping")]
#[schema(as = Shipping)]
pub struct ShippingData<'a> {
    #[schemars(with = "Uuid")]
    #[schema(value_type = Uuid)]
    method_id: ShippingMethodId,
    #[schema(examples("Parcel"))]
    name: &'a str,
    /// What it costs. A promotion that takes it off is one of `discounts`.
    #[schemars(with = "schema::Amount")]
    #[schema(value_type = f64, example = 4.9)]
    amount: Money,
    /// The tax on it, if a rate applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "schema::Amount")]
    #[schema(value_type = f64, required = false, example = 0.78)]
    tax: Option<Money>,
}

/// A tax on goods and shipping together.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "Tax")]
#[schema(as = Tax)]
pub struct TaxData<'a> {
    #[schema(examples("VAT"))]
    name: &'a str,
    /// A decimal number from 0 to 1, without trailing zeros.
    #[schema(examples("0.19"))]
    rate: String,
    /// The sum of the amounts of all lines and of shipping, each rounded.
    #[schemars(with = "schema::Amount")]
    #[schema(value_type = f64, example = 9.57)]
    amount: Money,
    /// Whether prices include it. Otherwise it is added to the total.
    #[schema(examples(true))]
    included: bool,
}

impl<'a> From<&'a Discount> for DiscountData<'a> {
    fn from(discount: &'a Discount) -> Self {
        Self {
            promotion_id: discount.promotion_id,
            name: &discount.name,
            code: discount.code.as_deref(),
            amount: discount.amount,
        }
    }
}

impl<'a> From<&'a CodeOutcome> for CodeData<'a> {
    fn from(outcome: &'a CodeOutcome) -> Self {
        let reason = outcome.refusal.map(|refusal| refusal.as_str());
        Self { code: &outcome.code, applied: reason.is_none(), reason }
    }
}

impl<'a> From<&'a Destination> for DestinationData<'a> {
    fn from(destination: &'a Destination) -> Self {
        Self {
            country: &destination.country,
            region: destination.region.as_deref(),
            postal_code: destination.postal_code.as_deref(),
        }
    }
}

impl DestinationData<'_> {
    /// The destination without what can tell who lives there.
    #[must_use]
    pub fn without_postal_code(self) -> Self {
        Self { postal_code: None, ..self }
    }
}

impl<'a> From<&'a Shipping> for ShippingData<'a> {
    fn from(shipping: &'a Shipping) -> Self {
        Self {
            method_id: shipping.method_id,
            name: &shipping.name,
            amount: shipping.amount,
            tax: shipping.tax,
        }
    }
}

impl<'a> From<&'a Tax> for TaxData<'a> {
    fn from(tax: &'a Tax) -> Self {
        Self {
            name: &tax.name,
            rate: tax.rate.to_string(),
            amount: tax.amount,
            included: tax.included,
        }
    }
}
