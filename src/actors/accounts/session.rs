//! How a session goes on, and how it ends.

use std::sync::Arc;

use super::service::{Decision, Desk, changed, revoke};
use crate::{
    domain::{account::Session, ids::SessionId},
    error::{Error, ErrorCode},
    messages::{
        accounts::{LoggedIn, Logout, Refresh},
        change::{Ticket, TraceParent},
    },
    store::Write,
};

/// What becomes of a refresh token.
enum Use {
    /// It was good, and there is a new one.
    Rotated(Box<LoggedIn>),
    /// It had been used before: by its owner or by a thief, and nobody can tell which of the two is asking now.
    Again,
}

impl Desk {
    pub(super) async fn refresh(&self, message: Refresh) -> Result<LoggedIn, Error> {
        let Refresh { refresh_token, ticket, trace } = message;
        let token = self.deps.refresh_tokens.read(&refresh_token).ok_or_else(not_valid)?;
        let rotate = async || {
            let session = self.deps.store.session(token.session_id).await?.ok_or_else(not_valid)?;
            let mut commit = self.commit(&ticket, trace.clone());
            if session.revoked_at.is_some() {
                return Err(not_valid());
            }
            if !session.is_live(commit.at) {
                return Err(Error::new(
                    ErrorCode::TokenExpired,
                    "The refresh token has expired. Log in again.",
                ));
            }
            if !token.is_current(&session) {
                return Ok(Decision::Nothing(Use::Again));
            }
            let user = self.deps.store.user(session.user_id).await?.ok_or_else(not_valid)?;
            let issued = self.deps.refresh_tokens.issue(session.id);
            commit.writes.push(Write::Session(Arc::new(session.rotated(issued.hash, commit.at))));
            let answer = LoggedIn { user, session_id: session.id, refresh_token: issued.token };
            Ok(Decision::Commit(Box::new(commit), Use::Rotated(Box::new(answer))))
        };
        match self.settle(&ticket, rotate).await? {
            Use::Rotated(answer) => Ok(*answer),
            Use::Again => {
                tracing::warn!(session = %token.session_id, "a refresh token came twice; its session is revoked");
                self.end_session(token.session_id, "token_reuse", &ticket, trace).await?;
                Err(not_valid())
            }
        }
    }

    pub(super) async fn logout(&self, message: Logout) -> Result<(), Error> {
        let Logout { session_id, ticket, trace } = message;
        self.end_session(session_id, "logout", &ticket, trace).await
    }

    async fn end_session(
        &self,
        id: SessionId,
        reason: &'static str,
        ticket: &Ticket,
        trace: Option<TraceParent>,
    ) -> Result<(), Error> {
        let _turn = self.turn(self.existing(id).await?.user_id).await;
        self.settle(ticket, async || {
            let session = self.existing(id).await?;
            if session.revoked_at.is_some() {
                return Ok(Decision::Nothing(()));
            }
            let user = self.deps.store.user(session.user_id).await?.ok_or_else(no_session)?;
            let mut commit = self.commit(ticket, trace.clone());
            let mut user = changed(&user);
            revoke(&session, &mut user, reason, &mut commit);
            commit.writes.push(Write::User(Arc::new(user)));
            Ok(Decision::Commit(Box::new(commit), ()))
        })
        .await
    }

    async fn existing(&self, id: SessionId) -> Result<Session, Error> {
        self.deps.store.session(id).await?.ok_or_else(no_session)
    }
}

fn not_valid() -> Error {
    Error::new(ErrorCode::Unauthenticated, "The refresh token is not valid. Log in again.")
}

fn no_session() -> Error {
    Error::new(ErrorCode::Unauthenticated, "There is no such session. Log in again.")
}
