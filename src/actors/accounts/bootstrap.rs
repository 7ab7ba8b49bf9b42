//! Admins that nobody registers: the first one, and those made from the command line.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::distr::{Alphanumeric, SampleString};

use super::{PasswordHasher, service::with_next_version};
use crate::{
    actors::commit_error::map_commit_error,
    domain::{
        account::{Email, Password, Role, User},
        clock::Clock,
        ids::UserId,
    },
    error::{Error, ErrorCode},
    events::DomainEvent,
    store::{Commit, CommitError, Store, Write, writer::CommitWriter},
};

/// The address of the admin that is made when none is configured. No mail reaches it from outside.
const DEFAULT_ADMIN_EMAIL: &str = "admin@localhost";

/// Length of a password made here: 119 bits.
const GENERATED_PASSWORD_LENGTH: usize = 20;

/// How often to look again when another node makes the same admin at the same time.
const MAX_ADMIN_ATTEMPTS: u32 = 8;

/// At the start nobody waits but the operator.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes admins.
pub struct AdminBootstrap {
    /// Where accounts are read.
    pub store: Arc<dyn Store>,
    /// Where changes go.
    pub writer: CommitWriter,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// bcrypt's threads.
    pub hasher: PasswordHasher,
}

/// An admin whose password was made up and has to be told, once.
#[derive(Debug, Clone)]
pub struct FirstAdmin {
    /// Its address.
    pub email: Email,
    /// Its password.
    pub password: Password,
}

/// What was done to make somebody an admin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminOutcome {
    /// There is a new account.
    Created {
        /// Its password, when none was given.
        generated: Option<Password>,
    },
    /// The account there was is an admin's now; its password is what it was.
    Promoted,
    /// The account is an admin's already; nothing was done.
    AlreadyAdmin,
}

impl AdminBootstrap {
    /// Sees to it that there is an admin: the configured one, or else any.
    ///
    /// # Errors
    /// The configured address is a customer's, or the store does not take it.
    pub async fn ensure_admin(
        &self,
        configured: Option<(Email, Password)>,
    ) -> Result<Option<FirstAdmin>, Error> {
        if let Some((email, password)) = configured {
            match self.store.find_user_by_email(&email).await? {
                // Whoever registered the address must not become an admin by that.
                Some(user) if user.role != Role::Admin => return Err(email_taken(&email)),
                Some(_) => {}
                None => drop(self.create_or_promote_admin(email, Some(password)).await?),
            }
            return Ok(None);
        }
        if self.store.has_admin().await? {
            return Ok(None);
        }
        let email = Email::parse(DEFAULT_ADMIN_EMAIL)?;
        if self.store.find_user_by_email(&email).await?.is_some() {
            // Whoever registered it must not become an admin by that.
            tracing::warn!(
                "there is no admin, and {DEFAULT_ADMIN_EMAIL} is a customer's; make one with `souk admin`"
            );
            return Ok(None);
        }
        match self.create_or_promote_admin(email.clone(), None).await? {
            AdminOutcome::Created { generated: Some(password) } => {
                Ok(Some(FirstAdmin { email, password }))
            }
            _ => Ok(None),
        }
    }

    /// Makes an account for `email`, with a random password when none is given; an account that exists becomes an admin's and keeps
    /// its password.
    ///
    /// # Errors
    /// The store does not take it.
    pub async fn create_or_promote_admin(
        &self,
        email: Email,
        password: Option<Password>,
    ) -> Result<AdminOutcome, Error> {
        let deadline = Instant::now() + COMMIT_TIMEOUT;
        for _ in 0..MAX_ADMIN_ATTEMPTS {
            let mut commit = Commit::new(self.clock.now(), deadline);
            let done = match self.store.find_user_by_email(&email).await? {
                Some(user) if user.role == Role::Admin => return Ok(AdminOutcome::AlreadyAdmin),
                Some(user) => {
                    tracing::warn!(user = %user.id, "an account is made an admin's");
                    commit.writes.push(Write::User(Arc::new(User {
                        role: Role::Admin,
                        ..with_next_version(&user)
                    })));
                    AdminOutcome::Promoted
                }
                None => {
                    let (password, generated) = match &password {
                        Some(given) => (given.clone(), None),
                        None => {
                            let made = random_password();
                            (made.clone(), Some(made))
                        }
                    };
                    let user = Arc::new(self.build_admin(email.clone(), password, &commit).await?);
                    commit.writes.push(Write::User(Arc::clone(&user)));
                    commit.events.push(DomainEvent::UserRegistered(user));
                    AdminOutcome::Created { generated }
                }
            };
            match self.writer.commit(commit).await {
                Ok(_) => return Ok(done),
                Err(CommitError::Conflict | CommitError::EmailTaken) => {}
                Err(error) => return Err(map_commit_error(error)),
            }
        }
        Err(map_commit_error(CommitError::Conflict))
    }

    async fn build_admin(
        &self,
        email: Email,
        password: Password,
        commit: &Commit,
    ) -> Result<User, Error> {
        let password_hash = self.hasher.hash(password, commit.deadline).await?;
        let (id, created_at) = (UserId::new(), commit.decided_at);
        Ok(User {
            id,
            email,
            name: "Administrator".into(),
            role: Role::Admin,
            password_hash,
            created_at,
            version: 1,
            event_sequence: 1,
        })
    }
}

fn email_taken(email: &Email) -> Error {
    let email = email.as_str();
    let detail = format!(
        "auth.admin_email: {email} has a customer's account; choose another address, or use `souk admin {email}`"
    );
    Error::new(ErrorCode::EmailTaken, detail)
}

fn random_password() -> Password {
    Password::unvalidated(Alphanumeric.sample_string(&mut rand::rng(), GENERATED_PASSWORD_LENGTH))
}
