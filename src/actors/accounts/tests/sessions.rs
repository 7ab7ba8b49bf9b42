//! Tests of refresh, logout, and the end of other sessions.

use futures_util::future::{join, join_all};

use super::*;
use crate::domain::account::{ACCESS_TOKEN_LIFETIME, REFRESH_TOKEN_LIFETIME};

#[actix::test]
async fn refresh_token_reuse_revokes_session() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    let other = shop.login("ada@example.com", PASSWORD).await.unwrap();
    let second = shop.refresh(&login.refresh_token).await.unwrap();
    assert_eq!(error_code(shop.refresh(&login.refresh_token).await), ErrorCode::Unauthenticated);
    assert!(shop.deps.revoked.contains(login.session_id));
    assert_eq!(
        error_code(shop.refresh(&second.refresh_token).await),
        ErrorCode::Unauthenticated,
        "the newest token is rejected, too"
    );
    shop.refresh(&other.refresh_token).await.unwrap();
    assert_eq!(shop.event_types(login.user.id).await, ["auth.user.registered", "token_reuse"]);
}

#[actix::test]
async fn parallel_refreshes_rotate_token_once() {
    let shop = AccountFixture::open(FixtureSettings::default());
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
    assert_eq!(shop.event_types(login.user.id).await, ["auth.user.registered", "token_reuse"]);
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
    let late = RevokedSessions::new();
    let later = shop.clock.now().saturating_add(ACCESS_TOKEN_LIFETIME + Duration::from_secs(61));
    late.load(&*shop.deps.store, later).await.unwrap();
    assert!(!late.contains(login.session_id));
}
