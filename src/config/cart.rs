//! `[cart]`: limits and abandonment of carts.
use std::time::Duration;

use serde::Deserialize;

use super::error::{InvalidSetting, MAX_PERIOD, check_duration, check_range};
use super::toml_writer::TomlWriter;
use super::values;

/// Limits and abandonment of carts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CartSettings {
    /// Maximum quantity of a line.
    #[serde(deserialize_with = "values::whole_number")]
    pub max_quantity: u32,
    /// The number of lines from which a cart takes no new product. A merge may exceed it.
    #[serde(deserialize_with = "values::whole_number")]
    pub max_lines: u32,
    /// Time without a change after which a cart counts as abandoned.
    #[serde(deserialize_with = "values::duration")]
    pub abandoned_after: Duration,
}

impl CartSettings {
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        check_range("cart.max_quantity", self.max_quantity, 1..=9999)?;
        check_range("cart.max_lines", self.max_lines, 1..=1000)?;
        check_duration("cart.abandoned_after", self.abandoned_after, MAX_PERIOD)
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("cart");
        out.write_literal("max_quantity", self.max_quantity);
        out.write_literal("max_lines", self.max_lines);
        out.write_duration("abandoned_after", self.abandoned_after);
    }
}
