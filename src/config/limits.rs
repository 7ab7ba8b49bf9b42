//! `[limits]`: how much one caller may ask.
use serde::Deserialize;

use super::error::{InvalidSetting, check_range};
use super::text::TomlWriter;
use super::values;

/// So that twice a limit, its burst, is far from overflowing.
const MAX_LIMIT: u32 = 1_000_000;

/// How much one caller may ask; 0 switches a limit off.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsSettings {
    /// Requests a second from one address, bursts of twice that.
    #[serde(deserialize_with = "values::whole_number")]
    pub per_address: u32,
    /// Requests a second of one user, bursts of twice that.
    #[serde(deserialize_with = "values::whole_number")]
    pub per_user: u32,
    /// Failed logins a minute on one account or from one address.
    #[serde(deserialize_with = "values::whole_number")]
    pub login: u32,
}

impl LimitsSettings {
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        check_range("limits.per_address", self.per_address, 0..=MAX_LIMIT)?;
        check_range("limits.per_user", self.per_user, 0..=MAX_LIMIT)?;
        check_range("limits.login", self.login, 0..=MAX_LIMIT)
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("limits");
        out.write_literal("per_address", self.per_address);
        out.write_literal("per_user", self.per_user);
        out.write_literal("login", self.login);
    }
}
