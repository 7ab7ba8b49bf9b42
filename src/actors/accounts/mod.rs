//! Accounts: registration, logins, sessions and passwords.
//!
//! No account is cached: each command reads what it needs, and the store detects conflicting
//! commits by version. Commands run concurrently, because a command that waits for bcrypt must not
//! block the others.

mod actor;
mod addresses;
pub mod admin_bootstrap;
mod api_keys;
mod change_password;
mod change_rights;
mod delete_account;
mod failure_counters;
mod hash_queue;
mod login;
mod login_limiter;
mod mail_tokens;
mod password_hasher;
mod service;
mod session;
#[cfg(test)]
mod tests;
mod update_profile;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

pub use self::{actor::AccountActor, password_hasher::PasswordHasher};
use crate::{
    auth::{login_keys::LoginKeys, refresh_token::RefreshTokens},
    cache::revoked_sessions::RevokedSessions,
    domain::{
        account::{ApiKey, User},
        clock::Clock,
    },
    metrics::actors::MailboxMetrics,
    store::{Store, writer::CommitWriter},
};

/// The dependencies of the account commands.
#[derive(Clone)]
pub struct AccountDeps {
    /// The store that accounts and sessions are read from.
    pub store: Arc<dyn Store>,
    /// Writes commits to the store.
    pub writer: CommitWriter,
    /// Provides the time of each change.
    pub clock: Arc<dyn Clock>,
    /// Hashes passwords on dedicated threads.
    pub hasher: PasswordHasher,
    /// Issues and reads refresh tokens.
    pub refresh_tokens: RefreshTokens,
    /// Sessions whose access tokens are rejected. The actor only removes expired entries.
    pub revoked: Arc<RevokedSessions>,
    /// Derives what failed logins count under.
    pub login_keys: LoginKeys,
    /// How long a used refresh token gets the same successor again, unless that was used. Zero ends
    /// the session at once.
    pub refresh_grace: Duration,
    /// The most sessions of one account. A login beyond ends the one that was unused the longest.
    pub max_sessions: u32,
    /// Failed logins allowed per minute for one account or address; 0 allows any number.
    pub login_limit: u32,
    /// Whether mails are sent. If not, none is recorded.
    pub sends_mail: bool,
    /// How an account looks in responses, which are remembered under idempotency keys.
    pub render_user: fn(&User) -> Bytes,
    /// How a new API key looks in responses that are remembered, without the key itself.
    pub render_api_key: fn(&ApiKey) -> Bytes,
    /// The metrics of the actor's mailbox.
    pub mailbox: MailboxMetrics,
}
