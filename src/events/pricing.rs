//! The data of `pricing.*` events, which is also the response of the routes of rules.

use std::collections::BTreeSet;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{EventType, schema};
use crate::domain::{
    ids::{ProductId, RuleId},
    money::Money,
    pricing::{
        Effect, EffectFields, Percentage, Promotion, Rule, RuleKind, RuleRecord, Selection,
        ShippingMethod, TaxRate,
    },
};

/// What a promotion gives, on what, and when.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "Promotion")]
#[schema(as = PromotionResponse)]
pub struct PromotionData<'a> {
    #[schemars(with = "Uuid")]
    #[schema(value_type = Uuid)]
    id: RuleId,
    #[schema(examples("Ten per cent off"))]
    name: &'a str,
    /// The code that it takes. With `null`, it applies by itself.
    #[schema(required = true, examples("TEN"))]
    code: Option<&'a str>,
    effect: EffectData,
    /// The products that it is on. `null` is all of them.
    #[schema(required = true)]
    applies_to: Option<SelectionData<'a>>,
    /// The least subtotal.
    #[schemars(with = "Option<schema::Amount>")]
    #[schema(value_type = Option<f64>, required = true, example = 20)]
    min_subtotal: Option<Money>,
    /// When it begins.
    #[schemars(with = "Option<String>")]
    #[schema(format = DateTime, required = true)]
    starts_at: Option<String>,
    /// When it ends. That moment is not part of it.
    #[schemars(with = "Option<String>")]
    #[schema(format = DateTime, required = true)]
    ends_at: Option<String>,
    /// The most orders that can have it.
    #[schema(required = true, minimum = 1, examples(100))]
    usage_limit: Option<u64>,
    /// The most orders of one buyer that can have it.
    #[schema(required = true, minimum = 1, examples(1))]
    per_customer_limit: Option<u32>,
    /// Whether it applies together with others that are combinable.
    #[schema(examples(false))]
    combinable: bool,
    /// Of two promotions, the one with the higher priority is applied first.
    #[schema(examples(0))]
    priority: i32,
    /// Whether it is in force at all.
    #[schema(examples(true))]
    active: bool,
    /// How many orders that are neither cancelled nor expired have it. Events are without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    #[schema(required = true, nullable = false, examples(7))]
    used: Option<u64>,
    /// The version. It counts changes from 1; an order that has it is no change.
    #[schemars(range(min = 1))]
    #[schema(examples(1))]
    version: u64,
    #[schemars(extend("format" = "date-time"))]
    #[schema(format = DateTime)]
    created_at: String,
    #[schemars(extend("format" = "date-time"))]
    #[schema(format = DateTime)]
    updated_at: String,
}

/// What a promotion gives, in one of four forms: `percent_off`; `amount_off`; `free_shipping`; or
/// `buy`, `get` and `percent_off`.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "PromotionEffect")]
#[schema(as = PromotionEffect)]
pub struct EffectData {
    /// A percentage, with at most two decimals.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "schema::Amount")]
    #[schema(value_type = f64, required = false, example = 12.5)]
    percent_off: Option<Box<RawValue>>,
    /// An amount, once per order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "schema::Amount")]
    #[schema(value_type = f64, required = false, example = 5)]
    amount_off: Option<Money>,
    /// What shipping costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    #[schema(nullable = false, examples(true))]
    free_shipping: Option<bool>,
    /// Of every `buy` and `get` units, `get` of the cheapest are reduced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    #[schema(nullable = false, minimum = 1, examples(2))]
    buy: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    #[schema(nullable = false, minimum = 1, examples(1))]
    get: Option<u32>,
}

/// The products that a promotion is on: those that one of the lists names.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "PromotionSelection")]
#[schema(as = PromotionSelection)]
pub struct SelectionData<'a> {
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<Uuid>")]
    #[schema(value_type = Vec<Uuid>, required = false)]
    product_ids: &'a BTreeSet<ProductId>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>")]
    #[schema(required = false, example = json!(["tea"]))]
    categories: &'a BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>")]
    #[schema(required = false, example = json!(["green"]))]
    tags: &'a BTreeSet<String>,
}

