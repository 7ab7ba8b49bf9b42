//! Callers: the account, the guest or the API key behind a bearer token, and what it may do.

use std::sync::Arc;

use super::token::TokenService;
use crate::{
    cache::{account_rights::AccountRights, revoked_sessions::RevokedSessions},
    domain::{
        account::{API_KEY_PREFIX, Rights, Role, Scope},
        action::Actor,
        cart::CartOwner,
        clock::{Clock, Timestamp},
        ids::{ApiKeyId, SessionId, UserId},
    },
    error::{Error, ErrorCode},
};

/// The account or guest that a valid token belongs to, or an API key.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The id of the user or guest. An API key counts as a user with the id of the key.
    pub user_id: UserId,
    /// What the account may do now, whatever the token says.
    pub rights: Rights,
    /// The session of the token. An API key counts as a session with the id of the key.
    pub session_id: SessionId,
    /// When the token or the key expires; [`Timestamp::NEVER`] for a key that does not.
    pub expires_at: Timestamp,
    /// The API key, if it is one.
    pub api_key: Option<ApiKeyId>,
}

impl Caller {
    /// Whether this is a guest, who has no account.
    #[must_use]
    pub const fn is_guest(&self) -> bool {
        matches!(self.rights.role, Role::Guest)
    }

    /// The owner of this caller's cart.
    #[must_use]
    pub const fn owner(&self) -> CartOwner {
        CartOwner { id: self.user_id, is_guest: self.is_guest() }
    }

    /// Whether this caller may read the order of `owner`.
    #[must_use]
    pub fn may_see_order_of(&self, owner: UserId) -> bool {
        self.user_id == owner || self.rights.permits(Scope::OrdersRead)
    }

    /// Returns the caller if it may do what all of `scopes` stand for. This is the only place where
    /// HTTP and gRPC refuse a right.
    ///
    /// # Errors
    /// `forbidden` for those who are not staff, and for staff without one of the scopes.
    pub fn require(self, scopes: &[Scope]) -> Result<Self, Error> {
        match scopes.iter().find(|scope| !self.rights.permits(**scope)) {
            None => Ok(self),
            Some(missing) => {
                let detail = format!("This needs an admin, or staff with {}.", missing.as_str());
                Err(Error::new(ErrorCode::Forbidden, detail))
            }
        }
    }

    /// Returns the caller if it is an admin.
    ///
    /// # Errors
    /// `forbidden` for every other role.
    pub fn require_admin(self) -> Result<Self, Error> {
        match self.rights.role {
            Role::Admin => Ok(self),
            _ => Err(Error::new(ErrorCode::Forbidden, "Only an admin may do this.")),
        }
    }

    /// Who acts when the caller changes something that customers may not.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.api_key.map_or(Actor::User(self.user_id), Actor::ApiKey)
    }

    /// Returns the caller if it is a user or a guest.
    ///
    /// # Errors
    /// `forbidden` for an API key.
    pub fn require_no_key(self) -> Result<Self, Error> {
        match self.api_key {
            None => Ok(self),
            Some(_) => Err(Error::new(
                ErrorCode::Forbidden,
                "An API key has no account and no cart. Send an access token.",
            )),
        }
    }

    /// Returns the caller if it is a user, a guest, or an API key that may do what all of `scopes`
    /// stand for.
    ///
    /// # Errors
    /// `forbidden` for a key without one of the scopes.
    pub fn require_bearer_or_key(self, scopes: &[Scope]) -> Result<Self, Error> {
        match self.api_key {
            Some(_) => self.require(scopes),
            None => Ok(self),
        }
    }

    /// Returns the caller if it has an account.
    ///
    /// # Errors
    /// `forbidden` for a guest, and for an API key.
    pub fn require_account(self) -> Result<Self, Error> {
        match self.require_no_key()?.rights.role {
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

/// Checks tokens for every transport: their signature, their expiry, their session and the rights
/// of their account.
pub struct Authenticator {
    tokens: TokenService,
    revoked_sessions: Arc<RevokedSessions>,
    account_rights: Arc<AccountRights>,
    clock: Arc<dyn Clock>,
}

impl Authenticator {
    /// Creates an authenticator that rejects tokens of revoked sessions and of blocked accounts.
    #[must_use]
    pub fn new(
        tokens: TokenService,
        revoked_sessions: Arc<RevokedSessions>,
        account_rights: Arc<AccountRights>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { tokens, revoked_sessions, account_rights, clock }
    }

    /// The service that signs tokens and checks their signatures.
    #[must_use]
    pub const fn tokens(&self) -> &TokenService {
        &self.tokens
    }

    /// Finds the caller that `token` belongs to, with the rights that the account has now. A token
    /// may also be an API key.
    ///
    /// # Errors
    /// `token_expired` if the token was valid once, `account_blocked` if its account is blocked,
    /// `unauthenticated` if it is not valid or its session has ended, and for every API key that is
    /// not active.
    pub fn authenticate(&self, token: &str) -> Result<Caller, Error> {
        if token.starts_with(API_KEY_PREFIX) {
            return self.authenticate_key(token);
        }
        let claims = self.tokens.verify(token)?;
        let caller = Caller {
            user_id: claims.user_id,
            rights: self.current_rights(claims.user_id, claims.role),
            session_id: claims.session_id,
            expires_at: claims.expires_at,
            api_key: None,
        };
        if caller.rights.blocked {
            return Err(Error::account_blocked());
        }
        if self.revoked_sessions.contains(claims.session_id) {
            return Err(Error::new(
                ErrorCode::Unauthenticated,
                "The session was ended. Log in again.",
            ));
        }
        Ok(caller)
    }

    fn authenticate_key(&self, key: &str) -> Result<Caller, Error> {
        let key = self.account_rights.api_keys.use_key(key, self.clock.now()).ok_or_else(|| {
            let detail = "This API key does not exist, has expired or was deleted.";
            Error::new(ErrorCode::Unauthenticated, detail)
        })?;
        Ok(Caller {
            user_id: key.id.as_uuid().into(),
            rights: key.rights(),
            session_id: key.id.as_uuid().into(),
            expires_at: key.expires_at.unwrap_or(Timestamp::NEVER),
            api_key: Some(key.id),
        })
    }

    /// When this node saw an API key used last, since it started.
    #[must_use]
    pub fn last_use_of_key(&self, id: ApiKeyId) -> Option<Timestamp> {
        self.account_rights.api_keys.last_use(id)
    }

    /// A caller who was authenticated before, with the rights that it has now. `None` if its token
    /// is no longer valid.
    #[must_use]
    pub fn reauthenticate(&self, caller: &Caller) -> Option<Caller> {
        if let Some(key) = caller.api_key {
            let rights = self.account_rights.api_keys.rights_of(key, self.clock.now())?;
            return Some(Caller { rights, ..*caller });
        }
        let rights = self.current_rights(caller.user_id, caller.rights.role);
        let has_ended = rights.blocked
            || caller.expires_at <= self.clock.now()
            || self.revoked_sessions.contains(caller.session_id);
        (!has_ended).then_some(Caller { rights, ..*caller })
    }

    /// Of the role in a token, only whether it is a guest's counts.
    fn current_rights(&self, user: UserId, role: Role) -> Rights {
        match role {
            Role::Guest => Rights::GUEST,
            Role::Customer | Role::Staff | Role::Admin => self.account_rights.of(user),
        }
    }
}
