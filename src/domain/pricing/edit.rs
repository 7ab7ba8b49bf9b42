//! What staff can write into rules.

use std::collections::BTreeSet;

use super::{Promotion, PromotionPatch, Rate, Rule, ShippingMethod, TaxRate};
use crate::domain::{
    account::is_country_code,
    ids::RuleId,
    money::{MAX_PRICE_MINOR_UNITS, Money},
    validation::ValidationErrors,
};

/// A change of a rule.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleEdit {
    /// All of it.
    Replace(Rule),
    /// Some members of a promotion.
    PatchPromotion(Box<PromotionPatch>),
    /// Some members of a shipping method.
    PatchShippingMethod(ShippingMethodPatch),
    /// Some members of a tax rate.
    PatchTaxRate(TaxRatePatch),
}

/// A merge patch (RFC 7396) of a shipping method. `None` is a member that the patch omits,
/// `Some(None)` one that it sets to null.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShippingMethodPatch {
    /// See [`ShippingMethod::name`].
    pub name: Option<Option<String>>,
    /// See [`ShippingMethod::countries`].
    pub countries: Option<Option<BTreeSet<String>>>,
    /// See [`ShippingMethod::price`].
    pub price: Option<Option<Money>>,
    /// See [`ShippingMethod::free_from`].
    pub free_from: Option<Option<Money>>,
    /// See [`ShippingMethod::per_kg`].
    pub per_kg: Option<Option<Money>>,
    /// See [`ShippingMethod::active`]. Null is the default, which is true.
    pub active: Option<Option<bool>>,
}

/// A merge patch (RFC 7396) of a tax rate. `None` is a member that the patch omits, `Some(None)`
/// one that it sets to null.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaxRatePatch {
    /// See [`TaxRate::name`].
    pub name: Option<Option<String>>,
    /// See [`TaxRate::country`].
    pub country: Option<Option<String>>,
    /// See [`TaxRate::region`].
    pub region: Option<Option<String>>,
    /// See [`TaxRate::tax_class`].
    pub tax_class: Option<Option<String>>,
    /// See [`TaxRate::rate`].
    pub rate: Option<Option<Rate>>,
}

impl Rule {
    /// The rule with this id.
    #[must_use]
    pub fn with_id(self, id: RuleId) -> Self {
        match self {
            Self::Promotion(promotion) => {
                Self::Promotion(Box::new(Promotion { id: id.as_uuid().into(), ..*promotion }))
            }
            Self::ShippingMethod(method) => {
                Self::ShippingMethod(ShippingMethod { id: id.as_uuid().into(), ..method })
            }
            Self::TaxRate(rate) => Self::TaxRate(TaxRate { id: id.as_uuid().into(), ..rate }),
        }
    }

    /// The rule after `edit`, which keeps its id. An edit of another kind changes nothing.
    ///
    /// # Errors
    /// The edit removes a required member, or a member is not valid.
    pub fn edited(&self, edit: RuleEdit, id: RuleId) -> Result<Self, ValidationErrors> {
        let edited = match (self, edit) {
            (_, RuleEdit::Replace(rule)) => rule.with_id(id),
            (Self::Promotion(promotion), RuleEdit::PatchPromotion(patch)) => {
                Self::Promotion(Box::new(promotion.patched(*patch)?))
            }
            (Self::ShippingMethod(method), RuleEdit::PatchShippingMethod(patch)) => {
                Self::ShippingMethod(method.patched(patch)?)
            }
            (Self::TaxRate(rate), RuleEdit::PatchTaxRate(patch)) => {
                Self::TaxRate(rate.patched(patch)?)
            }
            (unchanged, _) => unchanged.clone(),
        };
        edited.validated()
    }

