//! Accounts, their addresses and sessions.

mod address;
mod api_key;
mod email;
pub mod known_networks;
pub mod login_failures;
pub mod mail_token;
mod password;
mod rights;
mod session;
mod user_filter;

use std::net::{IpAddr, Ipv6Addr};

pub use self::{
    address::{
        AddressBook, AddressLimitReached, MAX_ADDRESS_TEXT, MAX_ADDRESSES, PostalAddress,
        SavedAddress, is_country_code,
    },
    api_key::{
        API_KEY_PREFIX, API_KEY_RANDOM_CHARS, ApiKey, ApiKeyHash, ApiKeyRequest, MAX_API_KEYS,
        hash_api_key,
    },
    email::Email,
    password::Password,
    rights::{Rights, RightsChange, Scope, ScopeSet, VersionedRights},
    session::{
        ACCESS_TOKEN_LIFETIME, ENDED_SESSION_RETENTION, MAX_REFRESH_GRACE, MAX_USER_AGENT_CHARS,
        REFRESH_TOKEN_LIFETIME, RevocationReason, Session,
    },
    user_filter::UserFilter,
};
use self::{known_networks::KnownNetwork, mail_token::MailToken};
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
    /// Works for the shop, within its scopes.
    Staff,
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
    /// Whether somebody has shown that they read the mail of that address.
    pub email_verified: bool,
    /// The display name.
    pub name: String,
    /// Customer, staff or admin.
    pub role: Role,
    /// What a member of staff may do. Empty for every other role.
    pub scopes: ScopeSet,
    /// Whether the account can neither log in nor use a session.
    pub blocked: bool,
    /// The bcrypt hash in its text form.
    pub password_hash: String,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When a session was last started. `None` if none was since this is recorded.
    pub last_login_at: Option<Timestamp>,
    /// Counts changes, from 1.
    pub version: u64,
    /// Counts the account's public events: the `sequence` of the last one.
    pub event_sequence: u64,
    /// The networks that it has logged in from lately, at most
    /// [`MAX_KNOWN_NETWORKS`](known_networks::MAX_KNOWN_NETWORKS).
    pub known_networks: Vec<KnownNetwork>,
    /// The tokens that were sent to the address lately, at most
    /// [`MAX_MAIL_TOKENS`](mail_token::MAX_MAIL_TOKENS).
    pub mail_tokens: Vec<MailToken>,
}

impl User {
    /// What the account may do now.
    #[must_use]
    pub const fn rights(&self) -> Rights {
        Rights { role: self.role, scopes: self.scopes, blocked: self.blocked }
    }

    /// The rights with the version that they belong to.
    #[must_use]
    pub const fn versioned_rights(&self) -> VersionedRights {
        VersionedRights { user_id: self.id, version: self.version, rights: self.rights() }
    }

    /// The account with other rights, and with its version and event count raised, for a commit
    /// with the event of the change.
    #[must_use]
    pub fn with_rights(&self, rights: Rights) -> Self {
        let Rights { role, scopes, blocked } = rights;
        Self {
            role,
            scopes,
            blocked,
            version: self.version + 1,
            event_sequence: self.event_sequence + 1,
            ..self.clone()
        }
    }
}

#[cfg(test)]
impl User {
    /// A new customer, for tests.
    pub(crate) fn sample(created_at: Timestamp) -> Self {
        Self {
            id: UserId::new(),
            email: Email::from_stored("ada@example.com".to_owned()),
            email_verified: false,
            name: "Ada".into(),
            role: Role::Customer,
            scopes: ScopeSet::EMPTY,
            blocked: false,
            password_hash: String::new(),
            created_at,
            last_login_at: None,
            version: 1,
            event_sequence: 1,
            known_networks: Vec::new(),
            mail_tokens: Vec::new(),
        }
    }
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
