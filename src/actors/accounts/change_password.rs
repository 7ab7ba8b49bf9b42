//! The command that changes a password.

use std::sync::Arc;

use super::{
    hash_queue::HashOrigin,
    service::{AccountService, add_revocation, invalid_credentials, with_next_version},
};
use crate::{
    actors::retry_on_conflict::Decision,
    domain::account::{Password, RevocationReason, User, client_network},
    error::{Error, ErrorCode},
    messages::accounts::ChangePassword,
    store::Write,
};

impl AccountService {
    pub(super) async fn change_password(&self, message: ChangePassword) -> Result<(), Error> {
        let ChangePassword { user_id, session_id, current, new, address, ticket, trace } = message;
        let new = Password::parse("new_password", new.expose_secret().to_owned())?;
        let user = self.deps.store.find_user(user_id).await?.ok_or_else(session_ended)?;
        let origin = self.login_limiter.find_origin(Some(&user.email), Some(&user), address);
        let attempt = self.login_limiter.admit_login(&origin, ticket.deadline()).await?;
        let Some(mut user) =
            self.verify_credentials(Some(user), &current, origin.hash_origin, &ticket).await?
        else {
            attempt.count_failure().await?;
            return Err(invalid_credentials());
        };
        attempt.confirm_success().await?;
        let password_hash = self
            .deps
            .hasher
            .hash(HashOrigin::new_password(client_network(address)), new, ticket.deadline())
            .await?;
        let _guard = self.lock_account(user_id).await;
        self.decide_and_commit(&ticket, async || {
            self.reverify_credentials(&mut user, &current, origin.hash_origin, &ticket).await?;
            let mut commit = self.build_commit(&ticket, trace.clone());
            let sessions = self.deps.store.list_active_sessions(user_id, commit.decided_at).await?;
            if !sessions.iter().any(|session| session.id == session_id) {
                return Err(session_ended());
            }
            let mut user =
                User { password_hash: password_hash.clone(), ..with_next_version(&user) };
            for session in sessions.iter().filter(|session| session.id != session_id) {
                add_revocation(session, &mut user, RevocationReason::PasswordChanged, &mut commit);
            }
            commit.writes.push(Write::User(Arc::new(user)));
            Ok(Decision::Commit(Box::new(commit), |_| ()))
        })
        .await
    }
}

fn session_ended() -> Error {
    Error::new(ErrorCode::Unauthenticated, "This session is over. Log in again.")
}
