//! Amounts as the provider counts them.

use crate::domain::money::{Currency, Money};

/// The currencies that Stripe counts in whole units, although ISO 4217 may give them decimals.
const WHOLE: [&str; 15] = [
    "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF",
    "XOF", "XPF",
];

/// The currencies that Stripe counts in thousandths, of which the last digit must be 0.
const THOUSANDTHS: [&str; 5] = ["BHD", "JOD", "KWD", "OMR", "TND"];

/// The currencies that Stripe counts in hundredths and takes in whole units only.
const WHOLE_IN_HUNDREDTHS: [&str; 2] = ["ISK", "UGX"];

/// The smallest amounts that Stripe charges, in its own units.
const MINIMUMS: [(&str, i64); 21] = [
    ("AED", 200),
    ("AUD", 50),
    ("BRL", 50),
    ("CAD", 50),
    ("CHF", 50),
    ("CZK", 1500),
    ("DKK", 250),
    ("EUR", 50),
    ("GBP", 30),
    ("HKD", 400),
    ("HUF", 17_500),
    ("INR", 50),
    ("JPY", 50),
    ("MXN", 1000),
    ("MYR", 200),
    ("NOK", 300),
    ("NZD", 50),
    ("PLN", 200),
    ("RON", 200),
    ("SEK", 300),
    ("USD", 50),
];

/// The currency as the provider names it.
#[must_use]
pub fn provider_currency(currency: Currency) -> String {
    currency.code().to_ascii_lowercase()
}

/// The decimals in which Stripe counts a currency.
fn provider_decimals(code: &str) -> u32 {
    if WHOLE.contains(&code) {
        0
    } else if THOUSANDTHS.contains(&code) {
        3
    } else {
        2
    }
}

/// An amount in the provider's units, which are at least as fine as the shop's except for
/// thousandths.
#[must_use]
pub fn provider_units(amount: Money) -> i64 {
    let (units, ours) = (amount.minor_units(), u32::from(amount.currency().decimals()));
    let theirs = provider_decimals(amount.currency().code());
    match theirs.checked_sub(ours) {
        Some(more) => units.saturating_mul(10_i64.saturating_pow(more)),
        None => units / 10_i64.saturating_pow(ours - theirs),
    }
}

/// An amount in the provider's units. `None` if the provider does not charge it.
#[must_use]
pub fn provider_amount(amount: Money) -> Option<i64> {
    let currency = amount.currency();
    let code = currency.code();
    let units = provider_units(amount);
    if shop_amount(units, &provider_currency(amount.currency()), amount.currency()) != Some(amount)
    {
        return None;
    }
    let step = if THOUSANDTHS.contains(&code) {
        10
    } else if WHOLE_IN_HUNDREDTHS.contains(&code) {
        100
    } else {
        1
    };
    let minimum = MINIMUMS.iter().find(|(known, _)| *known == code).map_or(1, |(_, least)| *least);
    (units % step == 0 && units >= minimum && units <= 99_999_999).then_some(units)
}

/// An amount that the provider names, in the shop's currency. `None` if it is in another one, or
/// more precise.
#[must_use]
pub fn shop_amount(units: i64, currency: &str, shop: Currency) -> Option<Money> {
    if currency != provider_currency(shop) {
        return None;
    }
    let (theirs, ours) = (provider_decimals(shop.code()), u32::from(shop.decimals()));
    let minor = match ours.checked_sub(theirs) {
        Some(more) => units.checked_mul(10_i64.checked_pow(more)?)?,
        None => {
            let scale = 10_i64.checked_pow(theirs - ours)?;
            (units % scale == 0).then_some(units / scale)?
        }
    };
    Money::from_minor_units(minor, shop).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_those_that_stripe_documents() {
        for (text, currency, expected) in [
            ("19.99", "USD", Some(1999)),
            ("0.50", "USD", Some(50)),
            ("0.49", "USD", None),
            ("500", "JPY", Some(500)),
            ("49", "JPY", None),
            ("1.230", "KWD", Some(1230)),
            ("1.234", "KWD", None),
            ("100", "ISK", Some(10_000)),
            ("1000", "VND", Some(1000)),
            ("999999.99", "EUR", Some(99_999_999)),
            ("1000000", "EUR", None),
        ] {
            let shop = currency.parse().unwrap();
            let amount = Money::parse(text, shop).unwrap();
            assert_eq!(provider_amount(amount), expected, "{text} {currency}");
            if let Some(units) = expected {
                let code = currency.to_ascii_lowercase();
                assert_eq!(shop_amount(units, &code, shop), Some(amount), "{text} {currency}");
            }
        }
        assert_eq!(shop_amount(100, "eur", "USD".parse().unwrap()), None);
    }
}
