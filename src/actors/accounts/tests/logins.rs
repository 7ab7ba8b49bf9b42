//! Tests of registration and login.

use std::{sync::atomic::AtomicBool, time::Duration};

use futures_util::future::join_all;

use super::{super::hash_queue::HashOrigin, *};
use crate::store::{Commit, Write};

#[actix::test]
async fn email_uniqueness_ignores_case() {
    let shop = AccountFixture::open(FixtureSettings::default());
    shop.register("Ada@Example.com").await.unwrap();
    let runs = shop.deps.hasher.run_count();
    assert_eq!(error_code(shop.register("ada@example.COM").await), ErrorCode::EmailTaken);
    assert_eq!(shop.deps.hasher.run_count(), runs, "no password is hashed");
    shop.login("ADA@EXAMPLE.COM", PASSWORD).await.unwrap();
}

#[actix::test]
async fn concurrent_registrations_create_one_account() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let results = join_all((0..8).map(|_| shop.register("ada@example.com"))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(
        results
            .into_iter()
            .filter_map(Result::err)
            .all(|error| error.code == ErrorCode::EmailTaken)
    );
}

#[actix::test]
async fn failed_logins_are_indistinguishable() {
    let shop =
        AccountFixture::open(FixtureSettings { login_limit: 0, ..FixtureSettings::default() });
    let longest = "x".repeat(71);
    for (email, password) in [("ada@example.com", PASSWORD), ("eve@example.com", &longest)] {
        shop.accounts.send(register_message(email, password)).await.unwrap().unwrap();
    }
    let mut results = Vec::new();
    for (email, password) in [
        ("ada@example.com", "wrong horse"),
        ("nobody@example.com", PASSWORD),
        ("not an address", PASSWORD),
        ("ada@example.com", "short"),
        ("ada@example.com", ""),
        ("ada@example.com", "correct horse\0"),
        ("ada@example.com", "correct horse\0battery"),
        ("eve@example.com", &format!("{longest}x")),
        ("eve@example.com", &"x".repeat(10_000)),
    ] {
        let before = shop.deps.hasher.run_count();
        results.push(shop.login(email, password).await.unwrap_err());
        assert_eq!(shop.deps.hasher.run_count() - before, 1, "{email} {password:?}");
    }
    assert!(
        results
            .iter()
            .all(|error| *error == results[0] && error.code == ErrorCode::InvalidCredentials)
    );
    shop.login("eve@example.com", &longest).await.unwrap();
}

#[actix::test]
async fn invalid_password_or_name_is_rejected() {
    let shop = AccountFixture::open(FixtureSettings::default());
    for password in ["short", &"x".repeat(72), "correct\0horse"] {
        let result =
            shop.accounts.send(register_message("ada@example.com", password)).await.unwrap();
        assert_eq!(result.unwrap_err().field_errors[0].field, "password");
    }
    let nameless =
        RegisterUser { name: String::new(), ..register_message("ada@example.com", PASSWORD) };
    assert_eq!(
        shop.accounts.send(nameless).await.unwrap().unwrap_err().field_errors[0].field,
        "name"
    );
    assert_eq!(shop.deps.hasher.run_count(), 0);
    let login = shop.register("ada@example.com").await.unwrap();
    let error = shop.change_password(&login, PASSWORD, &"x".repeat(72)).await.unwrap_err();
    assert_eq!(
        (error.code, error.field_errors[0].field.as_str()),
        (ErrorCode::ValidationFailed, "new_password")
    );
}

/// The same word, with composed letters and with decomposed ones.
const COMPOSED: &str = "P\u{e4}ssw\u{f6}rt-1";
const DECOMPOSED: &str = "Pa\u{308}sswo\u{308}rt-1";

#[actix::test]
async fn password_is_the_same_on_every_keyboard() {
    let shop = AccountFixture::open(FixtureSettings::default());
    for (email, typed, later) in
        [("ada@example.com", COMPOSED, DECOMPOSED), ("eve@example.com", DECOMPOSED, COMPOSED)]
    {
        let register = register_message(email, typed);
        let login = shop.accounts.send(register).await.unwrap().unwrap();
        shop.login(email, typed).await.unwrap();
        shop.login(email, later).await.unwrap();
        shop.change_password(&login, later, "battery staple").await.unwrap();
    }
}

#[actix::test]
async fn login_rehashes_password_that_was_hashed_as_typed() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let mut user = shop.register("ada@example.com").await.unwrap().user;
    let as_typed = Password::unvalidated(DECOMPOSED.into());
    let deadline = new_ticket().deadline();
    let hash = shop.deps.hasher.hash(HashOrigin::OPERATOR, as_typed, deadline).await.unwrap();
    user.version += 1;
    user.password_hash.clone_from(&hash);
    let mut commit = Commit::new(shop.clock.now(), new_ticket().deadline());
    commit.writes.push(Write::User(Arc::new(user.clone())));
    shop.deps.writer.commit(commit).await.unwrap();
    let composed = shop.login("ada@example.com", COMPOSED).await;
    assert_eq!(error_code(composed), ErrorCode::InvalidCredentials, "no hash can tell");
    shop.login("ada@example.com", DECOMPOSED).await.unwrap();
    while shop.deps.store.find_user(user.id).await.unwrap().unwrap().password_hash == hash {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    shop.login("ada@example.com", COMPOSED).await.unwrap();
    shop.login("ada@example.com", DECOMPOSED).await.unwrap();
}

