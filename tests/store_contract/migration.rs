//! Databases of other schema versions, as the MongoDB store finds them.

use std::{sync::Arc, time::Duration};

use mongodb::{
    IndexModel,
    bson::{DateTime, Document, Uuid, doc},
    options::IndexOptions,
};
use souk::{
    domain::{
        cart::{Cart, CartOwner},
        clock::{SystemClock, Timestamp},
        ids::UserId,
        order::OrderFilter,
    },
    events::{DomainEvent, OutboxCursor, OutboxEvent, OutboxPosition},
    store::{
        Commit, CommitError, Condition, Store, Write,
        mongo::{ConnectError, MongoStore},
    },
};
use tokio::time::timeout;

use crate::{
    fixtures::{
        advance_over, apply, apply_one, cart, cart_commit, commit, customer, events_after, order,
        order_commit, put_cart, user,
    },
    harness::{Harness, Mongo},
};

/// The schema version that the store writes.
pub(crate) const NEWEST: i64 = 11;

pub(crate) async fn set_schema_version(mongo: &Mongo, version: i64) {
    mongo
        .raw_database()
        .collection::<Document>("meta")
        .update_one(doc! { "_id": "shop" }, doc! { "$set": { "schema": version } })
        .await
        .unwrap();
}

async fn schema_version(mongo: &Mongo) -> i64 {
    let meta = mongo.raw_database().collection::<Document>("meta");
    meta.find_one(doc! { "_id": "shop" }).await.unwrap().unwrap().get_i64("schema").unwrap()
}

/// Gives everything the form of schema version 3, and leaves no running node. All events must be in
/// one partition.
async fn downgrade_to_version_3(mongo: &Mongo) {
    let database = mongo.raw_database();
    let collection = |name: &str| database.collection::<Document>(name);
    let (outbox, counters) = (collection("outbox"), collection("counters"));
    let head = outbox.find_one_and_delete(doc! { "_id": { "partition": 0_i64 } }).await.unwrap();
    let last = head.map_or(0, |head| head.get_i64("last").unwrap());
    counters.insert_one(doc! { "_id": "outbox", "last": last, "turn": last }).await.unwrap();
    if let Some(published) = counters.find_one(doc! { "_id": "published" }).await.unwrap() {
        let last = published.get_document("partitions").unwrap().get_i64("0").unwrap_or(0);
        let counter = doc! { "_id": "published", "last": last };
        counters.replace_one(doc! { "_id": "published" }, counter).await.unwrap();
    }
    for name in ["carts", "products", "stock", "orders", "users", "sessions", "outbox"] {
        let added = doc! { "commit_time": "", "product_version": "", "changes": "" };
        collection(name).update_many(doc! {}, doc! { "$unset": added }).await.unwrap();
    }
    let first_id = doc! { "$set": { "first_id": { "$first": "$events.id" } } };
    outbox.update_many(doc! {}, vec![first_id]).await.unwrap();
    let heads = outbox.count_documents(doc! { "events": { "$exists": false } }).await.unwrap();
    assert_eq!(heads, 0, "there is only one partition");
    let options = IndexOptions::builder().name("made".to_owned()).build();
    let made = IndexModel::builder().keys(doc! { "first_id": 1 }).options(options).build();
    outbox.create_index(made).await.unwrap();
    collection("nodes").delete_many(doc! {}).await.unwrap();
    set_schema_version(mongo, 3).await;
}

/// Gives everything the form of schema version 2, and leaves no running node.
async fn downgrade_to_version_2(mongo: &Mongo) {
    downgrade_to_version_3(mongo).await;
    let carts = mongo.raw_database().collection::<Document>("carts");
    let rename = doc! { "$rename": { "maintenance": "lying_since" } };
    let renamed = carts.update_many(doc! {}, rename).await.unwrap();
    assert_eq!(renamed.modified_count, 1);
    carts.drop_index("maintenance").await.unwrap();
    let options = IndexOptions::builder().name("lying".to_owned()).sparse(true).build();
    let lying = IndexModel::builder().keys(doc! { "lying_since": 1 }).options(options).build();
    carts.create_index(lying).await.unwrap();
    set_schema_version(mongo, 2).await;
}

