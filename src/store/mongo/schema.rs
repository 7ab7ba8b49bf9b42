//! The collections, and the indexes that their queries need.

use mongodb::{
    Database,
    bson::{Document, doc},
    error::Result,
};

pub(super) const CARTS: &str = "carts";
pub(super) const PRODUCTS: &str = "products";
pub(super) const STOCK: &str = "stock";
pub(super) const MOVEMENTS: &str = "movements";
pub(super) const USERS: &str = "users";
pub(super) const SESSIONS: &str = "sessions";
pub(super) const KEYS: &str = "idempotency_keys";
pub(super) const OUTBOX: &str = "outbox";
/// One document: the last position given out in the outbox, and the turns taken to do so.
pub(super) const COUNTERS: &str = "counters";
/// The nodes that are running, each with the session its transactions run in.
pub(super) const NODES: &str = "nodes";
/// One document: what was settled when the first node came.
pub(super) const META: &str = "meta";

/// The layout of documents. A souk that finds a higher one keeps away.
pub(super) const VERSION: i64 = 1;

/// Makes collections and indexes that are not there yet. Any number of nodes may do so at once.
pub(super) async fn prepare(database: &Database) -> Result<()> {
    // Inside a transaction a collection that has to be made would be in the way of everyone else.
    for collection in [STOCK, COUNTERS, NODES, META] {
        create(database, collection).await?;
    }
    for (collection, indexes) in indexes() {
        // Also makes the collection.
        database
            .run_command(doc! { "createIndexes": collection, "indexes": indexes, "writeConcern": { "w": "majority" } })
            .await?;
    }
    let counters = database.collection::<Document>(COUNTERS);
    let start = doc! { "$setOnInsert": { "last": 0_i64, "turn": 0_i64 } };
    counters.update_one(doc! { "_id": OUTBOX }, start).upsert(true).await?;
    Ok(())
}

async fn create(database: &Database, collection: &str) -> Result<()> {
    const EXISTS: i32 = 48;
    match database.create_collection(collection).await {
        Err(error) if super::failure::code(&error) == Some(EXISTS) => Ok(()),
        made => made,
    }
}

fn indexes() -> Vec<(&'static str, Vec<Document>)> {
    let index = |name: &str, key: Document| doc! { "name": name, "key": key };
    let unique = |name: &str, key: Document| doc! { "name": name, "key": key, "unique": true };
    let left_lying = doc! { "lines.0": { "$exists": true }, "abandoned": false };
    let living = doc! { "sku": { "$exists": true }, "deleted": false };
    vec![
        (CARTS, vec![doc! { "name": "left_lying", "key": { "updated_at": 1 }, "partialFilterExpression": left_lying }]),
        (
            PRODUCTS,
            vec![
                doc! { "name": "sku", "key": { "sku": 1 }, "unique": true, "partialFilterExpression": living },
                index("living", doc! { "deleted": 1, "_id": 1 }),
            ],
        ),
        (MOVEMENTS, vec![unique("ledger", doc! { "product_id": 1, "sequence": 1 })]),
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
        (KEYS, vec![doc! { "name": "age", "key": { "at": 1 }, "expireAfterSeconds": 25 * 60 * 60 }]),
        (OUTBOX, vec![unique("id", doc! { "id": 1 })]),
    ]
}
