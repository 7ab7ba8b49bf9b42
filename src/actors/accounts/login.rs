//! How a session begins: by registering, or by a password.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Deps,
    service::{Decision, Desk, changed, invalid_credentials},
};
use crate::{
    actors::commit_error::failure,
    domain::{
        account::{Password, REFRESH_LIFETIME, Session, User, check_name},
        clock::Timestamp,
        ids::{SessionId, UserId},
    },
    error::Error,
    events::Fact,
    messages::{
        accounts::{LoggedIn, Login, Register},
        change::Ticket,
    },
    store::{Commit, CommitError, Write},
};

/// Nobody waits for a hash that is only made anew.
const REHASH_WITHIN: Duration = Duration::from_secs(30);

impl Desk {
    pub(super) async fn register(&self, message: Register) -> Result<LoggedIn, Error> {
        let Register { email, password, name, role, ticket, trace } = message;
        check_name(&name)?;
        let password = Password::parse("password", password.expose().to_owned())?;
        // Only the commit decides whose the address is; this look saves the hashing.
        if self.deps.store.user_by_email(&email).await?.is_some() {
            return Err(failure(CommitError::EmailTaken));
        }
        let password_hash = self.deps.hasher.hash(password, ticket.deadline()).await?;
        ticket.begin()?;
        let mut commit = self.commit(&ticket, trace);
        let user = User {
            id: UserId::new(),
            email,
            name,
            role,
            password_hash,
            created_at: commit.at,
            version: 1,
            events: 1,
        };
        let (session, answer) = self.open_session(user, commit.at);
        let user = Arc::new(answer.user.clone());
        commit.writes = vec![Write::User(Arc::clone(&user)), Write::Session(Arc::new(session))];
        commit.facts.push(Fact::Registered(user));
        self.deps.writer.commit(commit).await.map_err(failure)?;
        Ok(answer)
    }

    pub(super) async fn login(&self, message: Login) -> Result<LoggedIn, Error> {
        let Login { email, password, address, ticket } = message;
        let attempt = self.doorman.admit(email.as_ref(), address, ticket.deadline()).await?;
        let user = match &email {
            Some(email) => self.deps.store.user_by_email(email).await?,
            None => None,
        };
        let Some(mut user) = self.verified(user, &password, &ticket).await? else {
            attempt.fail();
            return Err(invalid_credentials());
        };
        drop(attempt);
        let answer = self.begin_session(&mut user, &password, &ticket).await?;
        if !self.deps.hasher.is_current(&user.password_hash) {
            actix::spawn(rehash(self.deps.clone(), user, password));
        }
        Ok(answer)
    }

    async fn begin_session(
        &self,
        user: &mut User,
        password: &Password,
        ticket: &Ticket,
    ) -> Result<LoggedIn, Error> {
        let _turn = self.turn(user.id).await;
        self.settle(ticket, async || {
            self.still_verified(user, password, ticket).await?;
            let mut commit = self.commit(ticket, None);
            let (session, answer) = self.open_session(changed(user), commit.at);
            // The account is written along, so that this login and a change of the password cannot pass each other unseen: the
            // change ends every session that was begun with the old one.
            commit.writes =
                vec![Write::User(Arc::new(answer.user.clone())), Write::Session(Arc::new(session))];
            Ok(Decision::Commit(Box::new(commit), answer))
        })
        .await
    }

    fn open_session(&self, user: User, at: Timestamp) -> (Session, LoggedIn) {
        let session_id = SessionId::new();
        let issued = self.deps.refresh_tokens.issue(session_id);
        let session = Session {
            id: session_id,
            user_id: user.id,
            refresh_hash: issued.hash,
            created_at: at,
            expires_at: at.plus(REFRESH_LIFETIME),
            revoked_at: None,
            version: 1,
        };
        (session, LoggedIn { user, session_id, refresh_token: issued.token })
    }
}

/// Hashes a password anew after the cost was changed. When it comes to nothing, the next login tries again.
async fn rehash(deps: Deps, verified: User, password: Password) {
    let deadline = Instant::now() + REHASH_WITHIN;
    let Ok(password_hash) = deps.hasher.hash(password, deadline).await else { return };
    let Ok(Some(user)) = deps.store.user(verified.id).await else { return };
    if user.password_hash == verified.password_hash {
        let mut commit = Commit::new(deps.clock.now(), deadline);
        commit.writes.push(Write::User(Arc::new(User { password_hash, ..changed(&user) })));
        drop(deps.writer.commit(commit).await);
    }
}
