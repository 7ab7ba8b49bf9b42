//! The rules that a shop sets up: promotions, shipping methods and tax rates.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    Rule, RuleRecord,
    edit::is_region_code,
    fraction::{Percentage, Rate},
    selection_index::SelectionIndex,
};
use crate::domain::{
    clock::Timestamp,
    ids::{ProductId, PromotionId, ShippingMethodId, TaxRateId},
    money::Money,
};

/// The tax class whose rates are for shipping.
pub const SHIPPING_TAX_CLASS: &str = "shipping";

/// A promotion: what it gives, on what, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// The promotion's identifier.
    pub id: PromotionId,
    /// The name that buyers see.
    pub name: String,
    /// The code that it takes, as staff wrote it. Without one it applies by itself.
    pub code: Option<String>,
    /// What it gives.
    pub effect: Effect,
    /// The products that it is on.
    pub applies_to: Selection,
    /// The least subtotal.
    pub min_subtotal: Option<Money>,
    /// When it begins. That moment is part of it.
    pub starts_at: Option<Timestamp>,
    /// When it ends. That moment is not part of it.
    pub ends_at: Option<Timestamp>,
    /// The most orders that can have it.
    pub usage_limit: Option<u64>,
    /// The most orders of one buyer that can have it.
    pub per_customer_limit: Option<u32>,
    /// Whether it applies together with others that are combinable.
    pub combinable: bool,
    /// Of two promotions, the one with the higher priority is applied first.
    pub priority: i32,
    /// Whether it is in force at all.
    pub active: bool,
    /// The number of orders that have it.
    pub used: u64,
}

impl Promotion {
    /// Sorts promotions as they are applied: the higher priority goes first.
    pub(super) const fn application_order(&self) -> (Reverse<i32>, PromotionId) {
        (Reverse(self.priority), self.id)
    }
}

/// What a promotion gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A part of what the lines cost.
    PercentOff(Percentage),
    /// An amount, once per order.
    AmountOff(Money),
    /// What shipping costs.
    FreeShipping,
    /// Of every `buy + get` units, `get` of the cheapest are reduced.
    BuyGet {
        /// The units that are paid in full, at least 1.
        buy: u32,
        /// The units that are reduced, at least 1.
        get: u32,
        /// By how much they are reduced.
        percent_off: Percentage,
    },
}

/// The products that a promotion is on: those that one of the sets names. Without any, all are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Products by id.
    pub product_ids: BTreeSet<ProductId>,
    /// Products by category.
    pub categories: BTreeSet<String>,
    /// Products by tag.
    pub tags: BTreeSet<String>,
}

impl Selection {
    /// Whether it names nothing, so that it is every product.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.product_ids.is_empty() && self.categories.is_empty() && self.tags.is_empty()
    }
}

/// A way to ship an order, and what it costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShippingMethod {
    /// The method's identifier.
    pub id: ShippingMethodId,
    /// The name that buyers see.
    pub name: String,
    /// The countries that it serves, ISO 3166-1 alpha-2. `None` is all of them.
    pub countries: Option<BTreeSet<String>>,
    /// The price for each order.
    pub price: Money,
    /// It costs nothing when the goods cost this much after discounts.
    pub free_from: Option<Money>,
    /// The price for each kilogram.
    pub per_kg: Option<Money>,
    /// Whether it can be used.
    pub active: bool,
}

impl ShippingMethod {
    /// Whether it is active and serves this country.
    #[must_use]
    pub fn serves(&self, country: &str) -> bool {
        self.active && self.countries.as_ref().is_none_or(|served| served.contains(country))
    }
}

/// A tax rate of a place, for a class of goods or for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaxRate {
    /// The rate's identifier.
    pub id: TaxRateId,
    /// The name that buyers see.
    pub name: String,
    /// The country, ISO 3166-1 alpha-2.
    pub country: String,
    /// The region, the part of ISO 3166-2 after the dash. `None` is the whole country.
    pub region: Option<String>,
    /// The class of the goods. `None` is all of them.
    pub tax_class: Option<String>,
    /// The rate.
    pub rate: Rate,
}

