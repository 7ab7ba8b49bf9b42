//! Reads: each from what a majority has, on the primary.

use std::{collections::HashMap, time::Duration};

use mongodb::{
    Database,
    bson::{Document, RawDocumentBuf, Uuid as Id, doc},
};
use serde::Deserialize;

use super::{
    documents::{
        CartDocument, DocumentError, EventBatchDocument, IdempotencyKeyDocument, IdempotencyKeyId,
        MovementDocument, OrderDocument, ProductDocument, SessionDocument, StockDocument,
        UserDocument, id_from_bson, id_to_bson, timestamp_to_bson, to_raw_document,
        truncate_to_hour,
    },
    failure,
    load::deserialize_document,
    schema::{
        CARTS, COUNTERS, IDEMPOTENCY_KEYS, INBOX, META, MOVEMENTS, NODES, ORDERS, OUTBOX, PRODUCTS,
        PUBLISHED_COUNTER, SESSIONS, STOCK, USERS,
    },
};
use crate::{
    domain::{
        account::{Email, Session, User},
        cart::{Cart, CartOwner},
        catalog::product::Product,
        clock::Timestamp,
        ids::{EventId, OrderId, ProductId, SessionId, UserId},
        inventory::{StockLevel, StockMovement},
        order::{Order, OrderStatus},
    },
    events::OutboxEvent,
    messages::change::{IdempotencyKey, StoredReply},
};

/// Why a read failed, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct ReadError(String);

impl From<mongodb::error::Error> for ReadError {
    fn from(error: mongodb::error::Error) -> Self {
        Self(failure::one_line_message(&error))
    }
}

impl From<DocumentError> for ReadError {
    fn from(unfit: DocumentError) -> Self {
        Self(format!("a document cannot be read: {unfit}"))
    }
}

impl From<mongodb::bson::error::Error> for ReadError {
    fn from(error: mongodb::bson::error::Error) -> Self {
        DocumentError::from(error).into()
    }
}

/// How many documents of events are asked for at a time. Each may have hundreds.
const OUTBOX_CURSOR_BATCH: u32 = 16;

/// Events of one document were made within this time of each other.
const MAX_EVENT_TIME_SPREAD: Duration = Duration::from_secs(2);

pub(super) type ReadResult<T> = Result<T, ReadError>;

/// How a list is asked for.
#[derive(Default)]
struct ListQuery {
    filter: Document,
    sort: Option<Document>,
    projection: Option<Document>,
    limit: Option<u32>,
}

async fn find_one<T>(
    database: &Database,
    collection: &str,
    filter: Document,
    take: impl FnOnce(&RawDocumentBuf) -> Result<T, DocumentError>,
) -> ReadResult<Option<T>> {
    let found = database.collection::<RawDocumentBuf>(collection).find_one(filter).await?;
    Ok(found.as_ref().map(take).transpose()?)
}

async fn find_many<T>(
    database: &Database,
    collection: &str,
    list: ListQuery,
    take: impl Fn(&mongodb::bson::RawDocument) -> Result<T, DocumentError>,
) -> ReadResult<Vec<T>> {
    let mut found = Vec::new();
    if list.limit == Some(0) {
        // To the server, no limit would be meant.
        return Ok(found);
    }
    let collection = database.collection::<RawDocumentBuf>(collection);
    let mut find = collection.find(list.filter).batch_size(10_000);
    if let Some(sort) = list.sort {
        find = find.sort(sort);
    }
    if let Some(fields) = list.projection {
        find = find.projection(fields);
    }
    if let Some(limit) = list.limit {
        find = find.limit(i64::from(limit));
    }
    let mut cursor = find.await?;
    while cursor.advance().await? {
        found.push(take(cursor.current())?);
    }
    Ok(found)
}

pub(super) async fn cart(database: Database, owner: UserId) -> ReadResult<Option<Cart>> {
    let cart =
        |document: &RawDocumentBuf| deserialize_document::<CartDocument<'_>>(document)?.try_into();
    find_one(&database, CARTS, doc! { "_id": id_to_bson(owner.as_uuid()) }, cart).await
}

