//! `[orders]`: pending orders, which are placed and not paid.
use std::time::Duration;

use serde::Deserialize;

use super::error::{InvalidSetting, MAX_PERIOD, check_duration, check_range};
use super::toml_writer::TomlWriter;
use super::values;

/// Limits of pending orders.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrdersSettings {
    /// Time to pay, after which the order expires.
    #[serde(deserialize_with = "values::duration")]
    pub payment_timeout: Duration,
    /// How many pending orders one user may have.
    #[serde(deserialize_with = "values::whole_number")]
    pub max_pending: u32,
    /// How many units the pending orders of one user may have.
    #[serde(deserialize_with = "values::whole_number")]
    pub max_pending_units: u32,
}

impl OrdersSettings {
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        check_duration("orders.payment_timeout", self.payment_timeout, MAX_PERIOD)?;
        check_range("orders.max_pending", self.max_pending, 1..=u32::MAX)?;
        check_range("orders.max_pending_units", self.max_pending_units, 1..=u32::MAX)
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("orders");
        out.write_duration("payment_timeout", self.payment_timeout);
        out.write_literal("max_pending", self.max_pending);
        out.write_literal("max_pending_units", self.max_pending_units);
    }
}
