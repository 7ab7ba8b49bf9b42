//! Percentages and tax rates, exact.

use std::{fmt, str::FromStr};

use super::rounding::divide_half_up;
use crate::domain::money::{MoneyError, parse_scaled};

/// Hundredths of one per cent in the whole.
pub(super) const HUNDREDTHS: i128 = 10_000;

/// Millionths in the whole.
pub(super) const MILLIONTHS: i128 = 1_000_000;

/// A percentage above 0 and up to 100, with at most two decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percentage(u16);

impl Percentage {
    /// A percentage in hundredths of one per cent. `None` for 0 and for more than 100 per cent.
    #[must_use]
    pub const fn from_hundredths(hundredths: u16) -> Option<Self> {
        if hundredths == 0 || hundredths > 10_000 { None } else { Some(Self(hundredths)) }
    }

    /// Reads a JSON number exactly: `10`, `12.5`, `33.33`.
    ///
    /// # Errors
    /// Not a number, 0 or less, above 100, or more than two decimals.
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        match u16::try_from(parse_scaled(text, 2)?) {
            Ok(0) => Err(MoneyError::Negative),
            Ok(hundredths) => Self::from_hundredths(hundredths).ok_or(MoneyError::TooLarge),
            Err(_) => Err(MoneyError::TooLarge),
        }
    }

    /// The percentage in hundredths of one per cent.
    #[must_use]
    pub const fn hundredths(self) -> u16 {
        self.0
    }

    /// This part of `amount / divisor`, rounded half up.
    pub(super) fn of(self, amount: i128, divisor: i128) -> i128 {
        divide_half_up(amount.saturating_mul(self.0.into()), HUNDREDTHS.saturating_mul(divisor))
    }
}

/// `10`, `12.5`, `33.33`: without trailing zeros.
impl fmt::Display for Percentage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(f, self.0.into(), 2)
    }
}

/// A tax rate from 0 to 1, with at most six decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u32);

/// The error for a text that is not a [`Rate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal number from 0 to 1 with at most six decimals")]
pub struct InvalidRate;

impl Rate {
    /// A rate in millionths. `None` above 1.
    #[must_use]
    pub const fn from_millionths(millionths: u32) -> Option<Self> {
        if millionths > 1_000_000 { None } else { Some(Self(millionths)) }
    }

    /// The rate in millionths.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }
}

/// Digits, and up to six decimals after a point.
impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err(InvalidRate);
        }
        let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let millionths = parse_scaled(text, 6).ok().filter(|_| decimals <= 6);
        let millionths = millionths.and_then(|millionths| u32::try_from(millionths).ok());
        millionths.and_then(Self::from_millionths).ok_or(InvalidRate)
    }
}

/// `0.19`, `1`, `0.08875`: without trailing zeros.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(f, self.0, 6)
    }
}

fn write_decimal(f: &mut fmt::Formatter<'_>, scaled: u32, decimals: usize) -> fmt::Result {
    let scale = 10_u32.pow(decimals.try_into().unwrap_or(0));
    let digits = format!("{}.{:0decimals$}", scaled / scale, scaled % scale);
    f.write_str(digits.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_exact() {
        for (text, hundredths) in [("10", 1000), ("12.5", 1250), ("1e2", 10_000), ("0.01", 1)] {
            assert_eq!(Percentage::parse(text).map(Percentage::hundredths), Ok(hundredths));
        }
        for text in ["0", "-1", "100.01", "0.001", "10.123", "x", "1e9"] {
            assert!(Percentage::parse(text).is_err(), "{text}");
        }
        let shown = |text| Percentage::parse(text).unwrap().to_string();
        assert_eq!(["10.00", "12.50", "33.33"].map(shown), ["10", "12.5", "33.33"]);
    }

    #[test]
    fn rates_are_decimals_from_zero_to_one() {
        for (text, shown) in [
            ("0", "0"),
            ("1", "1"),
            ("1.000000", "1"),
            ("0.190", "0.19"),
            ("0.08875", "0.08875"),
            ("0.000001", "0.000001"),
        ] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), shown);
        }
        for text in ["", ".5", "1.", "1.000001", "2", "-0.1", "+0.1", "1e-1", "0.1000000", "0,1"] {
            assert_eq!(text.parse::<Rate>(), Err(InvalidRate), "{text}");
        }
    }
}