pub(super) async fn carts_untouched_since(
    database: Database,
    before: Timestamp,
    limit: u32,
) -> ReadResult<Vec<CartOwner>> {
    #[derive(Deserialize)]
    struct IdleCart {
        #[serde(rename = "_id")]
        owner_id: Id,
        guest: bool,
    }
    let filter = doc! { "idle_since": { "$lte": truncate_to_hour(before) }, "updated_at": { "$lt": timestamp_to_bson(before) } };
    let fields = Some(doc! { "guest": 1 });
    let list = ListQuery {
        filter,
        sort: Some(doc! { "idle_since": 1 }),
        projection: fields,
        limit: Some(limit),
    };
    find_many(&database, CARTS, list, |document| {
        let IdleCart { owner_id, guest } = deserialize_document(document)?;
        Ok(CartOwner { id: id_from_bson(owner_id), is_guest: guest })
    })
    .await
}

async fn attach_stock_levels(
    database: &Database,
    products: Vec<Product>,
) -> ReadResult<Vec<(Product, StockLevel)>> {
    let ids: Vec<Id> = products.iter().map(|product| id_to_bson(product.id.as_uuid())).collect();
    let mut levels = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(1000) {
        let list = ListQuery { filter: doc! { "_id": { "$in": ids } }, ..ListQuery::default() };
        let stock = |document: &mongodb::bson::RawDocument| {
            Ok(StockLevel::from(deserialize_document::<StockDocument>(document)?))
        };
        levels.extend(
            find_many(database, STOCK, list, stock)
                .await?
                .into_iter()
                .map(|level| (level.product_id, level)),
        );
    }
    let level = |product: &Product| {
        levels.get(&product.id).copied().unwrap_or(StockLevel::empty(product.id))
    };
    Ok(products
        .into_iter()
        .map(|product| (level(&product), product))
        .map(|(level, product)| (product, level))
        .collect())
}

pub(super) async fn products(
    database: Database,
    after: Option<ProductId>,
    limit: u32,
) -> ReadResult<Vec<(Product, StockLevel)>> {
    let mut filter = doc! { "deleted": false };
    if let Some(after) = after {
        filter.insert("_id", doc! { "$gt": id_to_bson(after.as_uuid()) });
    }
    let list =
        ListQuery { filter, sort: Some(doc! { "_id": 1 }), projection: None, limit: Some(limit) };
    let found = find_many(&database, PRODUCTS, list, |document| {
        deserialize_document::<ProductDocument>(document)?.try_into()
    })
    .await?;
    attach_stock_levels(&database, found).await
}

pub(super) async fn product(
    database: Database,
    product_id: ProductId,
) -> ReadResult<Option<(Product, StockLevel)>> {
    let product =
        |document: &RawDocumentBuf| deserialize_document::<ProductDocument>(document)?.try_into();
    let Some(found) =
        find_one(&database, PRODUCTS, doc! { "_id": id_to_bson(product_id.as_uuid()) }, product)
            .await?
    else {
        return Ok(None);
    };
    Ok(attach_stock_levels(&database, vec![found]).await?.pop())
}

pub(super) async fn find_products_by_id(
    database: Database,
    products: Vec<ProductId>,
) -> ReadResult<Vec<(Product, StockLevel)>> {
    let ids: Vec<Id> = products.into_iter().map(|product| id_to_bson(product.as_uuid())).collect();
    let list = ListQuery { filter: doc! { "_id": { "$in": ids } }, ..ListQuery::default() };
    let found = find_many(&database, PRODUCTS, list, |document| {
        deserialize_document::<ProductDocument>(document)?.try_into()
    })
    .await?;
    attach_stock_levels(&database, found).await
}

pub(super) async fn movements(
    database: Database,
    product: ProductId,
    before: Option<u64>,
    limit: u32,
) -> ReadResult<Vec<StockMovement>> {
    let name =
        |sequence: i64| doc! { "product_id": id_to_bson(product.as_uuid()), "sequence": sequence };
    let filter =
        doc! { "_id": { "$gt": name(0), "$lt": name(before.map_or(i64::MAX, clamp_to_i64)) } };
    let list =
        ListQuery { filter, sort: Some(doc! { "_id": -1 }), projection: None, limit: Some(limit) };
    find_many(&database, MOVEMENTS, list, |document| {
        deserialize_document::<MovementDocument>(document)?.try_into()
    })
    .await
}

pub(super) fn order_from_document(
    document: &mongodb::bson::RawDocument,
) -> Result<Order, DocumentError> {
    deserialize_document::<OrderDocument<'_>>(document)?.try_into()
}

pub(super) async fn order(database: Database, order: OrderId) -> ReadResult<Option<Order>> {
    find_one(&database, ORDERS, doc! { "_id": id_to_bson(order.as_uuid()) }, |document| {
        order_from_document(document)
    })
    .await
}

