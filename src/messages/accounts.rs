//! Messages for accounts and sessions.

use std::{net::IpAddr, sync::Arc};

use actix::Message;
use secrecy::SecretString;

use super::command_context::{CommandContext, Reply, Ticket, TraceParent};
use crate::{
    domain::{
        account::{
            ApiKey, ApiKeyRequest, Email, Password, PostalAddress, RightsChange, Role,
            SavedAddress, User,
        },
        ids::{AddressId, ApiKeyId, SessionId, UserId},
    },
    error::Error,
};

/// A login, with the data that its tokens need. The caller signs the access token.
#[derive(Debug, Clone)]
pub struct AuthenticatedSession {
    /// The account that logged in.
    pub user: User,
    /// The session that the login started or continued.
    pub session_id: SessionId,
    /// The new refresh token. It replaces every earlier one.
    pub refresh_token: String,
}

/// Creates an account and logs it in.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<AuthenticatedSession, Error>")]
pub struct RegisterUser {
    /// The address, which must be unused.
    pub email: Email,
    /// The account's password.
    pub password: Password,
    /// The display name.
    pub name: String,
    /// The account's role. A request from the network always creates a customer.
    pub role: Role,
    /// The client's address, where the account is known from then on.
    pub address: IpAddr,
    /// What the client says of itself, for the list of sessions.
    pub user_agent: Option<String>,
    /// The deadline, and whether the caller still waits.
    pub ticket: Ticket,
    /// The caller's trace, carried into events.
    pub trace: Option<TraceParent>,
}

/// Starts a session.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<AuthenticatedSession, Error>")]
pub struct Login {
    /// The address. `None` if it is malformed, which must look like any other failure.
    pub email: Option<Email>,
    /// The password to check.
    pub password: Password,
    /// The client's address, for the login limiter.
    pub address: IpAddr,
    /// What the client says of itself, for the list of sessions.
    pub user_agent: Option<String>,
    /// The deadline, and whether the caller still waits.
    pub ticket: Ticket,
}

/// Continues a session with a new refresh token.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<AuthenticatedSession, Error>")]
pub struct RefreshSession {
    /// The refresh token. This message consumes it.
    pub refresh_token: String,
    /// The deadline, and whether the caller still waits.
    pub ticket: Ticket,
    /// The caller's trace, carried into events.
    pub trace: Option<TraceParent>,
}

/// Ends a session.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Logout {
    /// The session to end.
    pub session_id: SessionId,
    /// The deadline, and whether the caller still waits.
    pub ticket: Ticket,
    /// The caller's trace, carried into events.
    pub trace: Option<TraceParent>,
}

/// Ends one of an account's sessions.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct EndSession {
    /// The account.
    pub user_id: UserId,
    /// The session to end.
    pub session_id: SessionId,
    /// The deadline, and whether the caller still waits.
    pub ticket: Ticket,
    /// The caller's trace, carried into events.
    pub trace: Option<TraceParent>,
}

/// Ends all of an account's sessions but one.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct EndOtherSessions {
    /// The account.
    pub user_id: UserId,
    /// The session that stays open.
    pub session_id: SessionId,
    /// The deadline, and whether the caller still waits.
    pub ticket: Ticket,
    /// The caller's trace, carried into events.
    pub trace: Option<TraceParent>,
}

/// Changes the name or the e-mail address of an account.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<User, Error>")]
pub struct UpdateProfile {
    /// The account.
    pub user_id: UserId,
    /// The new name.
    pub name: Option<String>,
    /// The new address, which must be unused.
    pub email: Option<Email>,
    /// The current password, which another address needs.
    pub current_password: Option<Password>,
    /// The client's address, for the login limiter.
    pub address: IpAddr,
    /// The precondition, deadline, and trace.
    pub context: CommandContext,
}

/// Changes a password and ends the account's other sessions.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct ChangePassword {
    /// The account's identifier.
    pub user_id: UserId,
    /// The session that stays open.
    pub session_id: SessionId,
    /// The current password.
    pub current: Password,
    /// The new password.
    pub new: Password,
    /// The client's address, for the login limiter.
    pub address: IpAddr,
    /// The deadline, and whether the caller still waits.
    pub ticket: Ticket,
    /// The caller's trace, carried into events.
    pub trace: Option<TraceParent>,
}

/// Records a mail with a token for a new password. Does the same for every address, whether it has
/// an account or not.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct RequestPasswordReset {
    /// The address.
    pub email: Email,
    /// The deadline, and whether the caller still waits.
    pub ticket: Ticket,
}

/// Sets a new password by the token of a mail, and ends all sessions of the account.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct ResetPassword {
    /// The token. This message uses it up.
    pub token: SecretString,
    /// The new password.
    pub new: Password,
    /// The client's address, where the account is known from then on.
    pub address: IpAddr,
    /// The deadline, and whether the caller still waits.
    pub ticket: Ticket,
    /// The caller's trace, carried into events.
    pub trace: Option<TraceParent>,
}

/// Records a mail with a token that verifies the address of an account, unless it is verified.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct RequestVerification {
    /// The account.
    pub user_id: UserId,
    /// The deadline, and whether the caller still waits.
    pub ticket: Ticket,
}

/// Verifies the address of an account by the token of a mail.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct VerifyEmail {
    /// The token. This message uses it up.
    pub token: SecretString,
    /// The deadline, and whether the caller still waits.
    pub ticket: Ticket,
}

/// Changes the role, the scopes or the block of an account. The reply comes when every node that is
/// up goes by it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<User>, Error>")]
pub struct ChangeRights {
    /// The account to change.
    pub user_id: UserId,
    /// What changes.
    pub change: RightsChange,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}

/// Creates an API key. The reply comes when every node that is up knows it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<NewApiKey>, Error>")]
pub struct CreateApiKey {
    /// What the key is for, what it may do, and until when.
    pub request: ApiKeyRequest,
    /// The admin who makes it.
    pub created_by: UserId,
    /// The idempotency key, deadline, and trace.
    pub context: CommandContext,
}

/// A new API key.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// What is kept of it.
    pub key: Arc<ApiKey>,
    /// The key itself, which nobody can read again.
    pub secret: SecretString,
}

/// Deletes an API key. The reply comes when every node that is up refuses it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<()>, Error>")]
pub struct DeleteApiKey {
    /// The key to delete.
    pub id: ApiKeyId,
    /// The idempotency key, deadline, and trace.
    pub context: CommandContext,
}

/// Deletes an account, and what tells whose it was. The reply comes when every node that is up goes
/// by it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct DeleteAccount {
    /// The account.
    pub user_id: UserId,
    /// The account's password.
    pub current_password: Password,
    /// The client's address, for the login limiter.
    pub address: IpAddr,
    /// The deadline, and whether the caller still waits.
    pub ticket: Ticket,
    /// The caller's trace, carried into events.
    pub trace: Option<TraceParent>,
}

/// Changes the addresses of an account. Replies with the address after the change.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<SavedAddress>, Error>")]
pub struct ChangeAddress {
    /// The account.
    pub user_id: UserId,
    /// What changes.
    pub change: AddressChange,
    /// The precondition, deadline, and trace.
    pub context: CommandContext,
}

/// A change of the addresses of an account.
#[derive(Debug, Clone)]
pub enum AddressChange {
    /// Adds an address.
    Add(PostalAddress),
    /// Replaces an address.
    Replace(AddressId, PostalAddress),
    /// Removes an address.
    Remove(AddressId),
}

/// Reads an account.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<User, Error>")]
pub struct GetUser {
    /// The account's identifier.
    pub user_id: UserId,
}
