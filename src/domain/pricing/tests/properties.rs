//! What holds for every basket and all rules.

use proptest::prelude::*;

use super::*;

/// What a random case is made of.
#[derive(Debug, Clone)]
struct Case {
    /// Quantity, price in cents, category, tax class and weight of each line.
    lines: Vec<(u32, i64, u8, u8, u32)>,
    promotions: Vec<Promotion>,
    methods: Vec<ShippingMethod>,
    rates: Vec<TaxRate>,
    codes: Vec<String>,
    destination: Option<Destination>,
    prices_include_tax: bool,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
static TAGS: std::sync::LazyLock<Vec<String>> =
    std::sync::LazyLock::new(|| NAMES.map(str::to_owned).to_vec());

fn euro() -> Currency {
    "EUR".parse().unwrap()
}

fn cents(minor: i64) -> Money {
    Money::from_minor_units(minor, euro()).unwrap()
}

fn effects() -> impl Strategy<Value = Effect> {
    let percentage = || (1..=10_000_u16).prop_map(|of| Percentage::from_hundredths(of).unwrap());
    prop_oneof![
        percentage().prop_map(Effect::PercentOff),
        (1..50_000_i64).prop_map(|amount| Effect::AmountOff(cents(amount))),
        Just(Effect::FreeShipping),
        (1..4_u32, 1..4_u32, percentage()).prop_map(|(buy, get, percent_off)| Effect::BuyGet {
            buy,
            get,
            percent_off
        }),
    ]
}

fn promotions() -> impl Strategy<Value = Vec<Promotion>> {
    let one = (effects(), any::<[bool; 4]>(), 0..3_i32, 0..4_u8, 0..2_000_i64);
    prop::collection::vec(one, 0..6).prop_map(|all| {
        let promotions = all.into_iter().enumerate();
        promotions
            .map(|(at, (effect, [coded, combinable, ended, narrow], priority, category, least))| {
                let name = format!("P{at}");
                let chosen = narrow.then(|| NAMES[usize::from(category)].to_owned());
                Promotion {
                    code: coded.then(|| name.clone()),
                    applies_to: Selection {
                        categories: chosen.iter().cloned().collect(),
                        ..Selection::default()
                    },
                    min_subtotal: Some(cents(least)),
                    ends_at: (ended && narrow).then_some(NOW),
                    combinable,
                    priority,
                    ..promotion(&name, effect)
                }
            })
            .collect()
    })
}

fn methods() -> impl Strategy<Value = Vec<ShippingMethod>> {
    let one = (0..2_000_i64, prop::option::of(0..20_000_i64), prop::option::of(0..300_i64));
    prop::collection::vec((one, any::<bool>()), 0..4).prop_map(|all| {
        let methods = all.into_iter().enumerate();
        methods
            .map(|(at, ((price, free_from, per_kg), everywhere))| ShippingMethod {
                id: id(&format!("M{at}")),
                name: format!("M{at}"),
                countries: (!everywhere).then(|| set("DE|US")),
                price: cents(price),
                free_from: free_from.map(cents),
                per_kg: per_kg.map(cents),
                active: true,
            })
            .collect()
    })
}

fn rates() -> impl Strategy<Value = Vec<TaxRate>> {
    let class = prop::option::of(prop::sample::select(vec!["a", "b", SHIPPING_TAX_CLASS]));
    let one = (0..=1_000_000_u32, any::<bool>(), class, prop::sample::select(vec!["DE", "US"]));
    prop::collection::vec(one, 0..6).prop_map(|all| {
        let rates = all.into_iter().enumerate();
        rates
            .map(|(at, (rate, regional, class, country))| TaxRate {
                id: id(&format!("T{at}")),
                name: format!("T{}", at % 2),
                country: country.to_owned(),
                region: regional.then(|| "NY".to_owned()),
                tax_class: class.map(str::to_owned),
                rate: Rate::from_millionths(rate).unwrap(),
            })
            .collect()
    })
}

fn destinations() -> impl Strategy<Value = Option<Destination>> {
    let country = prop::sample::select(vec!["DE", "US", "FR"]);
    let place = (country, any::<bool>()).prop_map(|(country, regional)| Destination {
        country: country.to_owned(),
        region: regional.then(|| "NY".to_owned()),
        postal_code: None,
    });
    prop::option::of(place)
}

fn cases() -> impl Strategy<Value = Case> {
    let line = (1..12_u32, 0..5_000_i64, 0..4_u8, 0..3_u8, 0..2_000_u32);
    let codes = prop::sample::subsequence(vec!["p0", "p1", "p2", "p3", "gone"], 0..=5);
    let parts = (
        prop::collection::vec(line, 0..12),
        promotions(),
        methods(),
        rates(),
        codes,
        destinations(),
        any::<bool>(),
    );
    parts.prop_map(|(lines, promotions, methods, rates, codes, destination, included)| Case {
        lines,
        promotions,
        methods,
        rates,
        codes: codes.into_iter().map(str::to_owned).collect(),
        destination,
        prices_include_tax: included,
    })
}

impl Case {
    fn rules(&self) -> PricingRules {
        PricingRules::new(
            self.promotions.iter().cloned().map(Arc::new).collect(),
            self.methods.iter().cloned().map(Arc::new).collect(),
            self.rates.iter().cloned().map(Arc::new).collect(),
            self.prices_include_tax,
        )
    }