impl<'a> PromotionData<'a> {
    /// The data of a record that is a promotion which `used` orders have.
    #[must_use]
    pub fn of(record: &'a RuleRecord, used: u64) -> Option<Self> {
        match &record.rule {
            Rule::Promotion(promotion) => {
                Some(Self { used: Some(used), ..Self::new(record, promotion) })
            }
            Rule::ShippingMethod(_) | Rule::TaxRate(_) => None,
        }
    }

    /// The data of a promotion, with its record.
    #[must_use]
    pub fn new(record: &RuleRecord, promotion: &'a Promotion) -> Self {
        let Selection { product_ids, categories, tags } = &promotion.applies_to;
        let applies_to = SelectionData { product_ids, categories, tags };
        Self {
            id: record.id,
            name: &promotion.name,
            code: promotion.code.as_deref(),
            effect: promotion.effect.into(),
            applies_to: (!promotion.applies_to.is_everything()).then_some(applies_to),
            min_subtotal: promotion.min_subtotal,
            starts_at: promotion.starts_at.map(|at| at.to_string()),
            ends_at: promotion.ends_at.map(|at| at.to_string()),
            usage_limit: promotion.usage_limit,
            per_customer_limit: promotion.per_customer_limit,
            combinable: promotion.combinable,
            priority: promotion.priority,
            active: promotion.active,
            used: None,
            version: record.version,
            created_at: record.created_at.to_string(),
            updated_at: record.updated_at.to_string(),
        }
    }
}

impl From<Effect> for EffectData {
    fn from(effect: Effect) -> Self {
        let EffectFields { percent_off, amount_off, free_shipping, buy, get } = effect.into();
        // A percentage is written as a number, which JSON has.
        let number = |percent: Percentage| RawValue::from_string(percent.to_string()).ok();
        Self {
            percent_off: percent_off.and_then(number),
            amount_off,
            free_shipping: free_shipping.then_some(true),
            buy,
            get,
        }
    }
}

/// A way to ship orders, and what it costs.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "ShippingMethod")]
#[schema(as = ShippingMethodResponse)]
pub struct ShippingMethodData<'a> {
    #[schemars(with = "Uuid")]
    #[schema(value_type = Uuid)]
    id: RuleId,
    #[schema(examples("Parcel"))]
    name: &'a str,
    /// The countries that it serves, ISO 3166-1 alpha-2. `null` is all of them.
    #[schemars(with = "Option<Vec<String>>")]
    #[schema(value_type = Option<Vec<String>>, required = true, example = json!(["DE", "AT"]))]
    countries: Option<&'a BTreeSet<String>>,
    #[schemars(with = "schema::Amount")]
    #[schema(value_type = f64, example = 4.9)]
    price: Money,
    /// It costs nothing when the goods cost this much after discounts.
    #[schemars(with = "Option<schema::Amount>")]
    #[schema(value_type = Option<f64>, required = true, example = 50)]
    free_from: Option<Money>,
    /// What each kilogram costs besides.
    #[schemars(with = "Option<schema::Amount>")]
    #[schema(value_type = Option<f64>, required = true, example = 0.5)]
    per_kg: Option<Money>,
    /// Whether it can be used.
    #[schema(examples(true))]
    active: bool,
    /// The version. It counts changes from 1.
    #[schemars(range(min = 1))]
    #[schema(examples(1))]
    version: u64,
    #[schemars(extend("format" = "date-time"))]
    #[schema(format = DateTime)]
    created_at: String,
    #[schemars(extend("format" = "date-time"))]
    #[schema(format = DateTime)]
    updated_at: String,
}

/// A tax rate of a place, for a class of goods or for all.
#[derive(Debug, Serialize, JsonSchema, ToSchema)]
#[schemars(rename = "TaxRate")]
#[schema(as = TaxRateResponse)]
pub struct TaxRateData<'a> {
    #[schemars(with = "Uuid")]
    #[schema(value_type = Uuid)]
    id: RuleId,
    #[schema(examples("VAT"))]
    name: &'a str,
    /// The country, ISO 3166-1 alpha-2.
    #[schema(pattern = "^[A-Z]{2}$", examples("DE"))]
    country: &'a str,
    /// The region, the part of ISO 3166-2 after the dash. `null` is the whole country.
    #[schema(required = true, examples("NY"))]
    region: Option<&'a str>,
    /// The class of goods. `null` is all of them; `shipping` is what shipping costs.
    #[schema(required = true, examples("reduced"))]
    tax_class: Option<&'a str>,
    /// A decimal number from 0 to 1, without trailing zeros.
    #[schema(examples("0.19"))]
    rate: String,
    /// The version. It counts changes from 1.
    #[schemars(range(min = 1))]
    #[schema(examples(1))]
    version: u64,
    #[schemars(extend("format" = "date-time"))]
    #[schema(format = DateTime)]
    created_at: String,
    #[schemars(extend("format" = "date-time"))]
    #[schema(format = DateTime)]
    updated_at: String,
}

