//! The counters of failed logins.

use std::time::Duration;

use futures_util::future::join_all;
use souk::domain::account::{
    User,
    login_failures::{FAILURE_WINDOW, FailureWindow, LoginKey},
};

use crate::{
    fixtures::{apply_one, commit, now, put_user, user},
    harness::Harness,
};

fn key(number: u8) -> LoginKey {
    LoginKey::from_bytes([number; 16])
}

pub(crate) async fn failures_are_counted_per_key_and_survive_reopening(harness: &dyn Harness) {
    let store = harness.open().await;
    let start = now();
    let later = start.saturating_add(Duration::from_millis(1500));
    assert_eq!(store.find_login_failures(vec![key(1), key(2)]).await, Ok(vec![None, None]));
    let window = |failures| FailureWindow { started_at: start, failures };
    let both = store.count_login_failure(vec![key(1), key(2)], start).await;
    assert_eq!(both, Ok(vec![window(1), window(1)]));
    assert_eq!(store.count_login_failure(vec![key(2)], later).await, Ok(vec![window(2)]));
    store.close().await;
    let store = harness.open().await;
    assert_eq!(
        store.find_login_failures(vec![key(2), key(3), key(1)]).await,
        Ok(vec![Some(window(2)), None, Some(window(1))])
    );
}

pub(crate) async fn failures_are_forgotten_after_their_window(harness: &dyn Harness) {
    let store = harness.open().await;
    let start = now();
    store.count_login_failure(vec![key(1), key(2)], start).await.unwrap();
    let last = start.saturating_add(FAILURE_WINDOW - Duration::from_millis(1));
    assert_eq!(
        store.count_login_failure(vec![key(1)], last).await,
        Ok(vec![FailureWindow { started_at: start, failures: 2 }])
    );
    let end = start.saturating_add(FAILURE_WINDOW);
    let anew = FailureWindow { started_at: end, failures: 1 };
    assert_eq!(store.count_login_failure(vec![key(1)], end).await, Ok(vec![anew]));
    // A clock that is a little behind counts on; one that was set back begins anew.
    assert_eq!(
        store.count_login_failure(vec![key(1)], last).await,
        Ok(vec![FailureWindow { failures: 2, ..anew }])
    );
    let set_back = start.saturating_sub(Duration::from_secs(1));
    assert_eq!(
        store.count_login_failure(vec![key(1)], set_back).await,
        Ok(vec![FailureWindow { started_at: set_back, failures: 1 }])
    );
}

pub(crate) async fn concurrent_failures_are_all_counted(harness: &dyn Harness) {
    let store = harness.open().await;
    let start = now();
    let windows =
        join_all((0..50).map(|n| store.count_login_failure(vec![key(1), key(n + 2)], start))).await;
    let mut counts: Vec<_> =
        windows.into_iter().map(|window| window.unwrap()[0].failures).collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=50).collect::<Vec<_>>());
}

pub(crate) async fn greatest_password_hash_has_the_highest_cost(harness: &dyn Harness) {
    let store = harness.open().await;
    assert_eq!(store.greatest_password_hash().await, Ok(None));
    for (email, cost) in [("a@example.com", "09"), ("b@example.com", "12"), ("c@example.com", "10")]
    {
        let password_hash = format!("$2b${cost}${}", email.repeat(3));
        let hashed = User { password_hash, ..user(email) };
        apply_one(&*store, commit([put_user(&hashed)])).await.unwrap();
    }
    let greatest = store.greatest_password_hash().await.unwrap().unwrap();
    assert!(greatest.starts_with("$2b$12$"), "{greatest}");
}
