//! `[orders]`.
use std::time::Duration;

use serde::Deserialize;

use super::error::{MAX_PERIOD, Problem, check_duration, check_range};
use super::text::TomlText;
use super::values;

/// Rules of unpaid orders.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrdersSettings {
    /// Time to pay; after it the order expires.
    #[serde(deserialize_with = "values::duration")]
    pub payment_timeout: Duration,
    /// Unpaid orders that one user may have.
    #[serde(deserialize_with = "values::count")]
    pub max_pending: u32,
}

impl OrdersSettings {
    pub(super) fn validate(&self) -> Result<(), Problem> {
        check_duration("orders.payment_timeout", self.payment_timeout, MAX_PERIOD)?;
        check_range("orders.max_pending", self.max_pending, 1..=u32::MAX)
    }

    pub(super) fn write(&self, out: &mut TomlText) {
        out.section("orders");
        out.duration("payment_timeout", self.payment_timeout);
        out.plain("max_pending", self.max_pending);
    }
}
