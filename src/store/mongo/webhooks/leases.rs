//! Which node delivers to which shard of the endpoints.
//!
//! Each shard has a document with the node that has it and the end of its lease, and each node that
//! delivers has one that says until when it counts. All times are the server's.

use std::time::Duration;

use mongodb::{
    Collection, Database,
    bson::{Bson, Document, Uuid as BsonUuid, doc},
    error::Result,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::store::{
    mongo::{documents::id_to_bson, read::ReadResult, schema::WEBHOOK_LEASES},
    webhook_store::{WEBHOOK_SHARDS, WebhookLeases},
};

/// A shard's lease.
#[derive(Deserialize)]
struct Lease {
    #[serde(rename = "_id")]
    shard: u32,
    node: Option<BsonUuid>,
    is_active: bool,
}

/// Creates the documents of the shards, if there are none.
pub(in crate::store::mongo) async fn create_leases(database: &Database) -> Result<()> {
    let leases = database.collection::<Document>(WEBHOOK_LEASES);
    for shard in 0..WEBHOOK_SHARDS {
        let free = doc! { "$setOnInsert": { "node": null, "until": null } };
        leases.update_one(doc! { "_id": i64::from(shard) }, free).upsert(true).await?;
    }
    Ok(())
}

fn is_share() -> Bson {
    doc! { "$type": "number" }.into()
}

/// Whether a lease has not ended, as an expression.
fn is_active() -> Document {
    doc! { "$gt": ["$until", "$$NOW"] }
}

/// See [`WebhookStore::renew_webhook_leases`](crate::store::WebhookStore::renew_webhook_leases).
pub(super) async fn renew(
    database: Database,
    node: Uuid,
    lifetime: Duration,
) -> ReadResult<WebhookLeases> {
    let leases = database.collection::<Document>(WEBHOOK_LEASES);
    let node = id_to_bson(node);
    let millis = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
    let until = doc! { "until": { "$add": ["$$NOW", millis] } };
    let renewal = vec![doc! { "$set": until.clone() }];
    leases.update_one(worker(node), renewal.clone()).upsert(true).await?;
    leases.update_many(doc! { "_id": is_share(), "node": node }, renewal).await?;
    let nodes = count_nodes(&leases).await?;
    let fair_share = usize::try_from(WEBHOOK_SHARDS).unwrap_or(1).div_ceil(nodes.max(1));
    let found = list_leases(&leases).await?;
    let mut shards: Vec<u32> =
        found.iter().filter(|lease| lease.node == Some(node)).map(|lease| lease.shard).collect();
    let mut claim = until;
    claim.insert("node", node);
    for free in found.iter().filter(|lease| lease.node != Some(node) && !lease.is_active) {
        if shards.len() >= fair_share {
            break;
        }
        let filter = doc! { "_id": i64::from(free.shard), "$expr": { "$not": [is_active()] } };
        let claimed = leases.update_one(filter, vec![doc! { "$set": claim.clone() }]).await?;
        if claimed.modified_count > 0 {
            shards.push(free.shard);
        }
    }
    Ok(WebhookLeases { shards, fair_share })
}

/// Frees shards. A node that frees all of them no longer counts.
pub(super) async fn release(database: Database, node: Uuid, shards: Vec<u32>) -> ReadResult<()> {
    let leases = database.collection::<Document>(WEBHOOK_LEASES);
    let node = id_to_bson(node);
    let count = shards.len();
    let ids: Vec<i64> = shards.into_iter().map(i64::from).collect();
    let mine = doc! { "_id": { "$in": ids }, "node": node };
    leases.update_many(mine, doc! { "$set": { "node": null, "until": null } }).await?;
    if u32::try_from(count).is_ok_and(|count| count >= WEBHOOK_SHARDS) {
        leases.delete_one(worker(node)).await?;
    }
    Ok(())
}

fn worker(node: BsonUuid) -> Document {
    doc! { "_id": { "worker": node } }
}

/// How many nodes deliver. Those that have stopped are removed when they are long gone.
async fn count_nodes(leases: &Collection<Document>) -> ReadResult<usize> {
    let gone = doc! { "$expr": { "$lt": ["$until", { "$subtract": ["$$NOW", 60_000_i64] }] } };
    let mut filter = doc! { "_id": { "$type": "object" } };
    filter.extend(gone);
    leases.delete_many(filter).await?;
    let filter = doc! { "_id": { "$type": "object" }, "$expr": is_active() };
    let count = leases.count_documents(filter).await?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

async fn list_leases(leases: &Collection<Document>) -> ReadResult<Vec<Lease>> {
    let mut cursor = leases
        .aggregate([
            doc! { "$match": { "_id": is_share() } },
            doc! { "$project": { "node": 1, "is_active": is_active() } },
            doc! { "$sort": { "_id": 1 } },
        ])
        .with_type::<Lease>()
        .await?;
    let mut found = Vec::new();
    while cursor.advance().await? {
        found.push(cursor.deserialize_current()?);
    }
    Ok(found)
}