/// Where an order goes, as far as shipping and tax depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The country, ISO 3166-1 alpha-2, upper case.
    pub country: String,
    /// The region, the part of ISO 3166-2 after the dash, upper case.
    pub region: Option<String>,
    /// The postal code.
    pub postal_code: Option<String>,
}

/// All rules of a shop.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PricingRules {
    /// All promotions, sorted by id.
    promotions: Vec<Arc<Promotion>>,
    /// The promotions without a code, in the order in which they are applied.
    automatic: Vec<Arc<Promotion>>,
    /// What `automatic` is on, by position.
    selections: SelectionIndex,
    /// The promotions with a code, by the code in lower case.
    by_code: HashMap<String, Arc<Promotion>>,
    methods: Vec<Arc<ShippingMethod>>,
    rates: Vec<Arc<TaxRate>>,
    prices_include_tax: bool,
    version: u64,
    /// When promotions begin and end, in order.
    turns: Vec<Timestamp>,
}

impl PricingRules {
    /// The rules of a shop whose prices include tax or do not.
    #[must_use]
    pub fn new(
        mut promotions: Vec<Arc<Promotion>>,
        methods: Vec<Arc<ShippingMethod>>,
        rates: Vec<Arc<TaxRate>>,
        prices_include_tax: bool,
    ) -> Self {
        let (coded, mut automatic): (Vec<_>, Vec<_>) =
            promotions.iter().cloned().partition(|promotion| promotion.code.is_some());
        automatic.sort_by_key(|promotion| promotion.application_order());
        let by_code = coded
            .into_iter()
            .filter_map(|promotion| Some((code_key(promotion.code.as_deref()?), promotion)))
            .collect();
        let turns = |promotion: &Arc<Promotion>| [promotion.starts_at, promotion.ends_at];
        let mut turns: Vec<Timestamp> = promotions.iter().flat_map(turns).flatten().collect();
        turns.sort_unstable();
        promotions.sort_by_key(|promotion| promotion.id);
        let selections =
            SelectionIndex::new(automatic.iter().map(|promotion| &promotion.applies_to));
        let version = 0;
        Self {
            promotions,
            automatic,
            selections,
            by_code,
            methods,
            rates,
            prices_include_tax,
            version,
            turns,
        }
    }

    /// All promotions.
    pub fn promotions(&self) -> impl Iterator<Item = &Arc<Promotion>> {
        self.promotions.iter()
    }

    /// Finds a promotion by id.
    #[must_use]
    pub fn find_promotion(&self, id: PromotionId) -> Option<&Arc<Promotion>> {
        let at = self.promotions.binary_search_by_key(&id, |promotion| promotion.id);
        at.ok().and_then(|at| self.promotions.get(at))
    }

    /// How many times promotions have begun or ended so far: between two moments with the same
    /// number, time alone changes no price. `now` is asked only if it matters.
    #[must_use]
    pub fn turns_before(&self, now: impl FnOnce() -> Timestamp) -> usize {
        if self.turns.is_empty() {
            return 0;
        }
        let now = now();
        self.turns.partition_point(|turn| *turn <= now)
    }

    /// Whether a promotion has a usage limit.
    #[must_use]
    pub fn has_usage_limits(&self) -> bool {
        self.promotions().any(|promotion| promotion.usage_limit.is_some())
    }

    /// The promotions that one buyer can have only so often, of those that apply by themselves or
    /// by one of `codes`.
    #[must_use]
    pub fn limited_per_customer(&self, codes: &[String]) -> Vec<PromotionId> {
        let by_code = codes.iter().filter_map(|code| self.find_by_code(code));
        self.automatic
            .iter()
            .chain(by_code)
            .filter(|promotion| promotion.per_customer_limit.is_some())
            .map(|promotion| promotion.id)
            .collect()
    }

