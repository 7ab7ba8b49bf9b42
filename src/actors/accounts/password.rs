//! How a password is changed.

use std::sync::Arc;

use super::service::{Decision, Desk, changed, invalid_credentials, revoke};
use crate::{
    domain::account::{Password, User},
    error::{Error, ErrorCode},
    messages::accounts::ChangePassword,
    store::Write,
};

impl Desk {
    pub(super) async fn change_password(&self, message: ChangePassword) -> Result<(), Error> {
        let ChangePassword { user_id, session_id, current, new, address, ticket, trace } = message;
        let new = Password::parse("new_password", new.expose().to_owned())?;
        let user = self.deps.store.user(user_id).await?.ok_or_else(session_over)?;
        let attempt = self.doorman.admit(Some(&user.email), address, ticket.deadline()).await?;
        let Some(mut user) = self.verified(Some(user), &current, &ticket).await? else {
            attempt.fail();
            return Err(invalid_credentials());
        };
        drop(attempt);
        let password_hash = self.deps.hasher.hash(new, ticket.deadline()).await?;
        let _turn = self.turn(user_id).await;
        self.settle(&ticket, async || {
            self.still_verified(&mut user, &current, &ticket).await?;
            let mut commit = self.commit(&ticket, trace.clone());
            let sessions = self.deps.store.live_sessions(user_id, commit.at).await?;
            if !sessions.iter().any(|session| session.id == session_id) {
                return Err(session_over());
            }
            let mut user = User { password_hash: password_hash.clone(), ..changed(&user) };
            for session in sessions.iter().filter(|session| session.id != session_id) {
                revoke(session, &mut user, "password_changed", &mut commit);
            }
            commit.writes.push(Write::User(Arc::new(user)));
            Ok(Decision::Commit(Box::new(commit), ()))
        })
        .await
    }
}

fn session_over() -> Error {
    Error::new(ErrorCode::Unauthenticated, "This session is over. Log in again.")
}
