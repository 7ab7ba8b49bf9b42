//! Exact money: integer minor units and an ISO 4217 currency, never a float.

mod decimal;

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

pub(super) use self::decimal::parse_scaled;

/// The largest amount that a client can send and that a cart or an order can come to, in minor
/// units: the largest integer that an IEEE 754 double tells from its neighbors (2^53 - 1,
/// `Number.MAX_SAFE_INTEGER` in ECMAScript).
pub const MAX_MINOR_UNITS: i64 = 9_007_199_254_740_991;

/// The highest price of one unit, in minor units.
pub const MAX_PRICE_MINOR_UNITS: i64 = 10_000_000_000_000;

/// The largest amount in minor units for which `minor / scale`, as a double, has the amount's own
/// decimal digits as its shortest form: a double keeps 15 significant digits (`f64::DIGITS`).
const MAX_DOUBLE_MINOR_UNITS: i64 = 999_999_999_999_999;

/// An ISO 4217 currency.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency {
    code: [u8; 3],
    decimals: u8,
}

impl Currency {
    /// The currency's three-letter code.
    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.code).unwrap_or_default()
    }

    /// How many decimals an amount may have: 2 for USD, 0 for JPY, 3 for KWD.
    #[must_use]
    pub const fn decimals(&self) -> u8 {
        self.decimals
    }

    /// Minor units in one major unit.
    const fn minor_per_major(&self) -> i128 {
        10_i128.pow(self.decimals as u32)
    }
}

impl FromStr for Currency {
    type Err = UnknownCurrency;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownCurrency(code.to_owned());
        let known = iso_currency::Currency::from_code(code).ok_or_else(unknown)?;
        let decimals = known.exponent().and_then(|n| u8::try_from(n).ok()).ok_or_else(unknown)?;
        let code = <[u8; 3]>::try_from(code.as_bytes()).map_err(|_| unknown())?;
        Ok(Self { code, decimals })
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// The error for a code that is not in ISO 4217 or has no minor unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an ISO 4217 currency with minor units")]
pub struct UnknownCurrency(String);

/// An amount of money, 0 or more minor units of a currency.
///
/// An amount that was read is at most [`MAX_MINOR_UNITS`]. A sum or product can be larger, for
/// example when prices rise while products are in a cart, and is exact all the same: 128 bits hold
/// 2^32 units at the highest price, 2^42 times over. [`Money::is_within_limit`] tells the two
/// apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Money {
    minor: i128,
    currency: Currency,
}

/// The reason a number is not a valid amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not a JSON number.
    #[error("not a number")]
    NotANumber,
    /// Below zero.
    #[error("below zero")]
    Negative,
    /// More decimals than the currency has.
    #[error("more decimals than the currency has")]
    TooPrecise,
    /// Above [`MAX_MINOR_UNITS`].
    #[error("too large")]
    TooLarge,
}

