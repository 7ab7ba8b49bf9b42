//! Tests of the limit on failed logins.

use futures_util::future::join_all;

use super::*;
use crate::domain::account::known_networks::KNOWN_NETWORK_LIFETIME;

const LOGIN_LIMIT: u32 = 3;

/// An address that no account is known at.
const ELSEWHERE: &str = "10.0.0.9";

fn strict_fixture() -> AccountFixture {
    AccountFixture::open(FixtureSettings { login_limit: LOGIN_LIMIT, ..FixtureSettings::default() })
}

impl AccountFixture {
    /// Fails to log in as often as the limit allows.
    async fn use_up_limit(&self, email: &str, address: &str) {
        for _ in 0..LOGIN_LIMIT {
            assert_eq!(
                error_code(self.login_from(email, "wrong horse", address).await),
                ErrorCode::InvalidCredentials
            );
        }
    }
}

#[actix::test]
async fn login_limit_also_rejects_correct_password() {
    let shop = strict_fixture();
    shop.register("ada@example.com").await.unwrap();
    shop.use_up_limit("ada@example.com", ELSEWHERE).await;
    let runs = shop.deps.hasher.run_count();
    let refused = shop.login_from("ada@example.com", PASSWORD, "10.0.0.2").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RateLimited);
    assert!(refused.retry_after.is_some_and(|seconds| (1..=60).contains(&seconds)));
    assert_eq!(
        error_code(shop.login_from("somebody@example.com", PASSWORD, ELSEWHERE).await),
        ErrorCode::RateLimited,
        "from the same address"
    );
    assert_eq!(shop.deps.hasher.run_count(), runs, "no password was looked at");
    shop.clock.advance(Duration::from_secs(60));
    shop.login_from("ada@example.com", PASSWORD, "10.0.0.2").await.unwrap();
}

#[actix::test]
async fn nobody_locks_a_known_account_and_address_out() {
    let shop = strict_fixture();
    shop.register("ada@example.com").await.unwrap();
    shop.register("bob@example.com").await.unwrap();
    shop.use_up_limit("ada@example.com", ELSEWHERE).await;
    shop.use_up_limit("eve@example.com", REGISTRATION_ADDRESS).await;
    assert_eq!(
        error_code(shop.login_from("eve@example.com", PASSWORD, "10.0.0.2").await),
        ErrorCode::RateLimited
    );
    assert_eq!(
        error_code(shop.login_from("zoe@example.com", PASSWORD, REGISTRATION_ADDRESS).await),
        ErrorCode::RateLimited
    );
    shop.login("ada@example.com", PASSWORD).await.expect("neither counter refuses the owner");
    // The pair has a counter of its own, which locks nobody else out.
    shop.use_up_limit("ada@example.com", REGISTRATION_ADDRESS).await;
    assert_eq!(error_code(shop.login("ada@example.com", PASSWORD).await), ErrorCode::RateLimited);
    shop.login("bob@example.com", PASSWORD).await.unwrap();
    shop.clock.advance(Duration::from_secs(60));
    shop.login("ada@example.com", PASSWORD).await.unwrap();
}

#[actix::test]
async fn failures_at_a_known_address_do_not_lock_the_account_elsewhere() {
    let shop = strict_fixture();
    shop.register("ada@example.com").await.unwrap();
    shop.use_up_limit("ada@example.com", REGISTRATION_ADDRESS).await;
    shop.login_from("ada@example.com", PASSWORD, ELSEWHERE).await.unwrap();
}

#[actix::test]
async fn address_is_known_for_a_month_after_the_last_login() {
    let shop = strict_fixture();
    shop.register("ada@example.com").await.unwrap();
    let almost_a_month = KNOWN_NETWORK_LIFETIME - Duration::from_secs(120);
    for _ in 0..2 {
        shop.clock.advance(almost_a_month);
        shop.use_up_limit("ada@example.com", ELSEWHERE).await;
        shop.login("ada@example.com", PASSWORD).await.unwrap();
    }
    shop.clock.advance(KNOWN_NETWORK_LIFETIME);
    shop.use_up_limit("ada@example.com", ELSEWHERE).await;
    assert_eq!(error_code(shop.login("ada@example.com", PASSWORD).await), ErrorCode::RateLimited);
}

#[actix::test]
async fn ipv6_addresses_of_one_56_count_as_one() {
    let shop = strict_fixture();
    shop.register("ada@example.com").await.unwrap();
    shop.login_from("ada@example.com", PASSWORD, "2001:db8:0:100::1").await.unwrap();
    for (n, email) in ["bob@example.com", "eve@example.com", "zoe@example.com"].iter().enumerate() {
        let address = format!("2001:db8:0:{:x}::1", 0x200 + n);
        assert_eq!(
            error_code(shop.login_from(email, PASSWORD, &address).await),
            ErrorCode::InvalidCredentials
        );
    }
    assert_eq!(
        error_code(shop.login_from("ada@example.com", PASSWORD, "2001:db8:0:2ff::7").await),
        ErrorCode::RateLimited
    );
    shop.use_up_limit("ada@example.com", ELSEWHERE).await;
    shop.login_from("ada@example.com", PASSWORD, "2001:db8:0:1ff::2")
        .await
        .expect("known in the whole /56");
}

#[actix::test]
async fn another_node_and_a_restart_do_not_forget_failures() {
    let shop = strict_fixture();
    shop.register("ada@example.com").await.unwrap();
    shop.use_up_limit("ada@example.com", ELSEWHERE).await;
    // Its throttle has seen none of the failures.
    let node = shop.other_node();
    for address in [ELSEWHERE, "10.0.0.2"] {
        assert_eq!(
            error_code(node.login_from("ada@example.com", PASSWORD, address).await),
            ErrorCode::RateLimited
        );
    }
    node.login("ada@example.com", PASSWORD).await.unwrap();
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
    assert_eq!(error_code(shop.login("ada@example.com", PASSWORD).await), ErrorCode::RateLimited);
}

#[actix::test]
async fn successful_logins_do_not_count_toward_limit() {
    let shop = strict_fixture();
    shop.register("ada@example.com").await.unwrap();
    for _ in 0..10 * LOGIN_LIMIT {
        shop.login("ada@example.com", PASSWORD).await.unwrap();
    }
}