async fn store_idle_cart(mongo: &Mongo) -> Cart {
    let idle = Cart { updated_at: Timestamp::from_millis(999), ..cart(customer(), 1) };
    let store = mongo.open().await;
    apply_one(&*store, commit([put_cart(&idle)])).await.unwrap();
    store.close().await;
    idle
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carts_of_schema_version_2_are_migrated() {
    let Some(mongo) = Mongo::new().await else { return };
    let idle = store_idle_cart(&mongo).await;
    downgrade_to_version_2(&mongo).await;
    // Two new nodes at once, each of which may find that the other has done part of the work.
    let (first, second) = tokio::join!(mongo.open(), mongo.open());
    for store in [first, second] {
        let found = store.list_idle_carts(Timestamp::from_millis(1000), 10).await;
        assert_eq!(found, Ok(vec![idle.owner]));
        assert_eq!(store.find_cart(idle.owner.id).await, Ok(Some(idle.clone())));
    }
    let carts = mongo.raw_database().collection::<Document>("carts");
    let old = carts.count_documents(doc! { "lying_since": { "$exists": true } }).await.unwrap();
    assert_eq!(old, 0);
    let mut indexes = carts.list_index_names().await.unwrap();
    indexes.sort();
    assert_eq!(indexes, ["_id_", "maintenance"]);
    assert_eq!(schema_version(&mongo).await, NEWEST);
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migration_waits_for_nodes_of_version_2() {
    let Some(mongo) = Mongo::new().await else { return };
    let idle = store_idle_cart(&mongo).await;
    downgrade_to_version_2(&mongo).await;
    assert_migration_waits(&mongo, 2, &idle).await;
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migration_waits_for_nodes_of_version_3() {
    let Some(mongo) = Mongo::new().await else { return };
    let idle = store_idle_cart(&mongo).await;
    downgrade_to_version_3(&mongo).await;
    assert_migration_waits(&mongo, 3, &idle).await;
    mongo.drop_database().await;
}

/// Asserts that a new node changes nothing while a node of an older version runs.
async fn assert_migration_waits(mongo: &Mongo, version: i64, idle: &Cart) {
    let nodes = mongo.raw_database().collection::<Document>("nodes");
    let later = DateTime::from_millis(DateTime::now().timestamp_millis() + 600_000);
    let old_node = doc! { "_id": Uuid::new(), "at": later };
    nodes.insert_one(&old_node).await.unwrap();
    let options = mongo.options();
    let mut connecting = tokio::spawn(async move {
        MongoStore::connect(options, Arc::new(SystemClock)).await.map(Arc::new)
    });
    assert!(timeout(Duration::from_secs(1), &mut connecting).await.is_err());
    assert_eq!(schema_version(mongo).await, version);
    nodes.delete_one(old_node).await.unwrap();
    let store = connecting.await.unwrap().unwrap();
    let found = store.list_idle_carts(Timestamp::from_millis(1000), 10).await;
    assert_eq!(found, Ok(vec![idle.owner]));
}

/// As version 3 wrote it: events of one partition, the oldest ones deleted, the newest ones not
/// published. Returns the events that are kept, and how many of them are published.
async fn version_3_with_events(mongo: &Mongo, owner: CartOwner) -> (Vec<OutboxEvent>, usize) {
    let store = mongo.open_with_broker().await;
    for versions in [1..=10, 11..=25, 26..=26, 27..=40] {
        apply(&*store, versions.map(|version| cart_commit(&cart(owner, version)))).await;
    }
    store.mark_published(&cursor_at(25)).await.unwrap();
    store.close().await;
    let kept = events_after(&*mongo.open().await, &cursor_at(10)).await;
    downgrade_to_version_3(mongo).await;
    let outbox = mongo.raw_database().collection::<Document>("outbox");
    assert_eq!(outbox.delete_many(doc! { "_id": 10_i64 }).await.unwrap().deleted_count, 1);
    (kept, 15)
}

fn cursor_at(offset: u64) -> OutboxCursor {
    [OutboxPosition { partition: 0, offset }].into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_schema_version_3_come_first() {
    let Some(mongo) = Mongo::new().await else { return };
    let owner = customer();
    let (kept, published) = version_3_with_events(&mongo, owner).await;
    let (first, second) = tokio::join!(mongo.open_with_broker(), mongo.open_with_broker());
    assert_eq!(schema_version(&mongo).await, NEWEST);
    assert_eq!(first.published_cursor().await, Ok(cursor_at(25)));
    assert_eq!(first.outbox_heads().await, Ok(cursor_at(40)));
    for (read, has_gap) in [(0, true), (9, true), (10, false), (25, false)] {
        let page = second.list_events_after(&cursor_at(read), 100).await.unwrap();
        assert_eq!(page.has_gap, has_gap, "after {read}");
    }
    // The cart goes on at both nodes in turn.
    for version in 41..=60 {
        let store = if version % 2 == 0 { &first } else { &second };
        apply_one(&**store, cart_commit(&cart(owner, version))).await.unwrap();
    }
    assert_eq!(first.outbox_heads().await.unwrap().positions().count(), 2);
    // As the relay reads it, in small pages.
    let (mut cursor, mut read) = (first.published_cursor().await.unwrap(), Vec::new());
    loop {
        let page = first.list_events_after(&cursor, 7).await.unwrap();
        assert!(!page.has_gap);
        advance_over(&mut cursor, &page.events);
        read.extend(page.events);
        if !page.has_more {
            break;
        }
    }
    let unpublished = &kept[published..];
    assert_eq!(&read[..unpublished.len()], unpublished, "they do not change");
    let sequences = read.iter().map(|event| {
        let body: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
        body["sequence"].as_str().unwrap().parse::<u64>().unwrap()
    });
    assert_eq!(sequences.collect::<Vec<_>>(), (26..=60).collect::<Vec<_>>());
    let audits = first.audit_events().await.unwrap();
    assert_eq!(audits[0].ranges, [(11, audits[0].recorded_last.unwrap())]);
    // Nothing of the old layout is left.
    let database = mongo.raw_database();
    let (outbox, counters) =
        (database.collection::<Document>("outbox"), database.collection::<Document>("counters"));
    assert_eq!(outbox.list_index_names().await.unwrap(), ["_id_"]);
    let others = doc! { "_id": { "$nin": ["admins", "pricing_rules"] } };
    let published = counters.find_one(others.clone()).await.unwrap().unwrap();
    assert_eq!(published, doc! { "_id": "published", "partitions": { "0": 25_i64 } });
    assert_eq!(counters.count_documents(others).await.unwrap(), 1);
    first.mark_published(&cursor).await.unwrap();
    assert_eq!(second.published_cursor().await, Ok(cursor));
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interrupted_migration_is_completed() {
    let Some(mongo) = Mongo::new().await else { return };
    let owner = customer();
    let (kept, _) = version_3_with_events(&mongo, owner).await;
    mongo.open_with_broker().await.close().await;
    // A node stopped before it raised the version, or even before it deleted the counter.
    for has_counter in [false, true] {
        set_schema_version(&mongo, 3).await;
        if has_counter {
            let counter = doc! { "_id": "outbox", "last": 40_i64, "turn": 40_i64 };
            let counters = mongo.raw_database().collection::<Document>("counters");
            counters.insert_one(counter).await.unwrap();
        }
        let store = mongo.open_with_broker().await;
        assert_eq!(store.published_cursor().await, Ok(cursor_at(25)));
        assert_eq!(store.outbox_heads().await, Ok(cursor_at(40)));
        assert_eq!(events_after(&*store, &cursor_at(10)).await, kept);
        assert_eq!(schema_version(&mongo).await, NEWEST);
        store.close().await;
    }
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_3_without_events_is_migrated() {
    let Some(mongo) = Mongo::new().await else { return };
    mongo.open().await.close().await;
    downgrade_to_version_3(&mongo).await;
    let store = mongo.open_with_broker().await;
    assert_eq!(store.outbox_heads().await, Ok(OutboxCursor::default()));
    let applied = apply(&*store, [cart_commit(&cart(customer(), 1))]).await;
    let page = store.list_events_after(&OutboxCursor::default(), 10).await.unwrap();
    assert_eq!((page.events, page.has_gap), (applied.changes.events, false));
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unpaid_orders_of_schema_version_5_count_after_the_upgrade() {
    let Some(mongo) = Mongo::new().await else { return };
    let buyer = UserId::new();
    let store = mongo.open().await;
    let placed = order(buyer);
    apply_one(&*store, order_commit(&placed)).await.unwrap();
    store.close().await;
    let orders = mongo.raw_database().collection::<Document>("orders");
    let unset = doc! { "$unset": { "pending_units": "" } };
    assert_eq!(orders.update_many(doc! {}, unset).await.unwrap().modified_count, 1);
    orders.drop_index("pending_units_of_user").await.unwrap();
    let options = IndexOptions::builder().name("pending_of_user".to_owned()).build();
    let former = IndexModel::builder().keys(doc! { "user_id": 1, "status": 1 }).options(options);
    orders.create_index(former.build()).await.unwrap();
    mongo.raw_database().collection::<Document>("nodes").delete_many(doc! {}).await.unwrap();
    set_schema_version(&mongo, 5).await;
    let store = mongo.open().await;
    assert_eq!(schema_version(&mongo).await, NEWEST);
    let limit = u32::try_from(placed.units()).unwrap();
    let another = Commit {
        conditions: vec![Condition::PendingUnitsWithin { user_id: buyer, units: 1, limit }],
        ..order_commit(&order(buyer))
    };
    let outcome = apply_one(&*store, another).await.map(drop);
    assert_eq!(outcome, Err(CommitError::TooManyPendingUnits { left: 0 }));
    let indexes = orders.list_index_names().await.unwrap();
    assert!(!indexes.contains(&"pending_of_user".to_owned()), "{indexes:?}");
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_schema_version_7_lose_who_somebody_is() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    let ada = Arc::new(user("ada@x.example"));
    let events = vec![
        DomainEvent::UserRegistered(Arc::clone(&ada)),
        DomainEvent::RightsChanged(Arc::new(ada.with_rights(ada.rights()))),
    ];
    let registration = Commit { events, ..commit([Write::User(ada)]) };
    apply_one(&*store, registration).await.unwrap();
    let wanted = events_after(&*store, &OutboxCursor::default()).await;
    store.close().await;
    let outbox = mongo.raw_database().collection::<Document>("outbox");
    let mut batch = outbox.find_one(doc! { "events": { "$size": 2 } }).await.unwrap().unwrap();
    let event = batch.get_array_mut("events").unwrap()[0].as_document_mut().unwrap();
    let named = r#""data":{"email":"ada@x.example","name":"Ada","#;
    let body = event.get_str("body").unwrap().replace(r#""data":{"#, named);
    event.insert("body", body);
    outbox.replace_one(doc! { "_id": batch.get("_id").unwrap() }, &batch).await.unwrap();
    mongo.raw_database().collection::<Document>("nodes").delete_many(doc! {}).await.unwrap();
    set_schema_version(&mongo, 7).await;
    let store = mongo.open().await;
    assert_eq!(schema_version(&mongo).await, NEWEST);
    let json =
        |event: &OutboxEvent| serde_json::from_slice::<serde_json::Value>(&event.body).unwrap();
    let found = events_after(&*store, &OutboxCursor::default()).await;
    assert_eq!(
        found.iter().map(json).collect::<Vec<_>>(),
        wanted.iter().map(json).collect::<Vec<_>>()
    );
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_of_schema_version_9_keep_their_numbers() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    let placed = order(UserId::new());
    apply_one(&*store, order_commit(&placed)).await.unwrap();
    store.close().await;
    // Version 9 stored what the number was made of, under a unique index.
    let orders = mongo.raw_database().collection::<Document>("orders");
    let stored = doc! { "$set": { "number": 4711_i64 } };
    assert_eq!(orders.update_many(doc! {}, stored).await.unwrap().modified_count, 1);
    let options = IndexOptions::builder().name("number".to_owned()).unique(true).sparse(true);
    let former = IndexModel::builder().keys(doc! { "number": 1 }).options(options.build());
    orders.create_index(former.build()).await.unwrap();
    mongo.raw_database().collection::<Document>("nodes").delete_many(doc! {}).await.unwrap();
    set_schema_version(&mongo, 9).await;
    let store = mongo.open().await;
    assert_eq!(schema_version(&mongo).await, NEWEST);
    let indexes = orders.list_index_names().await.unwrap();
    assert!(!indexes.contains(&"number".to_owned()), "{indexes:?}");
    let by_number = OrderFilter { number: Some(placed.number()), ..OrderFilter::default() };
    assert_eq!(store.list_orders(by_number, None, 10).await, Ok(vec![placed]));
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_an_unknown_version_is_rejected() {
    let Some(mongo) = Mongo::new().await else { return };
    mongo.open().await.close().await;
    for version in [1, NEWEST + 1] {
        set_schema_version(&mongo, version).await;
        let error =
            MongoStore::connect(mongo.options(), Arc::new(SystemClock)).await.err().unwrap();
        let expected = ConnectError::SchemaVersionMismatch { found: version, supported: NEWEST };
        assert_eq!(error, expected);
    }
    mongo.drop_database().await;
}