impl Money {
    /// Zero in `currency`.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self { minor: 0, currency }
    }

    /// `minor` minor units of `currency`.
    ///
    /// # Errors
    /// Below zero, or above [`MAX_MINOR_UNITS`].
    pub const fn from_minor_units(minor: i64, currency: Currency) -> Result<Self, MoneyError> {
        if minor < 0 {
            Err(MoneyError::Negative)
        } else if minor > MAX_MINOR_UNITS {
            Err(MoneyError::TooLarge)
        } else {
            Ok(Self { minor: minor as i128, currency })
        }
    }

    /// Reads a JSON number (RFC 8259, section 6) exactly: `99.99`, `1e2`, `5.00`.
    ///
    /// # Errors
    /// Not a number, negative, more decimals than the currency has, or too large.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        Self::from_minor_units(parse_scaled(text, currency.decimals)?, currency)
    }

    /// `minor` minor units of `currency`; 0 for a negative number.
    pub(super) const fn from_exact(minor: i128, currency: Currency) -> Self {
        Self { minor: if minor > 0 { minor } else { 0 }, currency }
    }

    /// The amount in minor units, also above [`MAX_MINOR_UNITS`].
    pub(super) const fn exact_minor_units(self) -> i128 {
        self.minor
    }

    /// The amount in minor units, such as cents for USD; `i64::MAX` for an amount that is larger,
    /// which no price and no amount [within the limit](Self::is_within_limit) is.
    #[must_use]
    pub fn minor_units(self) -> i64 {
        i64::try_from(self.minor).unwrap_or(i64::MAX)
    }

    /// The amount in whole major units, and the billionths of one beyond.
    #[must_use]
    pub fn units_and_nanos(self) -> (i128, i32) {
        let scale = self.currency.minor_per_major();
        // No currency has more than four decimals, so this is exact and below 10^9.
        let nanos = self.minor % scale * (1_000_000_000 / scale);
        (self.minor / scale, i32::try_from(nanos).unwrap_or_default())
    }

    /// Whether the amount is at most [`MAX_MINOR_UNITS`].
    #[must_use]
    pub const fn is_within_limit(self) -> bool {
        self.minor <= MAX_MINOR_UNITS as i128
    }

    /// Whether the amount is more than `other`, of the same currency.
    #[must_use]
    pub const fn exceeds(self, other: Self) -> bool {
        self.minor > other.minor
    }

    /// The amount's currency.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// The sum. It is exact, also above [`MAX_MINOR_UNITS`].
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self { minor: self.minor.saturating_add(other.minor), ..self }
    }

    /// The difference, at least 0.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        let minor = self.minor.saturating_sub(other.minor);
        Self { minor: if minor < 0 { 0 } else { minor }, ..self }
    }

    /// `count` times the amount. It is exact, also above [`MAX_MINOR_UNITS`].
    #[must_use]
    pub const fn saturating_mul(self, count: u32) -> Self {
        Self { minor: self.minor.saturating_mul(count as i128), ..self }
    }
}

/// `19.99`, `500`, `1.250`: with the currency's decimals.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = self.currency.minor_per_major();
        if scale == 1 {
            return write!(f, "{}", self.minor);
        }
        let width = usize::from(self.currency.decimals);
        write!(f, "{}.{:0width$}", self.minor / scale, self.minor % scale)
    }
}

/// An exact JSON number. A double has the amount's own digits up to 15 of them; above that, the
/// digits are written as text, which needs `serde_json` as the serializer.
impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Divisions of 128 bits would take longer than the rest.
        let minor = match i64::try_from(self.minor) {
            Ok(minor) if minor <= MAX_DOUBLE_MINOR_UNITS => minor,
            _ => return self.serialize_digits(serializer),
        };
        let scale = 10_i64.pow(self.currency.decimals.into());
        if minor % scale == 0 {
            serializer.serialize_i64(minor / scale)
        } else {
            #[expect(clippy::cast_precision_loss, reason = "both are below 2^53")]
            serializer.serialize_f64(minor as f64 / scale as f64)
        }
    }
}

