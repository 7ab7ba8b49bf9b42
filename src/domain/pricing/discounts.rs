//! Discounts: which promotions apply, and what each takes off which lines.

use std::{borrow::Cow, sync::Arc};

use super::{
    Basket, BasketLine, Candidate, CodeOutcome, CodeRefusal, Effect, Percentage, PricingRules,
    Promotion, Selection, TaxRate,
    candidate::gives_something,
    spread::{Share, Spreader},
};
use crate::domain::clock::Timestamp;

/// The lines of a basket, sorted by product, and what does not depend on promotions.
pub(super) struct Goods<'a> {
    pub(super) basket: &'a Basket<'a>,
    pub(super) lines: Vec<GoodsLine<'a>>,
    /// The positions of all lines.
    every_line: Vec<usize>,
    /// In minor units.
    pub(super) subtotal: i128,
}

/// A promotion that applies to a basket, and the positions of the lines that it is on.
pub(super) struct Applicable<'a, 'g> {
    pub(super) promotion: &'a Arc<Promotion>,
    lines: Cow<'g, [usize]>,
}

pub(super) struct GoodsLine<'a> {
    pub(super) line: &'a BasketLine<'a>,
    /// The line's place in the basket.
    pub(super) place: usize,
    /// In minor units.
    pub(super) total: i128,
    pub(super) rate: Option<&'a TaxRate>,
}

impl<'a> Goods<'a> {
    pub(super) fn new(basket: &'a Basket<'a>, rules: &'a PricingRules) -> Self {
        let find_rate = |line: &BasketLine<'_>| {
            basket.destination.and_then(|place| rules.find_rate(place, line.tax_class))
        };
        let mut lines: Vec<GoodsLine<'a>> = basket
            .lines
            .iter()
            .enumerate()
            .map(|(place, line)| GoodsLine {
                line,
                place,
                total: line.total().exact_minor_units(),
                rate: find_rate(line),
            })
            .collect();
        lines.sort_by_key(|goods| goods.line.product_id);
        let every_line = (0..lines.len()).collect();
        Self { basket, lines, every_line, subtotal: basket.subtotal().exact_minor_units() }
    }

    /// The positions of the lines that a promotion is on.
    fn eligible(&self, selection: &Selection) -> Cow<'_, [usize]> {
        if selection.is_everything() {
            return Cow::Borrowed(&self.every_line);
        }
        let lines = self.lines.iter().enumerate();
        lines.filter(|(_, goods)| selection.contains(goods.line)).map(|(at, _)| at).collect()
    }
}

impl Selection {
    fn contains(&self, line: &BasketLine<'_>) -> bool {
        self.product_ids.contains(&line.product_id)
            || line.category.is_some_and(|category| self.categories.contains(category))
            || line.tags.iter().any(|tag| self.tags.contains(tag))
    }
}

impl Promotion {
    /// Why it gives nothing to this basket, as far as that does not depend on others.
    pub(super) fn refusal(&self, goods: &Goods<'_>, now: Timestamp) -> Option<CodeRefusal> {
        self.refusal_of_basket(goods, now).or_else(|| {
            let is_on_nothing = goods.eligible(&self.applies_to).is_empty();
            is_on_nothing.then_some(CodeRefusal::NoEligibleItems)
        })
    }

    /// The same, but for the lines that it is on.
    fn refusal_of_basket(&self, goods: &Goods<'_>, now: Timestamp) -> Option<CodeRefusal> {
        let buyer_uses = goods.basket.buyer_uses.and_then(|uses| uses.get(&self.id)).copied();
        let reached = |limit| buyer_uses.is_some_and(|uses| uses >= limit);
        let short = |least| goods.subtotal < least;
        if !self.active {
            Some(CodeRefusal::Inactive)
        } else if self.starts_at.is_some_and(|start| now < start) {
            Some(CodeRefusal::NotStarted)
        } else if self.ends_at.is_some_and(|end| now >= end) {
            Some(CodeRefusal::Expired)
        } else if self.usage_limit.is_some_and(|limit| self.used >= limit) {
            Some(CodeRefusal::UsageLimit)
        } else if self.per_customer_limit.is_some_and(reached) {
            Some(CodeRefusal::PerCustomerLimit)
        } else if self.min_subtotal.is_some_and(|least| short(least.exact_minor_units())) {
            Some(CodeRefusal::MinSubtotal)
        } else {
            None
        }
    }
}