    /// The rule, with codes in upper case.
    ///
    /// # Errors
    /// All members that are not valid.
    pub fn validated(self) -> Result<Self, ValidationErrors> {
        let mut errors = ValidationErrors::new();
        let rule = match self {
            Self::Promotion(promotion) => {
                promotion.check(&mut errors);
                Self::Promotion(promotion)
            }
            Self::ShippingMethod(method) => Self::ShippingMethod(method.checked(&mut errors)),
            Self::TaxRate(rate) => Self::TaxRate(rate.checked(&mut errors)),
        };
        errors.into_result(rule)
    }
}

impl ShippingMethod {
    fn patched(&self, patch: ShippingMethodPatch) -> Result<Self, ValidationErrors> {
        let mut errors = ValidationErrors::new();
        let mut method = self.clone();
        set_required(&mut errors, "name", patch.name, &mut method.name);
        set_required(&mut errors, "price", patch.price, &mut method.price);
        method.countries = patch.countries.unwrap_or(method.countries);
        method.free_from = patch.free_from.unwrap_or(method.free_from);
        method.per_kg = patch.per_kg.unwrap_or(method.per_kg);
        method.active = patch.active.map_or(method.active, |active| active.unwrap_or(true));
        errors.into_result(method)
    }

    fn checked(mut self, errors: &mut ValidationErrors) -> Self {
        errors.check_text("name", &self.name, 1, 200);
        if let Some(countries) = self.countries {
            if countries.is_empty() {
                let message = "countries must not be empty; leave it out for all of them";
                errors.add("countries", "required", message);
            }
            let checked = |country: String| checked_country("countries", country, errors);
            self.countries = Some(countries.into_iter().map(checked).collect());
        }
        let prices =
            [("price", Some(self.price)), ("free_from", self.free_from), ("per_kg", self.per_kg)];
        for (field, price) in prices {
            if price.is_some_and(|price| price.minor_units() > MAX_PRICE_MINOR_UNITS) {
                errors.add(field, "out_of_range", format!("{field} is too large"));
            }
        }
        self
    }
}

impl TaxRate {
    fn patched(&self, patch: TaxRatePatch) -> Result<Self, ValidationErrors> {
        let mut errors = ValidationErrors::new();
        let mut rate = self.clone();
        set_required(&mut errors, "name", patch.name, &mut rate.name);
        set_required(&mut errors, "country", patch.country, &mut rate.country);
        set_required(&mut errors, "rate", patch.rate, &mut rate.rate);
        rate.region = patch.region.unwrap_or(rate.region);
        rate.tax_class = patch.tax_class.unwrap_or(rate.tax_class);
        errors.into_result(rate)
    }

    fn checked(mut self, errors: &mut ValidationErrors) -> Self {
        errors.check_text("name", &self.name, 1, 200);
        self.country = checked_country("country", self.country, errors);
        self.region = self.region.map(|region| checked_region(region, errors));
        if let Some(class) = &self.tax_class {
            errors.check_text("tax_class", class, 1, 64);
        }
        self
    }
}

fn set_required<T>(
    errors: &mut ValidationErrors,
    field: &str,
    change: Option<Option<T>>,
    target: &mut T,
) {
    match change {
        None => {}
        Some(Some(value)) => *target = value,
        Some(None) => errors.add(field, "required", format!("{field} cannot be null")),
    }
}

/// A country code in upper case. Records an error in `errors` if ISO 3166-1 does not have it.
pub fn checked_country(field: &str, country: String, errors: &mut ValidationErrors) -> String {
    let country = country.to_ascii_uppercase();
    if !is_country_code(&country) {
        errors.add(field, "unknown", format!("{field} must be a code of ISO 3166-1, such as DE"));
    }
    country
}

/// A region in upper case. Records an error in `errors` if it cannot be one of ISO 3166-2.
pub fn checked_region(region: String, errors: &mut ValidationErrors) -> String {
    if !is_region_code(&region) {
        let message = "region must be 1 to 3 letters or digits, such as NY";
        errors.add("region", "invalid", message);
    }
    region.to_ascii_uppercase()
}

/// Whether a text has the form of the part of ISO 3166-2 after the dash.
pub(super) fn is_region_code(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
