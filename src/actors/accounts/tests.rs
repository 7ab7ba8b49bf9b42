//! The commands, against a real store. Each test has a shop of its own.

mod logins;
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

use super::{Accounts, Deps, PasswordHasher, RefreshTokens, RevokedSessions, bootstrap::Bootstrap};
use crate::{
    domain::{
        account::{Email, Password, Role},
        clock::{Clock, SystemClock, Timestamp},
        ids::{SessionId, UserId},
    },
    error::{Error, ErrorCode},
    messages::{
        accounts::{ChangePassword, GetUser, LoggedIn, Login, Logout, Refresh, Register},
        change::Ticket,
    },
    store::{
        News, Store,
        sqlite::{SqliteOptions, SqliteStore},
        writer::{Observer, Writer},
    },
};

pub(super) const PASSWORD: &str = "correct horse";

/// The machine's time, and what a test adds to it.
#[derive(Default)]
pub(super) struct Hands(AtomicI64);

impl Hands {
    pub(super) fn forward(&self, span: Duration) {
        self.0.fetch_add(i64::try_from(span.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(SystemClock.now().as_millis() + self.0.load(Ordering::Relaxed))
    }
}

struct NoteRevoked(Arc<RevokedSessions>);

impl Observer for NoteRevoked {
    fn committed(&self, news: &News) {
        self.0.note(&news.revoked);
    }
}

/// How a shop differs from the usual.
pub(super) struct Settings {
    pub(super) login_limit: u32,
    pub(super) cost: u32,
    pub(super) threads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { login_limit: 10, cost: 4, threads: 2 }
    }
}

/// Accounts with all they need.
pub(super) struct Shop {
    pub(super) accounts: Addr<Accounts>,
    pub(super) deps: Deps,
    pub(super) clock: Arc<Hands>,
    _folder: Arc<TempDir>,
}

impl Shop {
    pub(super) fn open(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions {
            dir: folder.path().into(),
            currency: "USD".parse().unwrap(),
            low_stock: 5,
            keep_unpublished: false,
        };
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(options).unwrap());
        let revoked = Arc::new(RevokedSessions::new());
        let observer = Arc::new(NoteRevoked(Arc::clone(&revoked)));
        let (writer, _) =
            Writer::start(&tokio::runtime::Handle::current(), Arc::clone(&store), observer);
        let clock = Arc::new(Hands::default());
        let deps = Deps {
            store,
            writer,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            hasher: PasswordHasher::start(settings.cost, NonZeroUsize::new(settings.threads)),
            refresh_tokens: RefreshTokens::new(b"a secret"),
            revoked,
            login_limit: settings.login_limit,
        };
        Self {
            accounts: Accounts::new(deps.clone()).start(),
            deps,
            clock,
            _folder: Arc::new(folder),
        }
    }

    /// Another node on the same store.
    pub(super) fn other_node(&self) -> Self {
        let accounts = Accounts::new(self.deps.clone()).start();
        Self {
            accounts,
            deps: self.deps.clone(),
            clock: Arc::clone(&self.clock),
            _folder: Arc::clone(&self._folder),
        }
    }

    pub(super) fn bootstrap(&self) -> Bootstrap {
        let Deps { store, writer, clock, hasher, .. } = self.deps.clone();
        Bootstrap { store, writer, clock, hasher }
    }

    pub(super) async fn register(&self, email: &str) -> Result<LoggedIn, Error> {
        self.accounts.send(registration(email, PASSWORD)).await.unwrap()
    }

    pub(super) async fn login(&self, email: &str, password: &str) -> Result<LoggedIn, Error> {
        self.login_from(email, password, "10.0.0.1").await
    }

    pub(super) async fn login_from(
        &self,
        email: &str,
        password: &str,
        address: &str,
    ) -> Result<LoggedIn, Error> {
        let (email, password) = (Email::parse(email).ok(), Password::attempt(password.into()));
        let login = Login { email, password, address: address.parse().unwrap(), ticket: ticket() };
        self.accounts.send(login).await.unwrap()
    }