    /// The rules that these records hold, with what `used` knows of promotions.
    #[must_use]
    pub fn from_records<'a>(
        records: impl Iterator<Item = &'a RuleRecord>,
        used: impl Fn(PromotionId) -> u64,
        prices_include_tax: bool,
    ) -> Self {
        let (mut promotions, mut methods, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        let mut version = 0;
        for record in records {
            version += record.version;
            match &record.rule {
                _ if record.deleted => {}
                Rule::Promotion(promotion) => {
                    let used = used(promotion.id);
                    promotions.push(Arc::new(Promotion { used, ..(**promotion).clone() }));
                }
                Rule::ShippingMethod(method) => methods.push(Arc::new(method.clone())),
                Rule::TaxRate(rate) => rates.push(Arc::new(rate.clone())),
            }
        }
        Self { version, ..Self::new(promotions, methods, rates, prices_include_tax) }
    }

    /// How often the shop's rules were changed: the sum of the versions of all records.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Whether the shop has no rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.promotions.is_empty() && self.methods.is_empty() && self.rates.is_empty()
    }

    /// Finds the promotion of a code. Codes are compared case-insensitively.
    #[must_use]
    pub fn find_by_code(&self, code: &str) -> Option<&Arc<Promotion>> {
        self.by_code.get(&code_key(code))
    }

    /// The promotions that apply by themselves, in the order in which they are applied.
    pub(super) fn automatic(&self) -> &[Arc<Promotion>] {
        &self.automatic
    }

    /// What those are on, by position.
    pub(super) const fn selections(&self) -> &SelectionIndex {
        &self.selections
    }

    /// The shipping methods.
    #[must_use]
    pub fn methods(&self) -> &[Arc<ShippingMethod>] {
        &self.methods
    }

    /// Whether the shop ships: an order then goes where a method reaches.
    #[must_use]
    pub fn has_active_method(&self) -> bool {
        self.methods.iter().any(|method| method.active)
    }

    /// Whether a tax of the country depends on the region, and this one is not a code that a rate
    /// could name: people write `New York` where `NY` is meant.
    #[must_use]
    pub fn mistakes_region(&self, destination: &Destination) -> bool {
        let is_regional =
            |rate: &Arc<TaxRate>| rate.country == destination.country && rate.region.is_some();
        destination.region.as_ref().is_some_and(|region| !is_region_code(region))
            && self.rates.iter().any(is_regional)
    }

    /// Whether what an order comes to depends on where it goes.
    #[must_use]
    pub fn needs_destination(&self) -> bool {
        !self.rates.is_empty() || self.has_active_method()
    }

    /// Whether goods can be shipped to a destination, by this method if one is chosen. A shop
    /// without active methods takes any address, and has no method to choose.
    #[must_use]
    pub fn can_ship(&self, destination: &Destination, method: Option<ShippingMethodId>) -> bool {
        let mut serving = self.methods.iter().filter(|method| method.serves(&destination.country));
        match method {
            Some(id) => serving.any(|method| method.id == id),
            None => serving.next().is_some() || !self.has_active_method(),
        }
    }

    /// Whether prices include tax.
    #[must_use]
    pub const fn prices_include_tax(&self) -> bool {
        self.prices_include_tax
    }

    /// The most specific rate for goods of a class: a rate of the class goes before one of all
    /// goods, and then a rate of the region before one of the whole country.
    #[must_use]
    pub fn find_rate(&self, destination: &Destination, class: Option<&str>) -> Option<&TaxRate> {
        self.matching_rates(destination)
            .filter(|rate| rate.tax_class.is_none() || rate.tax_class.as_deref() == class)
            .min_by_key(|rate| (rate.tax_class.is_none(), rate.region.is_none(), rate.id))
    }

    /// The rate that is for shipping alone.
    pub(super) fn find_shipping_rate(&self, destination: &Destination) -> Option<&TaxRate> {
        self.matching_rates(destination)
            .filter(|rate| rate.tax_class.as_deref() == Some(SHIPPING_TAX_CLASS))
            .min_by_key(|rate| (rate.region.is_none(), rate.id))
    }

    fn matching_rates(&self, destination: &Destination) -> impl Iterator<Item = &TaxRate> {
        self.rates.iter().map(AsRef::as_ref).filter(|rate| {
            rate.country == destination.country
                && (rate.region.is_none() || rate.region == destination.region)
        })
    }
}

fn code_key(code: &str) -> String {
    code.to_ascii_lowercase()
}
