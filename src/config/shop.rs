//! `[shop]` and `[catalog]`.
use serde::Deserialize;

use super::text::TomlText;
use super::values;

/// The shop as a whole.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShopSettings {
    /// The one currency of all prices.
    #[serde(deserialize_with = "values::currency")]
    pub currency: Currency,
}

/// A currency that prices can be held in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency {
    /// ISO 4217 code.
    pub code: &'static str,
    /// Decimals of its minor unit: 2 for USD, 0 for JPY.
    pub exponent: u32,
}

impl Currency {
    /// Looks a code up; codes without a minor unit (gold, "no currency") are refused.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        let currency = iso_currency::Currency::from_code(code)?;
        Some(Self { code: currency.code(), exponent: u32::from(currency.exponent()?) })
    }
}

impl ShopSettings {
    pub(super) fn write(&self, out: &mut TomlText) {
        out.section("shop");
        out.text("currency", self.currency.code);
    }
}

/// Products and their stock.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogSettings {
    /// Whether products can be read without a token.
    #[serde(deserialize_with = "values::flag")]
    pub public_read: bool,
    /// `inventory.stock.low` is raised when what is available falls to this or below.
    #[serde(deserialize_with = "values::count")]
    pub low_stock_threshold: u32,
}

impl CatalogSettings {
    pub(super) fn write(&self, out: &mut TomlText) {
        out.section("catalog");
        out.plain("public_read", self.public_read);
        out.plain("low_stock_threshold", self.low_stock_threshold);
    }
}

#[cfg(test)]
mod tests {
    use super::Currency;

    #[test]
    fn currencies_have_their_decimals() {
        let exponent = |code| Currency::from_code(code).map(|currency| currency.exponent);
        assert_eq!(exponent("USD"), Some(2));
        assert_eq!(exponent("JPY"), Some(0));
        assert_eq!(exponent("BHD"), Some(3));
        for refused in ["XAU", "XXX", "XTS", "usd", "", "EURO"] {
            assert_eq!(exponent(refused), None, "{refused}");
        }
    }
}
