//! `[shop]` and `[catalog]`: name, currency, and access to products.
use serde::Deserialize;

use super::error::InvalidSetting;
use super::toml_writer::TomlWriter;
use super::values;
use crate::domain::{catalog::search::CatalogLanguage, money::Currency};

/// The most characters of a shop's name.
const MAX_NAME_CHARS: usize = 100;

/// Settings of the shop as a whole.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShopSettings {
    /// What people call the shop.
    #[serde(default, deserialize_with = "values::optional_text")]
    pub name: Option<String>,
    /// The currency of all prices.
    #[serde(deserialize_with = "values::currency")]
    pub currency: Currency,
    /// Whether prices include tax.
    #[serde(deserialize_with = "values::boolean")]
    pub prices_include_tax: bool,
}

impl ShopSettings {
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        let Some(name) = &self.name else { return Ok(()) };
        if name.trim().is_empty() || name.chars().any(char::is_control) {
            let text = format!("{name:?} is not a name; use one such as \"Tea & Co\"");
            return Err(InvalidSetting::new("shop.name", text));
        }
        if name.chars().count() > MAX_NAME_CHARS {
            let text = format!("is too long; use at most {MAX_NAME_CHARS} characters");
            return Err(InvalidSetting::new("shop.name", text));
        }
        Ok(())
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("shop");
        out.write_optional("name", self.name.as_deref());
        out.write_string("currency", self.currency.code());
        out.write_literal("prices_include_tax", self.prices_include_tax);
    }
}

/// Settings of products and their stock.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogSettings {
    /// Whether products can be read without a token.
    #[serde(deserialize_with = "values::boolean")]
    pub public_read: bool,
    /// The language of names and descriptions: how search stems words and lists sort names.
    #[serde(deserialize_with = "values::language")]
    pub language: CatalogLanguage,
    /// Available stock at or below which `inventory.stock.low` is published.
    #[serde(deserialize_with = "values::whole_number")]
    pub low_stock_threshold: u32,
}

impl CatalogSettings {
    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("catalog");
        out.write_literal("public_read", self.public_read);
        out.write_string("language", &self.language.to_string());
        out.write_literal("low_stock_threshold", self.low_stock_threshold);
    }
}
