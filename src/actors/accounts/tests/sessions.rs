//! Tests of refresh, logout, and the end of other sessions.

use futures_util::future::{join, join_all};

use super::*;
use crate::domain::account::{ENDED_SESSION_RETENTION, REFRESH_TOKEN_LIFETIME};

fn fixture_with_grace(refresh_grace: Duration) -> AccountFixture {
    AccountFixture::open(FixtureSettings { refresh_grace, ..FixtureSettings::default() })
}

async fn assert_ended_by_reuse(shop: &AccountFixture, login: &AuthenticatedSession) {
    assert!(shop.deps.revoked.contains(login.session_id));
    assert_eq!(shop.event_types(login.user.id).await, ["auth.user.registered", "token_reuse"]);
}

#[actix::test]
async fn refresh_token_reuse_revokes_session() {
    for (grace, pause) in [(0, 0), (30, 30)] {
        let shop = fixture_with_grace(Duration::from_secs(grace));
        let login = shop.register("ada@example.com").await.unwrap();
        let other = shop.login("ada@example.com", PASSWORD).await.unwrap();
        let second = shop.refresh(&login.refresh_token).await.unwrap();
        shop.clock.advance(Duration::from_secs(pause));
        assert_eq!(
            error_code(shop.refresh(&login.refresh_token).await),
            ErrorCode::Unauthenticated
        );
        assert_eq!(
            error_code(shop.refresh(&second.refresh_token).await),
            ErrorCode::Unauthenticated,
            "the newest token is rejected, too"
        );
        shop.refresh(&other.refresh_token).await.unwrap();
        assert_ended_by_reuse(&shop, &login).await;
    }
}

#[actix::test]
async fn lost_refresh_token_is_issued_again_within_the_grace() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    let second = shop.refresh(&login.refresh_token).await.unwrap();
    let stored = shop.deps.store.find_session(login.session_id).await.unwrap();
    shop.clock.advance(Duration::from_secs(29));
    // Another node, which was started later.
    let mut node = shop.other_node();
    node.deps.refresh_tokens = RefreshTokens::new(b"a secret");
    let node = AccountFixture { accounts: AccountActor::new(node.deps.clone()).start(), ..node };
    let again = node.refresh(&login.refresh_token).await.unwrap();
    assert_eq!(
        (&again.refresh_token, again.session_id, again.user.id),
        (&second.refresh_token, login.session_id, login.user.id)
    );
    let unchanged = shop.deps.store.find_session(login.session_id).await.unwrap();
    assert_eq!(unchanged, stored, "the grace is not extended");
    let third = shop.refresh(&again.refresh_token).await.unwrap();
    assert_ne!(third.refresh_token, second.refresh_token);
}

#[actix::test]
async fn used_successor_ends_the_grace() {
    for replays_the_first in [true, false] {
        let shop = AccountFixture::open(FixtureSettings::default());
        let login = shop.register("ada@example.com").await.unwrap();
        let second = shop.refresh(&login.refresh_token).await.unwrap();
        let third = shop.refresh(&second.refresh_token).await.unwrap();
        if replays_the_first {
            let thief = shop.refresh(&login.refresh_token).await;
            assert_eq!(error_code(thief), ErrorCode::Unauthenticated);
            assert_ended_by_reuse(&shop, &login).await;
        } else {
            // The token before the current one has a grace of its own.
            let again = shop.refresh(&second.refresh_token).await.unwrap();
            assert_eq!(again.refresh_token, third.refresh_token);
        }
    }
}

#[actix::test]
async fn parallel_refreshes_on_two_nodes_get_the_same_successor() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let node = shop.other_node();
    let login = shop.register("ada@example.com").await.unwrap();
    let refreshes = (0..10).map(|n| [&shop, &node][n % 2].refresh(&login.refresh_token));
    let results: Vec<_> =
        join_all(refreshes).await.into_iter().map(|result| result.unwrap().refresh_token).collect();
    assert!(results.iter().all(|token| *token == results[0]), "{results:?}");
    let session = shop.deps.store.find_session(login.session_id).await.unwrap().unwrap();
    assert_eq!(session.version, 2, "one of them rotated the token");
    shop.refresh(&results[0]).await.unwrap();
}

#[actix::test]
async fn parallel_refreshes_without_grace_rotate_token_once() {
    let shop = fixture_with_grace(Duration::ZERO);
    let login = shop.register("ada@example.com").await.unwrap();
    let results = join_all((0..10).map(|_| shop.refresh(&login.refresh_token))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(
        results
            .into_iter()
            .filter_map(Result::err)
            .all(|error| error.code == ErrorCode::Unauthenticated)
    );
    assert!(shop.active_sessions(login.user.id).await.is_empty());
    assert_ended_by_reuse(&shop, &login).await;
}

#[actix::test]
async fn forged_refresh_token_revokes_nothing() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    let elsewhere = RefreshTokens::new(b"another secret").issue(login.session_id);
    let unknown = RefreshTokens::new(b"a secret").issue(SessionId::new());
    for bad in ["", "nonsense", &elsewhere.token, &unknown.token] {
        assert_eq!(error_code(shop.refresh(bad).await), ErrorCode::Unauthenticated);
    }
    shop.refresh(&login.refresh_token).await.unwrap();
}

#[actix::test]
async fn refresh_token_expires_after_thirty_idle_days() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    shop.clock.advance(REFRESH_TOKEN_LIFETIME - Duration::from_secs(60));
    let login = shop.refresh(&login.refresh_token).await.unwrap();
    shop.clock.advance(REFRESH_TOKEN_LIFETIME);
    assert_eq!(error_code(shop.refresh(&login.refresh_token).await), ErrorCode::TokenExpired);
}