pub(super) async fn orders(
    database: Database,
    of: Option<UserId>,
    before: Option<OrderId>,
    limit: u32,
) -> ReadResult<Vec<Order>> {
    let mut filter = Document::new();
    if let Some(user) = of {
        filter.insert("user_id", id_to_bson(user.as_uuid()));
    }
    if let Some(before) = before {
        filter.insert("_id", doc! { "$lt": id_to_bson(before.as_uuid()) });
    }
    let list =
        ListQuery { filter, sort: Some(doc! { "_id": -1 }), projection: None, limit: Some(limit) };
    find_many(&database, ORDERS, list, order_from_document).await
}

pub(super) async fn orders_due(
    database: Database,
    now: Timestamp,
    after: Option<(Timestamp, OrderId)>,
    limit: u32,
) -> ReadResult<Vec<Order>> {
    let mut filter = doc! { "status": OrderStatus::PendingPayment.as_str(), "expires_at": { "$lte": timestamp_to_bson(now) } };
    if let Some((time, order)) = after {
        let next = doc! { "expires_at": timestamp_to_bson(time), "_id": { "$gt": id_to_bson(order.as_uuid()) } };
        filter.insert("$or", [doc! { "expires_at": { "$gt": timestamp_to_bson(time) } }, next]);
    }
    let orders = database.collection::<RawDocumentBuf>(ORDERS);
    let (wanted, mut found) = (usize::try_from(limit).unwrap_or(usize::MAX), Vec::new());
    let mut cursor = orders
        .find(filter)
        .sort(doc! { "expires_at": 1, "_id": 1 })
        .batch_size(limit.clamp(1, 10_000))
        .await?;
    while found.len() < wanted && cursor.advance().await? {
        match order_from_document(cursor.current()) {
            Ok(order) => found.push(order),
            Err(unfit) => {
                let order = cursor.current().get("_id").ok().flatten();
                tracing::error!(?order, %unfit, "an order cannot be read, and cannot be ended");
            }
        }
    }
    Ok(found)
}

pub(super) async fn user(database: Database, user: UserId) -> ReadResult<Option<User>> {
    find_one(&database, USERS, doc! { "_id": id_to_bson(user.as_uuid()) }, |document| {
        deserialize_document::<UserDocument>(document)?.try_into()
    })
    .await
}

pub(super) async fn user_by_email(database: Database, email: Email) -> ReadResult<Option<User>> {
    find_one(&database, USERS, doc! { "email": email.as_str() }, |document| {
        deserialize_document::<UserDocument>(document)?.try_into()
    })
    .await
}

pub(super) async fn has_admin(database: Database) -> ReadResult<bool> {
    Ok(find_one(&database, USERS, doc! { "role": "admin" }, |_| Ok(())).await?.is_some())
}

pub(super) async fn session(database: Database, session: SessionId) -> ReadResult<Option<Session>> {
    let filter = doc! { "_id": id_to_bson(session.as_uuid()) };
    find_one(&database, SESSIONS, filter, |document| {
        deserialize_document::<SessionDocument>(document)?.try_into()
    })
    .await
}

pub(super) async fn live_sessions(
    database: Database,
    user: UserId,
    now: Timestamp,
) -> ReadResult<Vec<Session>> {
    let filter = doc! { "user_id": id_to_bson(user.as_uuid()), "expires_at": { "$gt": timestamp_to_bson(now) }, "revoked_at": null };
    let list = ListQuery { filter, sort: Some(doc! { "_id": 1 }), ..ListQuery::default() };
    find_many(&database, SESSIONS, list, |document| {
        deserialize_document::<SessionDocument>(document)?.try_into()
    })
    .await
}

pub(super) async fn revoked_since(
    database: Database,
    since: Timestamp,
) -> ReadResult<Vec<SessionId>> {
    #[derive(Deserialize)]
    struct RevokedSession {
        #[serde(rename = "_id")]
        id: Id,
    }
    let filter = doc! { "revoked_at": { "$gte": timestamp_to_bson(since) } };
    let list = ListQuery {
        filter,
        sort: Some(doc! { "revoked_at": 1 }),
        projection: Some(doc! { "_id": 1 }),
        limit: None,
    };
    find_many(&database, SESSIONS, list, |document| {
        Ok(id_from_bson(deserialize_document::<RevokedSession>(document)?.id))
    })
    .await
}

