//! `[shop]` and `[catalog]`.
use serde::Deserialize;

use super::text::TomlWriter;
use super::values;
use crate::domain::money::Currency;

/// The shop as a whole.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShopSettings {
    /// The one currency of all prices.
    #[serde(deserialize_with = "values::currency")]
    pub currency: Currency,
}

impl ShopSettings {
    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("shop");
        out.write_string("currency", self.currency.code());
    }
}

/// Products and their stock.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogSettings {
    /// Whether products can be read without a token.
    #[serde(deserialize_with = "values::boolean")]
    pub public_read: bool,
    /// `inventory.stock.low` is raised when what is available falls to this or below.
    #[serde(deserialize_with = "values::whole_number")]
    pub low_stock_threshold: u32,
}

impl CatalogSettings {
    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("catalog");
        out.write_literal("public_read", self.public_read);
        out.write_literal("low_stock_threshold", self.low_stock_threshold);
    }
}
