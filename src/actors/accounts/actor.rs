//! The actor that runs the account commands.

use std::sync::Arc;

use actix::{Actor, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use tracing::Instrument as _;

use super::{AccountDeps, service::AccountService};
use crate::{
    actors::mailbox::accept_queued,
    cache::revoked_sessions::SWEEP_INTERVAL,
    domain::account::{SavedAddress, User},
    error::Error,
    messages::{
        accounts::{
            AuthenticatedSession, ChangeAddress, ChangePassword, ChangeRights, CreateApiKey,
            DeleteAccount, DeleteApiKey, EndOtherSessions, EndSession, GetUser, Login, Logout,
            NewApiKey, RefreshSession, RegisterUser, RequestPasswordReset, RequestVerification,
            ResetPassword, UpdateProfile, VerifyEmail,
        },
        command_context::Reply,
    },
    metrics::actors::MailboxMetrics,
    panics::guarded_command,
};

/// Runs the account commands concurrently.
pub struct AccountActor {
    service: Arc<AccountService>,
    mailbox: MailboxMetrics,
}

impl AccountActor {
    /// Creates the actor without starting it.
    #[must_use]
    pub fn new(deps: AccountDeps) -> Self {
        let mailbox = deps.mailbox.clone();
        Self { service: Arc::new(AccountService::new(deps)), mailbox }
    }

    const fn mailbox(&self) -> &MailboxMetrics {
        &self.mailbox
    }
}

impl Actor for AccountActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let service = Arc::clone(&self.service);
        ctx.spawn(async move { service.find_highest_cost().await }.into_actor(self));
        ctx.run_interval(SWEEP_INTERVAL, |accounts, _| accounts.service.sweep_revoked_sessions());
    }
}

macro_rules! handle {
    ($($message:ident => $method:ident -> $reply:ty;)+) => {$(
        impl Handler<$message> for AccountActor {
            type Result = ResponseFuture<Result<$reply, Error>>;

            fn handle(&mut self, message: $message, _: &mut Self::Context) -> Self::Result {
                let service = Arc::clone(&self.service);
                let command =
                    async move { guarded_command("accounts", service.$method(message)).await };
                Box::pin(command.in_current_span())
            }
        }

        accept_queued!(AccountActor, mailbox, $message);
    )+};
}

handle! {
    RegisterUser => register_account -> AuthenticatedSession;
    Login => login -> AuthenticatedSession;
    RefreshSession => refresh_session -> AuthenticatedSession;
    Logout => logout -> ();
    ChangePassword => change_password -> ();
    EndSession => end_session -> ();
    EndOtherSessions => end_other_sessions_of -> ();
    UpdateProfile => update_profile -> User;
    RequestPasswordReset => request_password_reset -> ();
    ResetPassword => reset_password -> ();
    RequestVerification => request_verification -> ();
    VerifyEmail => verify_email -> ();
    ChangeRights => change_rights -> Reply<User>;
    CreateApiKey => create_api_key -> Reply<NewApiKey>;
    DeleteApiKey => delete_api_key -> Reply<()>;
    ChangeAddress => change_address -> Option<SavedAddress>;
    DeleteAccount => delete_account -> ();
    GetUser => get_user -> User;
}