/// A rule that was deleted.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PricingRuleDeleted")]
pub struct RuleDeletedData {
    #[schemars(with = "Uuid")]
    id: RuleId,
    #[schemars(range(min = 1))]
    version: u64,
}

impl<'a> ShippingMethodData<'a> {
    /// The data of a record that is a shipping method.
    #[must_use]
    pub fn of(record: &'a RuleRecord) -> Option<Self> {
        match &record.rule {
            Rule::ShippingMethod(method) => Some(Self::new(record, method)),
            Rule::Promotion(_) | Rule::TaxRate(_) => None,
        }
    }

    /// The data of a shipping method, with its record.
    #[must_use]
    pub fn new(record: &RuleRecord, method: &'a ShippingMethod) -> Self {
        Self {
            id: record.id,
            name: &method.name,
            countries: method.countries.as_ref(),
            price: method.price,
            free_from: method.free_from,
            per_kg: method.per_kg,
            active: method.active,
            version: record.version,
            created_at: record.created_at.to_string(),
            updated_at: record.updated_at.to_string(),
        }
    }
}

impl<'a> TaxRateData<'a> {
    /// The data of a record that is a tax rate.
    #[must_use]
    pub fn of(record: &'a RuleRecord) -> Option<Self> {
        match &record.rule {
            Rule::TaxRate(rate) => Some(Self::new(record, rate)),
            Rule::Promotion(_) | Rule::ShippingMethod(_) => None,
        }
    }

    /// The data of a tax rate, with its record.
    #[must_use]
    pub fn new(record: &RuleRecord, rate: &'a TaxRate) -> Self {
        Self {
            id: record.id,
            name: &rate.name,
            country: &rate.country,
            region: rate.region.as_deref(),
            tax_class: rate.tax_class.as_deref(),
            rate: rate.rate.to_string(),
            version: record.version,
            created_at: record.created_at.to_string(),
            updated_at: record.updated_at.to_string(),
        }
    }
}

impl From<&RuleRecord> for RuleDeletedData {
    fn from(record: &RuleRecord) -> Self {
        Self { id: record.id, version: record.version }
    }
}

/// Serializes a rule for responses. A promotion has `used` orders.
#[must_use]
pub fn rule_json(record: &RuleRecord, used: u64) -> Bytes {
    // Plain structs with string keys: serializing them cannot fail.
    let encoded = match &record.rule {
        Rule::Promotion(promotion) => serde_json::to_vec(&PromotionData {
            used: Some(used),
            ..PromotionData::new(record, promotion)
        }),
        Rule::ShippingMethod(method) => {
            serde_json::to_vec(&ShippingMethodData::new(record, method))
        }
        Rule::TaxRate(rate) => serde_json::to_vec(&TaxRateData::new(record, rate)),
    };
    encoded.unwrap_or_default().into()
}

pub(super) fn event_type(record: &RuleRecord) -> EventType {
    match (record.rule.kind(), record.deleted, record.version) {
        (RuleKind::Promotion, true, _) => EventType::PromotionDeleted,
        (RuleKind::Promotion, false, 1) => EventType::PromotionCreated,
        (RuleKind::Promotion, false, _) => EventType::PromotionUpdated,
        (RuleKind::ShippingMethod, true, _) => EventType::ShippingMethodDeleted,
        (RuleKind::ShippingMethod, false, 1) => EventType::ShippingMethodCreated,
        (RuleKind::ShippingMethod, false, _) => EventType::ShippingMethodUpdated,
        (RuleKind::TaxRate, true, _) => EventType::TaxRateDeleted,
        (RuleKind::TaxRate, false, 1) => EventType::TaxRateCreated,
        (RuleKind::TaxRate, false, _) => EventType::TaxRateUpdated,
    }
}
