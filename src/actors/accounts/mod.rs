//! Accounts: registration, logins, sessions and passwords.
//!
//! No account is kept in memory, so nothing has to be kept current: each command reads what it
//! needs, and the store orders by version what two commands decide at once. Commands run side by
//! side, since one that waits for bcrypt must not hold up the rest.

mod actor;
pub mod bootstrap;
mod hasher;
mod login;
mod login_limiter;
mod password;
mod service;
mod session;
#[cfg(test)]
mod tests;
mod throttle;

use std::sync::Arc;

pub use self::{actor::AccountActor, hasher::PasswordHasher};
use crate::{
    auth::refresh_token::RefreshTokens,
    cache::revoked_sessions::RevokedSessions,
    domain::clock::Clock,
    store::{Store, writer::CommitWriter},
};

/// What the account commands work with.
#[derive(Clone)]
pub struct AccountDeps {
    /// Accounts and sessions are read from it.
    pub store: Arc<dyn Store>,
    /// Applies commits.
    pub writer: CommitWriter,
    /// Dates every change.
    pub clock: Arc<dyn Clock>,
    /// Hashes passwords on threads of its own.
    pub hasher: PasswordHasher,
    /// Issues and reads refresh tokens.
    pub refresh_tokens: RefreshTokens,
    /// Sessions whose access tokens are refused; the actor only forgets the old ones.
    pub revoked: Arc<RevokedSessions>,
    /// Failed logins allowed per minute for one account or address; 0 allows any number.
    pub login_limit: u32,
}
