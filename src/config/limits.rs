//! `[limits]`: rates, connections and feeds per caller.
use serde::Deserialize;

use super::error::{InvalidSetting, check_range};
use super::toml_writer::{TomlWriter, format_size};
use super::values;

/// Keeps the burst, twice the limit, far from an overflow.
const MAX_LIMIT: u32 = 1_000_000;

/// Limits per caller; 0 disables a limit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// Requests per second from one address, with bursts of twice that.
    #[serde(deserialize_with = "values::whole_number")]
    pub per_address: u32,
    /// Requests per second of one user, with bursts of twice that.
    #[serde(deserialize_with = "values::whole_number")]
    pub per_user: u32,
    /// Failed logins per minute for one account or from one address.
    #[serde(deserialize_with = "values::whole_number")]
    pub login: u32,
    /// Mails per hour to one account that somebody asked for.
    #[serde(deserialize_with = "values::whole_number")]
    pub mail: u32,
    /// New guest carts, and checkouts of guests, per minute from one address.
    #[serde(deserialize_with = "values::whole_number")]
    pub guests: u32,
    /// New accounts per hour from one address.
    #[serde(deserialize_with = "values::whole_number")]
    pub registrations: u32,
    /// Idempotency keys of one user with a stored reply.
    #[serde(deserialize_with = "values::whole_number")]
    pub idempotency_keys: u32,
    /// Bytes of stored replies of one user.
    #[serde(deserialize_with = "values::byte_size")]
    pub idempotency_bytes: usize,
    /// Bytes of stored replies of one guest.
    #[serde(deserialize_with = "values::byte_size")]
    pub guest_idempotency_bytes: usize,
    /// Open connections from one address.
    #[serde(deserialize_with = "values::whole_number")]
    pub connections_per_address: u32,
    /// Open event feeds from one address.
    #[serde(deserialize_with = "values::whole_number")]
    pub feeds_per_address: u32,
    /// Open event feeds of one user.
    #[serde(deserialize_with = "values::whole_number")]
    pub feeds_per_user: u32,
}

impl LimitSettings {
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        check_range("limits.per_address", self.per_address, 0..=MAX_LIMIT)?;
        check_range("limits.per_user", self.per_user, 0..=MAX_LIMIT)?;
        check_range("limits.login", self.login, 0..=MAX_LIMIT)?;
        check_range("limits.mail", self.mail, 0..=MAX_LIMIT)?;
        check_range("limits.guests", self.guests, 0..=MAX_LIMIT)?;
        check_range("limits.registrations", self.registrations, 0..=MAX_LIMIT)?;
        check_range("limits.idempotency_keys", self.idempotency_keys, 0..=MAX_LIMIT)?;
        let connections = self.connections_per_address;
        check_range("limits.connections_per_address", connections, 0..=MAX_LIMIT)?;
        check_range("limits.feeds_per_address", self.feeds_per_address, 0..=MAX_LIMIT)?;
        check_range("limits.feeds_per_user", self.feeds_per_user, 0..=MAX_LIMIT)
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("limits");
        out.write_literal("per_address", self.per_address);
        out.write_literal("per_user", self.per_user);
        out.write_literal("login", self.login);
        out.write_literal("mail", self.mail);
        out.write_literal("guests", self.guests);
        out.write_literal("registrations", self.registrations);
        out.write_literal("idempotency_keys", self.idempotency_keys);
        out.write_string("idempotency_bytes", &format_size(self.idempotency_bytes));
        let guest_bytes = format_size(self.guest_idempotency_bytes);
        out.write_string("guest_idempotency_bytes", &guest_bytes);
        out.write_literal("connections_per_address", self.connections_per_address);
        out.write_literal("feeds_per_address", self.feeds_per_address);
        out.write_literal("feeds_per_user", self.feeds_per_user);
    }
}
