//! How many failed logins there may be.

use futures_util::future::join_all;

use super::*;

const LIMIT: u32 = 3;

fn strict() -> Shop {
    Shop::open(Settings { login_limit: LIMIT, ..Settings::default() })
}

#[actix::test]
async fn after_too_many_failures_the_right_password_has_to_wait_too() {
    let shop = strict();
    shop.register("ada@example.com").await.unwrap();
    for _ in 0..LIMIT {
        assert_eq!(
            code(shop.login("ada@example.com", "wrong horse").await),
            ErrorCode::InvalidCredentials
        );
    }
    let runs = shop.deps.hasher.runs();
    let refused = shop.login_from("ada@example.com", PASSWORD, "10.0.0.2").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RateLimited);
    assert!(refused.retry_after.is_some_and(|seconds| (1..=60).contains(&seconds)));
    assert_eq!(
        code(shop.login("somebody@example.com", PASSWORD).await),
        ErrorCode::RateLimited,
        "from the same address"
    );
    assert_eq!(shop.deps.hasher.runs(), runs, "no password was looked at");
    shop.clock.forward(Duration::from_secs(60));
    shop.login("ada@example.com", PASSWORD).await.unwrap();
}

#[actix::test]
async fn accounts_that_do_not_exist_are_limited_alike() {
    let shop = strict();
    for n in 0..LIMIT {
        let answer = shop.login_from("nobody@example.com", PASSWORD, &format!("10.0.0.{n}")).await;
        assert_eq!(code(answer), ErrorCode::InvalidCredentials);
    }
    assert_eq!(
        code(shop.login_from("nobody@example.com", PASSWORD, "10.0.1.1").await),
        ErrorCode::RateLimited
    );
}

#[actix::test]
async fn guessing_in_parallel_gains_nothing() {
    let shop = Shop::open(Settings::default());
    shop.register("ada@example.com").await.unwrap();
    let guesses: Vec<_> =
        (0..50).map(|n| (format!("wrong horse {n}"), format!("10.0.1.{n}"))).collect();
    let guess = |(guess, address): &(String, String)| {
        let (guess, address) = (guess.clone(), address.clone());
        let shop = &shop;
        async move { code(shop.login_from("ada@example.com", &guess, &address).await) }
    };
    let runs = shop.deps.hasher.runs();
    let codes = join_all(guesses.iter().map(guess)).await;
    assert_eq!(codes.iter().filter(|code| **code == ErrorCode::InvalidCredentials).count(), 10);
    assert_eq!(codes.iter().filter(|code| **code == ErrorCode::RateLimited).count(), 40);
    assert_eq!(shop.deps.hasher.runs() - runs, 10);
}

#[actix::test]
async fn the_current_password_cannot_be_guessed_either() {
    let shop = strict();
    let login = shop.register("ada@example.com").await.unwrap();
    for _ in 0..LIMIT {
        assert_eq!(
            code(shop.change_password(&login, "wrong horse", "battery staple").await),
            ErrorCode::InvalidCredentials
        );
    }
    assert_eq!(
        code(shop.change_password(&login, PASSWORD, "battery staple").await),
        ErrorCode::RateLimited
    );
    assert_eq!(
        code(shop.login_from("ada@example.com", PASSWORD, "10.0.0.2").await),
        ErrorCode::RateLimited
    );
}

#[actix::test]
async fn successes_do_not_count() {
    let shop = strict();
    shop.register("ada@example.com").await.unwrap();
    for _ in 0..10 * LIMIT {
        shop.login("ada@example.com", PASSWORD).await.unwrap();
    }
}
