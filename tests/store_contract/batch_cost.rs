//! The cost of a batch for the server: its commands and their order, and the number of transactions
//! when a commit cannot be written. Only for MongoDB, whose profiler provides the data.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::{
    TryStreamExt,
    future::{join, join_all},
};
use mongodb::bson::{Bson, Document, Uuid as BsonUuid, doc};
use souk::{
    domain::{
        ids::{ProductId, UserId},
        inventory::StockChange,
        order::LimitedLine,
    },
    store::{ApplyError, Commit, CommitError, CommitOutcome, Condition, writer::CommitWriter},
};
use tokio::runtime::Handle;

use crate::{
    fixtures::{
        apply_one, cart, cart_commit, customer, events, key, order, order_commit, put_cart, stock,
        stock_level, stocked_product, with_response,
    },
    harness::{Harness, Mongo, NoopObserver},
};

/// A profiled operation: its type and collection, the id of its document, and the number of
/// documents that the server read.
pub(crate) struct Operation {
    step: (String, String),
    id: Option<Bson>,
    documents_read: i64,
}

/// Lets the server profile every operation on the database.
pub(crate) async fn start_profiling(mongo: &Mongo) {
    let database = mongo.raw_database();
    database
        .run_command(doc! { "create": "system.profile", "capped": true, "size": 64 << 20 })
        .await
        .unwrap();
    database.run_command(doc! { "profile": 2 }).await.unwrap();
}

/// Returns the profiled operations without heartbeats and maintenance, and starts over.
pub(crate) async fn profiled_operations(mongo: &Mongo) -> Vec<Operation> {
    let database = mongo.raw_database();
    database.run_command(doc! { "profile": 0 }).await.unwrap();
    let profile = database.collection::<Document>("system.profile");
    let records: Vec<Document> = profile
        .find(doc! {})
        .sort(doc! { "$natural": 1 })
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    profile.drop().await.unwrap();
    start_profiling(mongo).await;
    let operation = |record: &Document| {
        let collection = record.get_str("ns").unwrap().split_once('.').unwrap().1.to_owned();
        let id = record
            .get_document("command")
            .ok()
            .and_then(|c| c.get_document("q").ok())
            .and_then(|q| q.get("_id").cloned());
        let documents_read = record
            .get("docsExamined")
            .map_or(0, |read| read.as_i64().or(read.as_i32().map(i64::from)).unwrap());
        let step = (record.get_str("op").unwrap().to_owned(), collection);
        Operation { step, id, documents_read }
    };
    let is_chore = |(op, collection): &(String, String)| match &**collection {
        "nodes" | "system.profile" => true,
        // Without transactions: partitions are claimed, and old events deleted, if published.
        "outbox" => op != "update",
        "counters" => op == "query",
        _ => false,
    };
    records.iter().map(operation).filter(|operation| !is_chore(&operation.step)).collect()
}

/// The commands; the profiler records each statement of a command separately.
pub(crate) fn distinct_commands(operations: &[Operation]) -> Vec<(&str, &str)> {
    let steps =
        operations.iter().map(|Operation { step: (op, collection), .. }| (&**op, &**collection));
    let mut commands: Vec<_> = steps.collect();
    commands.dedup();
    commands
}

/// The number of transactions that load documents of `collection`, each with one query.
fn count_transactions(operations: &[Operation], collection: &str) -> usize {
    let loads = ("query".to_owned(), collection.to_owned());
    operations.iter().filter(|operation| operation.step == loads).count()
}

