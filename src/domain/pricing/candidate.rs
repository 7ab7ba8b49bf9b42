//! Choosing the promotions that are best for the buyer.

use std::{slice, sync::Arc};

use super::{
    Breakdown, CodeOutcome, Discount, Effect, LineAmounts, PricingRules, Promotion, Shipping,
    ShippingMethod, Tax,
    discounts::{Applicable, Discounter, Goods},
    shipping::choose_method,
    tax::Taxes,
};
use crate::domain::{ids::PromotionId, money::Money};

/// A choice of promotions, and what it comes to.
pub(super) struct Candidate<'a, 'g> {
    /// The promotions, in the order in which they are applied. Some may give nothing.
    promotions: Vec<&'g Applicable<'a, 'g>>,
    result: Evaluation<'a>,
}

/// What a choice of promotions comes to. Amounts are minor units, and lines are sorted by product.
#[derive(Default)]
struct Evaluation<'a> {
    /// The amount that each promotion takes off.
    amounts: Vec<i128>,
    /// What each line costs after discounts.
    left: Vec<i128>,
    shipping: Option<(&'a ShippingMethod, i128)>,
    taxes: Taxes<'a>,
    total: i128,
}

/// Either all promotions that are combinable, or one that is not: the choice with the smallest
/// total. Of equal ones, those that are combinable go first, then the order of `applicable` counts.
pub(super) fn choose_best<'a, 'g>(
    goods: &Goods<'a>,
    rules: &'a PricingRules,
    applicable: &'g [Applicable<'a, 'g>],
) -> Candidate<'a, 'g> {
    let (mut promotions, alone): (Vec<_>, Vec<_>) =
        applicable.iter().partition(|found| found.promotion.combinable);
    // One buffer has the best choice so far, the other one is for the next.
    let (mut best, mut next) = (Evaluation::default(), Evaluation::default());
    let mut discounter = Discounter::default();
    best.evaluate(goods, rules, &promotions, &mut discounter);
    for found in alone {
        next.evaluate(goods, rules, slice::from_ref(&found), &mut discounter);
        if next.total < best.total {
            std::mem::swap(&mut best, &mut next);
            promotions.clear();
            promotions.push(found);
        }
    }
    Candidate { promotions, result: best }
}

/// Whether a promotion takes anything off a basket when it is applied alone.
pub(super) fn gives_something(
    goods: &Goods<'_>,
    rules: &PricingRules,
    promotion: &Arc<Promotion>,
) -> bool {
    let mut result = Evaluation::default();
    let alone = Applicable::new(promotion, goods);
    result.evaluate(goods, rules, &[&alone], &mut Discounter::default());
    result.amounts.iter().any(|amount| *amount > 0)
}

impl<'a> Evaluation<'a> {
    /// Works out what the basket comes to with these promotions, applied in this order.
    fn evaluate(
        &mut self,
        goods: &Goods<'a>,
        rules: &'a PricingRules,
        promotions: &[&Applicable<'_, '_>],
        discounter: &mut Discounter,
    ) {
        let Self { amounts, left, .. } = self;
        left.clear();
        left.extend(goods.lines.iter().map(|line| line.total));
        amounts.clear();
        amounts.extend(promotions.iter().map(|found| discounter.take_off(found, goods, left)));
        let goods_cost: i128 = left.iter().sum();
        self.shipping = choose_method(goods.basket, rules, goods_cost);
        let mut shipping_cost = self.shipping.map(|(_, amount)| amount);
        for (found, amount) in promotions.iter().zip(amounts) {
            if found.promotion.effect == Effect::FreeShipping {
                *amount = shipping_cost.unwrap_or(0);
                shipping_cost = shipping_cost.map(|_| 0);
            }
        }
        self.taxes.compute(goods, rules, left, shipping_cost);
        let added = match rules.prices_include_tax() {
            true => 0,
            false => self.taxes.sums.iter().map(|sum| sum.amount).sum(),
        };
        self.total = goods_cost + shipping_cost.unwrap_or(0) + added;
    }
}

impl Candidate<'_, '_> {
    /// The promotions that give something, and how much, in the order in which they are applied.
    fn given(&self) -> impl Iterator<Item = (&Promotion, i128)> {
        let amounts = self.result.amounts.iter().copied();
        let all = self.promotions.iter().map(|found| &**found.promotion).zip(amounts);
        all.filter(|(_, amount)| *amount > 0)
    }

    /// Whether a promotion gives something.
    pub(super) fn gives(&self, id: PromotionId) -> bool {
        self.given().any(|(promotion, _)| promotion.id == id)
    }

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
            .zip(self.result.left.iter().zip(&self.result.taxes.of_lines))
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
        let discount = |(promotion, amount): (&Promotion, i128)| Discount {
            promotion_id: promotion.id,
            name: promotion.name.clone(),
            code: promotion.code.clone(),
            amount: money(amount),
        };
        let result = &self.result;
        Breakdown {
            subtotal: money(goods.subtotal),
            lines: lines.into_iter().map(|(_, amounts)| amounts).collect(),
            discounts: self.given().map(discount).collect(),
            codes,
            unreachable: goods.basket.destination.is_some()
                && result.shipping.is_none()
                && rules.has_active_method(),
            shipping: result.shipping.map(|(method, amount)| Shipping {
                method_id: method.id,
                name: method.name.clone(),
                amount: money(amount),
                tax: result.taxes.of_shipping.map(money),
            }),
            taxes: result
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
            total: money(result.total),
        }
    }
}
