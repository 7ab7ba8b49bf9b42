//! The table of examples. `examples.py` works out the same with fractions, and some of them with
//! plain formulas.

use std::collections::HashMap;

use super::*;

/// A row of the table, by column.
type Row = HashMap<String, String>;

/// An item of a cell: its name, further words and options.
struct Item<'a> {
    name: &'a str,
    words: Vec<&'a str>,
    options: HashMap<&'a str, &'a str>,
}

fn items(cell: &str) -> impl Iterator<Item = Item<'_>> {
    cell.split(';').filter(|item| !item.trim().is_empty()).map(|item| {
        let mut words = item.split_whitespace();
        let name = words.next().unwrap();
        let (options, words): (Vec<_>, Vec<_>) = words.partition(|word| word.contains('='));
        let options = options.into_iter().map(|option| option.split_once('=').unwrap()).collect();
        Item { name, words, options }
    })
}

impl<'a> Item<'a> {
    fn option(&self, name: &str) -> Option<&'a str> {
        self.options.get(name).copied()
    }

    fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(&self, name: &str) -> Option<T> {
        self.option(name).map(|text| text.parse().unwrap())
    }

    fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }
}

/// A line that owns what a [`BasketLine`] borrows.
struct Line {
    name: String,
    quantity: u32,
    unit_price: Money,
    category: Option<String>,
    tags: Vec<String>,
    tax_class: Option<String>,
    weight_grams: u32,
}

impl Line {
    fn in_basket(&self) -> BasketLine<'_> {
        BasketLine {
            product_id: id(&self.name),
            quantity: self.quantity,
            unit_price: self.unit_price,
            category: self.category.as_deref(),
            tags: &self.tags,
            tax_class: self.tax_class.as_deref(),
            weight_grams: self.weight_grams,
        }
    }
}

fn lines(cell: &str, currency: Currency) -> Vec<Line> {
    let mut lines = Vec::new();
    for item in items(cell) {
        let (name, count) = item.name.split_once('*').unwrap_or((item.name, "1"));
        let many = item.name.contains('*');
        for at in 1..=count.parse::<u32>().unwrap() {
            lines.push(Line {
                name: if many { format!("{name}{at:03}") } else { name.to_owned() },
                quantity: item.words[0].parse().unwrap(),
                unit_price: Money::parse(item.words[2], currency).unwrap(),
                category: item.option("cat").map(str::to_owned),
                tags: item.option("tags").map(set).unwrap_or_default().into_iter().collect(),
                tax_class: item.option("class").map(str::to_owned),
                weight_grams: item.number("grams").unwrap_or(0),
            });
        }
    }
    lines
}

fn effect(text: &str, currency: Currency) -> Effect {
    let percent = |text: &str| Percentage::parse(text.trim_end_matches('%')).unwrap();
    if text == "free" {
        Effect::FreeShipping
    } else if let Some(amount) = text.strip_prefix('-') {
        Effect::AmountOff(Money::parse(amount, currency).unwrap())
    } else if let Some((counts, off)) = text.split_once('@') {
        let (buy, get) = counts.split_once('+').unwrap();
        let percent_off = percent(off);
        Effect::BuyGet { buy: buy.parse().unwrap(), get: get.parse().unwrap(), percent_off }
    } else {
        Effect::PercentOff(percent(text))
    }
}

fn parse_promotion(item: &Item<'_>, currency: Currency) -> Arc<Promotion> {
    let moment = |name| item.number(name).map(Timestamp::from_millis);
    let names = |name| item.option(name).map(set).unwrap_or_default();
    Arc::new(Promotion {
        code: item.option("code").map(str::to_owned),
        applies_to: Selection {
            product_ids: names("on").iter().map(|name| id(name)).collect(),
            categories: names("cat"),
            tags: names("tag"),
        },
        min_subtotal: item.option("min").map(|text| Money::parse(text, currency).unwrap()),
        starts_at: moment("from"),
        ends_at: moment("to"),
        usage_limit: item.number("limit"),
        used: item.number("used").unwrap_or(0),
        combinable: item.has("combinable"),
        active: !item.has("inactive"),
        priority: item.number("prio").unwrap_or(0),
        ..promotion(item.name, effect(item.words[0], currency))
    })
}

