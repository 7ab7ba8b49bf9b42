//! The bodies that create and change promotions.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::{READ_ONLY_FIELDS, deserialize_present};
use crate::{
    domain::{
        catalog::trim::trim,
        clock::Timestamp,
        ids::{ProductId, RuleId},
        money::{Currency, Money},
        pricing::{
            Effect, EffectFields, EffectPatch, Percentage, Promotion, PromotionPatch, Rule,
            Selection, SelectionPatch, add_effect_error,
        },
        validation::ValidationErrors,
    },
    error::Error,
    http::request::body::JsonRequest,
    input::json,
};

/// A promotion.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PromotionRequest {
    #[schema(min_length = 1, max_length = 200, examples("Ten per cent off"))]
    name: String,
    /// The code that it takes. Without one, it applies by itself.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$", examples("TEN"))]
    code: Option<String>,
    effect: EffectRequest,
    /// The products that it is on. Without it, all of them.
    applies_to: Option<SelectionRequest>,
    /// The least subtotal.
    #[schema(value_type = Option<f64>, minimum = 0, example = 20)]
    min_subtotal: Option<Box<RawValue>>,
    /// When it begins.
    #[schema(format = DateTime)]
    starts_at: Option<String>,
    /// When it ends. That moment is not part of it.
    #[schema(format = DateTime)]
    ends_at: Option<String>,
    /// The most orders that can have it.
    #[schema(minimum = 1, examples(100))]
    usage_limit: Option<u32>,
    /// The most orders of one buyer that can have it.
    #[schema(minimum = 1, examples(1))]
    per_customer_limit: Option<u32>,
    /// Whether it applies together with others that are combinable. The default is false.
    #[schema(examples(false))]
    combinable: Option<bool>,
    /// Of two promotions, the one with the higher priority is applied first. The default is 0.
    #[schema(examples(0))]
    priority: Option<i32>,
    /// Whether it is in force at all. The default is true.
    #[schema(examples(true))]
    active: Option<bool>,
}

/// A change of a promotion. What is absent stays as it is.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PatchPromotionRequest {
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 200,
        examples("Ten per cent off"))]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9._-]{1,64}$", examples("TEN"))]
    code: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<EffectRequest>)]
    effect: Option<Option<EffectRequest>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<SelectionRequest>)]
    applies_to: Option<Option<SelectionRequest>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<f64>, minimum = 0, example = 20)]
    min_subtotal: Option<Option<Box<RawValue>>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>, format = DateTime)]
    starts_at: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<String>, format = DateTime)]
    ends_at: Option<Option<String>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<u32>, minimum = 1, examples(100))]
    usage_limit: Option<Option<u32>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<u32>, minimum = 1, examples(1))]
    per_customer_limit: Option<Option<u32>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<bool>, examples(false))]
    combinable: Option<Option<bool>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<i32>, examples(0))]
    priority: Option<Option<i32>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<bool>, examples(true))]
    active: Option<Option<bool>>,
}

/// What a promotion gives, in exactly one of four forms: `percent_off`; `amount_off`;
/// `free_shipping`, which is true; or `buy`, `get` and `percent_off`.
#[derive(Deserialize, ToSchema)]
#[schema(as = PromotionEffectRequest)]
pub(crate) struct EffectRequest {
    /// A percentage above 0 and up to 100, with at most two decimals.
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<f64>, maximum = 100, example = 12.5)]
    percent_off: Option<Option<Box<RawValue>>>,
    /// An amount above 0, once per order.
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<f64>, example = 5)]
    amount_off: Option<Option<Box<RawValue>>>,
    /// What shipping costs.
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<bool>, examples(true))]
    free_shipping: Option<Option<bool>>,
    /// Of every `buy` and `get` units, `get` of the cheapest are reduced.
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<u32>, minimum = 1, examples(2))]
    buy: Option<Option<u32>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<u32>, minimum = 1, examples(1))]
    get: Option<Option<u32>>,
}

/// The products that a promotion is on: those that one of the lists names.
#[derive(Deserialize, ToSchema)]
#[schema(as = PromotionSelectionRequest)]
pub(crate) struct SelectionRequest {
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<Vec<Uuid>>, min_items = 1)]
    product_ids: Option<Option<BTreeSet<Uuid>>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<Vec<String>>, min_items = 1, example = json!(["tea"]))]
    categories: Option<Option<BTreeSet<String>>>,
    #[serde(default, deserialize_with = "deserialize_present")]
    #[schema(value_type = Option<Vec<String>>, min_items = 1, example = json!(["green"]))]
    tags: Option<Option<BTreeSet<String>>>,
}

impl JsonRequest for PromotionRequest {
    const IGNORED_FIELDS: &'static [&'static str] = READ_ONLY_FIELDS;
}

impl JsonRequest for PatchPromotionRequest {
    const MEDIA_TYPES: &'static [&'static str] =
        &["application/merge-patch+json", "application/json"];
    const IGNORED_FIELDS: &'static [&'static str] = READ_ONLY_FIELDS;
}

