//! Taxes on goods and shipping.

use super::{
    Rate, TaxRate, discounts::Goods, fraction::MILLIONTHS, rounding::divide_half_up,
    rules::PricingRules,
};

/// Taxes in minor units.
#[derive(Default)]
pub(super) struct Taxes<'a> {
    /// The tax of each line, sorted by product.
    pub(super) of_lines: Vec<i128>,
    /// The tax on shipping, if a rate applies.
    pub(super) of_shipping: Option<i128>,
    /// The sums by name and rate, the highest rate first.
    pub(super) sums: Vec<TaxSum<'a>>,
}

/// What is taxed under one name at one rate, in minor units.
pub(super) struct TaxSum<'a> {
    pub(super) name: &'a str,
    pub(super) rate: Rate,
    pub(super) amount: i128,
    /// The price of the goods that are taxed.
    goods: i128,
}

/// The tax on `base`, which does not contain it, rounded half up.
fn rounded_tax_on_top_of(base: i128, rate: Rate) -> i128 {
    divide_half_up(base.saturating_mul(rate.millionths().into()), MILLIONTHS)
}

/// The tax that `base` contains, rounded half up.
fn rounded_tax_within(base: i128, rate: Rate) -> i128 {
    let rate = i128::from(rate.millionths());
    divide_half_up(base.saturating_mul(rate), MILLIONTHS + rate)
}

impl<'a> Taxes<'a> {
    /// Taxes lines that cost `left` after discounts, and shipping at this price after
    /// `free_shipping`.
    pub(super) fn compute(
        &mut self,
        goods: &Goods<'a>,
        rules: &'a PricingRules,
        left: &[i128],
        shipping: Option<i128>,
    ) {
        let tax = |rate: Rate, base| match rules.prices_include_tax() {
            true => rounded_tax_within(base, rate),
            false => rounded_tax_on_top_of(base, rate),
        };
        self.of_lines.clear();
        self.sums.clear();
        self.of_shipping = None;
        for (line, base) in goods.lines.iter().zip(left) {
            let amount = line.rate.map_or(0, |rate| tax(rate.rate, *base));
            self.of_lines.push(amount);
            if let Some(rate) = line.rate {
                self.add(&rate.name, rate.rate, amount, *base);
            }
        }
        if let Some(base) = shipping
            && let Some((name, rate)) = self.shipping_rate(goods, rules)
        {
            let amount = tax(rate, base);
            self.of_shipping = Some(amount);
            self.add(name, rate, amount, 0);
        }
        self.sums.sort_by(|a, b| (b.rate, a.name).cmp(&(a.rate, b.name)));
    }

    fn add(&mut self, name: &'a str, rate: Rate, amount: i128, goods: i128) {
        let known = self.sums.iter_mut().find(|sum| sum.rate == rate && sum.name == name);
        match known {
            Some(sum) => {
                sum.amount += amount;
                sum.goods += goods;
            }
            None => self.sums.push(TaxSum { name, rate, amount, goods }),
        }
    }

    /// The rate for shipping alone, else that of the goods with the largest sum.
    fn shipping_rate(&self, goods: &Goods<'_>, rules: &'a PricingRules) -> Option<(&'a str, Rate)> {
        let own = goods.basket.destination.and_then(|place| rules.find_shipping_rate(place));
        let of_rate = |rate: &'a TaxRate| (rate.name.as_str(), rate.rate);
        let of_goods = || {
            let largest = self
                .sums
                .iter()
                .max_by(|a, b| (a.goods, a.rate, b.name).cmp(&(b.goods, b.rate, a.name)));
            largest.map(|sum| (sum.name, sum.rate))
        };
        own.map(of_rate).or_else(of_goods)
    }
}
