//! Upgrades a database that an older version of souk wrote. A node runs it before it uses the
//! database.
//!
//! Each step may be repeated, and several nodes may run it at once: the schema version is raised
//! last, so a node that stops halfway leaves the rest to the next one.

use mongodb::{
    Database,
    bson::{Bson, Document, doc},
    error::Result,
};

use super::{
    nodes,
    partition::is_head_of,
    schema::{CARTS, COUNTERS, MAINTENANCE, META, ORDERS, OUTBOX, PUBLISHED_COUNTER, SHOP, USERS},
    transaction_error::server_error_code,
};
use crate::domain::order::OrderStatus;

/// What an upgrade led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MigrationOutcome {
    /// The database has this schema version. It is not the current one if no migration leads there.
    Version(i64),
    /// Nothing was changed, because a node of an older version is running: whatever it writes after
    /// the upgrade would never be upgraded.
    OldNodesRunning,
}

/// Upgrades a database of schema version `found` as far as possible.
pub(super) async fn migrate(database: &Database, found: i64) -> Result<MigrationOutcome> {
    if !(2..=10).contains(&found) {
        return Ok(MigrationOutcome::Version(found));
    }
    if nodes::has_running_nodes(database).await? {
        return Ok(MigrationOutcome::OldNodesRunning);
    }
    if found == 2 {
        let carts = rename_cart_idle_since(database).await?;
        raise_schema_version(database, 2).await?;
        tracing::info!(from = 2, to = 3, carts, "upgraded the database schema");
    }
    if found <= 3 {
        let last = move_outbox_to_partition_0(database).await?;
        raise_schema_version(database, 3).await?;
        tracing::info!(from = 3, to = 4, events = last, "upgraded the database schema");
    }
    if found <= 4 {
        // Version 5 compresses stored replies and records refusals of keyed requests, which nodes
        // of version 4 cannot read. What they wrote stays as it is.
        raise_schema_version(database, 4).await?;
        tracing::info!(from = 4, to = 5, "upgraded the database schema");
    }
    if found <= 5 {
        let orders = count_pending_units(database).await?;
        raise_schema_version(database, 5).await?;
        tracing::info!(from = 5, to = 6, orders, "upgraded the database schema");
    }
    if found <= 6 {
        // Version 7 has scopes and blocks in accounts, which nodes of version 6 would remove, and
        // would not heed. Accounts without them are as they were.
        raise_schema_version(database, 6).await?;
        tracing::info!(from = 6, to = 7, "upgraded the database schema");
    }
    if found <= 7 {
        raise_to_version_8(database).await?;
    }
    if found <= 8 {
        // Version 9 has mails about orders, payments at providers, events that are kept for
        // webhooks, pricing rules, and carts and orders that were priced with them. Nodes of
        // version 8 cannot read these, would not apply them, or would remove them. What is stored
        // stays as it is.
        raise_schema_version(database, 8).await?;
        tracing::info!(from = 8, to = 9, "upgraded the database schema");
    }
    if found <= 9 {
        // Version 10 has orders of guests, and e-mail and billing addresses in orders, which nodes
        // of version 9 would remove.
        let orders = add_order_emails(database).await?;
        drop_index_of_order_numbers(database).await?;
        raise_schema_version(database, 9).await?;
        tracing::info!(from = 9, to = 10, orders, "upgraded the database schema");
    }
    let carts = add_maintenance_keys(database).await?;
    raise_schema_version(database, 10).await?;
    tracing::info!(from = 10, to = 11, carts, "upgraded the database schema");
    Ok(MigrationOutcome::Version(11))
}