/// A checkout of two products, with cart and key.
fn two_product_checkout(products: [ProductId; 2]) -> Commit {
    let buyer = customer();
    let mut buy = order_commit(&order(buyer.id));
    buy.writes.push(put_cart(&cart(buyer, 1)));
    buy.writes.extend(products.map(|product| stock(product, StockChange::Reserve(1))));
    with_response(buy, &key(buyer.id, "buy", 1), "done")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batch_costs_one_commit_and_writes_stock_last() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    let (first, second) =
        (stocked_product(&*store, 1000).await, stocked_product(&*store, 1000).await);
    assert!(first < second);
    start_profiling(&mongo).await;
    apply_one(&*store, two_product_checkout([second, first])).await.unwrap();
    let of_one = profiled_operations(&mongo).await;
    let many: Vec<Commit> = (0..100)
        .flat_map(|_| {
            [two_product_checkout([second, first]), two_product_checkout([first, second])]
        })
        .collect();
    let applied = store.apply(many.into()).await.unwrap();
    assert!(applied.outcomes.iter().all(Result::is_ok));
    let of_many = profiled_operations(&mongo).await;
    let (one, mut many) = (distinct_commands(&of_one), distinct_commands(&of_many));
    assert_eq!(many.remove(0), ("query", "carts"), "a large batch loads its carts");
    assert_eq!(many, one);
    assert!(!many.contains(&("query", "idempotency_keys")), "{many:?}");
    eprintln!(
        "{} commands and the commit, for one purchase and for 200",
        distinct_commands(&of_one).len()
    );
    let stock: Vec<_> = of_many
        .iter()
        .filter(|operation| operation.step == ("update".into(), "stock".into()))
        .collect();
    let in_order = [first, second]
        .map(|product| Some(Bson::from(BsonUuid::from_bytes(product.as_uuid().into_bytes()))));
    assert_eq!(
        stock.iter().map(|update| update.id.clone()).collect::<Vec<_>>(),
        in_order,
        "one update for all commits"
    );
    assert_eq!(of_many.last().unwrap().step, stock[0].step);
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unpaid_orders_are_counted_in_the_index_alone() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    let buyer = customer();
    for version in 1..=4 {
        if version == 4 {
            start_profiling(&mongo).await;
        }
        let mut buy = order_commit(&order(buyer.id));
        buy.writes.push(put_cart(&cart(buyer, version)));
        buy.conditions = vec![
            Condition::PendingOrdersBelow(buyer.id, 4),
            Condition::PendingUnitsWithin { user_id: buyer.id, units: 2, limit: 1000 },
        ];
        apply_one(&*store, buy).await.unwrap();
    }
    let operations = profiled_operations(&mongo).await;
    let of_orders =
        operations.iter().filter(|operation| operation.step == ("query".into(), "orders".into()));
    assert_eq!(of_orders.map(|operation| operation.documents_read).sum::<i64>(), 0);
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_purchase_limits_cost_a_query() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    let product = stocked_product(&*store, 1000).await;
    let checkout = |is_limited: bool| {
        let buyer = customer();
        let order = order(buyer.id);
        let mut buy = order_commit(&order);
        buy.writes.extend([put_cart(&cart(buyer, 1)), stock(product, StockChange::Reserve(2))]);
        buy.conditions = vec![
            Condition::ProductUnchanged(product, 1),
            Condition::PendingOrdersBelow(buyer.id, 20),
            Condition::PendingUnitsWithin { user_id: buyer.id, units: 2, limit: 1000 },
        ];
        let line = LimitedLine { product_id: product, quantity: 2, limit: 2 };
        buy.conditions.extend(is_limited.then_some(Condition::PurchaseWithin(buyer.id, line)));
        buy
    };
    start_profiling(&mongo).await;
    let mut queries = Vec::new();
    for (count, is_limited) in [(1, false), (100, false), (1, true), (100, true)] {
        let batch: Vec<Commit> = (0..count).map(|_| checkout(is_limited)).collect();
        let outcomes = store.apply(batch.into()).await.unwrap().outcomes;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        let operations = profiled_operations(&mongo).await;
        let of_orders = ("query".to_owned(), "orders".to_owned());
        queries.push(operations.iter().filter(|operation| operation.step == of_orders).count());
    }
    assert_eq!(queries, [2, 2, 3, 3], "the order, the unpaid orders, the paid ones");
    mongo.drop_database().await;
}

