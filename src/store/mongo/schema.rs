//! The collections, and the indexes that their queries need.

use std::time::Duration;

use mongodb::{
    Database,
    bson::{Document, doc},
    error::Result,
};

use crate::{domain::order::OrderStatus, store::limits::INBOX_RETENTION};

pub(super) const CARTS: &str = "carts";
pub(super) const PRODUCTS: &str = "products";
pub(super) const STOCK: &str = "stock";
pub(super) const MOVEMENTS: &str = "movements";
pub(super) const ORDERS: &str = "orders";
pub(super) const USERS: &str = "users";
pub(super) const SESSIONS: &str = "sessions";
pub(super) const IDEMPOTENCY_KEYS: &str = "idempotency_keys";
pub(super) const INBOX: &str = "inbox";
pub(super) const OUTBOX: &str = "outbox";
/// Two documents: the last position given out in the outbox, with the turns taken to do so, and the last one published.
pub(super) const COUNTERS: &str = "counters";
/// The latter.
pub(super) const PUBLISHED_COUNTER: &str = "published";
/// The nodes that are running, each with the session its transactions run in.
pub(super) const NODES: &str = "nodes";
/// One document: what was settled when the first node came.
pub(super) const META: &str = "meta";

/// The layout of documents. A souk that finds another one keeps away; 1 was never released.
pub(super) const SCHEMA_VERSION: i64 = 2;

/// Makes collections and indexes that are not there yet. Any number of nodes may do so at once. With `keep_unpublished` it is noted for
/// good, and for all who come, that events are to be kept until they were published.
pub(super) async fn create_collections_and_indexes(
    database: &Database,
    keep_unpublished: bool,
) -> Result<()> {
    // Inside a transaction a collection that has to be made would be in the way of everyone else.
    for collection in [STOCK, COUNTERS, NODES, META] {
        create_collection_if_missing(database, collection).await?;
    }
    for (collection, indexes) in index_definitions() {
        // Also makes the collection.
        database
            .run_command(doc! { "createIndexes": collection, "indexes": indexes, "writeConcern": { "w": "majority" } })
            .await?;
    }
    let counters = database.collection::<Document>(COUNTERS);
    let start = doc! { "$setOnInsert": { "last": 0_i64, "turn": 0_i64 } };
    counters.update_one(doc! { "_id": OUTBOX }, start).upsert(true).await?;
    if keep_unpublished {
        let start = doc! { "$setOnInsert": { "last": 0_i64 } };
        counters.update_one(doc! { "_id": PUBLISHED_COUNTER }, start).upsert(true).await?;
    }
    Ok(())
}

async fn create_collection_if_missing(database: &Database, collection: &str) -> Result<()> {
    const NAMESPACE_EXISTS: i32 = 48;
    match database.create_collection(collection).await {
        Err(error) if super::failure::server_error_code(&error) == Some(NAMESPACE_EXISTS) => Ok(()),
        made => made,
    }
}

fn index_definitions() -> Vec<(&'static str, Vec<Document>)> {
    let index = |name: &str, key: Document| doc! { "name": name, "key": key };
    let unique = |name: &str, key: Document| doc! { "name": name, "key": key, "unique": true };
    let pending = doc! { "status": OrderStatus::PendingPayment.as_str() };
    let living = doc! { "sku": { "$exists": true }, "deleted": false };
    vec![
        (CARTS, vec![doc! { "name": "lying", "key": { "lying_since": 1 }, "sparse": true }]),
        (
            PRODUCTS,
            vec![
                doc! { "name": "sku", "key": { "sku": 1 }, "unique": true, "partialFilterExpression": living },
                index("living", doc! { "deleted": 1, "_id": 1 }),
            ],
        ),
        (
            ORDERS,
            vec![
                index("of_user", doc! { "user_id": 1, "_id": -1 }),
                doc! { "name": "pending_of_user", "key": { "user_id": 1, "status": 1 }, "partialFilterExpression": pending.clone() },
                doc! { "name": "overdue", "key": { "expires_at": 1, "_id": 1 }, "partialFilterExpression": pending },
            ],
        ),
        (MOVEMENTS, vec![doc! { "name": "of_order", "key": { "order_id": 1 }, "sparse": true }]),
        (
            USERS,
            vec![
                unique("email", doc! { "email": 1 }),
                doc! { "name": "admins", "key": { "role": 1 }, "partialFilterExpression": { "role": "admin" } },
            ],
        ),
        (
            SESSIONS,
            vec![
                index("of_user", doc! { "user_id": 1, "expires_at": 1 }),
                doc! { "name": "revoked", "key": { "revoked_at": 1 }, "sparse": true },
            ],
        ),
        // A little longer than a key is honoured, since the clocks of nodes and servers differ.
        (
            IDEMPOTENCY_KEYS,
            vec![doc! { "name": "age", "key": { "at": 1 }, "expireAfterSeconds": 25 * 60 * 60 }],
        ),
        (
            INBOX,
            vec![
                doc! { "name": "age", "key": { "at": 1 }, "expireAfterSeconds": whole_seconds(INBOX_RETENTION) },
            ],
        ),
        (OUTBOX, vec![index("made", doc! { "first_id": 1 })]),
    ]
}

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
