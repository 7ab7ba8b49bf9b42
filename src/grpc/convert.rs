//! The messages of `proto/`, from and to the types of the domain.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Number;

use super::pb;
use crate::{
    domain::{
        cart::CartError,
        catalog::{
            product::AttributeValue,
            search::{ProductFilter, TextRules, attribute_text},
        },
        clock::Timestamp,
        ids::ProductId,
        money::{Currency, Money},
        validation::ValidationErrors,
    },
    error::Error,
    events::inventory::StockData,
    input::search_text::parse_query_text,
    messages::catalog::ProductView,
};

/// The most values of one condition of a filter, and the most ids of a batch.
pub(super) const MAX_VALUES: usize = 100;

/// The most attributes of a filter.
const MAX_ATTRIBUTES: usize = 20;

/// Billionths of a major unit in one of it.
const NANOS_PER_UNIT: i32 = 1_000_000_000;

pub(super) fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let millis = at.as_millis().rem_euclid(1000);
    let nanos = i32::try_from(millis * 1_000_000).unwrap_or_default();
    prost_types::Timestamp { seconds: at.as_secs(), nanos }
}

/// # Errors
/// `total_limit` if the message cannot hold the amount.
pub(super) fn money(amount: Money) -> Result<pb::Money, Error> {
    let (units, nanos) = amount.units_and_nanos();
    let units = i64::try_from(units).map_err(|_| Error::from(CartError::TotalLimitExceeded))?;
    Ok(pb::Money { currency_code: amount.currency().code().to_owned(), units, nanos })
}

/// # Errors
/// `total_limit` if the message cannot hold the price, which no price reaches.
pub(super) fn product(view: &ProductView) -> Result<pb::Product, Error> {
    let (product, details) = (&view.product, &view.product.details);
    let attributes = details.attributes.iter();
    Ok(pb::Product {
        id: product.id.to_string(),
        sku: details.sku.clone(),
        name: details.name.clone(),
        description: details.description.clone(),
        price: Some(money(details.price)?),
        category: details.category.clone(),
        tags: details.tags.clone(),
        image_url: details.image_url.clone(),
        attributes: attributes.map(|(name, value)| (name.clone(), attribute(value))).collect(),
        purchase_limit: details.purchase_limit,
        weight_grams: details.weight_grams,
        tax_class: details.tax_class.clone(),
        stock: view.stock.available(),
        version: product.version,
        created_at: Some(timestamp(product.created_at)),
        updated_at: Some(timestamp(product.updated_at)),
    })
}

fn attribute(value: &AttributeValue) -> pb::AttributeValue {
    use pb::attribute_value::Kind;
    let kind = match value {
        AttributeValue::Bool(value) => Kind::BoolValue(*value),
        AttributeValue::Text(value) => Kind::StringValue(value.clone()),
        AttributeValue::Number(value) => match value.as_i64() {
            Some(whole) => Kind::IntegerValue(whole),
            None => Kind::DoubleValue(value.as_f64().unwrap_or_default()),
        },
    };
    pb::AttributeValue { kind: Some(kind) }
}

pub(super) fn stock(stock: &StockData) -> pb::Stock {
    pb::Stock {
        product_id: stock.product_id.to_string(),
        on_hand: stock.on_hand,
        reserved: stock.reserved,
        available: stock.available,
        version: stock.version,
    }
}

/// # Errors
/// `validation_failed`
pub(super) fn product_filter(
    filter: pb::ProductFilter,
    currency: Currency,
    rules: &TextRules,
) -> Result<ProductFilter, Error> {
    let mut errors = ValidationErrors::new();
    let lengths =
        [("ids", filter.ids.len()), ("category", filter.category.len()), ("tag", filter.tag.len())];
    for (field, length) in lengths {
        check_length(field, length, &mut errors);
    }
    let parsed = ProductFilter {
        text: rules.parse_query(parse_query_text(&filter.q, &mut errors)),
        ids: filter.ids.iter().filter_map(|id| product_id(id, &mut errors)).collect(),
        categories: filter.category.into_iter().collect(),
        tags: filter.tag.into_iter().collect(),
        min_price: price_bound("min_price", filter.min_price.as_ref(), currency, &mut errors),
        max_price: price_bound("max_price", filter.max_price.as_ref(), currency, &mut errors),
        in_stock: filter.in_stock,
        attributes: attribute_filter(filter.attributes, &mut errors),
    };
    Ok(errors.into_result(parsed)?)
}

