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
use self::service::Desk;
use crate::{
    auth::refresh_token::RefreshTokens,
    cache::revoked_sessions::RevokedSessions,
    domain::{account::User, clock::Clock},
    error::Error,
    messages::accounts::{ChangePassword, GetUser, LoggedIn, Login, Logout, Refresh, Register},
    store::{Store, writer::Writer},
};

/// How often sessions revoked long ago are forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// What the accounts work with.
#[derive(Clone)]
pub struct Deps {
    /// Where accounts are read.
    pub store: Arc<dyn Store>,
    /// Where changes go.
    pub writer: Writer,
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
pub struct Accounts {
    desk: Arc<Desk>,
}

impl Accounts {
    /// An actor that is not started yet.
    #[must_use]
    pub fn new(deps: Deps) -> Self {
        Self { desk: Arc::new(Desk::new(deps)) }
    }
}

impl Actor for Accounts {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(SWEEP_INTERVAL, |accounts, _| accounts.desk.forget_old_sessions());
    }
}

macro_rules! handle {
    ($($message:ident => $method:ident -> $answer:ty;)+) => {$(
        impl Handler<$message> for Accounts {
            type Result = ResponseFuture<Result<$answer, Error>>;

            fn handle(&mut self, message: $message, _: &mut Self::Context) -> Self::Result {
                let desk = Arc::clone(&self.desk);
                Box::pin(async move { desk.$method(message).await })
            }
        }
    )+};
}

handle! {
    Register => register -> LoggedIn;
    Login => login -> LoggedIn;
    Refresh => refresh -> LoggedIn;
    Logout => logout -> ();
    ChangePassword => change_password -> ();
    GetUser => get_user -> User;
}