    fn basket_lines(&self) -> Vec<BasketLine<'static>> {
        let mut lines = Vec::new();
        for (at, (quantity, price, category, class, grams)) in self.lines.iter().enumerate() {
            let (category, class) = (usize::from(*category), usize::from(*class));
            lines.push(BasketLine {
                product_id: id(&format!("L{at:03}")),
                quantity: *quantity,
                unit_price: cents(*price),
                category: Some(NAMES[category]),
                tags: &TAGS[..category],
                tax_class: (class < 2).then(|| NAMES[class]),
                weight_grams: *grams,
            });
        }
        lines
    }

    fn basket<'a>(&'a self, lines: &'a [BasketLine<'a>]) -> Basket<'a> {
        Basket {
            codes: &self.codes,
            destination: self.destination.as_ref(),
            ..Basket::of_lines(lines, euro())
        }
    }

    fn price(&self, lines: &[BasketLine<'_>]) -> Breakdown {
        price(&self.basket(lines), &self.rules(), NOW)
    }

    /// The same case with promotions that all take their codes, which are given. A promotion that
    /// was on a category is on that, on tags, on products, or on all of these.
    fn with_codes(mut self, kinds: [u8; 6]) -> Self {
        for (promotion, kind) in self.promotions.iter_mut().zip(kinds) {
            let names = std::mem::take(&mut promotion.applies_to.categories);
            if let (Some(name), 1 | 3) = (names.first(), kind) {
                promotion.applies_to.tags = [name.clone(), "a".to_owned()].into();
            }
            if !names.is_empty() && kind >= 2 {
                promotion.applies_to.product_ids = [id("L000"), id("L002"), id("L100")].into();
            }
            if kind != 1 && kind != 2 {
                promotion.applies_to.categories = names;
            }
            promotion.code = Some(promotion.name.clone());
        }
        self.codes = self.promotions.iter().map(|promotion| promotion.name.clone()).collect();
        self
    }

    /// The same case with promotions that all apply by themselves.
    fn without_codes(mut self) -> Self {
        self.promotions.iter_mut().for_each(|promotion| promotion.code = None);
        self.codes.clear();
        self
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn breakdown_adds_up_and_nothing_is_negative(case in cases()) {
        let lines = case.basket_lines();
        let found = case.price(&lines);
        assert_adds_up(&case.basket(&lines), &case.rules(), &found);
        let nothing = found.discounts.iter().find(|discount| {
            discount.amount == Money::zero(euro())
        });
        prop_assert_eq!(nothing, None);
    }

    #[test]
    fn order_of_lines_makes_no_difference(case in cases(), turn in 0..12_usize) {
        let lines = case.basket_lines();
        let found = case.price(&lines);
        let mut turned = lines.clone();
        turned.rotate_left(turn.min(lines.len()));
        turned.reverse();
        let other = case.price(&turned);
        for (at, line) in turned.iter().enumerate() {
            let place = lines.iter().position(|known| known.product_id == line.product_id);
            prop_assert_eq!(other.line(at), found.line(place.unwrap()));
        }
        prop_assert_eq!(Breakdown { lines: Vec::new(), ..other },
            Breakdown { lines: Vec::new(), ..found });
    }

    // Those that apply by themselves are found by an index, the others one by one.
    #[test]
    fn promotion_gives_by_itself_what_it_gives_by_code(case in cases(), kinds in any::<[u8; 6]>()) {
        let lines = case.basket_lines();
        let given = case.with_codes(kinds.map(|kind| kind % 4));
        let [by_code, by_itself] =
            [given.clone(), given.without_codes()].map(|case| case.price(&lines));
        let without_codes = |found: Breakdown| {
            let discounts = found.discounts.into_iter();
            let discounts = discounts.map(|discount| Discount { code: None, ..discount }).collect();
            Breakdown { codes: Vec::new(), discounts, ..found }
        };
        prop_assert_eq!(without_codes(by_code), without_codes(by_itself));
    }

    #[test]
    fn rule_that_does_not_apply_changes_nothing(case in cases(), which in 0..6_usize) {
        let lines = case.basket_lines();
        let mut more = case.clone();
        let all = Effect::PercentOff(Percentage::from_hundredths(10_000).unwrap());
        let free = promotion("X", all);
        match which {
            0 => more.promotions.push(Promotion { code: Some("never".into()), ..free }),
            1 => more.promotions.push(Promotion { ends_at: Some(NOW), ..free }),
            2 => more.promotions.push(Promotion { usage_limit: Some(1), used: 1, ..free }),
            3 => more.promotions.push(Promotion { active: false, ..free }),
            4 => more.methods.push(ShippingMethod {
                id: id("X"), name: "X".into(), countries: Some(set("JP")), price: cents(0),
                free_from: None, per_kg: None, active: true,
            }),
            _ => more.rates.push(TaxRate {
                id: id("X"), name: "X".into(), country: "JP".into(), region: None,
                tax_class: None, rate: Rate::from_millionths(1_000_000).unwrap(),
            }),
        }
        let (before, mut after) = (case.price(&lines), more.price(&lines));
        // A shop with a method for another country is one that ships.
        after.unreachable = before.unreachable;
        prop_assert_eq!(before, after);
    }
}
