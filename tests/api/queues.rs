//! Requests that wait for the store are served in order. One that waits too long gets a 503 and has
//! no effect.

use std::{future::IntoFuture, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::timeout;

use crate::support::{TestApp, statuses};

/// An upper bound that only a hang exceeds, even on a busy machine.
const NEVER: Duration = Duration::from_secs(60);

/// Blocks all writes to the store until it is dropped.
struct Intruder(rusqlite::Connection);

impl Intruder {
    fn in_the_store_of(app: &TestApp) -> Self {
        let connection = rusqlite::Connection::open(app.dir().join("data/souk.db")).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(connection)
    }
}

impl Drop for Intruder {
    fn drop(&mut self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

#[tokio::test]
async fn queued_checkouts_are_served_in_order() {
    const PIECES: usize = 7;
    let app = TestApp::with(&[("http.request_timeout", "60s")]).await;
    let admin = app.admin().await;
    let tea = app.product(&admin, &json!(4.5), PIECES as u64).await;
    let buyers = app.customers(12).await;
    join_all(buyers.iter().map(async |buyer| app.add(buyer, &tea, 1).await.ok())).await;
    let batches = app.figure("souk_writer_batches").await;
    let intruder = Intruder::in_the_store_of(&app);
    let mut asked = Vec::new();
    for (buyer, before) in buyers.iter().zip(0_u32..) {
        asked.push(tokio::spawn(app.check_out(buyer, "buy").into_future()));
        // The first checkout waits for its transaction to begin, the others wait in the queue.
        let waits = async {
            while app.figure("souk_writer_batches").await <= batches {}
            while app.figure("souk_writer_waiting").await < f64::from(before) {}
        };
        timeout(NEVER, waits).await.expect("not every checkout waits");
    }
    drop(intruder);
    let answers: Vec<_> = join_all(asked).await.into_iter().map(Result::unwrap).collect();
    let expected: Vec<u16> =
        (0..buyers.len()).map(|place| if place < PIECES { 201 } else { 409 }).collect();
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn request_that_waits_too_long_gets_503_without_effect() {
    let mut app = TestApp::with(&[("http.request_timeout", "1s")]).await;
    app.expect_faults();
    let admin = app.admin().await;
    let tea = app.product(&admin, &json!(4.5), 1000).await;
    let ada = app.customer().await;
    let intruder = Intruder::in_the_store_of(&app);
    let answers =
        join_all((0..12).map(|n| app.add(&ada, &tea, 1).key(format!("add-{n}")).into_future()))
            .await;
    assert_eq!(statuses(&answers), vec![503; 12]);
    let mut told = 0;
    for answer in answers {
        if answer.json()["code"] == "overloaded" {
            assert!(
                answer
                    .header("retry-after")
                    .is_some_and(|after| after.parse::<u32>().is_ok_and(|after| after > 0)),
                "{answer}"
            );
            answer.problem(503, "overloaded");
            told += 1;
        }
    }
    // The first request was already started.
    assert_eq!(told, 11);
    drop(intruder);
    // A new request is served after the first one.
    let served = async {
        loop {
            let answer = app.add(&ada, &tea, 1).key("another").await;
            if answer.status != 503 {
                return answer.ok();
            }
        }
    };
    let cart = timeout(NEVER, served).await.expect("the store does not recover");
    assert!(cart["version"].as_u64().unwrap() <= 2, "{cart}");
}
