//! Tests of the account commands against a real store. Each test has its own shop.

mod hashing;
mod logins;
mod mail_tokens;
mod many_sessions;
mod sessions;
mod throttling;

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Addr};
use tempfile::TempDir;

use super::{
    AccountActor, AccountDeps, PasswordHasher, RefreshTokens, RevokedSessions,
    admin_bootstrap::AdminBootstrap,
};
use crate::{
    auth::login_keys::LoginKeys,
    domain::{
        account::{Email, Password, Role},
        clock::{Clock, SystemClock, Timestamp},
        ids::{SessionId, UserId},
    },
    error::{Error, ErrorCode},
    events::OutboxCursor,
    messages::{
        accounts::{
            AuthenticatedSession, ChangePassword, DeleteAccount, GetUser, Login, Logout,
            RefreshSession, RegisterUser,
        },
        command_context::Ticket,
    },
    metrics::actors::MailboxMetrics,
    store::{
        CommittedChanges, Store,
        sqlite::{SqliteOptions, SqliteStore},
        writer::{CommitObserver, CommitWriter},
    },
};

pub(super) const PASSWORD: &str = "correct horse";

/// Where every account is registered, and so known.
pub(super) const REGISTRATION_ADDRESS: &str = "10.0.0.1";

/// The system time plus an offset that a test sets.
#[derive(Default)]
pub(super) struct MockClock(AtomicI64);

impl MockClock {
    pub(super) fn advance(&self, span: Duration) {
        self.0.fetch_add(i64::try_from(span.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for MockClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(SystemClock.now().as_millis() + self.0.load(Ordering::Relaxed))
    }
}

struct RecordRevocations {
    revoked: Arc<RevokedSessions>,
    /// The most sessions that one batch has revoked.
    largest: Arc<AtomicI64>,
}

impl CommitObserver for RecordRevocations {
    fn on_committed(&self, changes: &CommittedChanges) {
        self.revoked.add(&changes.revoked_sessions);
        self.largest.fetch_max(changes.revoked_sessions.len() as i64, Ordering::Relaxed);
    }
}

/// The options of a test shop.
pub(super) struct FixtureSettings {
    pub(super) login_limit: u32,
    pub(super) refresh_grace: Duration,
    pub(super) max_sessions: u32,
    pub(super) cost: u32,
    pub(super) threads: usize,
}

impl Default for FixtureSettings {
    fn default() -> Self {
        Self {
            login_limit: 10,
            refresh_grace: Duration::from_secs(30),
            max_sessions: 100,
            cost: 4,
            threads: 2,
        }
    }
}

/// The account actor and its dependencies.
pub(super) struct AccountFixture {
    pub(super) accounts: Addr<AccountActor>,
    pub(super) deps: AccountDeps,
    pub(super) clock: Arc<MockClock>,
    largest_revocation: Arc<AtomicI64>,
    _dir: Arc<TempDir>,
}

impl AccountFixture {
    pub(super) fn open(settings: FixtureSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions {
            currency: "USD".parse().unwrap(),
            low_stock: 5,
            ..SqliteOptions::sample(folder.path())
        };
        let clock = Arc::new(MockClock::default());
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(options, Arc::clone(&clock) as Arc<dyn Clock>).unwrap());
        let revoked = Arc::new(RevokedSessions::new());
        let largest_revocation = Arc::default();
        let observer = Arc::new(RecordRevocations {
            revoked: Arc::clone(&revoked),
            largest: Arc::clone(&largest_revocation),
        });
        let (writer, _) =
            CommitWriter::start(&tokio::runtime::Handle::current(), Arc::clone(&store), observer);
        let deps = AccountDeps {
            store,
            writer,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            hasher: PasswordHasher::start(settings.cost, NonZeroUsize::new(settings.threads)),
            refresh_tokens: RefreshTokens::new(b"a secret"),
            revoked,
            login_keys: LoginKeys::new(b"a secret"),
            refresh_grace: settings.refresh_grace,
            max_sessions: settings.max_sessions,
            login_limit: settings.login_limit,
            sends_mail: false,
            render_user: |_| bytes::Bytes::new(),
            render_api_key: |_| bytes::Bytes::new(),
            mailbox: MailboxMetrics::default(),
        };
        Self {
            accounts: AccountActor::new(deps.clone()).start(),
            deps,
            clock,
            largest_revocation,
            _dir: Arc::new(folder),
        }
    }

    /// Starts another node on the same store.
    pub(super) fn other_node(&self) -> Self {
        let accounts = AccountActor::new(self.deps.clone()).start();
        Self {
            accounts,
            deps: self.deps.clone(),
            clock: Arc::clone(&self.clock),
            largest_revocation: Arc::clone(&self.largest_revocation),
            _dir: Arc::clone(&self._dir),
        }
    }

    pub(super) fn admin_bootstrap(&self) -> AdminBootstrap {
        let AccountDeps { store, writer, clock, hasher, .. } = self.deps.clone();
        AdminBootstrap { store, writer, clock, hasher }
    }

    pub(super) async fn register(&self, email: &str) -> Result<AuthenticatedSession, Error> {
        self.accounts.send(register_message(email, PASSWORD)).await.unwrap()
    }

    pub(super) async fn login(
        &self,
        email: &str,
        password: &str,
    ) -> Result<AuthenticatedSession, Error> {
        self.login_from(email, password, REGISTRATION_ADDRESS).await
    }

    pub(super) async fn login_from(
        &self,
        email: &str,
        password: &str,
        address: &str,
    ) -> Result<AuthenticatedSession, Error> {
        let (email, password) = (Email::parse(email).ok(), Password::unvalidated(password.into()));
        let login = Login {
            email,
            password,
            address: address.parse().unwrap(),
            user_agent: None,
            ticket: new_ticket(),
        };
        self.accounts.send(login).await.unwrap()
    }

    pub(super) async fn refresh(&self, refresh_token: &str) -> Result<AuthenticatedSession, Error> {
        let refresh = RefreshSession {
            refresh_token: refresh_token.into(),
            ticket: new_ticket(),
            trace: None,
        };
        self.accounts.send(refresh).await.unwrap()
    }

    pub(super) async fn logout(&self, session_id: SessionId) -> Result<(), Error> {
        self.accounts.send(Logout { session_id, ticket: new_ticket(), trace: None }).await.unwrap()
    }

    pub(super) async fn change_password(
        &self,
        login: &AuthenticatedSession,
        current: &str,
        new: &str,
    ) -> Result<(), Error> {
        let change = ChangePassword {
            user_id: login.user.id,
            session_id: login.session_id,
            current: Password::unvalidated(current.into()),
            new: Password::unvalidated(new.into()),
            address: "10.0.0.1".parse().unwrap(),
            ticket: new_ticket(),
            trace: None,
        };
        self.accounts.send(change).await.unwrap()
    }

    pub(super) async fn delete_account(
        &self,
        login: &AuthenticatedSession,
        password: &str,
    ) -> Result<(), Error> {
        let deletion = DeleteAccount {
            user_id: login.user.id,
            current_password: Password::unvalidated(password.into()),
            address: "10.0.0.1".parse().unwrap(),
            ticket: new_ticket(),
            trace: None,
        };
        self.accounts.send(deletion).await.unwrap()
    }

    /// The most sessions that one batch has revoked.
    pub(super) fn largest_revocation(&self) -> i64 {
        self.largest_revocation.load(Ordering::Relaxed)
    }

    pub(super) async fn active_sessions(&self, user: UserId) -> Vec<SessionId> {
        let live = self
            .deps
            .store
            .list_active_sessions(user, self.deps.clock.now(), u32::MAX)
            .await
            .unwrap();
        live.into_iter().map(|session| session.id).collect()
    }

    /// Returns the types of an account's events and asserts that their sequence has no gap.
    pub(super) async fn event_types(&self, user: UserId) -> Vec<String> {
        let store = &self.deps.store;
        let page = store.list_events_after(&OutboxCursor::default(), 10_000).await.unwrap();
        let bodies = page
            .events
            .iter()
            .map(|event| serde_json::from_slice::<serde_json::Value>(&event.body).unwrap());
        // The cart of an account has the same subject.
        let is_own = |body: &serde_json::Value| {
            body["subject"] == user.to_string()
                && body["type"].as_str().is_some_and(|kind| kind.starts_with("auth."))
        };
        let own: Vec<_> = bodies.filter(is_own).collect();
        for (body, sequence) in own.iter().zip(1..) {
            assert_eq!(body["sequence"], format!("{sequence}"));
        }
        let word = |body: &serde_json::Value| {
            body["data"]["reason"].as_str().or(body["type"].as_str()).unwrap().to_owned()
        };
        own.iter().map(word).collect()
    }
}

pub(super) fn register_message(email: &str, password: &str) -> RegisterUser {
    RegisterUser {
        email: Email::parse(email).unwrap(),
        password: Password::unvalidated(password.into()),
        name: "Ada".into(),
        role: Role::Customer,
        address: REGISTRATION_ADDRESS.parse().unwrap(),
        user_agent: None,
        ticket: new_ticket(),
        trace: None,
    }
}

pub(super) fn new_ticket() -> Ticket {
    Ticket::new(Duration::from_secs(60))
}

pub(super) fn error_code<T: std::fmt::Debug>(answer: Result<T, Error>) -> ErrorCode {
    answer.unwrap_err().code
}

#[actix::test]
async fn account_lifecycle_from_registration_to_password_change() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let registered = shop.register("ada@example.com").await.unwrap();
    let user = registered.user.id;
    let phone = shop.login("ada@example.com", PASSWORD).await.unwrap();
    let tablet = shop.login("ada@example.com", PASSWORD).await.unwrap();
    let refreshed = shop.refresh(&phone.refresh_token).await.unwrap();
    assert_eq!((refreshed.session_id, refreshed.user.id), (phone.session_id, user));
    assert_ne!(refreshed.refresh_token, phone.refresh_token);

