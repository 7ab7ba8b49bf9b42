//! Databases of other schema versions, as the MongoDB store finds them.

use std::{sync::Arc, time::Duration};

use mongodb::{
    IndexModel,
    bson::{DateTime, Document, Uuid, doc},
    options::IndexOptions,
};
use souk::{
    domain::{
        cart::Cart,
        clock::{SystemClock, Timestamp},
    },
    store::{
        Store,
        mongo::{ConnectError, MongoStore},
    },
};
use tokio::time::timeout;

use crate::{
    fixtures::{apply_one, cart, commit, customer, put_cart},
    harness::{Harness, Mongo},
};

async fn set_schema_version(mongo: &Mongo, version: i64) {
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
    let rename = doc! { "$rename": { "idle_since": "lying_since" } };
    let renamed = carts.update_many(doc! {}, rename).await.unwrap();
    assert_eq!(renamed.modified_count, 1);
    carts.drop_index("idle").await.unwrap();
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
    assert_eq!(indexes, ["_id_", "idle"]);
    assert_eq!(schema_version(&mongo).await, 4);
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migration_waits_for_nodes_of_the_old_version() {
    let Some(mongo) = Mongo::new().await else { return };
    let idle = store_idle_cart(&mongo).await;
    downgrade_to_version_2(&mongo).await;
    let nodes = mongo.raw_database().collection::<Document>("nodes");
    let later = DateTime::from_millis(DateTime::now().timestamp_millis() + 600_000);
    let old_node = doc! { "_id": Uuid::new(), "at": later };
    nodes.insert_one(&old_node).await.unwrap();
    let options = mongo.options();
    let mut connecting = tokio::spawn(async move {
        MongoStore::connect(options, Arc::new(SystemClock)).await.map(Arc::new)
    });
    assert!(timeout(Duration::from_secs(1), &mut connecting).await.is_err());
    assert_eq!(schema_version(&mongo).await, 2);
    nodes.delete_one(old_node).await.unwrap();
    let store = connecting.await.unwrap().unwrap();
    let found = store.list_idle_carts(Timestamp::from_millis(1000), 10).await;
    assert_eq!(found, Ok(vec![idle.owner]));
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_an_unknown_version_is_rejected() {
    let Some(mongo) = Mongo::new().await else { return };
    mongo.open().await.close().await;
    for version in [1, 5] {
        set_schema_version(&mongo, version).await;
        let error =
            MongoStore::connect(mongo.options(), Arc::new(SystemClock)).await.err().unwrap();
        let expected = ConnectError::SchemaVersionMismatch { found: version, supported: 4 };
        assert_eq!(error, expected);
    }
    mongo.drop_database().await;
}
