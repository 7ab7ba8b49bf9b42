//! The command that changes a password.

use std::sync::Arc;

use super::{
    hash_queue::HashOrigin,
    service::{AccountService, add_revocation, invalid_credentials, with_next_version},
};
use crate::{
    actors::retry_on_conflict::Decision,
    domain::{
        account::{Password, RevocationReason, User, client_network},
        ids::SessionId,
    },
    error::{Error, ErrorCode},
    messages::accounts::ChangePassword,
    store::{Commit, Write},
};

/// The sessions that one commit ends.
pub(super) const MAX_ENDED_SESSIONS: u32 = 256;

impl AccountService {
    pub(super) async fn change_password(&self, message: ChangePassword) -> Result<(), Error> {
        let ChangePassword { user_id, session_id, current, new, address, ticket, trace } = message;
        let new = Password::parse("new_password", new.expose_secret().to_owned())?;
        let user = self.deps.store.find_user(user_id).await?.ok_or_else(session_ended)?;
        let origin = self.login_limiter.find_origin(Some(&user.email), Some(&user), address);
        let attempt = self.login_limiter.admit_login(&origin, ticket.deadline()).await?;
        let Some(verified) =
            self.verify_credentials(Some(user), &current, origin.hash_origin, &ticket).await?
        else {
            attempt.count_failure().await?;
            return Err(invalid_credentials());
        };
        attempt.confirm_success().await?;
        let mut user = verified.user;
        let hash_origin = HashOrigin::new_password(client_network(address));
        let password_hash = self.deps.hasher.hash(hash_origin, new, ticket.deadline()).await?;
        let _guard = self.lock_account(user_id).await;
        // The first steps end sessions, and the last one ends the rest of them with the password.
        // If the shop stops in between, no session with the old password outlives the new one.
        loop {
            let is_last = self
                .decide_and_commit(&ticket, async || {
                    self.reverify_credentials(&mut user, &current, origin.hash_origin, &ticket)
                        .await?;
                    let mut commit = self.build_commit(&ticket, trace.clone());
                    let mut changed = with_next_version(&user);
                    let reason = RevocationReason::PasswordChanged;
                    let is_last = self
                        .end_other_sessions(session_id, &mut changed, reason, &mut commit)
                        .await?;
                    if is_last {
                        changed.password_hash.clone_from(&password_hash);
                        changed = changed.with_ended_mail_tokens();
                    }
                    commit.writes.push(Write::User(Arc::new(changed)));
                    Ok(Decision::Commit(Box::new(commit), move |_| is_last))
                })
                .await?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Adds the end of sessions other than `kept` to a commit. Returns whether these are all: a
    /// commit ends a limited number, so that no other commit has to wait for long.
    pub(super) async fn end_other_sessions(
        &self,
        kept: SessionId,
        user: &mut User,
        reason: RevocationReason,
        commit: &mut Commit,
    ) -> Result<bool, Error> {
        let store = &self.deps.store;
        let own = store.find_session(kept).await?;
        if !own.is_some_and(|session| session.is_active(commit.decided_at)) {
            return Err(session_ended());
        }
        let limit = MAX_ENDED_SESSIONS + 1;
        let sessions = store.list_active_sessions(user.id, commit.decided_at, limit).await?;
        let is_last = sessions.len() < limit as usize;
        for session in sessions.iter().filter(|session| session.id != kept) {
            add_revocation(session, user, reason, commit);
        }
        Ok(is_last)
    }
}

pub(super) fn session_ended() -> Error {
    Error::new(ErrorCode::Unauthenticated, "This session is over. Log in again.")
}
