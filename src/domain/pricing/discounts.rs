//! Discounts: which promotions apply, and what each takes off which lines.

use std::sync::Arc;

use super::{
    Applied, Basket, BasketLine, Candidate, CodeOutcome, CodeRefusal, Effect, Percentage,
    PricingRules, Promotion, Selection, TaxRate,
    candidate::evaluate,
    fraction::{Share, spread},
};
use crate::domain::clock::Timestamp;

/// The lines of a basket, sorted by product, and what does not depend on promotions.
pub(super) struct Goods<'a> {
    pub(super) basket: &'a Basket<'a>,
    pub(super) lines: Vec<GoodsLine<'a>>,
    /// In minor units.
    pub(super) subtotal: i128,
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
        Self { basket, lines, subtotal: basket.subtotal().exact_minor_units() }
    }

    /// The positions of the lines that a promotion is on.
    fn eligible(&self, selection: &Selection) -> Vec<usize> {
        let every = selection.is_everything();
        let lines = self.lines.iter().enumerate();
        lines
            .filter(|(_, goods)| every || selection.contains(goods.line))
            .map(|(at, _)| at)
            .collect()
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
    fn refusal(&self, goods: &Goods<'_>, now: Timestamp) -> Option<CodeRefusal> {
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
        } else if goods.eligible(&self.applies_to).is_empty() {
            Some(CodeRefusal::NoEligibleItems)
        } else {
            None
        }
    }
}

/// Why a promotion gives nothing to a basket, as far as that does not depend on others.
pub(super) fn refusal(
    promotion: &Promotion,
    goods: &Goods<'_>,
    now: Timestamp,
) -> Option<CodeRefusal> {
    promotion.refusal(goods, now)
}

/// The promotions that apply to a basket, sorted as they are applied.
pub(super) fn applicable<'a>(
    goods: &Goods<'_>,
    rules: &'a PricingRules,
    now: Timestamp,
) -> Applied<'a> {
    let mut applicable: Applied<'a> = rules.automatic().iter().collect();
    for code in goods.basket.codes {
        applicable.extend(rules.find_by_code(code));
    }
    applicable.retain(|promotion| promotion.refusal(goods, now).is_none());
    applicable.sort_by_key(|promotion| (std::cmp::Reverse(promotion.priority), promotion.id));
    applicable.dedup_by_key(|promotion| promotion.id);
    applicable
}

/// What became of a code once the best choice is known.
pub(super) fn code_outcome(
    code: &str,
    goods: &Goods<'_>,
    rules: &PricingRules,
    best: &Candidate<'_>,
    now: Timestamp,
) -> CodeOutcome {
    let Some(promotion) = rules.find_by_code(code) else {
        return CodeOutcome { code: code.to_owned(), refusal: Some(CodeRefusal::Inactive) };
    };
    let gives = |choice: &Candidate<'_>| {
        choice.given.iter().any(|given| given.promotion.id == promotion.id)
    };
    let refusal = promotion.refusal(goods, now).or_else(|| {
        if gives(best) {
            None
        } else if gives(&evaluate(goods, rules, &[promotion])) {
            Some(CodeRefusal::NotBest)
        } else {
            Some(CodeRefusal::NoEligibleItems)
        }
    });
    let code = promotion.code.clone().unwrap_or_else(|| code.to_owned());
    CodeOutcome { code, refusal }
}

/// Applies a promotion on goods to what the lines still cost, and returns the amount it takes off.
pub(super) fn take_off(promotion: &Arc<Promotion>, goods: &Goods<'_>, left: &mut [i128]) -> i128 {
    let eligible = goods.eligible(&promotion.applies_to);
    let by_cost = |at: &usize| (*at, left.get(*at).copied().unwrap_or(0));
    match promotion.effect {
        Effect::FreeShipping => 0,
        Effect::PercentOff(percent) => {
            let parts = Parts::new(eligible.iter().map(by_cost), left);
            parts.take_off(percent.of(parts.cost(), 1), left)
        }
        Effect::AmountOff(amount) => {
            let parts = Parts::new(eligible.iter().map(by_cost), left);
            parts.take_off(amount.exact_minor_units().min(parts.cost()), left)
        }
        Effect::BuyGet { buy, get, percent_off } => {
            take_off_units(&eligible, u64::from(buy), u64::from(get), percent_off, goods, left)
        }
    }
}

/// Reduces the cheapest units. What a unit costs is its part of what its line still costs. At most
/// one line has some units reduced and others not, since the units are taken line by line; so all
/// costs are exact in fractions with that line's quantity as their denominator.
fn take_off_units(
    eligible: &[usize],
    buy: u64,
    get: u64,
    percent_off: Percentage,
    goods: &Goods<'_>,
    left: &mut [i128],
) -> i128 {
    let mut lines: Vec<(usize, &GoodsLine<'_>)> =
        eligible.iter().filter_map(|at| Some((*at, goods.lines.get(*at)?))).collect();
    // The sort is stable: of equal prices, the smaller product id stays first.
    lines.sort_by_key(|(_, goods)| goods.line.unit_price.exact_minor_units());
    let units: u64 = lines.iter().map(|(_, goods)| u64::from(goods.line.quantity)).sum();
    let mut reduced = units / buy.saturating_add(get).max(1) * get;
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
    let parts = Parts::new(costs.into_iter(), left);
    parts.take_off(percent_off.of(parts.cost(), denominator), left)
}

/// The lines that an amount is spread over, sorted by product.
struct Parts {
    positions: Vec<usize>,
    shares: Vec<Share>,
}

impl Parts {
    /// `costs` has the position of each line and what is reduced of it, all in the same fraction of
    /// a minor unit.
    fn new(costs: impl Iterator<Item = (usize, i128)>, left: &[i128]) -> Self {
        let (mut positions, mut shares) = (Vec::new(), Vec::new());
        for (at, weight) in costs {
            positions.push(at);
            shares.push(Share { weight, most: left.get(at).copied().unwrap_or(0) });
        }
        Self { positions, shares }
    }

    fn cost(&self) -> i128 {
        self.shares.iter().map(|share| share.weight).sum()
    }

    /// Spreads `amount` over the lines and takes it off what they cost. Returns what was taken.
    fn take_off(&self, amount: i128, left: &mut [i128]) -> i128 {
        let parts = spread(amount, &self.shares);
        for (at, part) in self.positions.iter().zip(&parts) {
            if let Some(cost) = left.get_mut(*at) {
                *cost -= part;
            }
        }
        parts.iter().sum()
    }
}
