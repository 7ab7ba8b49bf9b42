//! Tests of the limit on failed logins.

use futures_util::future::join_all;

use super::*;

const LOGIN_LIMIT: u32 = 3;

fn strict_fixture() -> AccountFixture {
    AccountFixture::open(FixtureSettings { login_limit: LOGIN_LIMIT, ..FixtureSettings::default() })
}

#[actix::test]
async fn login_limit_also_rejects_correct_password() {
    let shop = strict_fixture();
    shop.register("ada@example.com").await.unwrap();
    for _ in 0..LOGIN_LIMIT {
        assert_eq!(
            error_code(shop.login("ada@example.com", "wrong horse").await),
            ErrorCode::InvalidCredentials
        );
    }
    let runs = shop.deps.hasher.run_count();
    let refused = shop.login_from("ada@example.com", PASSWORD, "10.0.0.2").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RateLimited);
    assert!(refused.retry_after.is_some_and(|seconds| (1..=60).contains(&seconds)));
    assert_eq!(
        error_code(shop.login("somebody@example.com", PASSWORD).await),
        ErrorCode::RateLimited,
        "from the same address"
    );
    assert_eq!(shop.deps.hasher.run_count(), runs, "no password was looked at");
    shop.clock.advance(Duration::from_secs(60));
    shop.login("ada@example.com", PASSWORD).await.unwrap();
}

#[actix::test]
async fn login_limit_applies_to_unknown_accounts() {
    let shop = strict_fixture();
    for n in 0..LOGIN_LIMIT {
        let result = shop.login_from("nobody@example.com", PASSWORD, &format!("10.0.0.{n}")).await;
        assert_eq!(error_code(result), ErrorCode::InvalidCredentials);
    }
    assert_eq!(
        error_code(shop.login_from("nobody@example.com", PASSWORD, "10.0.1.1").await),
        ErrorCode::RateLimited
    );
}

#[actix::test]
async fn login_limit_holds_for_parallel_guesses() {
    let shop = AccountFixture::open(FixtureSettings::default());
    shop.register("ada@example.com").await.unwrap();
    let guesses: Vec<_> =
        (0..50).map(|n| (format!("wrong horse {n}"), format!("10.0.1.{n}"))).collect();
    let guess = |(guess, address): &(String, String)| {
        let (guess, address) = (guess.clone(), address.clone());
        let shop = &shop;
        async move { error_code(shop.login_from("ada@example.com", &guess, &address).await) }
    };
    let runs = shop.deps.hasher.run_count();
    let codes = join_all(guesses.iter().map(guess)).await;
    assert_eq!(codes.iter().filter(|code| **code == ErrorCode::InvalidCredentials).count(), 10);
    assert_eq!(codes.iter().filter(|code| **code == ErrorCode::RateLimited).count(), 40);
    assert_eq!(shop.deps.hasher.run_count() - runs, 10);
}

#[actix::test]
async fn login_limit_applies_to_password_change() {
    let shop = strict_fixture();
    let login = shop.register("ada@example.com").await.unwrap();
    for _ in 0..LOGIN_LIMIT {
        assert_eq!(
            error_code(shop.change_password(&login, "wrong horse", "battery staple").await),
            ErrorCode::InvalidCredentials
        );
    }
    assert_eq!(
        error_code(shop.change_password(&login, PASSWORD, "battery staple").await),
        ErrorCode::RateLimited
    );
    assert_eq!(
        error_code(shop.login_from("ada@example.com", PASSWORD, "10.0.0.2").await),
        ErrorCode::RateLimited
    );
}

#[actix::test]
async fn successful_logins_do_not_count_toward_limit() {
    let shop = strict_fixture();
    shop.register("ada@example.com").await.unwrap();
    for _ in 0..10 * LOGIN_LIMIT {
        shop.login("ada@example.com", PASSWORD).await.unwrap();
    }
}
