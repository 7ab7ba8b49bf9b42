//! Nodes that die or stop responding on a shared database, which only the MongoDB store supports.

use std::time::{Duration, Instant};

use mongodb::bson::{DateTime, Document, Uuid, doc};
use souk::{
    domain::{ids::ProductId, inventory::StockChange},
    store::{Commit, CommitError},
};
use tokio::time::{sleep, timeout};

use crate::{
    fixtures::{
        apply_one, cart, cart_commit, commit, customer, stock, stock_level, stocked_product,
    },
    harness::{Harness, Mongo},
    nodes::{commit_concurrently, start_node},
};

/// A dead node that holds a lock on a product's stock; its last heartbeat was `last_seen` ago.
async fn insert_stuck_node(
    mongo: &Mongo,
    product: ProductId,
    last_seen: Duration,
) -> mongodb::ClientSession {
    let mut session = mongo.raw_database().client().start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let lock = doc! { "$inc": { "touched": 1 } };
    let product = Uuid::from_bytes(product.as_uuid().into_bytes());
    let stock = mongo.raw_database().collection::<Document>("stock");
    let locked =
        stock.update_one(doc! { "_id": product }, lock).session(&mut session).await.unwrap();
    assert_eq!(locked.modified_count, 1);
    let at = DateTime::from_millis(
        DateTime::now().timestamp_millis() - i64::try_from(last_seen.as_millis()).unwrap(),
    );
    let sessions = [session.id().get("id")];
    let seen = doc! { "_id": Uuid::new(), "at": at, "sessions": sessions, "process": 1_i64 };
    mongo.raw_database().collection::<Document>("nodes").insert_one(seen).await.unwrap();
    session
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_of_a_dead_node_are_released_within_seconds() {
    let Some(mongo) = Mongo::new().await else { return };
    let (store, writer) = start_node(&mongo).await;
    let id = stocked_product(&*store, 10).await;
    let dead = insert_stuck_node(&mongo, id, Duration::ZERO).await;
    let died = Instant::now();
    let outcome = writer.commit(commit([stock(id, StockChange::Reserve(1))])).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert!(died.elapsed() < Duration::from_secs(5), "{:?}", died.elapsed());
    eprintln!("the other node continued {:?} after the last heartbeat", died.elapsed());
    // The node that ended the transaction forgets the dead one after that.
    let nodes = mongo.raw_database().collection::<Document>("nodes");
    let is_forgotten = async {
        while nodes.count_documents(doc! { "process": 1_i64 }).await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), is_forgotten).await.expect("the dead node is still listed");
    drop(dead);
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timed_out_change_is_certainly_not_applied() {
    let Some(mongo) = Mongo::new().await else { return };
    let (store, writer) = start_node(&mongo).await;
    let id = stocked_product(&*store, 10).await;
    // The stuck node counts as alive for longer than this test needs.
    let alive = insert_stuck_node(&mongo, id, Duration::ZERO).await;
    let deadline = Instant::now() + Duration::from_millis(700);
    let buy = Commit { deadline, ..commit([stock(id, StockChange::Reserve(1))]) };
    assert_eq!(writer.commit(buy).await, Err(CommitError::Overloaded));
    assert!(Instant::now() <= deadline, "the outcome arrives in time");
    drop(alive);
    let later = apply_one(&*store, commit([stock(id, StockChange::Reserve(2))])).await;
    assert_eq!(later.unwrap().stock[0].reserved, 2);
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timed_out_commit_does_not_fail_its_batch() {
    let Some(mongo) = Mongo::new().await else { return };
    let (store, writer) = start_node(&mongo).await;
    let id = stocked_product(&*store, 10).await;
    let stuck = insert_stuck_node(&mongo, id, Duration::ZERO).await;
    let buy = |within| Commit {
        deadline: Instant::now() + within,
        ..commit([stock(id, StockChange::Reserve(1))])
    };
    let (hurried, patient) = (Duration::from_millis(700), Duration::from_secs(60));
    let applied = store.apply(vec![buy(hurried), buy(patient)].into()).await.unwrap();
    assert_eq!(applied.outcomes, [Err(CommitError::Overloaded), Err(CommitError::RetryLater)]);
    // The writer retries the rest; by then the stuck node counts as dead.
    let buyers = vec![(writer.clone(), buy(hurried)), (writer.clone(), buy(patient))];
    let outcomes = commit_concurrently(buyers).await;
    assert!(matches!(outcomes[..], [Err(CommitError::Overloaded), Ok(_)]), "{outcomes:?}");
    assert_eq!(stock_level(&*store, id).await.reserved, 1);
    drop(stuck);
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_register_and_deregister() {
    let Some(mongo) = Mongo::new().await else { return };
    let count = async || {
        mongo.raw_database().collection::<Document>("nodes").count_documents(doc! {}).await.unwrap()
    };
    let stores = [mongo.open().await, mongo.open().await];
    for store in &stores {
        apply_one(&**store, cart_commit(&cart(customer(), 1))).await.unwrap();
    }
    assert_eq!(count().await, 2);
    for store in &stores {
        store.close().await;
    }
    assert_eq!(count().await, 0, "closed nodes deregister");
    let _store = mongo.open().await;
    let admin = mongo.raw_database().client().database("admin");
    let limited = async || {
        let reply = admin
            .run_command(doc! { "getParameter": 1, "transactionLifetimeLimitSeconds": 1 })
            .await
            .unwrap();
        reply.get_i32("transactionLifetimeLimitSeconds").unwrap() <= 5
    };
    for _ in 0..50 {
        if limited().await {
            return mongo.drop_database().await;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("transactions may stay open for too long");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_heads_follow_a_write_even_of_a_node_taken_for_dead() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    apply_one(&*store, cart_commit(&cart(customer(), 1))).await.unwrap();
    let nodes = mongo.raw_database().collection::<Document>("nodes");
    nodes.delete_many(doc! {}).await.unwrap();
    assert_eq!(store.linearizable_outbox_heads().await.unwrap().to_string(), "0.1");
    let probe = nodes.find_one(doc! { "asked": 1 }).await.unwrap();
    assert!(probe.is_some(), "a majority has confirmed a write");
    mongo.drop_database().await;
}
