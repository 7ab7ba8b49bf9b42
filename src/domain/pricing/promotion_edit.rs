//! What staff can write into promotions.

use std::collections::BTreeSet;

use super::{Effect, Percentage, Promotion, Selection};
use crate::domain::{
    clock::Timestamp,
    ids::ProductId,
    money::{MAX_PRICE_MINOR_UNITS, Money},
    validation::ValidationErrors,
};

/// The most characters in a code.
pub const MAX_CODE_LEN: usize = 64;

/// What a promotion gives, member by member. Exactly one form has all of its members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EffectFields {
    /// See [`Effect::PercentOff`] and [`Effect::BuyGet`].
    pub percent_off: Option<Percentage>,
    /// See [`Effect::AmountOff`].
    pub amount_off: Option<Money>,
    /// See [`Effect::FreeShipping`].
    pub free_shipping: bool,
    /// See [`Effect::BuyGet`].
    pub buy: Option<u32>,
    /// See [`Effect::BuyGet`].
    pub get: Option<u32>,
}

impl EffectFields {
    /// The effect that these members are. `None` if they are none, or more than one.
    #[must_use]
    pub const fn effect(self) -> Option<Effect> {
        let Self { percent_off, amount_off, free_shipping, buy, get } = self;
        match (percent_off, amount_off, free_shipping, buy, get) {
            (Some(percent), None, false, None, None) => Some(Effect::PercentOff(percent)),
            (None, Some(amount), false, None, None) => Some(Effect::AmountOff(amount)),
            (None, None, true, None, None) => Some(Effect::FreeShipping),
            (Some(percent_off), None, false, Some(buy), Some(get)) => {
                Some(Effect::BuyGet { buy, get, percent_off })
            }
            _ => None,
        }
    }
}

impl From<Effect> for EffectFields {
    fn from(effect: Effect) -> Self {
        let none = Self::default();
        match effect {
            Effect::PercentOff(percent) => Self { percent_off: Some(percent), ..none },
            Effect::AmountOff(amount) => Self { amount_off: Some(amount), ..none },
            Effect::FreeShipping => Self { free_shipping: true, ..none },
            Effect::BuyGet { buy, get, percent_off } => {
                Self { percent_off: Some(percent_off), buy: Some(buy), get: Some(get), ..none }
            }
        }
    }
}

/// A merge patch (RFC 7396) of what a promotion gives. `None` is a member that the patch omits,
/// `Some(None)` one that it sets to null.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EffectPatch {
    /// See [`EffectFields::percent_off`].
    pub percent_off: Option<Option<Percentage>>,
    /// See [`EffectFields::amount_off`].
    pub amount_off: Option<Option<Money>>,
    /// See [`EffectFields::free_shipping`].
    pub free_shipping: Option<bool>,
    /// See [`EffectFields::buy`].
    pub buy: Option<Option<u32>>,
    /// See [`EffectFields::get`].
    pub get: Option<Option<u32>>,
}

impl EffectPatch {
    /// The effect after the patch. A patch that is a whole effect of another form replaces it.
    #[must_use]
    pub fn apply(self, effect: Effect) -> Option<Effect> {
        self.apply_to(effect.into())
            .effect()
            .or_else(|| self.apply_to(EffectFields::default()).effect())
    }

    /// The members after the patch.
    #[must_use]
    pub fn apply_to(self, fields: EffectFields) -> EffectFields {
        EffectFields {
            percent_off: self.percent_off.unwrap_or(fields.percent_off),
            amount_off: self.amount_off.unwrap_or(fields.amount_off),
            free_shipping: self.free_shipping.unwrap_or(fields.free_shipping),
            buy: self.buy.unwrap_or(fields.buy),
            get: self.get.unwrap_or(fields.get),
        }
    }
}

/// A merge patch of the products that a promotion is on, as [`EffectPatch`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelectionPatch {
    /// See [`Selection::product_ids`].
    pub product_ids: Option<Option<BTreeSet<ProductId>>>,
    /// See [`Selection::categories`].
    pub categories: Option<Option<BTreeSet<String>>>,
    /// See [`Selection::tags`].
    pub tags: Option<Option<BTreeSet<String>>>,
}

impl SelectionPatch {
    /// The products after the patch.
    #[must_use]
    pub fn apply(self, selection: Selection) -> Selection {
        let Selection { product_ids, categories, tags } = selection;
        Selection {
            product_ids: self.product_ids.map_or(product_ids, Option::unwrap_or_default),
            categories: self.categories.map_or(categories, Option::unwrap_or_default),
            tags: self.tags.map_or(tags, Option::unwrap_or_default),
        }
    }
}

