//! The commands that start a session: registration and login.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    AccountDeps,
    change_password::MAX_ENDED_SESSIONS,
    hash_queue::HashOrigin,
    service::{
        AccountService, VerifiedUser, add_revocation, invalid_credentials, with_next_version,
    },
};
use crate::{
    actors::{commit_error::map_commit_error, retry_on_conflict::Decision},
    domain::{
        account::{
            Password, REFRESH_TOKEN_LIFETIME, RevocationReason, ScopeSet, Session, User,
            client_network, login_failures::LoginKey, validate_account_name,
        },
        clock::Timestamp,
        ids::{SessionId, UserId},
    },
    error::Error,
    events::DomainEvent,
    messages::{
        accounts::{AuthenticatedSession, Login, RegisterUser},
        command_context::Ticket,
    },
    store::{Commit, CommitError, Write},
};

/// How long a rehash may take. It runs in the background.
const REHASH_TIMEOUT: Duration = Duration::from_secs(30);

/// A login whose password was right.
struct VerifiedLogin<'a> {
    /// The account at the network, where it is known from then on.
    known_network: LoginKey,
    /// Whom the password is hashed for, if it has to be verified again.
    origin: HashOrigin,
    password: &'a Password,
    /// The client's address, and what it says of itself.
    client: (IpAddr, Option<String>),
}

impl AccountService {
    pub(super) async fn register_account(
        &self,
        message: RegisterUser,
    ) -> Result<AuthenticatedSession, Error> {
        let RegisterUser { email, password, name, role, address, user_agent, ticket, trace } =
            message;
        validate_account_name(&name)?;
        let password = Password::parse("password", password.expose_secret().to_owned())?;
        // The commit enforces unique addresses; this check only avoids a useless hash.
        if self.deps.store.find_user_by_email(&email).await?.is_some() {
            return Err(map_commit_error(CommitError::EmailTaken));
        }
        let password_hash = self
            .deps
            .hasher
            .hash(HashOrigin::new_password(client_network(address)), password, ticket.deadline())
            .await?;
        ticket.mark_started()?;
        let mut commit = self.build_commit(&ticket, trace);
        let known_network = self.login_limiter.pair_keys(&email, address).first;
        let user = User {
            id: UserId::new(),
            email,
            name,
            role,
            scopes: ScopeSet::EMPTY,
            blocked: false,
            password_hash,
            created_at: commit.decided_at,
            last_login_at: Some(commit.decided_at),
            version: 1,
            event_sequence: 1,
            known_networks: Vec::new(),
            mail_tokens: Vec::new(),
            email_verified: false,
        }
        .with_known_network(known_network, commit.decided_at);
        let client = (address, user_agent);
        let (session, reply) = self.new_session(user, client, commit.decided_at);
        let user = Arc::new(reply.user.clone());
        commit.writes = vec![Write::User(Arc::clone(&user)), Write::Session(Arc::new(session))];
        self.add_address_mails(&user, None, &mut commit);
        commit.events.push(DomainEvent::UserRegistered(user));
        self.deps.writer.commit(commit).await.map_err(map_commit_error)?;
        Ok(reply)
    }

    pub(super) async fn login(&self, message: Login) -> Result<AuthenticatedSession, Error> {
        let Login { email, password, address, user_agent, ticket } = message;
        let user = match &email {
            Some(email) => self.deps.store.find_user_by_email(email).await?,
            None => None,
        };
        let limiter = &self.login_limiter;
        let origin = limiter.find_origin(email.as_ref(), user.as_ref(), address);
        let attempt = limiter.admit_login(&origin, ticket.deadline()).await?;
        let Some(verified) =
            self.verify_credentials(user, &password, origin.hash_origin, &ticket).await?
        else {
            attempt.count_failure().await?;
            return Err(invalid_credentials());
        };
        attempt.confirm_success().await?;
        let VerifiedUser { mut user, is_hash_outdated } = verified;
        let login = VerifiedLogin {
            known_network: limiter.pair_keys(&user.email, address).first,
            origin: origin.hash_origin,
            password: &password,
            client: (address, user_agent),
        };
        let reply = self.start_session(&mut user, &login, &ticket).await?;
        if is_hash_outdated {
            let origin = HashOrigin::new_password(client_network(address));
            actix::spawn(rehash_password(self.deps.clone(), origin, user, password));
        }
        Ok(reply)
    }

    async fn start_session(
        &self,
        user: &mut User,
        login: &VerifiedLogin<'_>,
        ticket: &Ticket,
    ) -> Result<AuthenticatedSession, Error> {
        let _guard = self.lock_account(user.id).await;
        self.decide_and_commit(ticket, async || {
            self.reverify_credentials(user, login.password, login.origin, ticket).await?;
            // Only to those who know the password.
            if user.blocked {
                return Err(Error::blocked_login());
            }
            let mut commit = self.build_commit(ticket, None);
            let mut changed =
                with_next_version(user).with_known_network(login.known_network, commit.decided_at);
            changed.last_login_at = Some(commit.decided_at);
            self.end_excess_sessions(&mut changed, &mut commit).await?;
            let (session, reply) =
                self.new_session(changed, login.client.clone(), commit.decided_at);
            // Writing the account makes this login conflict with a concurrent password change,
            // which revokes every session that the old password started, and with other logins, so
            // that together they keep to the limit.
            commit.writes.push(Write::User(Arc::new(reply.user.clone())));
            commit.writes.push(Write::Session(Arc::new(session)));
            Ok(Decision::Commit(Box::new(commit), |_| reply))
        })
        .await
    }

    /// Adds the end of those sessions to a commit that leave no room for one more: the ones that
    /// were unused for the longest time.
    async fn end_excess_sessions(&self, user: &mut User, commit: &mut Commit) -> Result<(), Error> {
        let kept = self.deps.max_sessions.saturating_sub(1);
        let now = commit.decided_at;
        let excess =
            self.deps.store.list_stale_sessions(user.id, now, kept, MAX_ENDED_SESSIONS).await?;
        for session in &excess {
            add_revocation(session, user, RevocationReason::SessionLimit, commit);
        }
        Ok(())
    }

    fn new_session(
        &self,
        user: User,
        (address, user_agent): (IpAddr, Option<String>),
        at: Timestamp,
    ) -> (Session, AuthenticatedSession) {
        let session_id = SessionId::new();
        let issued = self.deps.refresh_tokens.issue(session_id);
        let session = Session {
            id: session_id,
            user_id: user.id,
            address: Some(address),
            user_agent,
            refresh_hash: issued.hash,
            created_at: at,
            expires_at: at.saturating_add(REFRESH_TOKEN_LIFETIME),
            revoked_at: None,
            version: 1,
        };
        (session, AuthenticatedSession { user, session_id, refresh_token: issued.token })
    }
}

/// Rehashes a password after the configured cost has changed, or that was hashed as typed. If this
/// fails, the next login retries.
async fn rehash_password(
    deps: AccountDeps,
    origin: HashOrigin,
    verified: User,
    password: Password,
) {
    let deadline = Instant::now() + REHASH_TIMEOUT;
    let Some(password) = password.forms().into_iter().next() else { return };
    let Ok(password_hash) = deps.hasher.hash(origin, password, deadline).await else { return };
    let Ok(Some(user)) = deps.store.find_user(verified.id).await else { return };
    if user.password_hash == verified.password_hash {
        let mut commit = Commit::new(deps.clock.now(), deadline);
        commit
            .writes
            .push(Write::User(Arc::new(User { password_hash, ..with_next_version(&user) })));
        drop(deps.writer.commit(commit).await);
    }
}