/// The promotions that apply to a basket, sorted as they are applied.
pub(super) fn applicable<'a, 'g>(
    goods: &'g Goods<'_>,
    rules: &'a PricingRules,
    now: Timestamp,
) -> Vec<Applicable<'a, 'g>> {
    let mut applicable = automatic(goods, rules);
    for code in goods.basket.codes {
        applicable
            .extend(rules.find_by_code(code).map(|promotion| Applicable::new(promotion, goods)));
    }
    applicable.retain(|found| {
        !found.lines.is_empty() && found.promotion.refusal_of_basket(goods, now).is_none()
    });
    if !goods.basket.codes.is_empty() {
        applicable.sort_by_key(|found| found.promotion.application_order());
        applicable.dedup_by_key(|found| found.promotion.id);
    }
    applicable
}

/// The promotions that apply by themselves and are on any of the goods, sorted as they are applied.
fn automatic<'a, 'g>(goods: &'g Goods<'_>, rules: &'a PricingRules) -> Vec<Applicable<'a, 'g>> {
    let selections = rules.selections();
    let every_line = |at: &usize| (*at, Cow::Borrowed(goods.every_line.as_slice()));
    let mut found: Vec<(usize, Cow<'g, [usize]>)> =
        selections.everything().iter().map(every_line).collect();
    let lines = goods.lines.iter().enumerate();
    let mut pairs: Vec<(usize, usize)> = lines
        .flat_map(|(line, goods)| selections.of_line(goods.line).map(move |at| (at, line)))
        .collect();
    if !pairs.is_empty() {
        pairs.sort_unstable();
        pairs.dedup();
        for of_one in pairs.chunk_by(|a, b| a.0 == b.0) {
            let lines = of_one.iter().map(|(_, line)| *line).collect();
            found.extend(of_one.first().map(|(at, _)| (*at, lines)));
        }
        found.sort_unstable_by_key(|(at, _)| *at);
    }
    let promotion = |(at, lines)| Some(Applicable { promotion: rules.automatic().get(at)?, lines });
    found.into_iter().filter_map(promotion).collect()
}

impl<'a, 'g> Applicable<'a, 'g> {
    /// A promotion, and the goods that it is on.
    pub(super) fn new(promotion: &'a Arc<Promotion>, goods: &'g Goods<'_>) -> Self {
        Self { promotion, lines: goods.eligible(&promotion.applies_to) }
    }
}

/// What became of a code once the best choice is known.
pub(super) fn code_outcome(
    code: &str,
    goods: &Goods<'_>,
    rules: &PricingRules,
    best: &Candidate<'_, '_>,
    now: Timestamp,
) -> CodeOutcome {
    let Some(promotion) = rules.find_by_code(code) else {
        return CodeOutcome { code: code.to_owned(), refusal: Some(CodeRefusal::Inactive) };
    };
    let refusal = promotion.refusal(goods, now).or_else(|| {
        if best.gives(promotion.id) {
            None
        } else if gives_something(goods, rules, promotion) {
            Some(CodeRefusal::NotBest)
        } else {
            Some(CodeRefusal::NoEligibleItems)
        }
    });
    let code = promotion.code.clone().unwrap_or_else(|| code.to_owned());
    CodeOutcome { code, refusal }
}

/// Takes promotions off what lines cost, and keeps its buffers from one to the next.
#[derive(Default)]
pub(super) struct Discounter {
    /// The positions of the lines that an amount is spread over, sorted.
    positions: Vec<usize>,
    /// What is reduced of each, all in the same fraction of a minor unit.
    shares: Vec<Share>,
    spreader: Spreader,
}

impl Discounter {
    /// Applies a promotion on goods to what the lines still cost, and returns the amount that it
    /// takes off.
    pub(super) fn take_off(
        &mut self,
        applicable: &Applicable<'_, '_>,
        goods: &Goods<'_>,
        left: &mut [i128],
    ) -> i128 {
        let lines = &*applicable.lines;
        match applicable.promotion.effect {
            Effect::FreeShipping => 0,
            Effect::PercentOff(percent) => {
                let cost = self.select_lines(lines, left);
                self.spread(percent.of(cost, 1), left)
            }
            Effect::AmountOff(amount) => {
                let cost = self.select_lines(lines, left);
                self.spread(amount.exact_minor_units().min(cost), left)
            }
            Effect::BuyGet { buy, get, percent_off } => {
                let (buy, get) = (u64::from(buy), u64::from(get));
                self.take_off_units(lines, buy, get, percent_off, goods, left)
            }
        }
    }

    /// Reduces the cheapest units. What a unit costs is its part of what its line still costs. At
    /// most one line has some units reduced and others not, since the units are taken line by line;
    /// so all costs are exact in fractions with that line's quantity as their denominator.
    fn take_off_units(
        &mut self,
        eligible: &[usize],
        buy: u64,
        get: u64,
        percent_off: Percentage,
        goods: &Goods<'_>,
        left: &mut [i128],
    ) -> i128 {
        let lines = || eligible.iter().filter_map(|at| Some((*at, goods.lines.get(*at)?)));
        let units: u64 = lines().map(|(_, goods)| u64::from(goods.line.quantity)).sum();
        let mut reduced = units / buy.saturating_add(get).max(1) * get;
        if reduced == 0 {
            return 0;
        }
        let mut lines: Vec<(usize, &GoodsLine<'_>)> = lines().collect();
        // The sort is stable: of equal prices, the smaller product id stays first.
        lines.sort_by_key(|(_, goods)| goods.line.unit_price.exact_minor_units());
        let (mut whole, mut partial) = (Vec::new(), None);
        for (at, goods) in lines {
            let quantity = u64::from(goods.line.quantity);
            let cost = left.get(at).copied().unwrap_or(0);
            if reduced >= quantity {
                whole.push((at, cost));
            } else if reduced > 0 {
                partial = Some((at, cost.saturating_mul(reduced.into()), i128::from(quantity)));
            }
            reduced = reduced.saturating_sub(quantity);
        }
        let denominator = partial.map_or(1, |(_, _, quantity)| quantity);
        let scaled = whole.into_iter().map(|(at, cost)| (at, cost.saturating_mul(denominator)));
        let mut costs: Vec<(usize, i128)> =
            scaled.chain(partial.map(|(at, cost, _)| (at, cost))).collect();
        costs.sort_unstable_by_key(|(at, _)| *at);
        let cost = self.select(costs.into_iter(), left);
        self.spread(percent_off.of(cost, denominator), left)
    }

    /// Selects all that these lines still cost, and returns the sum.
    fn select_lines(&mut self, lines: &[usize], left: &[i128]) -> i128 {
        let cost = |at: &usize| (*at, left.get(*at).copied().unwrap_or(0));
        self.select(lines.iter().map(cost), left)
    }

    /// Selects a part of what lines still cost, and returns the sum.
    fn select(&mut self, costs: impl Iterator<Item = (usize, i128)>, left: &[i128]) -> i128 {
        self.positions.clear();
        self.shares.clear();
        for (at, weight) in costs {
            self.positions.push(at);
            self.shares.push(Share { weight, most: left.get(at).copied().unwrap_or(0) });
        }
        self.shares.iter().map(|share| share.weight).sum()
    }

    /// Spreads `amount` over what is selected and takes it off what the lines cost. Returns what
    /// was taken.
    fn spread(&mut self, amount: i128, left: &mut [i128]) -> i128 {
        let parts = self.spreader.spread(amount, &self.shares);
        for (at, part) in self.positions.iter().zip(parts) {
            if let Some(cost) = left.get_mut(*at) {
                *cost -= part;
            }
        }
        parts.iter().sum()
    }
}
