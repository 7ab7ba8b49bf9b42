//! The trait [`OrderIdStore`]: a document for each worker number.
//!
//! A node takes any worker number whose leases have ended by its own clock, and the document is
//! changed only if that is still so. So leases of a worker number follow each other, also when
//! clocks differ or are set back: then a node finds another number, or adds one.

use async_trait::async_trait;
use mongodb::{
    Collection, Database,
    bson::{DateTime, Uuid as BsonUuid, doc},
};
use serde::{Deserialize, Serialize};

use super::{
    MongoStore,
    documents::{id_from_bson, timestamp_to_bson},
    read::ReadResult,
    schema::{ORDER_ID_WORKERS as WORKERS, ORDERS},
    transaction_error::server_error_code,
};
use crate::{
    domain::{
        clock::Timestamp,
        ids::OrderId,
        order::{ORDER_ID_WORKERS, OrderIdLease},
    },
    store::{OrderIdStore, StoreUnavailable},
};

/// A worker number as stored in `order_id_workers`.
#[derive(Serialize, Deserialize)]
struct WorkerDocument {
    #[serde(rename = "_id")]
    worker: u64,
    /// The end of its last lease.
    until: DateTime,
}

#[derive(Deserialize)]
struct OrderIdDocument {
    #[serde(rename = "_id")]
    order_id: BsonUuid,
}

#[async_trait]
impl OrderIdStore for MongoStore {
    async fn lease_order_ids(&self, from: Timestamp) -> Result<OrderIdLease, StoreUnavailable> {
        let lease = self.run_update(move |database| lease_order_ids(database, from)).await?;
        lease.ok_or_else(|| {
            tracing::error!(
                most = ORDER_ID_WORKERS,
                "no order can be placed: all worker numbers for order ids are taken; they become \
                 free ten minutes after nodes have stopped"
            );
            StoreUnavailable
        })
    }
}

/// `None` if every worker number has a lease.
async fn lease_order_ids(database: Database, from: Timestamp) -> ReadResult<Option<OrderIdLease>> {
    let workers = database.collection::<WorkerDocument>(WORKERS);
    loop {
        let until = OrderIdLease::starting_at(0, from).until;
        let free = doc! { "until": { "$lte": timestamp_to_bson(from) } };
        let taken = doc! { "$set": { "until": timestamp_to_bson(until) } };
        // A majority confirms it, so no failover takes it back.
        let found = workers.find_one_and_update(free, taken).sort(doc! { "_id": 1 }).await?;
        if let Some(found) = found {
            return Ok(Some(OrderIdLease { worker: found.worker, from, until }));
        }
        let newest = workers.find_one(doc! {}).sort(doc! { "_id": -1 }).await?;
        let worker = newest.map_or(0, |newest| newest.worker + 1);
        if worker >= ORDER_ID_WORKERS {
            return Ok(None);
        }
        // Orders from before there were leases have any bits. They are older than all leases.
        let from =
            newest_order_id(&database).await?.map_or(from, |id| from.max(id.next_millisecond()));
        let lease = OrderIdLease::starting_at(worker, from);
        if add_worker(&workers, lease).await? {
            return Ok(Some(lease));
        }
    }
}

/// Adds a worker number with its first lease. Returns whether no other node has just done so.
async fn add_worker(workers: &Collection<WorkerDocument>, lease: OrderIdLease) -> ReadResult<bool> {
    const DUPLICATE_KEY: i32 = 11000;
    let document = WorkerDocument { worker: lease.worker, until: timestamp_to_bson(lease.until) };
    match workers.insert_one(document).await {
        Ok(_) => Ok(true),
        Err(error) if server_error_code(&error) == Some(DUPLICATE_KEY) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn newest_order_id(database: &Database) -> ReadResult<Option<OrderId>> {
    let newest = database
        .collection::<OrderIdDocument>(ORDERS)
        .find_one(doc! {})
        .sort(doc! { "_id": -1 })
        .projection(doc! { "_id": 1 })
        .await?;
    Ok(newest.map(|order| id_from_bson(order.order_id)))
}
