//! How pricing rules are stored: their contents as JSON, the same for every engine. Amounts are
//! minor units of the shop's currency.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::domain::{
    clock::Timestamp,
    ids::{ProductId, RuleId},
    money::{Currency, Money},
    pricing::{
        Effect, Percentage, Promotion, Rate, Rule, RuleKind, Selection, ShippingMethod, TaxRate,
    },
};

/// A stored rule cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a stored rule is not valid: {0}")]
pub(super) struct InvalidRule(String);

#[derive(Serialize, Deserialize)]
struct StoredPromotion {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    effect: StoredEffect,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    product_ids: BTreeSet<ProductId>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    categories: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    tags: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_subtotal: Option<i64>,
    /// In milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    starts_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usage_limit: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    per_customer_limit: Option<u32>,
    combinable: bool,
    priority: i32,
    active: bool,
}

/// Percentages are in hundredths of one per cent.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredEffect {
    PercentOff(u16),
    AmountOff(i64),
    FreeShipping,
    BuyGet { buy: u32, get: u32, percent_off: u16 },
}

impl From<Effect> for StoredEffect {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::PercentOff(percent) => Self::PercentOff(percent.hundredths()),
            Effect::AmountOff(amount) => Self::AmountOff(amount.minor_units()),
            Effect::FreeShipping => Self::FreeShipping,
            Effect::BuyGet { buy, get, percent_off } => {
                Self::BuyGet { buy, get, percent_off: percent_off.hundredths() }
            }
        }
    }
}

impl StoredEffect {
    fn into_effect(self, currency: Currency) -> Result<Effect, InvalidRule> {
        let percent = |hundredths| {
            let percent = Percentage::from_hundredths(hundredths);
            percent.ok_or_else(|| InvalidRule(format!("percentage {hundredths}")))
        };
        Ok(match self {
            Self::PercentOff(hundredths) => Effect::PercentOff(percent(hundredths)?),
            Self::AmountOff(minor) => Effect::AmountOff(read_money(minor, currency)?),
            Self::FreeShipping => Effect::FreeShipping,
            Self::BuyGet { buy, get, percent_off } => {
                Effect::BuyGet { buy, get, percent_off: percent(percent_off)? }
            }
        })
    }
}

impl From<&Promotion> for StoredPromotion {
    fn from(promotion: &Promotion) -> Self {
        let Selection { product_ids, categories, tags } = promotion.applies_to.clone();
        Self {
            name: promotion.name.clone(),
            code: promotion.code.clone(),
            effect: promotion.effect.into(),
            product_ids,
            categories,
            tags,
            min_subtotal: promotion.min_subtotal.map(Money::minor_units),
            starts_at: promotion.starts_at.map(Timestamp::as_millis),
            ends_at: promotion.ends_at.map(Timestamp::as_millis),
            usage_limit: promotion.usage_limit,
            per_customer_limit: promotion.per_customer_limit,
            combinable: promotion.combinable,
            priority: promotion.priority,
            active: promotion.active,
        }
    }
}

impl StoredPromotion {
    fn into_promotion(self, id: RuleId, currency: Currency) -> Result<Promotion, InvalidRule> {
        let Self { product_ids, categories, tags, .. } = self;
        Ok(Promotion {
            id: id.as_uuid().into(),
            name: self.name,
            code: self.code,
            effect: self.effect.into_effect(currency)?,
            applies_to: Selection { product_ids, categories, tags },
            min_subtotal: self.min_subtotal.map(|it| read_money(it, currency)).transpose()?,
            starts_at: self.starts_at.map(Timestamp::from_millis),
            ends_at: self.ends_at.map(Timestamp::from_millis),
            usage_limit: self.usage_limit,
            per_customer_limit: self.per_customer_limit,
            combinable: self.combinable,
            priority: self.priority,
            active: self.active,
            used: 0,
        })
    }
}

fn read_money(minor: i64, currency: Currency) -> Result<Money, InvalidRule> {
    Money::from_minor_units(minor, currency).map_err(|error| InvalidRule(error.to_string()))
}

#[derive(Serialize, Deserialize)]
struct StoredMethod {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    countries: Option<BTreeSet<String>>,
    price: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    free_from: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    per_kg: Option<i64>,
    active: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredRate {
    name: String,
    country: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tax_class: Option<String>,
    /// In millionths.
    rate: u32,
}

/// The contents of a rule as JSON.
pub(super) fn encode(rule: &Rule) -> String {
    let encoded = match rule {
        Rule::Promotion(promotion) => serde_json::to_string(&StoredPromotion::from(&**promotion)),
        Rule::ShippingMethod(method) => serde_json::to_string(&StoredMethod {
            name: method.name.clone(),
            countries: method.countries.clone(),
            price: method.price.minor_units(),
            free_from: method.free_from.map(Money::minor_units),
            per_kg: method.per_kg.map(Money::minor_units),
            active: method.active,
        }),
        Rule::TaxRate(rate) => serde_json::to_string(&StoredRate {
            name: rate.name.clone(),
            country: rate.country.clone(),
            region: rate.region.clone(),
            tax_class: rate.tax_class.clone(),
            rate: rate.rate.millionths(),
        }),
    };
    // Plain structs of texts and numbers can always be encoded.
    encoded.unwrap_or_default()
}

/// The rule with these contents.
///
/// # Errors
/// The contents are not those of a rule of this kind.
pub(super) fn decode(
    id: RuleId,
    kind: &str,
    contents: &str,
    currency: Currency,
) -> Result<Rule, InvalidRule> {
    let kind = kind.parse::<RuleKind>().map_err(|_| InvalidRule(format!("kind {kind:?}")))?;
    let invalid = |error: serde_json::Error| InvalidRule(error.to_string());
    let money = |minor| read_money(minor, currency);
    match kind {
        RuleKind::Promotion => {
            let stored: StoredPromotion = serde_json::from_str(contents).map_err(invalid)?;
            Ok(Rule::Promotion(Box::new(stored.into_promotion(id, currency)?)))
        }
        RuleKind::ShippingMethod => {
            let stored: StoredMethod = serde_json::from_str(contents).map_err(invalid)?;
            Ok(Rule::ShippingMethod(ShippingMethod {
                id: id.as_uuid().into(),
                name: stored.name,
                countries: stored.countries,
                price: money(stored.price)?,
                free_from: stored.free_from.map(money).transpose()?,
                per_kg: stored.per_kg.map(money).transpose()?,
                active: stored.active,
            }))
        }
        RuleKind::TaxRate => {
            let stored: StoredRate = serde_json::from_str(contents).map_err(invalid)?;
            let rate = Rate::from_millionths(stored.rate);
            Ok(Rule::TaxRate(TaxRate {
                id: id.as_uuid().into(),
                name: stored.name,
                country: stored.country,
                region: stored.region,
                tax_class: stored.tax_class,
                rate: rate.ok_or_else(|| InvalidRule(format!("rate {}", stored.rate)))?,
            }))
        }
    }
}