    pub(super) async fn refresh(&self, refresh_token: &str) -> Result<LoggedIn, Error> {
        let refresh =
            Refresh { refresh_token: refresh_token.into(), ticket: ticket(), trace: None };
        self.accounts.send(refresh).await.unwrap()
    }

    pub(super) async fn logout(&self, session_id: SessionId) -> Result<(), Error> {
        self.accounts.send(Logout { session_id, ticket: ticket(), trace: None }).await.unwrap()
    }

    pub(super) async fn change_password(
        &self,
        login: &LoggedIn,
        current: &str,
        new: &str,
    ) -> Result<(), Error> {
        let change = ChangePassword {
            user_id: login.user.id,
            session_id: login.session_id,
            current: Password::attempt(current.into()),
            new: Password::attempt(new.into()),
            address: "10.0.0.1".parse().unwrap(),
            ticket: ticket(),
            trace: None,
        };
        self.accounts.send(change).await.unwrap()
    }

    pub(super) async fn live_sessions(&self, user: UserId) -> Vec<SessionId> {
        let live = self.deps.store.live_sessions(user, self.deps.clock.now()).await.unwrap();
        live.into_iter().map(|session| session.id).collect()
    }

    /// The types of an account's events; that their sequence has no gap is checked on the way.
    pub(super) async fn events(&self, user: UserId) -> Vec<String> {
        let events = self.deps.store.events_after(0, 10_000).await.unwrap();
        let bodies = events
            .iter()
            .map(|event| serde_json::from_slice::<serde_json::Value>(&event.body).unwrap());
        let own: Vec<_> = bodies.filter(|body| body["subject"] == user.to_string()).collect();
        for (body, sequence) in own.iter().zip(1..) {
            assert_eq!(body["sequence"], format!("{sequence}"));
        }
        let word = |body: &serde_json::Value| {
            body["data"]["reason"].as_str().or(body["type"].as_str()).unwrap().to_owned()
        };
        own.iter().map(word).collect()
    }
}

pub(super) fn registration(email: &str, password: &str) -> Register {
    Register {
        email: Email::parse(email).unwrap(),
        password: Password::attempt(password.into()),
        name: "Ada".into(),
        role: Role::Customer,
        ticket: ticket(),
        trace: None,
    }
}

pub(super) fn ticket() -> Ticket {
    Ticket::new(Duration::from_secs(60))
}

pub(super) fn code<T: std::fmt::Debug>(answer: Result<T, Error>) -> ErrorCode {
    answer.unwrap_err().code
}

#[actix::test]
async fn an_account_lives_through_a_whole_day() {
    let shop = Shop::open(Settings::default());
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
    assert_eq!(code(shop.refresh(&tablet.refresh_token).await), ErrorCode::Unauthenticated);

    shop.change_password(&refreshed, PASSWORD, "battery staple").await.unwrap();
    assert_eq!(shop.live_sessions(user).await, [phone.session_id]);
    assert!(
        shop.deps.revoked.contains(registered.session_id)
            && !shop.deps.revoked.contains(phone.session_id)
    );
    assert_eq!(code(shop.login("ada@example.com", PASSWORD).await), ErrorCode::InvalidCredentials);
    shop.login("ada@example.com", "battery staple").await.unwrap();
    shop.refresh(&refreshed.refresh_token).await.unwrap();

    let read = shop.accounts.send(GetUser { user_id: user }).await.unwrap().unwrap();
    assert_eq!(
        (read.email.as_str(), read.name.as_str(), read.role),
        ("ada@example.com", "Ada", Role::Customer)
    );
    assert_eq!(
        code(shop.accounts.send(GetUser { user_id: UserId::new() }).await.unwrap()),
        ErrorCode::NotFound
    );
    assert_eq!(shop.events(user).await, ["auth.user.registered", "logout", "password_changed"]);
}
