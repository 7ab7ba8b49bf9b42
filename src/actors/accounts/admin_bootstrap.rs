//! Admin accounts that are not registered over the API: the first one, and those created from the
//! command line.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rand::distr::{Alphanumeric, SampleString};

use super::{
    PasswordHasher,
    change_password::MAX_ENDED_SESSIONS,
    change_rights::{add_revocations, add_rights_change, wait_for_other_nodes},
    hash_queue::HashOrigin,
    service::with_next_version,
};
use crate::{
    actors::retry_on_conflict::{CommandRetry, Decision, is_conflict},
    domain::{
        account::{Email, Password, RevocationReason, Rights, Role, ScopeSet, User},
        clock::Clock,
        ids::UserId,
    },
    error::{Error, ErrorCode},
    events::DomainEvent,
    messages::command_context::{CommandContext, Reply},
    store::{Commit, CommitError, Store, Write, writer::CommitWriter},
};

/// The e-mail address of the first admin if none is configured. It receives no external mail.
const DEFAULT_ADMIN_EMAIL: &str = "admin@localhost";

/// The length of a generated password: 20 characters give 119 bits of entropy.
const GENERATED_PASSWORD_LENGTH: usize = 20;

/// How long the commit may take; only the operator waits for it.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Creates and promotes admins.
pub struct AdminBootstrap {
    /// The store that accounts are read from.
    pub store: Arc<dyn Store>,
    /// Writes commits to the store.
    pub writer: CommitWriter,
    /// Provides the time of each change.
    pub clock: Arc<dyn Clock>,
    /// Hashes passwords on dedicated threads.
    pub hasher: PasswordHasher,
}

/// A new admin whose generated password must be shown to the operator once.
#[derive(Debug, Clone)]
pub struct FirstAdmin {
    /// The address to log in with.
    pub email: Email,
    /// The generated password.
    pub password: Password,
}

/// The result of creating or promoting an admin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminOutcome {
    /// A new account was created.
    Created {
        /// The generated password, if none was given.
        generated: Option<Password>,
    },
    /// An existing account became an admin and kept its password.
    Promoted,
    /// The account was already an admin; nothing changed.
    AlreadyAdmin,
}

impl AdminBootstrap {
    /// Ensures that the configured admin exists or, without configuration, any admin.
    ///
    /// # Errors
    /// The configured address belongs to a customer, or the store fails.
    pub async fn ensure_admin(
        &self,
        configured: Option<(Email, Password)>,
    ) -> Result<Option<FirstAdmin>, Error> {
        if let Some((email, password)) = configured {
            match self.store.find_user_by_email(&email).await? {
                // Nobody must become an admin by registering the address first.
                Some(user) if user.role != Role::Admin => return Err(email_taken(&email)),
                Some(_) => {}
                None => drop(self.make_admin(email, Some(password), &at_start()).await?),
            }
            return Ok(None);
        }
        if self.store.has_admin().await? {
            return Ok(None);
        }
        let email = Email::parse(DEFAULT_ADMIN_EMAIL)?;
        if self.store.find_user_by_email(&email).await?.is_some() {
            // Nobody must become an admin by registering the address first.
            tracing::warn!(
                "there is no admin, and {DEFAULT_ADMIN_EMAIL} belongs to a customer; create an \
                 admin with `souk admin`"
            );
            return Ok(None);
        }
        match self.make_admin(email.clone(), None, &at_start()).await? {
            AdminOutcome::Created { generated: Some(password) } => {
                Ok(Some(FirstAdmin { email, password }))
            }
            _ => Ok(None),
        }
    }

    /// Creates an admin account for `email`, with a random password if none is given. An existing
    /// account becomes an admin and keeps its password.
    ///
    /// # Errors
    /// The store fails.
    pub async fn create_or_promote_admin(
        &self,
        email: Email,
        password: Option<Password>,
    ) -> Result<AdminOutcome, Error> {
        let exists = self.store.find_user_by_email(&email).await?.is_some();
        let operation = if exists { "patch_user" } else { "register_account" };
        let context = CommandContext::command_line(operation, COMMIT_TIMEOUT);
        self.make_admin(email, password, &context).await
    }

