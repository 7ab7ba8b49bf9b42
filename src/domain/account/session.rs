//! Sessions: how long they and their tokens last.

use std::{net::IpAddr, time::Duration};

use crate::domain::{
    clock::Timestamp,
    ids::{SessionId, UserId},
};

/// How long an access token is valid.
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How long a refresh token is valid. Each refresh restarts this time.
pub const REFRESH_TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The longest time that a used refresh token may be good for once more.
pub const MAX_REFRESH_GRACE: Duration = Duration::from_secs(5 * 60);

/// How long an ended session is stored. By then all its access tokens have expired, so no node has
/// to know any more that they were revoked, and its refresh tokens are as invalid as unknown ones.
pub const ENDED_SESSION_RETENTION: Duration = Duration::from_secs(60 * 60);

/// The most characters that are kept of a client's `User-Agent`.
pub const MAX_USER_AGENT_CHARS: usize = 200;

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
    /// The account had too many sessions, and this one was unused for the longest time.
    SessionLimit,
    /// An admin blocked the account, or lifted the block.
    AccountBlocked,
    /// The operator made a new password.
    PasswordReset,
    /// The account was deleted.
    AccountDeleted,
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

/// A login on one device. Each use of its refresh token extends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The session's identifier, the `sid` claim of its tokens.
    pub id: SessionId,
    /// The account that logged in.
    pub user_id: UserId,
    /// The client's address at the login. `None` if it was before this is recorded.
    pub address: Option<IpAddr>,
    /// What the client said of itself at the login.
    pub user_agent: Option<String>,
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
    /// When the current refresh token was issued. Every access token of the session was issued
    /// then or before, or within the grace after it.
    #[must_use]
    pub fn rotated_at(&self) -> Timestamp {
        self.expires_at.saturating_sub(REFRESH_TOKEN_LIFETIME)
    }

    /// Whether the token before the current one may still be used, because the response with the
    /// current one may have been lost. A clock that is off by more than the grace ends it.
    #[must_use]
    pub fn is_in_refresh_grace(&self, now: Timestamp, grace: Duration) -> bool {
        let rotated_at = self.rotated_at();
        !grace.is_zero()
            && now < rotated_at.saturating_add(grace)
            && rotated_at < now.saturating_add(grace)
    }

    /// When it was last used for new tokens; at first, when it started.
    #[must_use]
    pub fn last_used_at(&self) -> Timestamp {
        self.rotated_at().max(self.created_at)
    }

    /// Whether its refresh token is still valid.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }

    /// This session with a new refresh token. Its expiry never moves back, even if a clock does,
    /// so that [`Self::rotated_at`] bounds the access tokens of every earlier rotation, too.
    #[must_use]
    pub fn rotate_refresh_token(&self, refresh_hash: [u8; 32], now: Timestamp) -> Self {
        Self {
            refresh_hash,
            expires_at: now.saturating_add(REFRESH_TOKEN_LIFETIME).max(self.expires_at),
            version: self.version + 1,
            ..self.clone()
        }
    }

    /// This session, ended. If a clock that ran ahead issued its tokens, it counts as ended at that
    /// later time: its access tokens expire accordingly later.
    #[must_use]
    pub fn to_revoked(&self, now: Timestamp) -> Self {
        let revoked_at = Some(now.max(self.rotated_at()));
        Self { revoked_at, version: self.version + 1, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(start: Timestamp) -> Session {
        Session {
            id: SessionId::new(),
            user_id: UserId::new(),
            address: None,
            user_agent: None,
            refresh_hash: [0; 32],
            created_at: start,
            expires_at: start.saturating_add(REFRESH_TOKEN_LIFETIME),
            revoked_at: None,
            version: 1,
        }
    }

    #[test]
    fn session_is_active_until_revoked_or_expired() {
        let start = Timestamp::from_millis(0);
        let session = session(start);
        assert!(session.is_active(start));
        assert!(!session.is_active(session.expires_at));
        assert!(!session.to_revoked(start).is_active(start));
        let later = start.saturating_add(Duration::from_secs(60));
        assert_eq!(
            session.rotate_refresh_token([1; 32], later).expires_at,
            later.saturating_add(REFRESH_TOKEN_LIFETIME)
        );
    }

    #[test]
    fn grace_lasts_as_long_as_configured() {
        let start = Timestamp::from_millis(1_000_000);
        let (session, grace) = (session(start), Duration::from_secs(30));
        let at = |millis: i64| Timestamp::from_millis(1_000_000 + millis);
        for (now, expected) in
            [(0, true), (29_999, true), (30_000, false), (-29_999, true), (-30_000, false)]
        {
            assert_eq!(session.is_in_refresh_grace(at(now), grace), expected, "after {now} ms");
        }
        assert!(!session.is_in_refresh_grace(start, Duration::ZERO));
    }

    #[test]
    fn clock_that_goes_back_does_not_shorten_a_session() {
        let ahead = Timestamp::from_millis(10_000_000);
        let session = session(ahead);
        let back = Timestamp::from_millis(1_000);
        let rotated = session.rotate_refresh_token([1; 32], back);
        assert_eq!(rotated.rotated_at(), ahead);
        assert_eq!(rotated.to_revoked(back).revoked_at, Some(ahead));
    }
}
