//! `[shop]` and `[catalog]`.
use serde::Deserialize;

use super::text::TomlText;
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
    pub(super) fn write(&self, out: &mut TomlText) {
        out.section("shop");
        out.text("currency", self.currency.code());
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