/// Since version 11, maintenance finds carts by one field, where there were an index of idle carts
/// and one of the carts of guests. The old indexes are dropped last, since the updates use them;
/// the new one is created with the others. Returns how many carts have the field.
async fn add_maintenance_keys(database: &Database) -> Result<u64> {
    let carts = database.collection::<Document>(CARTS);
    let idle = doc! { "$rename": { "idle_since": MAINTENANCE } };
    let idle = carts.update_many(doc! { "idle_since": { "$exists": true } }, idle).await?;
    let ended = doc! { "guest": true, MAINTENANCE: { "$exists": false } };
    let of_guest = vec![doc! { "$set": { MAINTENANCE: "$_id" } }];
    let ended = carts.update_many(ended, of_guest).await?;
    drop_index_if_present(database, CARTS, "idle").await?;
    drop_index_if_present(database, CARTS, "of_guests").await?;
    Ok(idle.modified_count + ended.modified_count)
}

/// Since version 10, nodes make order ids under leases, so order numbers are unique without an
/// index. Nodes of version 9 rely on it. Orders keep their numbers, which follow from their ids;
/// the field that was indexed stays until they change, and is not read.
async fn drop_index_of_order_numbers(database: &Database) -> Result<()> {
    drop_index_if_present(database, ORDERS, "number").await
}

/// Gives orders the e-mail addresses of their buyers' accounts, which mails went to before orders
/// had their own. Returns how many orders have one.
async fn add_order_emails(database: &Database) -> Result<u64> {
    let orders = database.collection::<Document>(ORDERS);
    let account = doc! {
        "from": USERS, "localField": "user_id", "foreignField": "_id", "as": "account",
    };
    let pipeline = vec![
        doc! { "$match": { "email": { "$exists": false }, "anonymized": { "$ne": true } } },
        doc! { "$project": { "user_id": 1 } },
        doc! { "$lookup": account },
        doc! { "$match": { "account.email": { "$type": "string" } } },
        doc! { "$project": { "email": { "$first": "$account.email" } } },
        doc! { "$merge": { "into": ORDERS, "whenMatched": "merge", "whenNotMatched": "discard" } },
    ];
    orders.aggregate(pipeline).await?;
    orders.count_documents(doc! { "email": { "$exists": true } }).await
}

async fn raise_to_version_8(database: &Database) -> Result<()> {
    // Version 8 has weights and tax classes in products, actors and shipments in orders, orders
    // that are shipped in part, verified addresses and the tokens of mails in accounts, which nodes
    // of version 7 would remove or cannot read, and actions, which they would not write. They also
    // write events that tell who somebody is, and give an erased account's orders back what was
    // erased. Orders that are shipped in part count as bought, in an index of their own.
    drop_index_if_present(database, ORDERS, "paid_of_user").await?;
    let events = remove_names_from_events(database).await?;
    raise_schema_version(database, 7).await?;
    tracing::info!(from = 7, to = 8, events, "upgraded the database schema");
    Ok(())
}

async fn raise_schema_version(database: &Database, found: i64) -> Result<()> {
    let meta = database.collection::<Document>(META);
    let raised = doc! { "$set": { "schema": found + 1 } };
    meta.update_one(doc! { "_id": SHOP, "schema": found }, raised).await.map(drop)
}

/// Since version 8, no event tells who somebody is. Returns how many did.
async fn remove_names_from_events(database: &Database) -> Result<u64> {
    const KIND: &str = "auth.user.registered";
    let outbox = database.collection::<Document>(OUTBOX);
    let mut batches = outbox.find(doc! { "events.type": KIND }).await?;
    let mut changed = 0;
    while batches.advance().await? {
        let mut batch = batches.deserialize_current()?;
        let Ok(events) = batch.get_array_mut("events") else { continue };
        let events = events.iter_mut().filter_map(Bson::as_document_mut);
        for event in events.filter(|event| event.get_str("type").is_ok_and(|kind| kind == KIND)) {
            let body = event.get_str("body").ok().and_then(without_names);
            if let Some(body) = body {
                event.insert("body", body);
                changed += 1;
            }
        }
        if let Some(id) = batch.get("_id").cloned() {
            outbox.replace_one(doc! { "_id": id }, batch).await?;
        }
    }
    Ok(changed)
}

