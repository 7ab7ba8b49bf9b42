//! Accounts: registration, logins and sessions.
//!
//! The actor keeps no account in memory, so nothing has to be brought up to date: each command reads what it needs, and the store
//! settles by version what two of them decide at once. Commands run side by side, since one that waits for bcrypt must not hold up
//! the rest.

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

use std::{sync::Arc, time::Duration};

use actix::{Actor, AsyncContext, Context, Handler, ResponseFuture};

pub use self::hasher::PasswordHasher;
use self::service::AccountService;
use crate::{
    auth::refresh_token::RefreshTokens,
    cache::revoked_sessions::RevokedSessions,
    domain::{account::User, clock::Clock},
    error::Error,
    messages::accounts::{
        AuthenticatedSession, ChangePassword, GetUser, Login, Logout, RefreshSession, RegisterUser,
    },
    store::{Store, writer::CommitWriter},
};

/// How often sessions revoked long ago are forgotten.
const REVOCATION_SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// What the accounts work with.
#[derive(Clone)]
pub struct AccountDeps {
    /// Where accounts are read.
    pub store: Arc<dyn Store>,
    /// Where changes go.
    pub writer: CommitWriter,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// bcrypt's threads.
    pub hasher: PasswordHasher,
    /// Makes and reads refresh tokens.
    pub refresh_tokens: RefreshTokens,
    /// Which sessions are over; the actor only forgets the old ones.
    pub revoked: Arc<RevokedSessions>,
    /// Failed logins a minute on one account or from one address; 0 switches the limit off.
    pub login_limit: u32,
}

/// The actor.
pub struct AccountActor {
    service: Arc<AccountService>,
}

impl AccountActor {
    /// An actor that is not started yet.
    #[must_use]
    pub fn new(deps: AccountDeps) -> Self {
        Self { service: Arc::new(AccountService::new(deps)) }
    }
}

impl Actor for AccountActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(REVOCATION_SWEEP_INTERVAL, |accounts, _| {
            accounts.service.sweep_revoked_sessions()
        });
    }
}

macro_rules! handle {
    ($($message:ident => $method:ident -> $answer:ty;)+) => {$(
        impl Handler<$message> for AccountActor {
            type Result = ResponseFuture<Result<$answer, Error>>;

            fn handle(&mut self, message: $message, _: &mut Self::Context) -> Self::Result {
                let service = Arc::clone(&self.service);
                Box::pin(async move { service.$method(message).await })
            }
        }
    )+};
}

handle! {
    RegisterUser => register_account -> AuthenticatedSession;
    Login => login -> AuthenticatedSession;
    RefreshSession => refresh_session -> AuthenticatedSession;
    Logout => logout -> ();
    ChangePassword => change_password -> ();
    GetUser => get_user -> User;
}