/// Makes the server reject documents of `collection` with one of these ids in `field`.
async fn reject_documents(mongo: &Mongo, collection: &str, field: &str, users: &[UserId]) {
    let refused: Vec<BsonUuid> =
        users.iter().map(|user| BsonUuid::from_bytes(user.as_uuid().into_bytes())).collect();
    let rule = doc! { "collMod": collection, "validator": { field: { "$nin": refused } } };
    mongo.raw_database().run_command(rule).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_commit_costs_its_batch_one_more_transaction() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    let id = stocked_product(&*store, 1000).await;
    let carts: Vec<_> = (0..60).map(|_| cart(customer(), 1)).collect();
    let bad: Vec<UserId> = [20, 21, 55].map(|place: usize| carts[place].owner.id).into();
    reject_documents(&mongo, "carts", "_id", &bad).await;
    start_profiling(&mongo).await;
    let buy = |place: usize| {
        let mut buy = cart_commit(&carts[place]);
        buy.writes.push(stock(id, StockChange::Reserve(1)));
        buy
    };
    // A batch with one bad commit.
    let applied = store.apply((0..21).map(buy).collect()).await.unwrap();
    let left: Vec<_> =
        applied.outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert_eq!(left, [&CommitError::RetryAlone], "the others do not wait for its retry");
    assert_eq!(count_transactions(&profiled_operations(&mongo).await, "stock"), 2);
    assert_eq!(applied.changes.carts.len(), 20);
    // The writer retries bad commits alone, so that commits for the same product or user get their
    // outcome.
    let (writer, _) =
        CommitWriter::start(&Handle::current(), Arc::clone(&store), Arc::new(NoopObserver));
    let outcomes = join_all((20..60).map(|place| writer.commit(buy(place)))).await;
    for (outcome, place) in outcomes.iter().zip(20..) {
        let is_bad = bad.contains(&carts[place].owner.id);
        assert!(
            if is_bad { *outcome == Err(CommitError::Unavailable) } else { outcome.is_ok() },
            "{place}: {outcome:?}"
        );
    }
    let (batches, started) = (
        writer.stats().batches.load(Ordering::Relaxed),
        count_transactions(&profiled_operations(&mongo).await, "stock"),
    );
    assert!(
        started as u64 <= batches + bad.len() as u64,
        "{started} transactions for {batches} batches"
    );
    assert_eq!(stock_level(&*store, id).await.reserved, 57);
    assert_eq!(
        events(&*store).await.iter().filter(|event| event.kind.starts_with("cart.")).count(),
        57
    );
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unidentified_bad_commit_is_isolated() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    let carts: Vec<_> = (0..64).map(|_| cart(customer(), 1)).collect();
    // All events of a batch share one document.
    reject_documents(&mongo, "outbox", "events.subject", &[carts[41].owner.id]).await;
    let (writer, _) =
        CommitWriter::start(&Handle::current(), Arc::clone(&store), Arc::new(NoopObserver));
    let outcomes = join_all(carts.iter().map(|cart| writer.commit(cart_commit(cart)))).await;
    for (place, outcome) in outcomes.iter().enumerate() {
        assert!(
            if place == 41 { *outcome == Err(CommitError::Unavailable) } else { outcome.is_ok() },
            "{place}: {outcome:?}"
        );
    }
    assert_eq!(events(&*store).await.len(), 63);
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unwritable_product_does_not_block_other_products() {
    const SUSPECTS: usize = 600;
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    let (spoilt, good) =
        (stocked_product(&*store, 10_000).await, stocked_product(&*store, 10_000).await);
    reject_documents(&mongo, "stock", "_id", &[UserId::from(spoilt.as_uuid())]).await;
    let (writer, _) =
        CommitWriter::start(&Handle::current(), Arc::clone(&store), Arc::new(NoopObserver));
    let buy = |product, within| {
        let mut buy = cart_commit(&cart(customer(), 1));
        buy.writes.push(stock(product, StockChange::Reserve(1)));
        writer.commit(Commit { deadline: Instant::now() + within, ..buy })
    };
    let short = Duration::from_secs(1);
    let suspects = join_all((0..SUSPECTS).map(async |_| {
        let outcome = buy(spoilt, short).await;
        (outcome, Instant::now())
    }));
    let others = join_all((0..100).map(|_| buy(good, Duration::from_secs(60))));
    let began = Instant::now();
    let (suspects, others) = join(suspects, others).await;
    assert!(others.iter().all(Result::is_ok));
    // Some of these commits exceed the retry limit; the others are retried until their deadline.
    let refused = |outcome: &CommitOutcome| {
        matches!(outcome, Err(CommitError::Unavailable | CommitError::Overloaded))
    };
    assert!(suspects.iter().all(|(outcome, _)| refused(outcome)));
    let last = suspects.iter().map(|(_, at)| *at - began).max().unwrap();
    eprintln!("{SUSPECTS} outcomes within {last:?}");
    // The writer updates the count after it sends the outcomes.
    let idle = async {
        while writer.queued_count() > 0 {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(Duration::from_secs(60), idle)
        .await
        .expect("commits still wait although all have outcomes");
    assert_eq!(
        (stock_level(&*store, spoilt).await.reserved, stock_level(&*store, good).await.reserved),
        (0, 100)
    );
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_that_refuses_everything_fails_fast() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    apply_one(&*store, cart_commit(&cart(customer(), 1))).await.unwrap();
    mongo.break_table("outbox", true).await;
    start_profiling(&mongo).await;
    let many: Vec<Commit> = (0..500).map(|_| cart_commit(&cart(customer(), 1))).collect();
    let refused = store.apply(many.into()).await;
    assert!(matches!(refused, Err(ApplyError::Unavailable)), "no commit is left for a retry");
    let tried = count_transactions(&profiled_operations(&mongo).await, "carts");
    assert!((1..=12).contains(&tried), "{tried} transactions to detect the failure");
    mongo.break_table("outbox", false).await;
    apply_one(&*store, cart_commit(&cart(customer(), 1))).await.unwrap();
    mongo.drop_database().await;
}
