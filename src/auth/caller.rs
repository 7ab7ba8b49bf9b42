//! Callers: the account or guest behind a bearer token, and what its role permits.

use std::sync::Arc;

use super::token::TokenService;
use crate::{
    cache::revoked_sessions::RevokedSessions,
    domain::{
        account::Role,
        cart::CartOwner,
        clock::{Clock, Timestamp},
        ids::{SessionId, UserId},
    },
    error::{Error, ErrorCode},
};

/// The account or guest that a valid token belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The id of the user or guest.
    pub user_id: UserId,
    /// The role in the token, which decides what the caller may do.
    pub role: Role,
    /// The session of the token.
    pub session_id: SessionId,
    /// When the token expires.
    pub expires_at: Timestamp,
}

impl Caller {
    /// The owner of this caller's cart.
    #[must_use]
    pub fn owner(&self) -> CartOwner {
        CartOwner { id: self.user_id, is_guest: self.role == Role::Guest }
    }

    /// Whether this caller may see what belongs to `owner`.
    #[must_use]
    pub fn may_see(&self, owner: UserId) -> bool {
        self.role == Role::Admin || self.user_id == owner
    }

    /// Returns the caller if it is an admin.
    ///
    /// # Errors
    /// `forbidden` for every other role.
    pub fn require_admin(self) -> Result<Self, Error> {
        match self.role {
            Role::Admin => Ok(self),
            _ => Err(Error::new(ErrorCode::Forbidden, "Only an admin may do this.")),
        }
    }

    /// Returns the caller if it has an account.
    ///
    /// # Errors
    /// `forbidden` for a guest.
    pub fn require_account(self) -> Result<Self, Error> {
        match self.role {
            Role::Guest => Err(Error::new(
                ErrorCode::Forbidden,
                "A guest has no account. Register or log in first.",
            )),
            _ => Ok(self),
        }
    }
}

/// Returns the token of an `Authorization: Bearer` header (RFC 6750, section 2.1).
pub(crate) fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

/// Checks tokens for every transport: their signature, their expiry and their session.
pub struct Authenticator {
    tokens: TokenService,
    revoked_sessions: Arc<RevokedSessions>,
    clock: Arc<dyn Clock>,
}

impl Authenticator {
    /// Creates an authenticator that rejects tokens of revoked sessions.
    #[must_use]
    pub fn new(
        tokens: TokenService,
        revoked_sessions: Arc<RevokedSessions>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { tokens, revoked_sessions, clock }
    }

    /// The service that signs tokens and checks their signatures.
    #[must_use]
    pub const fn tokens(&self) -> &TokenService {
        &self.tokens
    }

    /// Finds the caller that `token` belongs to.
    ///
    /// # Errors
    /// `token_expired` if the token was valid once, `unauthenticated` if it is not valid or its
    /// session has ended.
    pub fn authenticate(&self, token: &str) -> Result<Caller, Error> {
        let claims = self.tokens.verify(token)?;
        if self.revoked_sessions.contains(claims.session_id) {
            return Err(Error::new(
                ErrorCode::Unauthenticated,
                "The session was ended. Log in again.",
            ));
        }
        Ok(Caller {
            user_id: claims.user_id,
            role: claims.role,
            session_id: claims.session_id,
            expires_at: claims.expires_at,
        })
    }

    /// Whether the token of a caller who was authenticated before is no longer valid.
    #[must_use]
    pub fn has_ended(&self, caller: &Caller) -> bool {
        caller.expires_at <= self.clock.now() || self.revoked_sessions.contains(caller.session_id)
    }
}