/// Limits the values of a repeated field.
pub(super) fn check_length(field: &str, length: usize, errors: &mut ValidationErrors) {
    if length > MAX_VALUES {
        let message = format!("{field} has {length} values; at most {MAX_VALUES} are allowed");
        errors.add(field, "too_many", message);
    }
}

/// An id that must be well-formed: without it, a filter would match everything.
fn product_id(id: &str, errors: &mut ValidationErrors) -> Option<ProductId> {
    let parsed = id.parse().ok();
    if parsed.is_none() {
        errors.add("ids", "invalid", "ids must be UUIDs");
    }
    parsed
}

/// For each attribute, its values as the catalog compares them.
fn attribute_filter(
    attributes: HashMap<String, pb::AttributeValues>,
    errors: &mut ValidationErrors,
) -> BTreeMap<String, BTreeSet<String>> {
    if attributes.len() > MAX_ATTRIBUTES {
        let (count, max) = (attributes.len(), MAX_ATTRIBUTES);
        let message = format!("{count} attributes; at most {max} are allowed");
        errors.add("attributes", "too_many", message);
        return BTreeMap::new();
    }
    let total = attributes.values().map(|attribute| attribute.values.len()).sum();
    check_length("attributes", total, errors);
    let mut filter = BTreeMap::new();
    for (name, pb::AttributeValues { values }) in attributes {
        let texts: Option<BTreeSet<_>> = values.into_iter().map(attribute_value_text).collect();
        // Without a value, the condition would mean nothing or everything.
        match texts.filter(|texts| !texts.is_empty()) {
            Some(texts) => drop(filter.insert(name, texts)),
            None => errors.add("attributes", "invalid", format!("{name} has no value to compare")),
        }
    }
    filter
}

/// `None` for a message without a value, and for what no product's value can be.
fn attribute_value_text(value: pb::AttributeValue) -> Option<String> {
    use pb::attribute_value::Kind;
    let value = match value.kind? {
        Kind::StringValue(text) => AttributeValue::Text(text),
        Kind::BoolValue(flag) => AttributeValue::Bool(flag),
        Kind::IntegerValue(whole) => AttributeValue::Number(whole.into()),
        Kind::DoubleValue(number) => AttributeValue::Number(Number::from_f64(number)?),
    };
    Some(attribute_text(&value))
}

