//! Sessions: refresh and logout.

use std::sync::Arc;

use bytes::Bytes;

use super::service::{AccountService, add_revocation, with_next_version};
use crate::{
    actors::retry_on_conflict::Decision,
    domain::{
        account::{RevocationReason, Session, User},
        clock::Timestamp,
        ids::SessionId,
    },
    error::{Error, ErrorCode},
    messages::{
        accounts::{AuthenticatedSession, EndOtherSessions, EndSession, Logout, RefreshSession},
        command_context::{Ticket, TraceParent},
    },
    store::Write,
};

/// The result of using a refresh token.
enum RefreshOutcome {
    /// The session goes on with a new refresh token, or with one that was issued a moment ago and
    /// may have been lost.
    Continued(Box<AuthenticatedSession>),
    /// The token was used before. Either its owner or a thief uses it now.
    Reused,
}

impl AccountService {
    pub(super) async fn refresh_session(
        &self,
        message: RefreshSession,
    ) -> Result<AuthenticatedSession, Error> {
        let RefreshSession { refresh_token, ticket, trace } = message;
        let tokens = &self.deps.refresh_tokens;
        let token = tokens.verify(&refresh_token).ok_or_else(invalid_refresh_token)?;
        let rotate = async || {
            let mut commit = self.build_commit(&ticket, trace.clone());
            let (session, user) =
                self.find_refreshable_session(token.session_id, commit.decided_at).await?;
            let is_current = token.is_current(&session);
            let successor = if is_current {
                Some(tokens.issue_successor(&token))
            } else if session.is_in_refresh_grace(commit.decided_at, self.deps.refresh_grace) {
                // It may have been lost. Once it was used, it is not the current token either.
                tokens.find_issued_successor(&token, &session)
            } else {
                None
            };
            let Some(successor) = successor else {
                let reply = RefreshOutcome::Reused;
                return Ok(Decision::NoChange { reply, body: Bytes::new() });
            };
            let reply = RefreshOutcome::Continued(Box::new(AuthenticatedSession {
                user,
                session_id: session.id,
                refresh_token: successor.token,
            }));
            if !is_current {
                return Ok(Decision::NoChange { reply, body: Bytes::new() });
            }
            commit.writes.push(Write::Session(Arc::new(
                session.rotate_refresh_token(successor.hash, commit.decided_at),
            )));
            Ok(Decision::Commit(Box::new(commit), |_| reply))
        };
        match self.decide_and_commit(&ticket, rotate).await? {
            RefreshOutcome::Continued(reply) => Ok(*reply),
            RefreshOutcome::Reused => {
                tracing::warn!(
                    session = %token.session_id,
                    "a refresh token was used again; its session is revoked"
                );
                self.revoke_session(token.session_id, RevocationReason::TokenReuse, &ticket, trace)
                    .await?;
                Err(invalid_refresh_token())
            }
        }
    }

    /// The session of a refresh token and its account, unless it has ended.
    async fn find_refreshable_session(
        &self,
        id: SessionId,
        now: Timestamp,
    ) -> Result<(Session, User), Error> {
        let session = self.deps.store.find_session(id).await?.ok_or_else(invalid_refresh_token)?;
        let user = self.deps.store.find_user(session.user_id).await?;
        let user = user.ok_or_else(invalid_refresh_token)?;
        if user.blocked {
            return Err(Error::account_blocked());
        }
        if session.revoked_at.is_some() {
            return Err(invalid_refresh_token());
        }
        if !session.is_active(now) {
            return Err(Error::new(
                ErrorCode::TokenExpired,
                "The refresh token has expired. Log in again.",
            ));
        }
        Ok((session, user))
    }

    pub(super) async fn logout(&self, message: Logout) -> Result<(), Error> {
        let Logout { session_id, ticket, trace } = message;
        self.revoke_session(session_id, RevocationReason::Logout, &ticket, trace).await
    }

    pub(super) async fn end_session(&self, message: EndSession) -> Result<(), Error> {
        let EndSession { user_id, session_id, ticket, trace } = message;
        let session = self.deps.store.find_session(session_id).await?;
        let is_own = session.is_some_and(|session| {
            session.user_id == user_id && session.is_active(self.deps.clock.now())
        });
        if !is_own {
            return Err(Error::session_not_found());
        }
        self.revoke_session(session_id, RevocationReason::Logout, &ticket, trace).await
    }

    /// Ends all sessions of an account but one, as many in a commit as it may end.
    pub(super) async fn end_other_sessions_of(
        &self,
        message: EndOtherSessions,
    ) -> Result<(), Error> {
        let EndOtherSessions { user_id, session_id, ticket, trace } = message;
        let _guard = self.lock_account(user_id).await;
        loop {
            let is_done = self
                .decide_and_commit(&ticket, async || {
                    let user = self.deps.store.find_user(user_id).await?;
                    let mut user = with_next_version(&user.ok_or_else(session_not_found)?);
                    let mut commit = self.build_commit(&ticket, trace.clone());
                    let reason = RevocationReason::Logout;
                    let is_last =
                        self.end_other_sessions(session_id, &mut user, reason, &mut commit).await?;
                    if commit.events.is_empty() {
                        return Ok(Decision::NoChange { reply: true, body: Bytes::new() });
                    }
                    commit.writes.push(Write::User(Arc::new(user)));
                    Ok(Decision::Commit(Box::new(commit), move |_| is_last))
                })
                .await?;
            if is_done {
                return Ok(());
            }
        }
    }

    async fn revoke_session(
        &self,
        id: SessionId,
        reason: RevocationReason,
        ticket: &Ticket,
        trace: Option<TraceParent>,
    ) -> Result<(), Error> {
        let _guard = self.lock_account(self.load_session(id).await?.user_id).await;
        self.decide_and_commit(ticket, async || {
            let session = self.load_session(id).await?;
            if session.revoked_at.is_some() {
                return Ok(Decision::NoChange { reply: (), body: Bytes::new() });
            }
            let user =
                self.deps.store.find_user(session.user_id).await?.ok_or_else(session_not_found)?;
            let mut commit = self.build_commit(ticket, trace.clone());
            let mut user = with_next_version(&user);
            add_revocation(&session, &mut user, reason, &mut commit);
            commit.writes.push(Write::User(Arc::new(user)));
            Ok(Decision::Commit(Box::new(commit), |_| ()))
        })
        .await
    }

    async fn load_session(&self, id: SessionId) -> Result<Session, Error> {
        self.deps.store.find_session(id).await?.ok_or_else(session_not_found)
    }
}

fn invalid_refresh_token() -> Error {
    Error::new(ErrorCode::Unauthenticated, "The refresh token is not valid. Log in again.")
}

fn session_not_found() -> Error {
    Error::new(ErrorCode::Unauthenticated, "The session does not exist. Log in again.")
}
