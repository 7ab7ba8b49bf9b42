//! What a cart or an order comes to: discounts, shipping and tax.
//!
//! [`price`] is a pure function. All amounts are integers of minor units, and percentages and rates
//! are decimals, so that a breakdown always adds up:
//! `total = subtotal - discounts + shipping + taxes that are not included`.

mod candidate;
mod charges;
mod discounts;
mod edit;
mod fraction;
mod promotion_edit;
mod record;
mod rounding;
mod rules;
mod selection_index;
mod shipping;
mod spread;
mod tax;
#[cfg(test)]
mod tests;
mod uses;

use std::{collections::HashMap, sync::Arc};

use self::candidate::Candidate;
pub use self::{
    charges::Charges,
    edit::{RuleEdit, ShippingMethodPatch, TaxRatePatch, checked_country, checked_region},
    fraction::{InvalidRate, Percentage, Rate},
    promotion_edit::{
        EffectFields, EffectPatch, MAX_CODE_LEN, PromotionPatch, SelectionPatch, add_effect_error,
    },
    record::{Rule, RuleKind, RuleRecord},
    rules::{
        Destination, Effect, PricingRules, Promotion, SHIPPING_TAX_CLASS, Selection,
        ShippingMethod, TaxRate,
    },
    shipping::{ShippingOffer, shipping_offers},
    uses::{BuyerUse, PromotionUses, TakenUse, UseChange},
};
use crate::domain::{
    catalog::product::Product,
    clock::Timestamp,
    ids::{ProductId, PromotionId, ShippingMethodId},
    money::{Currency, Money},
};

/// The largest subtotal that rules apply to, in minor units. It is far above what a cart can come
/// to ([`MAX_MINOR_UNITS`](crate::domain::money::MAX_MINOR_UNITS)), and small enough for products
/// of two amounts and a quantity to be exact in 128 bits.
const MAX_RULED_SUBTOTAL: i128 = 100_000_000_000_000_000;

/// The largest quantity of a line that rules apply to. Settings allow no larger one.
const MAX_RULED_QUANTITY: u32 = 10_000;

/// What a shop prices with.
#[derive(Debug, Clone, Copy)]
pub struct ShopPricing<'a> {
    /// The currency of all prices.
    pub currency: Currency,
    /// The shop's rules.
    pub rules: &'a PricingRules,
    /// How many orders of the buyer have which promotion, as far as it is known.
    pub buyer_uses: Option<&'a HashMap<PromotionId, u32>>,
}

/// What is priced.
#[derive(Debug, Clone, Copy)]
pub struct Basket<'a> {
    /// The currency of all prices.
    pub currency: Currency,
    /// The lines, one per product.
    pub lines: &'a [BasketLine<'a>],
    /// The codes that the buyer gave.
    pub codes: &'a [String],
    /// Where the goods go. Without it there is neither shipping nor tax.
    pub destination: Option<&'a Destination>,
    /// The shipping method that the buyer chose.
    pub method: Option<ShippingMethodId>,
    /// How many orders of the buyer have which promotion, as far as it is known.
    pub buyer_uses: Option<&'a HashMap<PromotionId, u32>>,
}

/// A line as far as rules depend on it.
#[derive(Debug, Clone, Copy)]
pub struct BasketLine<'a> {
    /// The product's identifier.
    pub product_id: ProductId,
    /// The number of units.
    pub quantity: u32,
    /// The price of one unit.
    pub unit_price: Money,
    /// The product's category.
    pub category: Option<&'a str>,
    /// The product's tags.
    pub tags: &'a [String],
    /// The product's tax class.
    pub tax_class: Option<&'a str>,
    /// The weight of one unit, in grams.
    pub weight_grams: u32,
}

impl BasketLine<'_> {
    /// A line of a product.
    #[must_use]
    pub fn of_product(product: &Product, quantity: u32) -> BasketLine<'_> {
        let details = &product.details;
        BasketLine {
            product_id: product.id,
            quantity,
            unit_price: details.price,
            category: details.category.as_deref(),
            tags: &details.tags,
            tax_class: details.tax_class.as_deref(),
            weight_grams: details.weight_grams.unwrap_or(0),
        }
    }

    /// A line whose product has nothing but a price.
    #[must_use]
    pub const fn plain(product_id: ProductId, quantity: u32, unit_price: Money) -> Self {
        Self {
            product_id,
            quantity,
            unit_price,
            category: None,
            tags: &[],
            tax_class: None,
            weight_grams: 0,
        }
    }

    /// The quantity times the price.
    #[must_use]
    pub const fn total(&self) -> Money {
        self.unit_price.saturating_mul(self.quantity)
    }
}

/// What a basket comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breakdown {
    /// The sum of all lines, before discounts.
    pub subtotal: Money,
    /// The amounts of each line, in the basket's order. Empty if all of them are 0.
    pub lines: Vec<LineAmounts>,
    /// What the promotions give, in the order in which they are applied.
    pub discounts: Vec<Discount>,
    /// What became of each code, in the basket's order.
    pub codes: Vec<CodeOutcome>,
    /// How the goods are shipped.
    pub shipping: Option<Shipping>,
    /// Whether the shop ships goods, but not to this destination.
    pub unreachable: bool,
    /// The taxes by name and rate, the highest rate first.
    pub taxes: Vec<Tax>,
    /// What is to be paid.
    pub total: Money,
}

/// The discount and the tax of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineAmounts {
    /// The line's part of all discounts.
    pub discount: Money,
    /// The tax on what the line costs after discounts.
    pub tax: Money,
}