/// A merge patch of a promotion, as [`EffectPatch`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PromotionPatch {
    /// See [`Promotion::name`].
    pub name: Option<Option<String>>,
    /// See [`Promotion::code`].
    pub code: Option<Option<String>>,
    /// See [`Promotion::effect`].
    pub effect: Option<Option<EffectPatch>>,
    /// See [`Promotion::applies_to`].
    pub applies_to: Option<Option<SelectionPatch>>,
    /// See [`Promotion::min_subtotal`].
    pub min_subtotal: Option<Option<Money>>,
    /// See [`Promotion::starts_at`].
    pub starts_at: Option<Option<Timestamp>>,
    /// See [`Promotion::ends_at`].
    pub ends_at: Option<Option<Timestamp>>,
    /// See [`Promotion::usage_limit`].
    pub usage_limit: Option<Option<u64>>,
    /// See [`Promotion::per_customer_limit`].
    pub per_customer_limit: Option<Option<u32>>,
    /// See [`Promotion::combinable`]. Null is the default, which is false.
    pub combinable: Option<Option<bool>>,
    /// See [`Promotion::priority`]. Null is the default, which is 0.
    pub priority: Option<Option<i32>>,
    /// See [`Promotion::active`]. Null is the default, which is true.
    pub active: Option<Option<bool>>,
}

impl Promotion {
    pub(super) fn patched(&self, patch: PromotionPatch) -> Result<Self, ValidationErrors> {
        let mut errors = ValidationErrors::new();
        let mut promotion = self.clone();
        match patch.name {
            None => {}
            Some(Some(name)) => promotion.name = name,
            Some(None) => errors.add("name", "required", "name cannot be null"),
        }
        match patch.effect {
            None => {}
            Some(None) => errors.add("effect", "required", "effect cannot be null"),
            Some(Some(patch)) => match patch.apply(self.effect) {
                Some(effect) => promotion.effect = effect,
                None => add_effect_error(&mut errors),
            },
        }
        promotion.applies_to = match patch.applies_to {
            None => promotion.applies_to,
            Some(None) => Selection::default(),
            Some(Some(patch)) => patch.apply(promotion.applies_to),
        };
        promotion.code = patch.code.unwrap_or(promotion.code);
        promotion.min_subtotal = patch.min_subtotal.unwrap_or(promotion.min_subtotal);
        promotion.starts_at = patch.starts_at.unwrap_or(promotion.starts_at);
        promotion.ends_at = patch.ends_at.unwrap_or(promotion.ends_at);
        promotion.usage_limit = patch.usage_limit.unwrap_or(promotion.usage_limit);
        promotion.per_customer_limit =
            patch.per_customer_limit.unwrap_or(promotion.per_customer_limit);
        let or = |change: Option<Option<bool>>, held, default: bool| {
            change.map_or(held, |given| given.unwrap_or(default))
        };
        promotion.combinable = or(patch.combinable, promotion.combinable, false);
        promotion.active = or(patch.active, promotion.active, true);
        promotion.priority = patch.priority.map_or(promotion.priority, Option::unwrap_or_default);
        errors.into_result(promotion)
    }

    pub(super) fn check(&self, errors: &mut ValidationErrors) {
        errors.check_text("name", &self.name, 1, 200);
        if let Some(code) = &self.code {
            let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if !(1..=MAX_CODE_LEN).contains(&code.len()) || !code.bytes().all(is_allowed) {
                let message = "code must be 1 to 64 letters, digits, dots, dashes or underscores";
                errors.add("code", "invalid", message);
            }
        }
        let amount_off = match self.effect {
            Effect::AmountOff(amount) => Some(amount),
            _ => None,
        };
        if amount_off.is_some_and(|amount| amount.minor_units() == 0) {
            errors.add("effect.amount_off", "out_of_range", "amount_off must be above 0");
        }
        if matches!(self.effect, Effect::BuyGet { buy: 0, .. } | Effect::BuyGet { get: 0, .. }) {
            errors.add("effect", "out_of_range", "buy and get must be at least 1");
        }
        for (field, amount) in
            [("effect.amount_off", amount_off), ("min_subtotal", self.min_subtotal)]
        {
            if amount.is_some_and(|amount| amount.minor_units() > MAX_PRICE_MINOR_UNITS) {
                errors.add(field, "out_of_range", format!("{field} is too large"));
            }
        }
        if let (Some(start), Some(end)) = (self.starts_at, self.ends_at)
            && end <= start
        {
            errors.add("ends_at", "out_of_range", "ends_at must be later than starts_at");
        }
        if self.usage_limit == Some(0) {
            errors.add("usage_limit", "out_of_range", "usage_limit must be at least 1");
        }
        if self.per_customer_limit == Some(0) {
            let message = "per_customer_limit must be at least 1";
            errors.add("per_customer_limit", "out_of_range", message);
        }
    }
}

/// Adds the error of an effect that has no form, or more than one.
pub fn add_effect_error(errors: &mut ValidationErrors) {
    let message = "effect must have exactly one form: percent_off; amount_off; free_shipping, \
        which is true; or buy, get and percent_off";
    errors.add("effect", "invalid", message);
}