impl Money {
    /// Serializes an amount that a double does not hold.
    fn serialize_digits<S: Serializer>(self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = self.to_string();
        let digits = match digits.split_once('.') {
            Some(_) => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
            None => digits,
        };
        RawValue::from_string(digits).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usd() -> Currency {
        "USD".parse().unwrap()
    }

    fn parse(text: &str) -> Result<i64, MoneyError> {
        Money::parse(text, usd()).map(Money::minor_units)
    }

    #[test]
    fn parses_json_numbers_exactly() {
        for (text, minor) in [
            ("99.99", 9999),
            ("0.01", 1),
            ("5", 500),
            ("5.00", 500),
            ("1e2", 10_000),
            ("1.5E+1", 1500),
        ] {
            assert_eq!(parse(text), Ok(minor), "{text}");
        }
        for (text, minor) in [
            ("0", 0),
            ("-0.0", 0),
            ("0e99999999999999999999", 0),
            ("100e-2", 100),
            ("1.10", 110),
            ("1.100000", 110),
        ] {
            assert_eq!(parse(text), Ok(minor), "{text}");
        }
        assert_eq!(parse("90071992547409.91"), Ok(MAX_MINOR_UNITS));
    }

    #[test]
    fn rejects_invalid_amounts() {
        use MoneyError::*;
        for (text, error) in [
            ("19.999", TooPrecise),
            ("19.9900000000000000000001", TooPrecise),
            ("1e-3", TooPrecise),
            ("1e-99999999999999999999", TooPrecise),
            ("-1", Negative),
            ("-0.01", Negative),
            ("90071992547409.92", TooLarge),
            ("1e400", TooLarge),
            ("1e99999999999999999999", TooLarge),
            ("99999999999999999999999999", TooLarge),
            ("", NotANumber),
            ("\"5\"", NotANumber),
            ("null", NotANumber),
            ("1.", NotANumber),
            ("1e", NotANumber),
            ("NaN", NotANumber),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn decimals_depend_on_currency() {
        let yen: Currency = "JPY".parse().unwrap();
        assert_eq!(Money::parse("500", yen).map(Money::minor_units), Ok(500));
        assert_eq!(Money::parse("500.5", yen), Err(MoneyError::TooPrecise));
        let dinar: Currency = "KWD".parse().unwrap();
        assert_eq!(Money::parse("1.250", dinar).unwrap().to_string(), "1.250");
        assert!("usd".parse::<Currency>().is_err());
        assert!("XAU".parse::<Currency>().is_err(), "gold has no minor unit");
    }

    /// Ten thousand prices from 0.01 to 100.00, and every quantity a line may have.
    #[test]
    fn price_times_quantity_is_exact() {
        for minor in 1..=10_000_i64 {
            let text = format!("{}.{:02}", minor / 100, minor % 100);
            let price = Money::parse(&text, usd()).unwrap();
            for quantity in [1, 2, 3, 7, 10, 99, 333, 999] {
                let total = price.saturating_mul(quantity);
                assert_eq!(total.minor_units(), minor * i64::from(quantity));
                let json = serde_json::to_string(&total).unwrap();
                assert_eq!(Money::parse(&json, usd()), Ok(total), "{json}");
            }
        }
    }

    #[test]
    fn products_and_sums_are_exact_beyond_the_limit() {
        let json = |money: Money| serde_json::to_string(&money).unwrap();
        let price = Money::from_minor_units(MAX_PRICE_MINOR_UNITS, usd()).unwrap();
        let within = price.saturating_mul(900);
        assert!(within.is_within_limit());
        assert_eq!(json(within), "90000000000000");
        let limit = Money::from_minor_units(MAX_MINOR_UNITS, usd()).unwrap();
        let above = limit.saturating_add(Money::from_minor_units(9, usd()).unwrap());
        assert!(limit.is_within_limit() && !above.is_within_limit() && above.exceeds(limit));
        assert_eq!(
            (json(limit).as_str(), json(above).as_str()),
            ("90071992547409.91", "90071992547410")
        );
        let many = limit.saturating_mul(u32::MAX).saturating_add(limit);
        assert_eq!(json(many), "386856262276681292956303.36");
        let dong = Money::from_minor_units(MAX_MINOR_UNITS, "VND".parse().unwrap()).unwrap();
        assert_eq!(json(dong), "9007199254740991");
    }

    proptest! {
        #[test]
        fn json_round_trips_every_amount(minor in 0..=MAX_MINOR_UNITS) {
            let money = Money::from_minor_units(minor, usd()).unwrap();
            let json = serde_json::to_string(&money).unwrap();
            prop_assert_eq!(Money::parse(&json, usd()), Ok(money));
            if minor <= MAX_DOUBLE_MINOR_UNITS {
                let read_back: f64 = serde_json::from_str(&json).unwrap();
                prop_assert_eq!(format!("{read_back:.2}"), money.to_string());
            }
        }

        #[test]
        fn parse_never_panics(text in "\\PC*") {
            let _ = Money::parse(&text, usd());
        }
    }
}
