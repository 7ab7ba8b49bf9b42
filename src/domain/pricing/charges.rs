//! What an order comes to besides the prices of its lines.

use super::{
    Breakdown, CodeOutcome, Destination, Discount, LineAmounts, Shipping, Tax,
    rounding::divide_half_up,
};
use crate::domain::{ids::PromotionId, money::Money};

/// Discounts, shipping and taxes, as they were when the order was placed. Nothing of it is worked
/// out again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Charges {
    /// The amounts of each line, in the order's order. Empty if all of them are 0.
    pub lines: Vec<LineAmounts>,
    /// What the promotions give, in the order in which they were applied.
    pub discounts: Vec<Discount>,
    /// What became of each code.
    pub codes: Vec<CodeOutcome>,
    /// Where the order goes, as far as shipping and tax depend on it.
    pub destination: Option<Destination>,
    /// How it is shipped.
    pub shipping: Option<Shipping>,
    /// The taxes by name and rate, the highest rate first.
    pub taxes: Vec<Tax>,
}

impl Charges {
    /// What `breakdown` adds to the prices of the lines. `None` if it is nothing.
    #[must_use]
    pub fn of(breakdown: Breakdown, destination: Option<Destination>) -> Option<Box<Self>> {
        let Breakdown { lines, discounts, codes, shipping, taxes, .. } = breakdown;
        let charges = Self { lines, discounts, codes, destination, shipping, taxes };
        (charges != Self::default()).then(|| Box::new(charges))
    }

    /// What lines that cost `subtotal` come to.
    #[must_use]
    pub fn total(&self, subtotal: Money) -> Money {
        let sum = |amounts: &mut dyn Iterator<Item = Money>| -> i128 {
            amounts.map(Money::exact_minor_units).sum()
        };
        let off = sum(&mut self.discounts.iter().map(|discount| discount.amount));
        let shipping = sum(&mut self.shipping.iter().map(|shipping| shipping.amount));
        let added = self.taxes.iter().filter(|tax| !tax.included);
        let taxes = sum(&mut added.map(|tax| tax.amount));
        let total = subtotal.exact_minor_units() - off + shipping + taxes;
        Money::from_exact(total, subtotal.currency())
    }

    /// The discount and the tax of a line, by its place. `None` if both are 0.
    #[must_use]
    pub fn line(&self, at: usize) -> Option<LineAmounts> {
        self.lines.get(at).copied()
    }

    /// What was paid for some of the units of a line, after its discount and with its tax.
    #[must_use]
    pub fn price_of_units(&self, at: usize, total: Money, units: u32, of_units: u32) -> Money {
        let (discount, tax) = self.line(at).map_or((0, 0), |line| {
            (line.discount.exact_minor_units(), line.tax.exact_minor_units())
        });
        let added = if self.taxes.iter().all(|tax| tax.included) { 0 } else { tax };
        let paid = total.exact_minor_units() - discount + added;
        let share = divide_half_up(paid.saturating_mul(units.into()), of_units.max(1).into());
        Money::from_exact(share, total.currency())
    }

    /// The promotions that the order has.
    pub fn promotions(&self) -> impl Iterator<Item = PromotionId> {
        self.discounts.iter().map(|discount| discount.promotion_id)
    }
}