impl PromotionRequest {
    pub(super) fn parse(self, currency: Currency) -> Result<Rule, Error> {
        let mut errors = ValidationErrors::new();
        let effect = self.effect.parse(currency, &mut errors);
        let effect = effect.apply_to(EffectFields::default()).effect().unwrap_or_else(|| {
            if errors.is_empty() {
                add_effect_error(&mut errors);
            }
            Effect::FreeShipping
        });
        let applies_to = self.applies_to.map(|selection| selection.parse(&mut errors));
        let promotion = Promotion {
            id: RuleId::new().as_uuid().into(),
            name: trim(self.name),
            code: self.code,
            effect,
            applies_to: applies_to.unwrap_or_default().apply(Selection::default()),
            min_subtotal: self
                .min_subtotal
                .map(|text| json::parse_amount("min_subtotal", &text, currency, &mut errors)),
            starts_at: self.starts_at.and_then(|text| parse_time("starts_at", &text, &mut errors)),
            ends_at: self.ends_at.and_then(|text| parse_time("ends_at", &text, &mut errors)),
            usage_limit: self.usage_limit.map(u64::from),
            per_customer_limit: self.per_customer_limit,
            combinable: self.combinable.unwrap_or(false),
            priority: self.priority.unwrap_or(0),
            active: self.active.unwrap_or(true),
            used: 0,
        };
        errors.into_result(())?;
        Ok(Rule::Promotion(Box::new(promotion)).validated()?)
    }
}

impl PatchPromotionRequest {
    pub(super) fn parse(self, currency: Currency) -> Result<PromotionPatch, Error> {
        let mut errors = ValidationErrors::new();
        let mut time = |field, given: Option<Option<String>>| {
            given.map(|text| text.and_then(|text| parse_time(field, &text, &mut errors)))
        };
        let (starts_at, ends_at) =
            (time("starts_at", self.starts_at), time("ends_at", self.ends_at));
        let patch = PromotionPatch {
            name: self.name.map(|name| name.map(trim)),
            code: self.code,
            effect: self.effect.map(|it| it.map(|effect| effect.parse(currency, &mut errors))),
            applies_to: self.applies_to.map(|it| it.map(|on| on.parse(&mut errors))),
            min_subtotal: self.min_subtotal.map(|it| {
                it.map(|text| json::parse_amount("min_subtotal", &text, currency, &mut errors))
            }),
            starts_at,
            ends_at,
            usage_limit: self.usage_limit.map(|limit| limit.map(u64::from)),
            per_customer_limit: self.per_customer_limit,
            combinable: self.combinable,
            priority: self.priority,
            active: self.active,
        };
        Ok(errors.into_result(patch)?)
    }
}

impl EffectRequest {
    fn parse(self, currency: Currency, errors: &mut ValidationErrors) -> EffectPatch {
        let percent_off = self.percent_off.map(|it| it.and_then(|it| parse_percent(&it, errors)));
        let mut money = |text: Box<RawValue>| -> Money {
            json::parse_amount("effect.amount_off", &text, currency, errors)
        };
        let amount_off = self.amount_off.map(|given| given.map(&mut money));
        if self.free_shipping == Some(Some(false)) {
            let message = "free_shipping must be true, or absent";
            errors.add("effect.free_shipping", "invalid", message);
        }
        EffectPatch {
            percent_off,
            amount_off,
            free_shipping: self.free_shipping.map(|given| given.unwrap_or(false)),
            buy: self.buy,
            get: self.get,
        }
    }
}

impl SelectionRequest {
    fn parse(self, errors: &mut ValidationErrors) -> SelectionPatch {
        let lengths = [
            ("product_ids", self.product_ids.as_ref().map(|it| it.as_ref().map(BTreeSet::len))),
            ("categories", self.categories.as_ref().map(|it| it.as_ref().map(BTreeSet::len))),
            ("tags", self.tags.as_ref().map(|it| it.as_ref().map(BTreeSet::len))),
        ];
        for (list, length) in lengths {
            if length == Some(Some(0)) {
                let message = format!("{list} must not be empty; leave it out");
                errors.add(format!("applies_to.{list}"), "required", message);
            }
        }
        let ids = |ids: BTreeSet<Uuid>| ids.into_iter().map(ProductId::from).collect();
        SelectionPatch {
            product_ids: self.product_ids.map(|given| given.map(ids)),
            categories: self.categories,
            tags: self.tags,
        }
    }
}

fn parse_percent(text: &RawValue, errors: &mut ValidationErrors) -> Option<Percentage> {
    let percent = Percentage::parse(text.get()).ok();
    if percent.is_none() {
        let message = "percent_off must be a number above 0 and up to 100, with at most two \
            decimals";
        errors.add("effect.percent_off", "out_of_range", message);
    }
    percent
}

fn parse_time(field: &str, text: &str, errors: &mut ValidationErrors) -> Option<Timestamp> {
    let time = Timestamp::parse(text);
    if time.is_none() {
        errors.add(field, "invalid", format!("{field} must be an RFC 3339 time"));
    }
    time
}
