//! Choosing the promotions that are best for the buyer.

use std::sync::Arc;

use super::{
    Applied, Breakdown, CodeOutcome, Discount, Effect, LineAmounts, PricingRules, Promotion,
    Shipping, ShippingMethod, Tax,
    discounts::{Goods, take_off},
    shipping::choose_method,
    tax::Taxes,
};
use crate::domain::money::Money;

/// A choice of promotions, and what it comes to. Amounts are minor units, and lines are sorted by
/// product.
pub(super) struct Candidate<'a> {
    /// The promotions that give something, in the order in which they are applied.
    pub(super) given: Vec<Given<'a>>,
    /// What each line costs after discounts.
    left: Vec<i128>,
    shipping: Option<(&'a ShippingMethod, i128)>,
    taxes: Taxes<'a>,
    total: i128,
}

/// A promotion and the amount that it takes off.
pub(super) struct Given<'a> {
    pub(super) promotion: &'a Arc<Promotion>,
    amount: i128,
}

/// Either all promotions that are combinable, or one that is not: the choice with the smallest
/// total. Of equal ones, those that are combinable go first, then the order of `applicable` counts.
pub(super) fn choose_best<'a>(
    goods: &Goods<'a>,
    rules: &'a PricingRules,
    applicable: &Applied<'a>,
) -> Candidate<'a> {
    let (combinable, alone): (Vec<_>, Vec<_>) =
        applicable.iter().copied().partition(|promotion| promotion.combinable);
    let mut best = evaluate(goods, rules, &combinable);
    for promotion in alone {
        let candidate = evaluate(goods, rules, &[promotion]);
        if candidate.total < best.total {
            best = candidate;
        }
    }
    best
}

/// What the basket comes to with these promotions, applied in this order.
pub(super) fn evaluate<'a>(
    goods: &Goods<'a>,
    rules: &'a PricingRules,
    promotions: &[&'a Arc<Promotion>],
) -> Candidate<'a> {
    let mut left: Vec<i128> = goods.lines.iter().map(|line| line.total).collect();
    let mut amounts: Vec<i128> =
        promotions.iter().map(|promotion| take_off(promotion, goods, &mut left)).collect();
    let goods_cost: i128 = left.iter().sum();
    let shipping = choose_method(goods.basket, rules, goods_cost);
    let mut shipping_cost = shipping.map(|(_, amount)| amount);
    for (promotion, amount) in promotions.iter().zip(&mut amounts) {
        if promotion.effect == Effect::FreeShipping {
            *amount = shipping_cost.unwrap_or(0);
            shipping_cost = shipping_cost.map(|_| 0);
        }
    }
    let taxes = Taxes::compute(goods, rules, &left, shipping_cost);
    let added = match rules.prices_include_tax() {
        true => 0,
        false => taxes.sums.iter().map(|sum| sum.amount).sum(),
    };
    let given = promotions.iter().zip(amounts).filter(|(_, amount)| *amount > 0);
    Candidate {
        given: given.map(|(promotion, amount)| Given { promotion, amount }).collect(),
        total: goods_cost + shipping_cost.unwrap_or(0) + added,
        left,
        shipping,
        taxes,
    }
}

impl Candidate<'_> {
    pub(super) fn into_breakdown(
        self,
        goods: &Goods<'_>,
        rules: &PricingRules,
        codes: Vec<CodeOutcome>,
    ) -> Breakdown {
        let currency = goods.basket.currency;
        let money = |minor| Money::from_exact(minor, currency);
        let mut lines: Vec<(usize, LineAmounts)> = goods
            .lines
            .iter()
            .zip(self.left.iter().zip(&self.taxes.of_lines))
            .map(|(goods, (left, tax))| {
                let discount = money(goods.total - left);
                (goods.place, LineAmounts { discount, tax: money(*tax) })
            })
            .collect();
        let zero = money(0);
        if lines.iter().all(|(_, line)| (line.discount, line.tax) == (zero, zero)) {
            lines.clear();
        }
        lines.sort_unstable_by_key(|(place, _)| *place);
        let discount = |given: &Given<'_>| Discount {
            promotion_id: given.promotion.id,
            name: given.promotion.name.clone(),
            code: given.promotion.code.clone(),
            amount: money(given.amount),
        };
        Breakdown {
            subtotal: money(goods.subtotal),
            lines: lines.into_iter().map(|(_, amounts)| amounts).collect(),
            discounts: self.given.iter().map(discount).collect(),
            codes,
            unreachable: goods.basket.destination.is_some()
                && self.shipping.is_none()
                && rules.has_active_method(),
            shipping: self.shipping.map(|(method, amount)| Shipping {
                method_id: method.id,
                name: method.name.clone(),
                amount: money(amount),
                tax: self.taxes.of_shipping.map(money),
            }),
            taxes: self
                .taxes
                .sums
                .iter()
                .map(|sum| Tax {
                    name: sum.name.to_owned(),
                    rate: sum.rate,
                    amount: money(sum.amount),
                    included: rules.prices_include_tax(),
                })
                .collect(),
            total: money(self.total),
        }
    }
}