/// The body of an event without the e-mail address and the name in its data.
fn without_names(body: &str) -> Option<String> {
    let mut event: serde_json::Value = serde_json::from_str(body).ok()?;
    let data = event.get_mut("data")?.as_object_mut()?;
    data.retain(|member, _| member != "email" && member != "name");
    Some(event.to_string())
}

/// Version 4 has partitions in the outbox. The events of version 3 become partition 0: an encoded
/// position in it is the position that they had. So they stay as they are, also those that are not
/// published yet. Returns the position of the last one.
async fn move_outbox_to_partition_0(database: &Database) -> Result<i64> {
    let counters = database.collection::<Document>(COUNTERS);
    let position = |counter: Option<Document>| counter.and_then(|found| found.get_i64("last").ok());
    let last = position(counters.find_one(doc! { "_id": OUTBOX }).await?).unwrap_or(0);
    let outbox = database.collection::<Document>(OUTBOX);
    let events = doc! { "_id": { "$type": "number" } };
    let oldest = outbox.find_one(events).sort(doc! { "_id": 1 }).await?;
    let before = |batch: Document| {
        let events = batch.get_array("events").map_or(0, Vec::len);
        batch.get_i64("_id").unwrap_or(0) - i64::try_from(events).unwrap_or(0)
    };
    let trimmed = oldest.map_or(last, before);
    let start = doc! { "node": null, "last": last, "commit_time": 0_i64, "trimmed": trimmed };
    outbox.update_one(is_head_of(0), doc! { "$setOnInsert": start }).upsert(true).await?;
    let published = counters.find_one(doc! { "_id": PUBLISHED_COUNTER }).await?;
    if let Some(published) = position(published) {
        let cursor = doc! {
            "$set": { "partitions": { "0": published } }, "$unset": { "last": "" },
        };
        counters.update_one(doc! { "_id": PUBLISHED_COUNTER, "last": published }, cursor).await?;
    }
    drop_index_if_present(database, OUTBOX, "made").await?;
    // Last: a migration that is repeated needs it.
    counters.delete_one(doc! { "_id": OUTBOX }).await?;
    Ok(last)
}

/// Version 6 has the units of an unpaid order in a field and in an index, which nodes of version 5
/// would not write. Returns how many orders lacked the field.
async fn count_pending_units(database: &Database) -> Result<u64> {
    let orders = database.collection::<Document>(ORDERS);
    let pending = OrderStatus::PendingPayment.as_str();
    let counted = orders
        .update_many(
            doc! { "status": pending, "pending_units": { "$exists": false } },
            vec![doc! { "$set": { "pending_units": { "$sum": "$lines.quantity" } } }],
        )
        .await?;
    drop_index_if_present(database, ORDERS, "pending_of_user").await?;
    Ok(counted.modified_count)
}

/// Version 3 renames the carts' `lying_since` to `idle_since`. The old index is dropped last, since
/// the update uses it; the new one is created with the others. Returns how many carts had the
/// field.
async fn rename_cart_idle_since(database: &Database) -> Result<u64> {
    let carts = database.collection::<Document>(CARTS);
    let renamed = carts
        .update_many(
            doc! { "lying_since": { "$exists": true } },
            doc! { "$rename": { "lying_since": "idle_since" } },
        )
        .await?;
    drop_index_if_present(database, CARTS, "lying").await?;
    Ok(renamed.modified_count)
}

async fn drop_index_if_present(database: &Database, collection: &str, name: &str) -> Result<()> {
    const NAMESPACE_NOT_FOUND: i32 = 26;
    const INDEX_NOT_FOUND: i32 = 27;
    match database.collection::<Document>(collection).drop_index(name).await {
        Err(error)
            if server_error_code(&error)
                .is_some_and(|code| [NAMESPACE_NOT_FOUND, INDEX_NOT_FOUND].contains(&code)) =>
        {
            Ok(())
        }
        result => result,
    }
}