    async fn make_admin(
        &self,
        email: Email,
        password: Option<Password>,
        context: &CommandContext,
    ) -> Result<AdminOutcome, Error> {
        let decide = async || {
            let mut commit = Commit::new(self.clock.now(), context.ticket.deadline());
            let outcome = match self.store.find_user_by_email(&email).await? {
                Some(user) if user.role == Role::Admin => {
                    let reply = AdminOutcome::AlreadyAdmin;
                    return Ok(Decision::NoChange { reply, body: Bytes::new() });
                }
                Some(user) => {
                    tracing::warn!(user = %user.id, "promoting an account to admin");
                    let rights =
                        Rights { role: Role::Admin, scopes: ScopeSet::EMPTY, ..user.rights() };
                    (_, commit) = add_rights_change(&*self.store, &user, rights, commit).await?;
                    AdminOutcome::Promoted
                }
                None => {
                    let (chosen, generated) = match &password {
                        Some(given) => (given.clone(), None),
                        None => {
                            let random = random_password();
                            (random.clone(), Some(random))
                        }
                    };
                    let user = Arc::new(self.build_admin(email.clone(), chosen, &commit).await?);
                    commit.writes.push(Write::User(Arc::clone(&user)));
                    commit.events.push(DomainEvent::UserRegistered(user));
                    AdminOutcome::Created { generated }
                }
            };
            Ok(Decision::Commit(Box::new(commit), |_| outcome))
        };
        let retry = CommandRetry {
            store: &*self.store,
            writer: &self.writer,
            clock: &*self.clock,
            follower: None,
            // Another node may create or promote the same admin at the same time.
            is_conflict: |error| matches!(error, CommitError::Conflict | CommitError::EmailTaken),
        };
        match retry.retry_on_conflict(context, decide, async || Ok(())).await? {
            Reply::Completed(outcome) => {
                wait_for_other_nodes(&*self.store).await;
                Ok(outcome)
            }
            // Without an idempotency key, no response is stored.
            Reply::Replayed(_) => Err(Error::internal()),
        }
    }

    /// Gives an account a new, random password, ends its sessions and lifts a block. `None` if no
    /// account has the address.
    ///
    /// # Errors
    /// The store fails.
    pub async fn reset_password(&self, email: &Email) -> Result<Option<Password>, Error> {
        if self.store.find_user_by_email(email).await?.is_none() {
            return Ok(None);
        }
        let password = random_password();
        let context = CommandContext::command_line("change_password", COMMIT_TIMEOUT);
        let deadline = context.ticket.deadline();
        let password_hash =
            self.hasher.hash(HashOrigin::OPERATOR, password.clone(), deadline).await?;
        let retry = CommandRetry {
            store: &*self.store,
            writer: &self.writer,
            clock: &*self.clock,
            follower: None,
            is_conflict,
        };
        // As with a change of password: the first steps end sessions, and the last one ends the
        // rest of them with the password.
        loop {
            let decide = async || {
                let user = self.store.find_user_by_email(email).await?;
                let user = user.ok_or_else(Error::user_not_found)?;
                let commit = Commit::new(self.clock.now(), deadline);
                let (is_last, commit) =
                    build_password_reset(&*self.store, user, &password_hash, commit).await?;
                Ok(Decision::Commit(Box::new(commit), move |_| is_last))
            };
            match retry.retry_on_conflict(&context, decide, async || Ok(())).await? {
                Reply::Completed(false) => {}
                Reply::Completed(true) => break,
                // Without an idempotency key, no response is stored.
                Reply::Replayed(_) => return Err(Error::internal()),
            }
        }
        wait_for_other_nodes(&*self.store).await;
        Ok(Some(password))
    }

    async fn build_admin(
        &self,
        email: Email,
        password: Password,
        commit: &Commit,
    ) -> Result<User, Error> {
        let password_hash =
            self.hasher.hash(HashOrigin::OPERATOR, password, commit.deadline).await?;
        let (id, created_at) = (UserId::new(), commit.decided_at);
        Ok(User {
            id,
            email,
            name: "Administrator".into(),
            role: Role::Admin,
            scopes: ScopeSet::EMPTY,
            blocked: false,
            password_hash,
            created_at,
            last_login_at: None,
            version: 1,
            event_sequence: 1,
            known_networks: Vec::new(),
            mail_tokens: Vec::new(),
            email_verified: false,
        })
    }
}

/// Adds a step of a password reset to a commit. Returns whether it is the last one.
async fn build_password_reset(
    store: &dyn Store,
    user: User,
    password_hash: &str,
    mut commit: Commit,
) -> Result<(bool, Commit), Error> {
    let mut changed = with_next_version(&user);
    let reason = RevocationReason::PasswordReset;
    let ended = add_revocations(store, &mut changed, reason, &mut commit).await?;
    let is_last = ended < MAX_ENDED_SESSIONS;
    if is_last {
        password_hash.clone_into(&mut changed.password_hash);
        changed = changed.with_ended_mail_tokens();
        if user.blocked {
            changed.blocked = false;
            changed.event_sequence += 1;
            commit.events.push(DomainEvent::RightsChanged(Arc::new(changed.clone())));
        }
    }
    commit.writes.push(Write::User(Arc::new(changed)));
    Ok((is_last, commit))
}

/// The context of what the settings ask for when a node starts. Nobody has taken that action.
fn at_start() -> CommandContext {
    CommandContext::internal(COMMIT_TIMEOUT)
}

fn email_taken(email: &Email) -> Error {
    let email = email.as_str();
    let detail = format!(
        "auth.admin_email: {email} belongs to a customer; choose another address, or use \
         `souk admin {email}`"
    );
    Error::new(ErrorCode::EmailTaken, detail)
}

/// A password that nobody can guess.
#[must_use]
pub fn random_password() -> Password {
    Password::unvalidated(Alphanumeric.sample_string(&mut rand::rng(), GENERATED_PASSWORD_LENGTH))
}
