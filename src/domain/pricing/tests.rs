//! Worked examples, and what holds for every basket.

mod examples;
mod properties;

use std::collections::BTreeSet;

use uuid::Uuid;

use super::*;

/// The moment of all tests.
const NOW: Timestamp = Timestamp::from_millis(1000);

/// An id that sorts like its name.
fn id<T: From<Uuid>>(name: &str) -> T {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Uuid::from_bytes(bytes).into()
}

fn promotion(name: &str, effect: Effect) -> Promotion {
    Promotion {
        id: id(name),
        name: name.to_owned(),
        code: None,
        effect,
        applies_to: Selection::default(),
        min_subtotal: None,
        starts_at: None,
        ends_at: None,
        usage_limit: None,
        per_customer_limit: None,
        combinable: false,
        priority: 0,
        active: true,
        used: 0,
    }
}

fn set(names: &str) -> BTreeSet<String> {
    names.split('|').map(str::to_owned).collect()
}

/// Checks what holds for every breakdown.
fn assert_adds_up(basket: &Basket<'_>, rules: &PricingRules, found: &Breakdown) {
    let exact = |money: Money| money.exact_minor_units();
    let lines: Vec<LineAmounts> = (0..basket.lines.len()).map(|at| found.line(at)).collect();
    for (line, amounts) in basket.lines.iter().zip(&lines) {
        assert!(!amounts.discount.exceeds(line.total()), "a line is below 0");
    }
    let discounts: i128 = found.discounts.iter().map(|discount| exact(discount.amount)).sum();
    let line_discounts: i128 = lines.iter().map(|line| exact(line.discount)).sum();
    let shipping = found.shipping.as_ref().map_or(0, |shipping| exact(shipping.amount));
    let of_shipping = discounts - line_discounts;
    assert!(of_shipping == 0 || of_shipping == shipping, "the goods' discounts are on the lines");
    let taxes: i128 = found.taxes.iter().map(|tax| exact(tax.amount)).sum();
    let line_taxes: i128 = lines.iter().map(|line| exact(line.tax)).sum();
    let shipping_tax = found.shipping.as_ref().and_then(|shipping| shipping.tax).map_or(0, exact);
    assert_eq!(taxes, line_taxes + shipping_tax);
    let added = if rules.prices_include_tax() { 0 } else { taxes };
    assert_eq!(exact(found.total), exact(found.subtotal) - discounts + shipping + added);
    assert!(found.taxes.iter().all(|tax| tax.included == rules.prices_include_tax()));
    let applied = found.codes.iter().filter(|code| code.refusal.is_none()).count();
    let with_code = found.discounts.iter().filter(|discount| discount.code.is_some()).count();
    assert_eq!(applied, with_code, "codes that are applied are those of the discounts");
}

#[test]
fn large_baskets_have_no_discount_but_an_exact_total() {
    let currency = "EUR".parse().unwrap();
    let price_of = Money::from_minor_units(10_000_000_000_000, currency).unwrap();
    let rules = PricingRules::new(
        vec![Arc::new(promotion("P", Effect::AmountOff(price_of)))],
        Vec::new(),
        Vec::new(),
        false,
    );
    let total = |quantity| {
        let lines = [BasketLine::plain(id("A"), quantity, price_of)];
        let found = price(&Basket::of_lines(&lines, currency), &rules, NOW);
        assert_adds_up(&Basket::of_lines(&lines, currency), &rules, &found);
        found.total.exact_minor_units() / 10_000_000_000_000
    };
    assert_eq!([2, 10_000, 10_001].map(total), [1, 9_999, 10_001]);
    assert_eq!(total(u32::MAX), i128::from(u32::MAX));
}

#[test]
fn limit_of_one_buyer_counts_what_is_known_of_them() {
    let currency = "EUR".parse().unwrap();
    let off = Effect::PercentOff(Percentage::parse("10").unwrap());
    let limited = Promotion {
        per_customer_limit: Some(2),
        code: Some("twice".into()),
        ..promotion("P", off)
    };
    let rules = PricingRules::new(vec![Arc::new(limited)], Vec::new(), Vec::new(), false);
    let lines = [BasketLine::plain(id("A"), 1, Money::parse("10", currency).unwrap())];
    let codes = ["TWICE".to_owned()];
    let outcome = |uses: Option<u32>| {
        let uses = uses.map(|uses| HashMap::from([(id("P"), uses)]));
        let basket = Basket {
            codes: &codes,
            buyer_uses: uses.as_ref(),
            ..Basket::of_lines(&lines, currency)
        };
        let found = price(&basket, &rules, NOW);
        (found.codes[0].refusal, found.total.to_string())
    };
    assert_eq!(outcome(None), (None, "9.00".into()));
    assert_eq!(outcome(Some(1)), (None, "9.00".into()));
    assert_eq!(outcome(Some(2)), (Some(CodeRefusal::PerCustomerLimit), "10.00".into()));
}

#[test]
fn shipping_offers_are_what_each_method_would_cost() {
    let currency = "EUR".parse().unwrap();
    let money = |text| Money::parse(text, currency).unwrap();
    let method = |name: &str, price, countries: Option<&str>| {
        Arc::new(ShippingMethod {
            id: id(name),
            name: name.into(),
            countries: countries.map(set),
            price: money(price),
            free_from: Some(money("30")),
            per_kg: None,
            active: name != "Off",
        })
    };
    let methods = vec![
        method("Fast", "9", None),
        method("Slow", "4", None),
        method("Near", "1", Some("AT|CH")),
        method("Off", "1", None),
    ];
    let rules = PricingRules::new(Vec::new(), methods, Vec::new(), false);
    let lines = [BasketLine::plain(id("A"), 1, money("30"))];
    let to =
        |country: &str| Destination { country: country.into(), region: None, postal_code: None };
    let offers = |country, goods| {
        let destination = to(country);
        let basket =
            Basket { destination: Some(&destination), ..Basket::of_lines(&lines, currency) };
        let offers = shipping_offers(&basket, &rules, money(goods));
        let shown = |offer: ShippingOffer| format!("{} {}", offer.name, offer.amount);
        offers.into_iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(offers("DE", "29.99"), ["Slow 4.00", "Fast 9.00"]);
    assert_eq!(offers("CH", "29.99"), ["Near 1.00", "Slow 4.00", "Fast 9.00"]);
    assert_eq!(offers("DE", "30"), ["Fast 0.00", "Slow 0.00"]);
    assert!(shipping_offers(&Basket::of_lines(&lines, currency), &rules, money("1")).is_empty());
}
