//! A password change and a deletion of an account with very many sessions.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::{
    domain::account::{REFRESH_TOKEN_LIFETIME, Session},
    store::{Commit, Write},
};

/// Records the revoked sessions of each batch, and then panics in the clock as if the shop crashed.
struct CrashAfterBatches {
    clock: Arc<MockClock>,
    revoked: Arc<RevokedSessions>,
    /// The clock panics once this session is revoked.
    until: SessionId,
    crashes: AtomicUsize,
}

impl Clock for CrashAfterBatches {
    fn now(&self) -> Timestamp {
        if self.revoked.contains(self.until) {
            self.crashes.fetch_add(1, Ordering::Relaxed);
            panic!("made for a test");
        }
        self.clock.now()
    }
}

/// Adds sessions to an account, as a shop of an earlier version allowed.
async fn add_sessions(shop: &AccountFixture, user: UserId, count: usize) -> Vec<SessionId> {
    let now = shop.clock.now();
    let session = |_| Session {
        id: SessionId::new(),
        user_id: user,
        address: None,
        user_agent: None,
        refresh_hash: [7; 32],
        created_at: now,
        expires_at: now.saturating_add(REFRESH_TOKEN_LIFETIME),
        revoked_at: None,
        version: 1,
    };
    let sessions: Vec<Session> = (0..count).map(session).collect();
    let ids = sessions.iter().map(|session| session.id).collect();
    for some in sessions.chunks(1000) {
        let mut commit = Commit::new(now, new_ticket().deadline());
        commit.writes = some.iter().cloned().map(Arc::new).map(Write::Session).collect();
        shop.deps.writer.commit(commit).await.unwrap();
    }
    ids
}

#[actix::test]
async fn password_change_ends_12_001_sessions_in_small_commits() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    let others = add_sessions(&shop, login.user.id, 12_000).await;
    shop.change_password(&login, PASSWORD, "battery staple").await.unwrap();
    assert_eq!(shop.active_sessions(login.user.id).await, [login.session_id]);
    assert!(others.iter().all(|session| shop.deps.revoked.contains(*session)));
    assert!(shop.largest_revocation() <= 257, "{} at once", shop.largest_revocation());
    let events = shop.event_types(login.user.id).await;
    assert_eq!(events.iter().filter(|kind| *kind == "password_changed").count(), 9_999);
    shop.refresh(&login.refresh_token).await.unwrap();
    shop.login("ada@example.com", "battery staple").await.unwrap();
}

#[actix::test]
async fn crash_in_a_password_change_leaves_no_session_of_the_old_password() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    let others = add_sessions(&shop, login.user.id, 600).await;
    let clock = Arc::new(CrashAfterBatches {
        clock: Arc::clone(&shop.clock),
        revoked: Arc::clone(&shop.deps.revoked),
        until: others[100],
        crashes: AtomicUsize::new(0),
    });
    let deps = AccountDeps { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..shop.deps.clone() };
    let crashing =
        AccountFixture { accounts: AccountActor::new(deps).start(), ..shop.other_node() };
    let crashed = crashing.change_password(&login, PASSWORD, "battery staple").await;
    assert_eq!(error_code(crashed), ErrorCode::Internal);
    assert_eq!(clock.crashes.load(Ordering::Relaxed), 1);
    let left = shop.active_sessions(login.user.id).await.len();
    assert!((2..600).contains(&left), "{left} sessions are left");
    // The password is the old one as long as any other session is left.
    assert_eq!(
        error_code(shop.login_from("ada@example.com", "battery staple", "10.0.0.2").await),
        ErrorCode::InvalidCredentials
    );
    shop.change_password(&login, PASSWORD, "battery staple").await.unwrap();
    assert_eq!(shop.active_sessions(login.user.id).await, [login.session_id]);
    shop.event_types(login.user.id).await;
}

#[actix::test]
async fn deletion_ends_601_sessions_in_small_commits() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    let others = add_sessions(&shop, login.user.id, 600).await;
    shop.delete_account(&login, PASSWORD).await.unwrap();
    assert!(others.iter().all(|session| shop.deps.revoked.contains(*session)));
    assert!(shop.largest_revocation() <= 256, "{} at once", shop.largest_revocation());
    let events = shop.event_types(login.user.id).await;
    assert_eq!(events.iter().filter(|kind| *kind == "account_deleted").count(), 601);
    assert_eq!(events.last().map(String::as_str), Some("auth.user.deleted"));
    assert_eq!(shop.deps.store.find_user(login.user.id).await, Ok(None));
}