fn parse_method(item: &Item<'_>, currency: Currency) -> Arc<ShippingMethod> {
    let money = |text| Money::parse(text, currency).unwrap();
    Arc::new(ShippingMethod {
        id: id(item.name),
        name: item.name.to_owned(),
        countries: item.option("in").map(set),
        price: money(item.words[0]),
        free_from: item.option("free_from").map(money),
        per_kg: item.option("per_kg").map(money),
        active: true,
    })
}

fn parse_rate(item: &Item<'_>) -> Arc<TaxRate> {
    Arc::new(TaxRate {
        id: id(item.name),
        name: item.name.to_owned(),
        country: item.words[1].to_owned(),
        region: item.option("region").map(str::to_owned),
        tax_class: item.option("class").map(str::to_owned),
        rate: item.words[0].parse().unwrap(),
    })
}

fn destination(text: &str) -> Option<Destination> {
    let (country, region) = text.split_once('-').unwrap_or((text, ""));
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Some(Destination { country: some(country)?, region: some(region), postal_code: None })
}

/// The columns of results, as they are for this breakdown.
fn results(basket: &Basket<'_>, found: &Breakdown) -> [(&'static str, String); 7] {
    let name = |id: Uuid| {
        let bytes = id.into_bytes();
        String::from_utf8(bytes.into_iter().take_while(|byte| *byte > 0).collect()).unwrap()
    };
    let list = |parts: Vec<String>| parts.join("; ");
    let per_line = |amount: fn(LineAmounts) -> Money| {
        let amounts = basket
            .lines
            .iter()
            .enumerate()
            .map(|(at, line)| (name(line.product_id.as_uuid()), amount(found.line(at))));
        let mut amounts: Vec<_> =
            amounts.filter(|(_, amount)| amount.exact_minor_units() > 0).collect();
        amounts.sort_by(|a, b| a.0.cmp(&b.0));
        list(amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect())
    };
    let discounts = found.discounts.iter().map(|given| format!("{}={}", given.name, given.amount));
    let reason = |code: &CodeOutcome| {
        let reason = code.refusal.map_or("applied", CodeRefusal::as_str);
        format!("{}={reason}", code.code.to_lowercase())
    };
    let shipping = found.shipping.iter().map(|method| format!("{}={}", method.name, method.amount));
    let taxes = found.taxes.iter().map(|tax| format!("{} {}={}", tax.name, tax.rate, tax.amount));
    [
        ("discounts", list(discounts.collect())),
        ("line_discounts", per_line(|line| line.discount)),
        ("reasons", list(found.codes.iter().map(reason).collect())),
        ("shipping", list(shipping.collect())),
        ("taxes", list(taxes.collect())),
        ("line_taxes", per_line(|line| line.tax)),
        ("total", found.total.to_string()),
    ]
}

fn check(row: &Row) {
    let cell = |column: &str| row[column].as_str();
    let currency = cell("currency").parse().unwrap();
    let rules = PricingRules::new(
        items(cell("promotions")).map(|item| parse_promotion(&item, currency)).collect(),
        items(cell("methods")).map(|item| parse_method(&item, currency)).collect(),
        items(cell("rates")).map(|item| parse_rate(&item)).collect(),
        cell("prices") == "gross",
    );
    let lines = lines(cell("lines"), currency);
    let lines: Vec<BasketLine<'_>> = lines.iter().map(Line::in_basket).collect();
    let codes: Vec<String> = cell("codes").split_whitespace().map(str::to_owned).collect();
    let destination = destination(cell("to"));
    let basket = Basket {
        codes: &codes,
        destination: destination.as_ref(),
        method: Some(cell("method")).filter(|name| !name.is_empty()).map(id),
        ..Basket::of_lines(&lines, currency)
    };
    let found = price(&basket, &rules, NOW);
    for (column, result) in results(&basket, &found) {
        assert_eq!(result, cell(column), "{}: {column}", cell("example"));
    }
    assert_adds_up(&basket, &rules, &found);
    let example = cell("example");
    assert_eq!(found.unreachable, example == "no method serves the country", "{example}");
}

#[test]
fn examples_come_to_what_the_table_says() {
    let mut table = csv::Reader::from_reader(&include_bytes!("examples.csv")[..]);
    let rows: Vec<Row> = table.deserialize().collect::<Result<_, _>>().unwrap();
    assert!(rows.len() >= 60, "{} examples", rows.len());
    rows.iter().for_each(check);
}
