//! `[cart]`.
use std::time::Duration;

use serde::Deserialize;

use super::error::{MAX_PERIOD, Problem, check_duration, check_range};
use super::text::TomlText;
use super::values;

/// Size and life of carts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CartSettings {
    /// Largest quantity of one line.
    #[serde(deserialize_with = "values::count")]
    pub max_quantity: u32,
    /// Most lines of one cart.
    #[serde(deserialize_with = "values::count")]
    pub max_lines: u32,
    /// A cart untouched for this long is reported as abandoned.
    #[serde(deserialize_with = "values::duration")]
    pub abandoned_after: Duration,
}

impl CartSettings {
    pub(super) fn validate(&self) -> Result<(), Problem> {
        check_range("cart.max_quantity", self.max_quantity, 1..=9999)?;
        check_range("cart.max_lines", self.max_lines, 1..=1000)?;
        check_duration("cart.abandoned_after", self.abandoned_after, MAX_PERIOD)
    }

    pub(super) fn write(&self, out: &mut TomlText) {
        out.section("cart");
        out.plain("max_quantity", self.max_quantity);
        out.plain("max_lines", self.max_lines);
        out.duration("abandoned_after", self.abandoned_after);
    }
}
