//! Admins that nobody registers: the first one, and those made from the command line.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::distr::{Alphanumeric, SampleString};

use super::{PasswordHasher, service::changed};
use crate::{
    actors::commit_error::failure,
    domain::{
        account::{Email, Password, Role, User},
        clock::Clock,
        ids::UserId,
    },
    error::{Error, ErrorCode},
    events::Fact,
    store::{Commit, CommitError, Store, Write, writer::Writer},
};

/// The address of the admin that is made when none is configured. No mail reaches it from outside.
const FIRST_ADMIN: &str = "admin@localhost";

/// Length of a password made here: 119 bits.
const PASSWORD_LENGTH: usize = 20;

/// How often to look again when another node makes the same admin at the same time.
const ATTEMPTS: u32 = 8;

/// At the start nobody waits but the operator.
const WITHIN: Duration = Duration::from_secs(60);

/// Makes admins.
pub struct Bootstrap {
    /// Where accounts are read.
    pub store: Arc<dyn Store>,
    /// Where changes go.
    pub writer: Writer,
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
pub enum MadeAdmin {
    /// There is a new account.
    Created {
        /// Its password, when none was given.
        generated: Option<Password>,
    },
    /// The account there was is an admin's now; its password is what it was.
    Promoted,
    /// The account is an admin's already; nothing was done.
    Already,
}

impl Bootstrap {
    /// Sees to it that there is an admin: the configured one, or else any.
    ///
    /// # Errors
    /// The configured address is a customer's, or the store does not take it.
    pub async fn ensure_admin(
        &self,
        configured: Option<(Email, Password)>,
    ) -> Result<Option<FirstAdmin>, Error> {
        if let Some((email, password)) = configured {
            match self.store.user_by_email(&email).await? {
                // Whoever registered the address must not become an admin by that.
                Some(user) if user.role != Role::Admin => return Err(taken(&email)),
                Some(_) => {}
                None => drop(self.create_or_promote_admin(email, Some(password)).await?),
            }
            return Ok(None);
        }
        if self.store.has_admin().await? {
            return Ok(None);
        }
        let email = Email::parse(FIRST_ADMIN)?;
        if self.store.user_by_email(&email).await?.is_some() {
            // Whoever registered it must not become an admin by that.
            tracing::warn!(
                "there is no admin, and {FIRST_ADMIN} is a customer's; make one with `souk admin`"
            );
            return Ok(None);
        }
        match self.create_or_promote_admin(email.clone(), None).await? {
            MadeAdmin::Created { generated: Some(password) } => {
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
    ) -> Result<MadeAdmin, Error> {
        let deadline = Instant::now() + WITHIN;
        for _ in 0..ATTEMPTS {
            let mut commit = Commit::new(self.clock.now(), deadline);
            let done = match self.store.user_by_email(&email).await? {
                Some(user) if user.role == Role::Admin => return Ok(MadeAdmin::Already),
                Some(user) => {
                    tracing::warn!(user = %user.id, "an account is made an admin's");
                    commit
                        .writes
                        .push(Write::User(Arc::new(User { role: Role::Admin, ..changed(&user) })));
                    MadeAdmin::Promoted
                }
                None => {
                    let (password, generated) = match &password {
                        Some(given) => (given.clone(), None),
                        None => {
                            let made = random_password();
                            (made.clone(), Some(made))
                        }
                    };
                    let user = Arc::new(self.new_admin(email.clone(), password, &commit).await?);
                    commit.writes.push(Write::User(Arc::clone(&user)));
                    commit.facts.push(Fact::Registered(user));
                    MadeAdmin::Created { generated }
                }
            };
            match self.writer.commit(commit).await {
                Ok(_) => return Ok(done),
                Err(CommitError::Conflict | CommitError::EmailTaken) => {}
                Err(error) => return Err(failure(error)),
            }
        }
        Err(failure(CommitError::Conflict))
    }

    async fn new_admin(
        &self,
        email: Email,
        password: Password,
        commit: &Commit,
    ) -> Result<User, Error> {
        let password_hash = self.hasher.hash(password, commit.deadline).await?;
        let (id, created_at) = (UserId::new(), commit.at);
        Ok(User {
            id,
            email,
            name: "Administrator".into(),
            role: Role::Admin,
            password_hash,
            created_at,
            version: 1,
            events: 1,
        })
    }
}

fn taken(email: &Email) -> Error {
    let email = email.as_str();
    let detail = format!(
        "auth.admin_email: {email} has a customer's account; choose another address, or use `souk admin {email}`"
    );
    Error::new(ErrorCode::EmailTaken, detail)
}

fn random_password() -> Password {
    Password::attempt(Alphanumeric.sample_string(&mut rand::rng(), PASSWORD_LENGTH))
}