/// A price bound, in minor units.
fn price_bound(
    field: &str,
    bound: Option<&pb::Money>,
    currency: Currency,
    errors: &mut ValidationErrors,
) -> Option<i64> {
    let bound = bound?;
    if bound.currency_code != currency.code() {
        let message = format!("{field} must be in {}, the shop's currency", currency.code());
        errors.add(field, "invalid", message);
        return None;
    }
    if bound.units < 0 || !(0..NANOS_PER_UNIT).contains(&bound.nanos) {
        let message =
            format!("{field} must have units and nanos of 0 or more, and nanos below 1e9");
        errors.add(field, "out_of_range", message);
        return None;
    }
    match Money::parse(&format!("{}.{:09}", bound.units, bound.nanos), currency) {
        Ok(money) => Some(money.minor_units()),
        Err(error) => {
            errors.add(field, "invalid", format!("{field} is not a valid amount: {error}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{domain::catalog::search::CatalogLanguage, error::ErrorCode};

    fn amount(text: &str, currency: &str) -> Money {
        Money::parse(text, currency.parse().unwrap()).unwrap()
    }

    #[test]
    fn money_is_exact_in_every_currency() {
        let parts = |text: &str, currency: &str| {
            let money = money(amount(text, currency)).unwrap();
            assert_eq!(money.currency_code, currency);
            (money.units, money.nanos)
        };
        assert_eq!(parts("19.99", "USD"), (19, 990_000_000));
        assert_eq!(parts("0.01", "USD"), (0, 10_000_000));
        assert_eq!(parts("500", "JPY"), (500, 0));
        assert_eq!(parts("1.005", "KWD"), (1, 5_000_000));
        assert_eq!(parts("90071992547409.91", "USD"), (90_071_992_547_409, 910_000_000));
        let too_much =
            (0..4).fold(amount("90071992547409.91", "USD"), |sum, _| sum.saturating_mul(u32::MAX));
        assert_eq!(money(too_much).unwrap_err().code, ErrorCode::TotalLimit);
    }

    #[test]
    fn times_have_milliseconds() {
        let time = |millis| timestamp(Timestamp::from_millis(millis));
        let expected = |seconds, nanos| prost_types::Timestamp { seconds, nanos };
        assert_eq!(time(1_767_225_600_120), expected(1_767_225_600, 120_000_000));
        assert_eq!(time(-1), expected(-1, 999_000_000));
    }

    #[test]
    fn filter_is_parsed_and_every_error_is_reported() {
        let usd: Currency = "USD".parse().unwrap();
        let rules = TextRules::new(&CatalogLanguage::default());
        let product_filter = |filter| product_filter(filter, usd, &rules);
        let bound = |currency: &str, units, nanos| {
            Some(pb::Money { currency_code: currency.to_owned(), units, nanos })
        };
        let id = ProductId::new();
        let filter = pb::ProductFilter {
            q: "Mint tea mint".into(),
            ids: vec![id.to_string()],
            min_price: bound("USD", 4, 500_000_000),
            in_stock: Some(true),
            ..pb::ProductFilter::default()
        };
        let parsed = product_filter(filter).unwrap();
        assert_eq!(parsed.text, rules.parse_query("Mint tea mint"));
        assert_eq!(parsed.ids, BTreeSet::from([id]));
        assert_eq!(
            (parsed.min_price, parsed.max_price, parsed.in_stock),
            (Some(450), None, Some(true))
        );
        for min_price in
            [bound("EUR", 1, 0), bound("USD", -1, 0), bound("USD", 1, -1), bound("USD", 1, 1)]
        {
            let filter = pb::ProductFilter { min_price, ..pb::ProductFilter::default() };
            assert_eq!(product_filter(filter).unwrap_err().field_errors[0].field, "min_price");
        }
        let bad = pb::ProductFilter {
            q: "x".repeat(201),
            ids: vec!["7".into()],
            tag: vec![String::new(); 101],
            ..pb::ProductFilter::default()
        };
        let errors = product_filter(bad).unwrap_err().field_errors;
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["tag", "q", "ids"]);
    }

    #[test]
    fn attributes_are_compared_as_the_catalog_does() {
        use pb::attribute_value::Kind;
        let parse = |attributes: &[(&str, &[Option<Kind>])]| {
            let mut errors = ValidationErrors::new();
            let values = |kinds: &[Option<Kind>]| pb::AttributeValues {
                values: kinds
                    .iter()
                    .map(|kind| pb::AttributeValue { kind: kind.clone() })
                    .collect(),
            };
            let attributes = attributes.iter().map(|(name, kinds)| ((*name).into(), values(kinds)));
            let parsed = attribute_filter(attributes.collect(), &mut errors);
            errors.into_result(parsed).map_err(|error| Error::from(error).field_errors)
        };
        let text = |text: &str| Some(Kind::StringValue(text.into()));
        let size = [text("S"), Some(Kind::IntegerValue(42)), Some(Kind::DoubleValue(42.0))];
        let parsed =
            parse(&[("size", &size[..]), ("new", &[Some(Kind::BoolValue(true))][..])]).unwrap();
        assert_eq!(parsed["size"], ["42", "S"].map(str::to_owned).into());
        assert_eq!(parsed["new"], ["true".to_owned()].into());
        let nan = [Some(Kind::DoubleValue(f64::NAN))];
        for (kinds, code) in [
            (&[][..], "invalid"),
            (&[None][..], "invalid"),
            (&nan[..], "invalid"),
            (&vec![text("S"); 101][..], "too_many"),
        ] {
            let errors = parse(&[("size", kinds)]).unwrap_err();
            assert_eq!((errors[0].field.as_str(), errors[0].code), ("attributes", code));
        }
        let names: Vec<_> = (0..21).map(|number| number.to_string()).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), &nan[..])).collect();
        assert_eq!(parse(&many).unwrap_err()[0].code, "too_many");
    }
}