    shop.logout(tablet.session_id).await.unwrap();
    shop.logout(tablet.session_id).await.unwrap();
    assert!(shop.deps.revoked.contains(tablet.session_id));
    assert_eq!(error_code(shop.refresh(&tablet.refresh_token).await), ErrorCode::Unauthenticated);

    shop.change_password(&refreshed, PASSWORD, "battery staple").await.unwrap();
    assert_eq!(shop.active_sessions(user).await, [phone.session_id]);
    assert!(
        shop.deps.revoked.contains(registered.session_id)
            && !shop.deps.revoked.contains(phone.session_id)
    );
    assert_eq!(
        error_code(shop.login("ada@example.com", PASSWORD).await),
        ErrorCode::InvalidCredentials
    );
    shop.login("ada@example.com", "battery staple").await.unwrap();
    shop.refresh(&refreshed.refresh_token).await.unwrap();

    let read = shop.accounts.send(GetUser { user_id: user }).await.unwrap().unwrap();
    assert_eq!(
        (read.email.as_str(), read.name.as_str(), read.role),
        ("ada@example.com", "Ada", Role::Customer)
    );
    assert_eq!(
        error_code(shop.accounts.send(GetUser { user_id: UserId::new() }).await.unwrap()),
        ErrorCode::UserNotFound
    );
    assert_eq!(
        shop.event_types(user).await,
        ["auth.user.registered", "logout", "password_changed"]
    );
}