/// What a promotion gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discount {
    /// The promotion's identifier.
    pub promotion_id: PromotionId,
    /// The promotion's name.
    pub name: String,
    /// The promotion's code.
    pub code: Option<String>,
    /// The amount, above 0.
    pub amount: Money,
}

/// How the goods are shipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipping {
    /// The method's identifier.
    pub method_id: ShippingMethodId,
    /// The method's name.
    pub name: String,
    /// What it costs, before `free_shipping`.
    pub amount: Money,
    /// The tax on what it costs, if a rate applies.
    pub tax: Option<Money>,
}

/// A tax on goods and shipping together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tax {
    /// The rate's name.
    pub name: String,
    /// The rate.
    pub rate: Rate,
    /// The sum of the rounded amounts.
    pub amount: Money,
    /// Whether prices include it.
    pub included: bool,
}

/// What became of a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeOutcome {
    /// The code, as staff wrote it if it is known.
    pub code: String,
    /// Why it gives nothing. `None` if it is applied.
    pub refusal: Option<CodeRefusal>,
}

/// The reason why a code gives nothing.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum CodeRefusal {
    /// The subtotal is too small.
    MinSubtotal,
    /// It gives nothing on any line of the cart.
    NoEligibleItems,
    /// Other promotions give more.
    NotBest,
    /// It has not begun.
    NotStarted,
    /// It has ended.
    Expired,
    /// It was used as often as it can be.
    UsageLimit,
    /// The buyer has used it as often as one buyer can.
    PerCustomerLimit,
    /// It is switched off or deleted.
    Inactive,
}

impl CodeRefusal {
    /// Every reason, in the order of declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether a code that was good comes to this without anybody changing the cart or the rules.
    const fn is_loss(self) -> bool {
        matches!(self, Self::Expired | Self::UsageLimit | Self::PerCustomerLimit)
    }
}

/// Prices a basket at a moment. The order of the lines makes no difference to any amount.
#[must_use]
pub fn price(basket: &Basket<'_>, rules: &PricingRules, now: Timestamp) -> Breakdown {
    let subtotal = basket.subtotal();
    let has_rules = !rules.is_empty() || !basket.codes.is_empty();
    let applies = has_rules
        && !basket.lines.is_empty()
        && subtotal.exact_minor_units() <= MAX_RULED_SUBTOTAL
        && basket.lines.iter().all(|line| line.quantity <= MAX_RULED_QUANTITY);
    if applies { price_with_rules(basket, rules, now) } else { price_without_rules(basket, rules) }
}

fn price_without_rules(basket: &Basket<'_>, rules: &PricingRules) -> Breakdown {
    let subtotal = basket.subtotal();
    let outcome = |code: &String| {
        let known = rules.find_by_code(code).filter(|promotion| promotion.active);
        let refusal =
            if known.is_some() { CodeRefusal::NoEligibleItems } else { CodeRefusal::Inactive };
        CodeOutcome { code: code.clone(), refusal: Some(refusal) }
    };
    Breakdown {
        subtotal,
        lines: Vec::new(),
        discounts: Vec::new(),
        codes: basket.codes.iter().map(outcome).collect(),
        shipping: None,
        unreachable: false,
        taxes: Vec::new(),
        total: subtotal,
    }
}

fn price_with_rules(basket: &Basket<'_>, rules: &PricingRules, now: Timestamp) -> Breakdown {
    let goods = discounts::Goods::new(basket, rules);
    let applicable = discounts::applicable(&goods, rules, now);
    let best = candidate::choose_best(&goods, rules, &applicable);
    let codes = basket
        .codes
        .iter()
        .map(|code| discounts::code_outcome(code, &goods, rules, &best, now))
        .collect();
    best.into_breakdown(&goods, rules, codes)
}

/// Why a code of the basket gives nothing, although it would if it had not ended or been used up.
#[must_use]
pub fn lost_code(
    code: &str,
    basket: &Basket<'_>,
    rules: &PricingRules,
    now: Timestamp,
) -> Option<CodeRefusal> {
    let promotion = rules.find_by_code(code)?;
    let goods = discounts::Goods::new(basket, rules);
    let refusal = promotion.refusal(&goods, now).filter(|refusal| refusal.is_loss())?;
    let unlimited = Arc::new(Promotion {
        ends_at: None,
        usage_limit: None,
        per_customer_limit: None,
        ..Promotion::clone(promotion)
    });
    let gives = unlimited.refusal(&goods, now).is_none()
        && candidate::gives_something(&goods, rules, &unlimited);
    gives.then_some(refusal)
}

impl<'a> Basket<'a> {
    /// A basket of nothing but these lines.
    #[must_use]
    pub const fn of_lines(lines: &'a [BasketLine<'a>], currency: Currency) -> Self {
        Self { currency, lines, codes: &[], destination: None, method: None, buyer_uses: None }
    }

    /// The sum of all lines.
    #[must_use]
    pub fn subtotal(&self) -> Money {
        let zero = Money::zero(self.currency);
        self.lines.iter().fold(zero, |sum, line| sum.saturating_add(line.total()))
    }
}

impl Breakdown {
    /// What the goods cost after discounts.
    #[must_use]
    pub fn goods_cost(&self) -> Money {
        let off: i128 = self.lines.iter().map(|line| line.discount.exact_minor_units()).sum();
        Money::from_exact(self.subtotal.exact_minor_units() - off, self.subtotal.currency())
    }

    /// The amounts of a line, by its place in the basket.
    #[must_use]
    pub fn line(&self, at: usize) -> LineAmounts {
        let zero = Money::zero(self.subtotal.currency());
        self.lines.get(at).copied().unwrap_or(LineAmounts { discount: zero, tax: zero })
    }
}
