//! Accounts and sessions.

mod email;
pub mod known_networks;
pub mod login_failures;
mod password;
mod session;

use std::net::{IpAddr, Ipv6Addr};

use self::known_networks::KnownNetwork;
pub use self::{
    email::Email,
    password::Password,
    session::{
        ACCESS_TOKEN_LIFETIME, ENDED_SESSION_RETENTION, MAX_REFRESH_GRACE, REFRESH_TOKEN_LIFETIME,
        RevocationReason, Session,
    },
};
use super::{clock::Timestamp, ids::UserId, validation::ValidationErrors};

/// The role of a user.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// Owns a cart without an account.
    Guest,
    /// Has an account.
    Customer,
    /// Runs the shop.
    Admin,
}

impl Role {
    /// Every role, in the order of declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name in tokens and responses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Checks a person's name.
///
/// # Errors
/// Empty, or above 100 characters.
pub fn validate_account_name(name: &str) -> Result<(), ValidationErrors> {
    let mut errors = ValidationErrors::new();
    errors.check_text("name", name, 1, 100);
    errors.into_result(())
}

/// The prefix of an IPv6 address that one customer of an access provider usually has (RFC 6177).
const IPV6_NETWORK_MASK: u128 = !(u128::MAX >> 56);

/// The network that limits count an address under: an IPv4 address, or an IPv6 /56.
#[must_use]
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & IPV6_NETWORK_MASK)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// An account: who can log in, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The account's identifier.
    pub id: UserId,
    /// The unique address for login.
    pub email: Email,
    /// The display name.
    pub name: String,
    /// Customer or admin.
    pub role: Role,
    /// The bcrypt hash in its text form.
    pub password_hash: String,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Counts changes, from 1.
    pub version: u64,
    /// Counts the account's public events: the `sequence` of the last one.
    pub event_sequence: u64,
    /// The networks that it has logged in from lately, at most
    /// [`MAX_KNOWN_NETWORKS`](known_networks::MAX_KNOWN_NETWORKS).
    pub known_networks: Vec<KnownNetwork>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_network_is_the_ipv6_56_prefix() {
        let network = |address: &str| client_network(address.parse().unwrap());
        assert_eq!(network("2001:db8:0:aa00::1"), network("2001:db8:0:aaff::ffff:2"));
        assert_ne!(network("2001:db8:0:aa00::1"), network("2001:db8:0:ab00::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
    }
}