#[actix::test]
async fn failed_logins_with_two_forms_of_a_password_are_indistinguishable() {
    let shop = AccountFixture::open(FixtureSettings::default());
    shop.register("ada@example.com").await.unwrap();
    for email in ["ada@example.com", "nobody@example.com"] {
        let before = shop.deps.hasher.run_count();
        assert_eq!(error_code(shop.login(email, DECOMPOSED).await), ErrorCode::InvalidCredentials);
        assert_eq!(shop.deps.hasher.run_count() - before, 2, "{email}");
    }
}

#[actix::test]
async fn common_password_is_rejected_but_still_logs_in() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let login = shop.register("ada@example.com").await.unwrap();
    for error in [
        shop.accounts.send(register_message("eve@example.com", "PassWord1")).await.unwrap().err(),
        shop.change_password(&login, PASSWORD, "iloveyou").await.err(),
    ] {
        assert_eq!(error.unwrap().field_errors[0].code, "too_common");
    }
    // An account that has one from before.
    let email = Email::parse("boss@example.com").unwrap();
    let password = Password::unvalidated("password".into());
    shop.admin_bootstrap().create_or_promote_admin(email, Some(password)).await.unwrap();
    shop.login("boss@example.com", "password").await.unwrap();
}

#[actix::test]
async fn expired_registration_is_not_executed() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let late = RegisterUser {
        ticket: Ticket::new(Duration::ZERO),
        ..register_message("ada@example.com", PASSWORD)
    };
    assert_eq!(error_code(shop.accounts.send(late).await.unwrap()), ErrorCode::Overloaded);
    let given_up = register_message("ada@example.com", PASSWORD);
    assert!(given_up.ticket.give_up());
    assert_eq!(error_code(shop.accounts.send(given_up).await.unwrap()), ErrorCode::Overloaded);
    shop.register("ada@example.com").await.unwrap();
}

#[actix::test]
async fn concurrent_logins_of_one_account_succeed() {
    let shop = AccountFixture::open(FixtureSettings::default());
    shop.register("ada@example.com").await.unwrap();
    for result in join_all((0..30).map(|_| shop.login("ada@example.com", PASSWORD))).await {
        result.unwrap();
    }
}

#[actix::test]
async fn first_admin_is_created_once() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let admin = shop.admin_bootstrap().ensure_admin(None).await.unwrap().unwrap();
    assert_eq!(
        (admin.email.as_str(), admin.password.expose_secret().len()),
        ("admin@localhost", 20)
    );
    let login = shop.login("admin@localhost", admin.password.expose_secret()).await.unwrap();
    assert_eq!(login.user.role, Role::Admin);
    assert!(shop.admin_bootstrap().ensure_admin(None).await.unwrap().is_none());
}

#[actix::test]
async fn customer_with_default_admin_email_is_not_promoted() {
    let shop = AccountFixture::open(FixtureSettings::default());
    shop.register("admin@localhost").await.unwrap();
    assert!(shop.admin_bootstrap().ensure_admin(None).await.unwrap().is_none());
    assert_eq!(shop.login("admin@localhost", PASSWORD).await.unwrap().user.role, Role::Customer);
}

#[actix::test]
async fn configured_admin_is_created_but_customer_is_not_promoted() {
    let shop = AccountFixture::open(FixtureSettings::default());
    let email = |text| Email::parse(text).unwrap();
    let configured = |text| Some((email(text), Password::unvalidated("configured".into())));
    let made = join_all((0..3).map(|_| async {
        shop.admin_bootstrap().ensure_admin(configured("boss@example.com")).await
    }))
    .await;
    assert!(made.into_iter().all(|made| made.unwrap().is_none()));
    assert_eq!(shop.login("boss@example.com", "configured").await.unwrap().user.role, Role::Admin);

    shop.register("ada@example.com").await.unwrap();
    let refused =
        shop.admin_bootstrap().ensure_admin(configured("ada@example.com")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::EmailTaken);
    assert_eq!(shop.login("ada@example.com", PASSWORD).await.unwrap().user.role, Role::Customer);
    shop.admin_bootstrap().create_or_promote_admin(email("ada@example.com"), None).await.unwrap();
    assert_eq!(
        shop.login("ada@example.com", PASSWORD).await.unwrap().user.role,
        Role::Admin,
        "the password is unchanged"
    );
    let again =
        shop.admin_bootstrap().create_or_promote_admin(email("ada@example.com"), None).await;
    assert_eq!(again, Ok(super::super::admin_bootstrap::AdminOutcome::AlreadyAdmin));
}

/// Panics once.
struct PanickingClock(AtomicBool);

impl Clock for PanickingClock {
    fn now(&self) -> Timestamp {
        assert!(!self.0.swap(false, Ordering::Relaxed), "made for a test");
        SystemClock.now()
    }
}

#[actix::test]
async fn panicking_command_does_not_end_logins() {
    let shop = AccountFixture::open(FixtureSettings::default());
    shop.register("ada@example.com").await.unwrap();
    let clock = Arc::new(PanickingClock(AtomicBool::new(true)));
    let deps = AccountDeps { clock, ..shop.deps.clone() };
    let (arbiter, actor) = (actix::Arbiter::new(), AccountActor::new(deps));
    let accounts = AccountActor::start_in_arbiter(&arbiter.handle(), |_| actor);
    let shop = AccountFixture { accounts, ..shop };
    let panicked = shop.login("ada@example.com", PASSWORD).await;
    assert_eq!(error_code(panicked), ErrorCode::Internal);
    shop.login("ada@example.com", PASSWORD).await.unwrap();
}
