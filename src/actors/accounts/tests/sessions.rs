//! Refreshing, logging out, and what ends other sessions.

use futures_util::future::{join, join_all};

use super::*;
use crate::domain::account::{ACCESS_LIFETIME, REFRESH_LIFETIME};

#[actix::test]
async fn a_token_used_twice_ends_its_session() {
    let shop = Shop::open(Settings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    let other = shop.login("ada@example.com", PASSWORD).await.unwrap();
    let second = shop.refresh(&login.refresh_token).await.unwrap();
    assert_eq!(code(shop.refresh(&login.refresh_token).await), ErrorCode::Unauthenticated);
    assert!(shop.deps.revoked.contains(login.session_id));
    assert_eq!(
        code(shop.refresh(&second.refresh_token).await),
        ErrorCode::Unauthenticated,
        "whoever holds the newest one"
    );
    shop.refresh(&other.refresh_token).await.unwrap();
    assert_eq!(shop.events(login.user.id).await, ["auth.user.registered", "token_reuse"]);
}

#[actix::test]
async fn of_parallel_uses_of_one_token_one_wins() {
    let shop = Shop::open(Settings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    let answers = join_all((0..10).map(|_| shop.refresh(&login.refresh_token))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(
        answers
            .into_iter()
            .filter_map(Result::err)
            .all(|error| error.code == ErrorCode::Unauthenticated)
    );
    assert!(shop.live_sessions(login.user.id).await.is_empty());
    assert_eq!(shop.events(login.user.id).await, ["auth.user.registered", "token_reuse"]);
}

#[actix::test]
async fn a_made_up_token_ends_nothing() {
    let shop = Shop::open(Settings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    let elsewhere = RefreshTokens::new(b"another secret").issue(login.session_id);
    let unknown = RefreshTokens::new(b"a secret").issue(SessionId::new());
    for bad in ["", "nonsense", &elsewhere.token, &unknown.token] {
        assert_eq!(code(shop.refresh(bad).await), ErrorCode::Unauthenticated);
    }
    shop.refresh(&login.refresh_token).await.unwrap();
}

#[actix::test]
async fn a_refresh_token_ends_after_thirty_days_without_use() {
    let shop = Shop::open(Settings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    shop.clock.forward(REFRESH_LIFETIME - Duration::from_secs(60));
    let login = shop.refresh(&login.refresh_token).await.unwrap();
    shop.clock.forward(REFRESH_LIFETIME);
    assert_eq!(code(shop.refresh(&login.refresh_token).await), ErrorCode::TokenExpired);
}

#[actix::test]
async fn sessions_of_one_account_may_end_at_once() {
    let shop = Shop::open(Settings::default());
    let user = shop.register("ada@example.com").await.unwrap().user.id;
    let logins = join_all((0..30).map(|_| shop.login("ada@example.com", PASSWORD))).await;
    let logouts = logins.into_iter().map(|login| shop.logout(login.unwrap().session_id));
    for answer in join_all(logouts).await {
        answer.unwrap();
    }
    assert_eq!(shop.live_sessions(user).await.len(), 1);
    assert_eq!(shop.events(user).await.len(), 31);
    assert_eq!(code(shop.logout(SessionId::new()).await), ErrorCode::Unauthenticated);
}

#[actix::test]
async fn no_login_with_the_old_password_outlives_the_change() {
    let shop = Shop::open(Settings::default());
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
        assert_eq!(shop.live_sessions(login.user.id).await, [login.session_id]);
        for error in logins.into_iter().filter_map(Result::err) {
            assert!(
                matches!(
                    error.code,
                    ErrorCode::InvalidCredentials | ErrorCode::RateLimited | ErrorCode::Overloaded
                ),
                "{error}"
            );
        }
        shop.events(login.user.id).await;
        shop.clock.forward(Duration::from_secs(60));
    }
}

#[actix::test]
async fn of_parallel_changes_of_a_password_one_is_made() {
    let shop = Shop::open(Settings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    let new = ["battery staple 1", "battery staple 2", "battery staple 3"];
    let answers = join_all(new.map(|new| shop.change_password(&login, PASSWORD, new))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(
        answers
            .into_iter()
            .filter_map(Result::err)
            .all(|error| error.code == ErrorCode::InvalidCredentials)
    );
}

#[actix::test]
async fn a_session_that_is_over_changes_no_password() {
    let shop = Shop::open(Settings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    shop.logout(login.session_id).await.unwrap();
    assert_eq!(
        code(shop.change_password(&login, PASSWORD, "battery staple").await),
        ErrorCode::Unauthenticated
    );
    shop.login("ada@example.com", PASSWORD).await.unwrap();
}

#[actix::test]
async fn a_new_node_learns_what_was_revoked() {
    let shop = Shop::open(Settings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    shop.logout(login.session_id).await.unwrap();
    let node = RevokedSessions::new();
    node.load(&*shop.deps.store, shop.clock.now()).await.unwrap();
    assert!(node.contains(login.session_id));
    let late = RevokedSessions::new();
    let later = shop.clock.now().plus(ACCESS_LIFETIME + Duration::from_secs(61));
    late.load(&*shop.deps.store, later).await.unwrap();
    assert!(!late.contains(login.session_id));
}
