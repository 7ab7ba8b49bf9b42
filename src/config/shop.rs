//! `[shop]` and `[catalog]`: currency, and access to products.
use serde::Deserialize;

use super::toml_writer::TomlWriter;
use super::values;
use crate::domain::{catalog::search::CatalogLanguage, money::Currency};

/// Settings of the shop as a whole.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShopSettings {
    /// The currency of all prices.
    #[serde(deserialize_with = "values::currency")]
    pub currency: Currency,
    /// Whether prices include tax.
    #[serde(deserialize_with = "values::boolean")]
    pub prices_include_tax: bool,
}

impl ShopSettings {
    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("shop");
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
