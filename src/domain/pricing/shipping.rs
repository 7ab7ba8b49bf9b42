//! What shipping costs.

use super::{
    Basket, BasketLine, Destination, PricingRules, ShippingMethod, rounding::divide_half_up,
};
use crate::domain::{ids::ShippingMethodId, money::Money};

const GRAMS_PER_KG: i128 = 1000;

/// A shipping method that serves a destination, and what it costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShippingOffer {
    /// The method's identifier.
    pub id: ShippingMethodId,
    /// The method's name.
    pub name: String,
    /// What it costs, before `free_shipping`.
    pub amount: Money,
}

/// A method and its price, in minor units.
pub(super) type Quote<'a> = (&'a ShippingMethod, i128);

/// What a method costs for goods of this weight and price after discounts, in minor units.
fn cost(method: &ShippingMethod, grams: i128, goods: i128) -> i128 {
    if method.free_from.is_some_and(|least| goods >= least.exact_minor_units()) {
        return 0;
    }
    let per_kg = method.per_kg.map_or(0, Money::exact_minor_units);
    let by_weight = per_kg.saturating_mul(grams);
    let thousandfold =
        method.price.exact_minor_units().saturating_mul(GRAMS_PER_KG).saturating_add(by_weight);
    divide_half_up(thousandfold, GRAMS_PER_KG)
}

fn quotes<'a>(
    basket: &Basket<'_>,
    rules: &'a PricingRules,
    destination: &Destination,
    goods: i128,
) -> impl Iterator<Item = Quote<'a>> {
    let weight = |line: &BasketLine<'_>| i128::from(line.quantity) * i128::from(line.weight_grams);
    let grams: i128 = basket.lines.iter().map(weight).sum();
    let methods = rules.methods().iter().map(AsRef::as_ref);
    methods
        .filter(|method: &&ShippingMethod| method.serves(&destination.country))
        .map(move |method| (method, cost(method, grams, goods)))
}

/// The chosen method if it serves the destination, else the cheapest; of equal ones the one with
/// the smaller id. `goods` is what the goods cost after discounts, in minor units.
pub(super) fn choose_method<'a>(
    basket: &Basket<'_>,
    rules: &'a PricingRules,
    goods: i128,
) -> Option<Quote<'a>> {
    let destination = basket.destination?;
    let best =
        |(method, amount): &Quote<'_>| (Some(method.id) != basket.method, *amount, method.id);
    quotes(basket, rules, destination, goods).min_by_key(best)
}

/// The methods that serve the basket's destination, the cheapest first. `goods` is what the goods
/// cost after discounts.
#[must_use]
pub fn shipping_offers(
    basket: &Basket<'_>,
    rules: &PricingRules,
    goods: Money,
) -> Vec<ShippingOffer> {
    let Some(destination) = basket.destination.filter(|_| !basket.lines.is_empty()) else {
        return Vec::new();
    };
    let mut found: Vec<Quote<'_>> =
        quotes(basket, rules, destination, goods.exact_minor_units()).collect();
    found.sort_by_key(|(method, amount)| (*amount, method.id));
    let offer = |(method, amount): Quote<'_>| ShippingOffer {
        id: method.id,
        name: method.name.clone(),
        amount: Money::from_exact(amount, basket.currency),
    };
    found.into_iter().map(offer).collect()
}
