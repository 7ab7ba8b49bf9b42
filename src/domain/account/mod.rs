//! Accounts and sessions.

pub mod login_limit;

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use self::login_limit::KnownNetwork;
use super::{
    clock::Timestamp,
    ids::{SessionId, UserId},
    validation::ValidationErrors,
};

/// How long an access token is valid.
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How long a refresh token is valid. Each refresh restarts this time.
pub const REFRESH_TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

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

/// Why a session ended before its refresh token expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RevocationReason {
    /// The user logged out.
    Logout,
    /// A refresh token was used twice, so it may be stolen.
    TokenReuse,
    /// The password was changed in another session.
    PasswordChanged,
}

impl RevocationReason {
    /// Every reason, in the order of the published documents.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name in events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// An email address. Addresses that differ only in case are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

impl Email {
    /// Parses an address as typed.
    ///
    /// # Errors
    /// It lacks the form `name@domain`, or exceeds 254 bytes (RFC 5321, section 4.5.3.1.3).
    pub fn parse(text: &str) -> Result<Self, ValidationErrors> {
        let address = text.trim().to_lowercase();
        let well_formed = address.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && local.len() <= 64
                && !domain.is_empty()
                && !domain.contains('@')
                && !domain.starts_with('.')
                && !domain.ends_with('.')
        });
        let clean = !address.chars().any(|c| c.is_whitespace() || c.is_control());
        if well_formed && clean && address.len() <= 254 {
            Ok(Self(address))
        } else {
            Err(ValidationErrors::single(
                "email",
                "invalid_email",
                "email must be an address like name@example.com, of at most 254 bytes",
            ))
        }
    }

    /// Creates an address from the store, where every address is already parsed.
    #[must_use]
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The address, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A password as typed. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Validates a new password.
    ///
    /// # Errors
    /// Fewer than 8 characters, more than 71 bytes (bcrypt reads at most 72, including the
    /// terminator), or a NUL, at which bcrypt stops.
    pub fn parse(field: &str, text: String) -> Result<Self, ValidationErrors> {
        let mut errors = ValidationErrors::new();
        if text.chars().count() < 8 {
            errors.add(field, "too_short", format!("{field} must have at least 8 characters"));
        }
        if text.len() > 71 {
            errors.add(
                field,
                "too_long",
                format!("{field} has {} bytes; at most 71 are allowed", text.len()),
            );
        }
        if text.contains('\0') {
            errors.add(
                field,
                "invalid_character",
                format!("{field} must not contain a NUL character"),
            );
        }
        errors.into_result(Self(text))
    }

    /// A password to check at login. It need not be valid as a new password.
    #[must_use]
    pub const fn unvalidated(text: String) -> Self {
        Self(text)
    }

    /// Whether it would be valid as a new password.
    #[must_use]
    pub fn meets_policy(&self) -> bool {
        Self::parse("password", self.0.clone()).is_ok()
    }

    /// The password itself.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
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
    /// [`MAX_KNOWN_NETWORKS`](login_limit::MAX_KNOWN_NETWORKS).
    pub known_networks: Vec<KnownNetwork>,
}

/// A login on one device. Each use of its refresh token extends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The session's identifier, the `sid` claim of its tokens.
    pub id: SessionId,
    /// The account that logged in.
    pub user_id: UserId,
    /// SHA-256 of the one valid refresh token.
    pub refresh_hash: [u8; 32],
    /// When the session started.
    pub created_at: Timestamp,
    /// When the current refresh token expires.
    pub expires_at: Timestamp,
    /// When the session was ended before it expired.
    pub revoked_at: Option<Timestamp>,
    /// Counts changes, from 1.
    pub version: u64,
}

impl Session {
    /// Whether its refresh token is still valid.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }

    /// This session with a new refresh token.
    #[must_use]
    pub fn rotate_refresh_token(&self, refresh_hash: [u8; 32], now: Timestamp) -> Self {
        Self {
            refresh_hash,
            expires_at: now.saturating_add(REFRESH_TOKEN_LIFETIME),
            version: self.version + 1,
            ..self.clone()
        }
    }

    /// This session, ended.
    #[must_use]
    pub fn to_revoked(&self, now: Timestamp) -> Self {
        Self { revoked_at: Some(now), version: self.version + 1, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn email_is_lowercased_and_malformed_is_rejected() {
        assert_eq!(Email::parse(" Ada@Example.COM ").unwrap().as_str(), "ada@example.com");
        for bad in
            ["", "ada", "@example.com", "ada@", "a@b@c", "a b@c.d", "ada@.com", "ada\n@example.com"]
        {
            assert!(Email::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Email::parse(&format!("a@{}", "b".repeat(260))).is_err());
    }

    #[test]
    fn client_network_is_the_ipv6_56_prefix() {
        let network = |address: &str| client_network(address.parse().unwrap());
        assert_eq!(network("2001:db8:0:aa00::1"), network("2001:db8:0:aaff::ffff:2"));
        assert_ne!(network("2001:db8:0:aa00::1"), network("2001:db8:0:ab00::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
    }

    #[test]
    fn password_length_is_bounded() {
        let parse = |text: &str| Password::parse("password", text.into());
        assert!(parse("12345678").is_ok());
        assert!(parse(&"x".repeat(71)).is_ok());
        for bad in ["1234567", &"x".repeat(72), &"é".repeat(36), "1234567\0"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(format!("{:?}", parse("12345678").unwrap()), "Password(hidden)");
    }

    #[test]
    fn session_is_active_until_revoked_or_expired() {
        let start = Timestamp::from_millis(0);
        let session = Session {
            id: SessionId::new(),
            user_id: UserId::new(),
            refresh_hash: [0; 32],
            created_at: start,
            expires_at: start.saturating_add(REFRESH_TOKEN_LIFETIME),
            revoked_at: None,
            version: 1,
        };
        assert!(session.is_active(start));
        assert!(!session.is_active(session.expires_at));
        assert!(!session.to_revoked(start).is_active(start));
        let later = start.saturating_add(Duration::from_secs(60));
        assert_eq!(
            session.rotate_refresh_token([1; 32], later).expires_at,
            later.saturating_add(REFRESH_TOKEN_LIFETIME)
        );
    }
}
