//! What may be asked about accounts and sessions.

use std::net::IpAddr;

use actix::Message;

use super::change::{Ticket, TraceParent};
use crate::{
    domain::{
        account::{Email, Password, Role, User},
        ids::{SessionId, UserId},
    },
    error::Error,
};

/// A login with the tokens' ingredients; access tokens are signed by whoever knows their form.
#[derive(Debug, Clone)]
pub struct AuthenticatedSession {
    /// Whose login.
    pub user: User,
    /// The session it began or goes on with.
    pub session_id: SessionId,
    /// The one refresh token that is good from now on.
    pub refresh_token: String,
}

/// Opens an account and logs it in.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<AuthenticatedSession, Error>")]
pub struct RegisterUser {
    /// Its address.
    pub email: Email,
    /// Its password.
    pub password: Password,
    /// What the person wants to be called.
    pub name: String,
    /// What it may do. From the network: always a customer.
    pub role: Role,
    /// Until when.
    pub ticket: Ticket,
    /// The caller's trace.
    pub trace: Option<TraceParent>,
}

/// Begins a session.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<AuthenticatedSession, Error>")]
pub struct Login {
    /// The address; `None` when it is none, which must look like any other failure.
    pub email: Option<Email>,
    /// The password tried.
    pub password: Password,
    /// Where the attempt comes from.
    pub address: IpAddr,
    /// Until when.
    pub ticket: Ticket,
}

/// Goes on with a session.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<AuthenticatedSession, Error>")]
pub struct RefreshSession {
    /// The token, used up by this.
    pub refresh_token: String,
    /// Until when.
    pub ticket: Ticket,
    /// The caller's trace.
    pub trace: Option<TraceParent>,
}

/// Ends a session.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Logout {
    /// Which.
    pub session_id: SessionId,
    /// Until when.
    pub ticket: Ticket,
    /// The caller's trace.
    pub trace: Option<TraceParent>,
}

/// Changes a password and ends the account's other sessions.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct ChangePassword {
    /// Whose.
    pub user_id: UserId,
    /// The session that stays.
    pub session_id: SessionId,
    /// The password so far.
    pub current: Password,
    /// The password from now on.
    pub new: Password,
    /// Where the attempt comes from.
    pub address: IpAddr,
    /// Until when.
    pub ticket: Ticket,
    /// The caller's trace.
    pub trace: Option<TraceParent>,
}

/// Reads an account.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<User, Error>")]
pub struct GetUser {
    /// Whose.
    pub user_id: UserId,
}
