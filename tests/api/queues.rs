//! Requests that wait for the store are served in order. One that waits too long gets a 503 and has
//! no effect.

use std::{future::IntoFuture, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::timeout;

use crate::support::{TestApp, sorted_statuses};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Blocks all writes to the store until it is dropped.
struct WriteLock(rusqlite::Connection);

impl WriteLock {
    fn acquire(app: &TestApp) -> Self {
        let connection = rusqlite::Connection::open(app.dir().join("data/souk.db")).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(connection)
    }
}

impl Drop for WriteLock {
    fn drop(&mut self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

#[tokio::test]
async fn queued_checkouts_are_served_in_order() {
    const UNITS: usize = 7;
    let app = TestApp::with_settings(&[("http.request_timeout", "60s")]).await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), UNITS as u64).await;
    let buyers = app.customers(12).await;
    join_all(buyers.iter().map(async |buyer| app.add_to_cart(buyer, &tea, 1).await.ok())).await;
    let batches = app.metric("souk_writer_batches_total").await;
    let write_lock = WriteLock::acquire(&app);
    let mut checkouts = Vec::new();
    for (buyer, before) in buyers.iter().zip(0_u32..) {
        checkouts.push(tokio::spawn(app.check_out(buyer, "buy").into_future()));
        // The first checkout waits for its transaction to begin, the others wait in the queue.
        let waits = async {
            while app.metric("souk_writer_batches_total").await <= batches {}
            while app.metric("souk_writer_waiting").await < f64::from(before) {}
        };
        timeout(TIMEOUT, waits).await.expect("not every checkout waits");
    }
    drop(write_lock);
    let responses: Vec<_> = join_all(checkouts).await.into_iter().map(Result::unwrap).collect();
    let expected: Vec<u16> =
        (0..buyers.len()).map(|index| if index < UNITS { 201 } else { 409 }).collect();
    assert_eq!(responses.iter().map(|response| response.status).collect::<Vec<_>>(), expected);
}

/// A page of the port for operators.
async fn operations_page(operations: &str, path: &str) -> String {
    let response = reqwest::get(format!("{operations}{path}")).await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.text().await.unwrap()
}

#[tokio::test]
async fn probes_are_answered_while_changes_wait_for_the_store() {
    let settings = [("ops.bind", "127.0.0.1:0"), ("http.request_timeout", "60s")];
    let mut app = TestApp::with_settings(&settings).await;
    let operations = app.operations_url().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 1000).await;
    let buyers = app.customers(50).await;
    let write_lock = WriteLock::acquire(&app);
    let waiting: Vec<_> = buyers
        .iter()
        .map(|buyer| tokio::spawn(app.add_to_cart(buyer, &tea, 1).into_future()))
        .collect();
    let waits = async {
        // The first ones wait in their transaction, the others in the queue.
        let is_waiting = |page: String| {
            let mut lines = page.lines();
            lines.any(|line| line.strip_prefix("souk_writer_waiting ").is_some_and(|n| n != "0"))
        };
        while !is_waiting(operations_page(&operations, "/metrics").await) {}
    };
    timeout(TIMEOUT, waits).await.expect("no change waits");
    for _ in 0..10 {
        assert_eq!(operations_page(&operations, "/livez").await, r#"{"status":"alive"}"#);
    }
    assert!(waiting.iter().all(|change| !change.is_finished()), "a change did not wait");
    drop(write_lock);
    for change in waiting {
        change.await.unwrap().ok();
    }
}

#[tokio::test]
async fn request_that_waits_too_long_gets_503_without_effect() {
    let mut app = TestApp::with_settings(&[("http.request_timeout", "1s")]).await;
    app.expect_faults();
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 1000).await;
    let ada = app.customer().await;
    let write_lock = WriteLock::acquire(&app);
    let responses = join_all(
        (0..12).map(|n| app.add_to_cart(&ada, &tea, 1).key(format!("add-{n}")).into_future()),
    )
    .await;
    assert_eq!(sorted_statuses(&responses), vec![503; 12]);
    let mut overloaded = 0;
    for response in responses {
        if response.json()["code"] == "overloaded" {
            assert!(
                response
                    .header("retry-after")
                    .is_some_and(|after| after.parse::<u32>().is_ok_and(|after| after > 0)),
                "{response}"
            );
            response.problem(503, "overloaded");
            overloaded += 1;
        }
    }
    // The first request was already started.
    assert_eq!(overloaded, 11);
    drop(write_lock);
    // A new request is served after the first one.
    let served = async {
        loop {
            let response = app.add_to_cart(&ada, &tea, 1).key("another").await;
            if response.status != 503 {
                return response.ok();
            }
        }
    };
    let cart = timeout(TIMEOUT, served).await.expect("the store does not recover");
    assert!(cart["version"].as_u64().unwrap() <= 2, "{cart}");
}