#[actix::test]
async fn concurrent_logouts_of_one_account_succeed() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let user = shop.register("ada@example.com").await.unwrap().user.id;
    let logins = join_all((0..30).map(|_| shop.login("ada@example.com", PASSWORD))).await;
    let logouts = logins.into_iter().map(|login| shop.logout(login.unwrap().session_id));
    for result in join_all(logouts).await {
        result.unwrap();
    }
    assert_eq!(shop.active_sessions(user).await.len(), 1);
    assert_eq!(shop.event_types(user).await.len(), 31);
    assert_eq!(error_code(shop.logout(SessionId::new()).await), ErrorCode::Unauthenticated);
}

#[actix::test]
async fn password_change_revokes_concurrent_old_password_logins() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let other_node = shop.other_node();
    for round in 0..10 {
        let email = format!("customer{round}@example.com");
        let login = shop.register(&email).await.unwrap();
        let change = async {
            while let Err(error) = shop.change_password(&login, PASSWORD, "battery staple").await {
                assert_eq!(
                    error.code,
                    ErrorCode::Overloaded,
                    "the other node may win all the time"
                );
            }
        };
        let logins = join_all((0..10).map(|_| other_node.login(&email, PASSWORD)));
        let ((), logins) = join(change, logins).await;
        assert_eq!(shop.active_sessions(login.user.id).await, [login.session_id]);
        for error in logins.into_iter().filter_map(Result::err) {
            assert!(
                matches!(
                    error.code,
                    ErrorCode::InvalidCredentials | ErrorCode::RateLimited | ErrorCode::Overloaded
                ),
                "{error}"
            );
        }
        shop.event_types(login.user.id).await;
        shop.clock.advance(Duration::from_secs(60));
    }
}

#[actix::test]
async fn concurrent_password_changes_apply_once() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    let new = ["battery staple 1", "battery staple 2", "battery staple 3"];
    let results = join_all(new.map(|new| shop.change_password(&login, PASSWORD, new))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(
        results
            .into_iter()
            .filter_map(Result::err)
            .all(|error| error.code == ErrorCode::InvalidCredentials)
    );
}

#[actix::test]
async fn ended_session_cannot_change_password() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    shop.logout(login.session_id).await.unwrap();
    assert_eq!(
        error_code(shop.change_password(&login, PASSWORD, "battery staple").await),
        ErrorCode::Unauthenticated
    );
    shop.login("ada@example.com", PASSWORD).await.unwrap();
}

#[actix::test]
async fn new_node_loads_revoked_sessions() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    shop.logout(login.session_id).await.unwrap();
    let node = RevokedSessions::new();
    node.load(&*shop.deps.store, shop.clock.now()).await.unwrap();
    assert!(node.contains(login.session_id));
    for (hours, expected) in [(23, true), (25, false)] {
        let late = RevokedSessions::new();
        let later = shop.clock.now().saturating_add(Duration::from_secs(hours * 60 * 60));
        late.load(&*shop.deps.store, later).await.unwrap();
        assert_eq!(late.contains(login.session_id), expected, "{hours} hours ahead");
    }
}

#[actix::test]
async fn ended_sessions_are_deleted_after_their_retention() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let expiring = shop.register("ada@example.com").await.unwrap();
    let logged_out = shop.login("ada@example.com", PASSWORD).await.unwrap();
    shop.logout(logged_out.session_id).await.unwrap();
    let is_stored = async |login: &AuthenticatedSession| {
        while shop.deps.store.delete_ended_records().await.unwrap() > 0 {}
        shop.deps.store.find_session(login.session_id).await.unwrap().is_some()
    };
    let minute = Duration::from_secs(60);
    shop.clock.advance(ENDED_SESSION_RETENTION - minute);
    assert!(is_stored(&logged_out).await);
    shop.clock.advance(minute);
    assert!(!is_stored(&logged_out).await && is_stored(&expiring).await);
    let refused = shop.refresh(&logged_out.refresh_token).await;
    assert_eq!(error_code(refused), ErrorCode::Unauthenticated, "as before");
    shop.clock.advance(REFRESH_TOKEN_LIFETIME - minute);
    assert!(is_stored(&expiring).await);
    assert_eq!(error_code(shop.refresh(&expiring.refresh_token).await), ErrorCode::TokenExpired);
    shop.clock.advance(minute);
    assert!(!is_stored(&expiring).await);
}

#[actix::test]
async fn login_beyond_the_limit_ends_the_session_unused_for_longest() {
    let shop =
        AccountFixture::open(FixtureSettings { max_sessions: 3, ..FixtureSettings::default() });
    let mut logins = vec![shop.register("ada@example.com").await.unwrap()];
    for _ in 0..2 {
        shop.clock.advance(Duration::from_secs(1));
        logins.push(shop.login("ada@example.com", PASSWORD).await.unwrap());
    }
    // The oldest session is the one that was used last.
    shop.clock.advance(Duration::from_secs(1));
    shop.refresh(&logins[0].refresh_token).await.unwrap();
    let new = shop.login("ada@example.com", PASSWORD).await.unwrap();
    let user = new.user.id;
    assert_eq!(
        shop.active_sessions(user).await,
        [logins[0].session_id, logins[2].session_id, new.session_id]
    );
    assert!(shop.deps.revoked.contains(logins[1].session_id));
    assert_eq!(shop.event_types(user).await, ["auth.user.registered", "session_limit"]);
    // Parallel logins on two nodes keep to the limit, too.
    let node = shop.other_node();
    let parallel = (0..10).map(|n| [&shop, &node][n % 2].login("ada@example.com", PASSWORD));
    join_all(parallel).await.into_iter().for_each(|login| drop(login.unwrap()));
    assert_eq!(shop.active_sessions(user).await.len(), 3);
    shop.event_types(user).await;
}
