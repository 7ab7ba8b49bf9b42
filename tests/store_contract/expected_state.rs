//! State that small batches expect, rather than load. Only for MongoDB.

use std::sync::Arc;

use souk::{
    domain::{
        cart::Cart,
        clock::{Clock, Timestamp},
        inventory::StockChange,
    },
    store::{Commit, CommitError, Store},
};

use crate::{
    batch_cost::{distinct_commands, profiled_operations, start_profiling},
    fixtures::{
        apply, apply_one, cart, cart_commit, customer, events, key, now, remembered_response,
        stock, stock_level, stocked_product, with_response,
    },
    harness::{Harness, Mongo},
};

/// A cart's commit with the reply "done" under a key.
fn keyed(cart: &Cart, text: &str) -> Commit {
    with_response(cart_commit(cart), &key(cart.owner.id, text, 1), "done")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_batch_loads_neither_carts_nor_keys() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    let owner = customer();
    start_profiling(&mongo).await;
    for (version, write) in [(1, "insert"), (2, "update"), (3, "update")] {
        apply_one(&*store, keyed(&cart(owner, version), &version.to_string())).await.unwrap();
        let operations = profiled_operations(&mongo).await;
        let wanted = [(write, "carts"), ("insert", "idempotency_keys"), ("update", "outbox")];
        assert_eq!(distinct_commands(&operations), wanted);
    }
    mongo.drop_database().await;
}

/// Each of these batches has one commit that does not find what it expects.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_expectation_harms_only_its_commit() {
    let Some(mongo) = Mongo::new().await else { return };
    let (store, other) = (mongo.open().await, mongo.open().await);
    let (stale, repeated, taken) = (customer(), customer(), customer());
    apply_one(&*other, cart_commit(&cart(stale, 1))).await.unwrap();
    apply_one(&*other, cart_commit(&cart(stale, 2))).await.unwrap();
    apply_one(&*other, keyed(&cart(repeated, 1), "again")).await.unwrap();
    apply_one(&*other, cart_commit(&cart(taken, 1))).await.unwrap();
    let replayed = CommitError::Replayed(remembered_response("done"));
    let cases = [
        (cart_commit(&cart(stale, 2)), CommitError::Conflict),
        (cart_commit(&cart(stale, 4)), CommitError::Conflict),
        (keyed(&cart(repeated, 1), "again"), replayed.clone()),
        (keyed(&cart(repeated, 2), "again"), replayed),
        (cart_commit(&cart(taken, 1)), CommitError::Conflict),
    ];
    for (commit, wanted) in cases {
        // Each time a writer that has seen no expectation fail.
        let store: Arc<dyn Store> = mongo.open().await;
        let [before, after] = [customer(), customer()].map(|owner| cart_commit(&cart(owner, 1)));
        let outcomes = apply(&*store, [before, commit, after]).await.outcomes;
        assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
        assert_eq!(outcomes[1], Err(wanted));
    }
    assert_eq!(store.find_cart(stale.id).await.unwrap().unwrap().version, 2);
    mongo.drop_database().await;
}

/// A repeat of a commit that can no longer be applied is a repeat all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeat_that_would_be_refused_is_a_replay() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    let tea = stocked_product(&*store, 2).await;
    let owner = customer();
    let mut buy = keyed(&cart(owner, 1), "buy");
    buy.writes.push(stock(tea, StockChange::Reserve(2)));
    apply_one(&*store, buy.clone()).await.unwrap();
    let replayed = Err(CommitError::Replayed(remembered_response("done")));
    for _ in 0..2 {
        let store = mongo.open().await;
        assert_eq!(apply_one(&*store, buy.clone()).await, replayed);
    }
    assert_eq!(stock_level(&*store, tea).await.reserved, 2);
    mongo.drop_database().await;
}

/// A clock that is an hour slow.
struct SlowClock;

impl Clock for SlowClock {
    fn now(&self) -> Timestamp {
        now().saturating_sub(std::time::Duration::from_secs(60 * 60))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cart_written_by_a_slow_clock_has_its_events_in_order() {
    let Some(mongo) = Mongo::new().await else { return };
    let (fast, slow) = (mongo.open().await, mongo.open_with_clock(Arc::new(SlowClock)).await);
    let owner = customer();
    for version in 1..=6 {
        let store = if version % 2 == 1 { &fast } else { &slow };
        apply_one(&**store, cart_commit(&cart(owner, version))).await.unwrap();
    }
    let sequences: Vec<u64> = events(&*fast)
        .await
        .iter()
        .map(|event| {
            let body: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
            body["sequence"].as_str().unwrap().parse().unwrap()
        })
        .collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 6]);
    mongo.drop_database().await;
}