/// What is remembered for `key`, unless it was at `forgotten` or before.
pub(super) async fn remembered(
    database: Database,
    key: IdempotencyKey,
    forgotten: Timestamp,
) -> ReadResult<Option<([u8; 32], StoredReply)>> {
    let filter = doc! { "_id": Document::try_from(to_raw_document(&IdempotencyKeyId::from_key(&key))?)?, "at": { "$gt": timestamp_to_bson(forgotten) } };
    find_one(&database, IDEMPOTENCY_KEYS, filter, |document| {
        deserialize_document::<IdempotencyKeyDocument<'_>>(document)?.into_response()
    })
    .await
}

pub(super) async fn is_in_inbox(database: Database, id: String) -> ReadResult<bool> {
    Ok(find_one(&database, INBOX, doc! { "_id": id }, |_| Ok(())).await?.is_some())
}

pub(super) async fn events_after(
    database: Database,
    position: u64,
    limit: u32,
) -> ReadResult<Vec<OutboxEvent>> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let outbox = database.collection::<RawDocumentBuf>(OUTBOX);
    let find = outbox
        .find(doc! { "_id": { "$gt": clamp_to_i64(position) } })
        .sort(doc! { "_id": 1 })
        .batch_size(OUTBOX_CURSOR_BATCH);
    let mut cursor = find.await?;
    while found.len() < limit && cursor.advance().await? {
        let events = deserialize_document::<EventBatchDocument<'_>>(cursor.current())?
            .into_outbox_events()?;
        found.extend(events.into_iter().filter(|event| event.position > position));
    }
    found.truncate(limit);
    Ok(found)
}

pub(super) async fn event_position(database: Database, event: EventId) -> ReadResult<Option<u64>> {
    // Those that were written together were made within that time, each later than the one before.
    let earliest = EventId::earliest_at(event.created_at().saturating_sub(MAX_EVENT_TIME_SPREAD));
    let made = doc! { "$lte": id_to_bson(event.as_uuid()), "$gte": id_to_bson(earliest.as_uuid()) };
    let filter = doc! { "first_id": made, "events.id": id_to_bson(event.as_uuid()) };
    let list =
        ListQuery { filter, sort: Some(doc! { "first_id": -1 }), projection: None, limit: Some(1) };
    let together = find_many(&database, OUTBOX, list, |document| {
        deserialize_document::<EventBatchDocument<'_>>(document)?.into_outbox_events()
    })
    .await?;
    Ok(together.into_iter().flatten().find(|found| found.id == event).map(|found| found.position))
}

pub(super) async fn last_position(database: Database) -> ReadResult<u64> {
    read_counter(&database, OUTBOX).await
}

/// A member that leads no longer, and was not told yet, still answers a majority read with what it has. It cannot have a write confirmed
/// by a majority. (A linearizable read does that too, but waits for the server's next turn to write its journal: 100 ms, against 1 ms.)
pub(super) async fn confirmed_position(database: Database, node: Id) -> ReadResult<u64> {
    // Also when the others took it for dead: an update of nothing would confirm nothing.
    let asked = doc! { "$inc": { "asked": 1_i64 } };
    database
        .collection::<Document>(NODES)
        .update_one(doc! { "_id": node }, asked)
        .upsert(true)
        .await?;
    read_counter(&database, OUTBOX).await
}

pub(super) async fn published_up_to(database: Database) -> ReadResult<u64> {
    read_counter(&database, PUBLISHED_COUNTER).await
}

async fn read_counter(database: &Database, name: &str) -> ReadResult<u64> {
    #[derive(Deserialize)]
    struct Counter {
        last: u64,
    }
    let counter = find_one(database, COUNTERS, doc! { "_id": name }, |document| {
        deserialize_document::<Counter>(document)
    })
    .await?;
    Ok(counter.map_or(0, |counter| counter.last))
}

/// Written outside of the writer's transactions: whoever is late with it changes nothing.
pub(super) async fn note_published(database: Database, position: u64) -> ReadResult<()> {
    let counters = database.collection::<Document>(COUNTERS);
    let later = doc! { "$max": { "last": clamp_to_i64(position) } };
    counters.update_one(doc! { "_id": PUBLISHED_COUNTER }, later).upsert(true).await?;
    Ok(())
}

pub(super) async fn ping(database: Database) -> ReadResult<()> {
    find_one(&database, META, doc! {}, |_| Ok(())).await.map(drop)
}

/// Everything beyond the largest integer there is, is as far out as the largest.
fn clamp_to_i64(place: u64) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}
