//! Reads: each from what a majority has, on the primary.

use std::{collections::HashMap, time::Duration};

use mongodb::{
    Database,
    bson::{Document, RawDocumentBuf, Uuid as Id, doc},
};
use serde::Deserialize;

use super::{
    documents::{
        CartDocument, EventsDocument, KeyDocument, KeyName, MovementDocument, OrderDocument,
        ProductDocument, SessionDocument, StockDocument, Unfit, UserDocument, date, hour, id, own,
        raw,
    },
    failure,
    load::read,
    schema::{
        CARTS, COUNTERS, INBOX, KEYS, META, MOVEMENTS, NODES, ORDERS, OUTBOX, PRODUCTS, PUBLISHED,
        SESSIONS, STOCK, USERS,
    },
};
use crate::{
    domain::{
        account::{Email, Session, User},
        cart::{Cart, Owner},
        catalog::product::Product,
        clock::Timestamp,
        ids::{EventId, OrderId, ProductId, SessionId, UserId},
        inventory::{Movement, StockLevel},
        order::{Order, OrderStatus},
    },
    events::Published,
    messages::change::{IdempotencyKey, Remembered},
};

/// Why a read failed, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct ReadError(String);

impl From<mongodb::error::Error> for ReadError {
    fn from(error: mongodb::error::Error) -> Self {
        Self(failure::brief(&error))
    }
}

impl From<Unfit> for ReadError {
    fn from(unfit: Unfit) -> Self {
        Self(format!("a document cannot be read: {unfit}"))
    }
}

impl From<mongodb::bson::error::Error> for ReadError {
    fn from(error: mongodb::bson::error::Error) -> Self {
        Unfit::from(error).into()
    }
}

/// How many documents of events are asked for at a time. Each may have hundreds.
const EVENTS_DOCUMENTS: u32 = 16;

/// Events of one document were made within this time of each other.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);

pub(super) type Read<T> = Result<T, ReadError>;

/// How a list is asked for.
#[derive(Default)]
struct List {
    filter: Document,
    sort: Option<Document>,
    fields: Option<Document>,
    limit: Option<u32>,
}

async fn one<T>(
    database: &Database,
    collection: &str,
    filter: Document,
    take: impl FnOnce(&RawDocumentBuf) -> Result<T, Unfit>,
) -> Read<Option<T>> {
    let found = database.collection::<RawDocumentBuf>(collection).find_one(filter).await?;
    Ok(found.as_ref().map(take).transpose()?)
}

async fn many<T>(
    database: &Database,
    collection: &str,
    list: List,
    take: impl Fn(&mongodb::bson::RawDocument) -> Result<T, Unfit>,
) -> Read<Vec<T>> {
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
    if let Some(fields) = list.fields {
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

pub(super) async fn cart(database: Database, owner: UserId) -> Read<Option<Cart>> {
    let cart = |document: &RawDocumentBuf| read::<CartDocument<'_>>(document)?.try_into();
    one(&database, CARTS, doc! { "_id": id(owner.as_uuid()) }, cart).await
}

pub(super) async fn carts_untouched_since(
    database: Database,
    before: Timestamp,
    limit: u32,
) -> Read<Vec<Owner>> {
    #[derive(Deserialize)]
    struct Left {
        #[serde(rename = "_id")]
        owner_id: Id,
        guest: bool,
    }
    let filter =
        doc! { "lying_since": { "$lte": hour(before) }, "updated_at": { "$lt": date(before) } };
    let fields = Some(doc! { "guest": 1 });
    let list = List { filter, sort: Some(doc! { "lying_since": 1 }), fields, limit: Some(limit) };
    many(&database, CARTS, list, |document| {
        let Left { owner_id, guest } = read(document)?;
        Ok(Owner { id: own(owner_id), guest })
    })
    .await
}

async fn with_stock(
    database: &Database,
    products: Vec<Product>,
) -> Read<Vec<(Product, StockLevel)>> {
    let ids: Vec<Id> = products.iter().map(|product| id(product.id.as_uuid())).collect();
    let mut levels = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(1000) {
        let list = List { filter: doc! { "_id": { "$in": ids } }, ..List::default() };
        let stock = |document: &mongodb::bson::RawDocument| {
            Ok(StockLevel::from(read::<StockDocument>(document)?))
        };
        levels.extend(
            many(database, STOCK, list, stock)
                .await?
                .into_iter()
                .map(|level| (level.product_id, level)),
        );
    }
    let level = |product: &Product| {
        levels.get(&product.id).copied().unwrap_or(StockLevel::none(product.id))
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
) -> Read<Vec<(Product, StockLevel)>> {
    let mut filter = doc! { "deleted": false };
    if let Some(after) = after {
        filter.insert("_id", doc! { "$gt": id(after.as_uuid()) });
    }
    let list = List { filter, sort: Some(doc! { "_id": 1 }), fields: None, limit: Some(limit) };
    let found =
        many(&database, PRODUCTS, list, |document| read::<ProductDocument>(document)?.try_into())
            .await?;
    with_stock(&database, found).await
}

pub(super) async fn product(
    database: Database,
    product_id: ProductId,
) -> Read<Option<(Product, StockLevel)>> {
    let product = |document: &RawDocumentBuf| read::<ProductDocument>(document)?.try_into();
    let Some(found) =
        one(&database, PRODUCTS, doc! { "_id": id(product_id.as_uuid()) }, product).await?
    else {
        return Ok(None);
    };
    Ok(with_stock(&database, vec![found]).await?.pop())
}

pub(super) async fn products_by_id(
    database: Database,
    products: Vec<ProductId>,
) -> Read<Vec<(Product, StockLevel)>> {
    let ids: Vec<Id> = products.into_iter().map(|product| id(product.as_uuid())).collect();
    let list = List { filter: doc! { "_id": { "$in": ids } }, ..List::default() };
    let found =
        many(&database, PRODUCTS, list, |document| read::<ProductDocument>(document)?.try_into())
            .await?;
    with_stock(&database, found).await
}

pub(super) async fn movements(
    database: Database,
    product: ProductId,
    before: Option<u64>,
    limit: u32,
) -> Read<Vec<Movement>> {
    let name = |sequence: i64| doc! { "product_id": id(product.as_uuid()), "sequence": sequence };
    let filter = doc! { "_id": { "$gt": name(0), "$lt": name(before.map_or(i64::MAX, clamped)) } };
    let list = List { filter, sort: Some(doc! { "_id": -1 }), fields: None, limit: Some(limit) };
    many(&database, MOVEMENTS, list, |document| read::<MovementDocument>(document)?.try_into())
        .await
}

pub(super) fn order_of(document: &mongodb::bson::RawDocument) -> Result<Order, Unfit> {
    read::<OrderDocument<'_>>(document)?.try_into()
}

pub(super) async fn order(database: Database, order: OrderId) -> Read<Option<Order>> {
    one(&database, ORDERS, doc! { "_id": id(order.as_uuid()) }, |document| order_of(document)).await
}

pub(super) async fn orders(
    database: Database,
    of: Option<UserId>,
    before: Option<OrderId>,
    limit: u32,
) -> Read<Vec<Order>> {
    let mut filter = Document::new();
    if let Some(user) = of {
        filter.insert("user_id", id(user.as_uuid()));
    }
    if let Some(before) = before {
        filter.insert("_id", doc! { "$lt": id(before.as_uuid()) });
    }
    let list = List { filter, sort: Some(doc! { "_id": -1 }), fields: None, limit: Some(limit) };
    many(&database, ORDERS, list, order_of).await
}

pub(super) async fn orders_due(
    database: Database,
    now: Timestamp,
    after: Option<(Timestamp, OrderId)>,
    limit: u32,
) -> Read<Vec<Order>> {
    let mut filter = doc! { "status": OrderStatus::PendingPayment.as_str(), "expires_at": { "$lte": date(now) } };
    if let Some((time, order)) = after {
        let next = doc! { "expires_at": date(time), "_id": { "$gt": id(order.as_uuid()) } };
        filter.insert("$or", [doc! { "expires_at": { "$gt": date(time) } }, next]);
    }
    let orders = database.collection::<RawDocumentBuf>(ORDERS);
    let (wanted, mut found) = (usize::try_from(limit).unwrap_or(usize::MAX), Vec::new());
    let mut cursor = orders
        .find(filter)
        .sort(doc! { "expires_at": 1, "_id": 1 })
        .batch_size(limit.clamp(1, 10_000))
        .await?;
    while found.len() < wanted && cursor.advance().await? {
        match order_of(cursor.current()) {
            Ok(order) => found.push(order),
            Err(unfit) => {
                let order = cursor.current().get("_id").ok().flatten();
                tracing::error!(?order, %unfit, "an order cannot be read, and cannot be ended");
            }
        }
    }
    Ok(found)
}

pub(super) async fn user(database: Database, user: UserId) -> Read<Option<User>> {
    one(&database, USERS, doc! { "_id": id(user.as_uuid()) }, |document| {
        read::<UserDocument>(document)?.try_into()
    })
    .await
}

pub(super) async fn user_by_email(database: Database, email: Email) -> Read<Option<User>> {
    one(&database, USERS, doc! { "email": email.as_str() }, |document| {
        read::<UserDocument>(document)?.try_into()
    })
    .await
}

pub(super) async fn has_admin(database: Database) -> Read<bool> {
    Ok(one(&database, USERS, doc! { "role": "admin" }, |_| Ok(())).await?.is_some())
}

pub(super) async fn session(database: Database, session: SessionId) -> Read<Option<Session>> {
    let filter = doc! { "_id": id(session.as_uuid()) };
    one(&database, SESSIONS, filter, |document| read::<SessionDocument>(document)?.try_into()).await
}

pub(super) async fn live_sessions(
    database: Database,
    user: UserId,
    now: Timestamp,
) -> Read<Vec<Session>> {
    let filter = doc! { "user_id": id(user.as_uuid()), "expires_at": { "$gt": date(now) }, "revoked_at": null };
    let list = List { filter, sort: Some(doc! { "_id": 1 }), ..List::default() };
    many(&database, SESSIONS, list, |document| read::<SessionDocument>(document)?.try_into()).await
}

pub(super) async fn revoked_since(database: Database, since: Timestamp) -> Read<Vec<SessionId>> {
    #[derive(Deserialize)]
    struct Revoked {
        #[serde(rename = "_id")]
        id: Id,
    }
    let filter = doc! { "revoked_at": { "$gte": date(since) } };
    let list = List {
        filter,
        sort: Some(doc! { "revoked_at": 1 }),
        fields: Some(doc! { "_id": 1 }),
        limit: None,
    };
    many(&database, SESSIONS, list, |document| Ok(own(read::<Revoked>(document)?.id))).await
}

/// What is remembered for `key`, unless it was at `forgotten` or before.
pub(super) async fn remembered(
    database: Database,
    key: IdempotencyKey,
    forgotten: Timestamp,
) -> Read<Option<([u8; 32], Remembered)>> {
    let filter = doc! { "_id": Document::try_from(raw(&KeyName::of(&key))?)?, "at": { "$gt": date(forgotten) } };
    one(&database, KEYS, filter, |document| read::<KeyDocument<'_>>(document)?.answer()).await
}

pub(super) async fn is_in_inbox(database: Database, id: String) -> Read<bool> {
    Ok(one(&database, INBOX, doc! { "_id": id }, |_| Ok(())).await?.is_some())
}

pub(super) async fn events_after(
    database: Database,
    position: u64,
    limit: u32,
) -> Read<Vec<Published>> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let outbox = database.collection::<RawDocumentBuf>(OUTBOX);
    let find = outbox
        .find(doc! { "_id": { "$gt": clamped(position) } })
        .sort(doc! { "_id": 1 })
        .batch_size(EVENTS_DOCUMENTS);
    let mut cursor = find.await?;
    while found.len() < limit && cursor.advance().await? {
        let events = read::<EventsDocument<'_>>(cursor.current())?.published()?;
        found.extend(events.into_iter().filter(|event| event.position > position));
    }
    found.truncate(limit);
    Ok(found)
}

pub(super) async fn event_position(database: Database, event: EventId) -> Read<Option<u64>> {
    // Those that were written together were made within that time, each later than the one before.
    let earliest = EventId::earliest(event.made_at().minus(WRITTEN_WITHIN));
    let made = doc! { "$lte": id(event.as_uuid()), "$gte": id(earliest.as_uuid()) };
    let filter = doc! { "first_id": made, "events.id": id(event.as_uuid()) };
    let list = List { filter, sort: Some(doc! { "first_id": -1 }), fields: None, limit: Some(1) };
    let together =
        many(&database, OUTBOX, list, |document| read::<EventsDocument<'_>>(document)?.published())
            .await?;
    Ok(together.into_iter().flatten().find(|found| found.id == event).map(|found| found.position))
}

pub(super) async fn last_position(database: Database) -> Read<u64> {
    counted(&database, OUTBOX).await
}

/// A member that leads no longer, and was not told yet, still answers a majority read with what it has. It cannot have a write confirmed
/// by a majority. (A linearizable read does that too, but waits for the server's next turn to write its journal: 100 ms, against 1 ms.)
pub(super) async fn confirmed_position(database: Database, node: Id) -> Read<u64> {
    // Also when the others took it for dead: an update of nothing would confirm nothing.
    let asked = doc! { "$inc": { "asked": 1_i64 } };
    database
        .collection::<Document>(NODES)
        .update_one(doc! { "_id": node }, asked)
        .upsert(true)
        .await?;
    counted(&database, OUTBOX).await
}

pub(super) async fn published_up_to(database: Database) -> Read<u64> {
    counted(&database, PUBLISHED).await
}

async fn counted(database: &Database, name: &str) -> Read<u64> {
    #[derive(Deserialize)]
    struct Counter {
        last: u64,
    }
    let counter =
        one(database, COUNTERS, doc! { "_id": name }, |document| read::<Counter>(document)).await?;
    Ok(counter.map_or(0, |counter| counter.last))
}

/// Written outside of the writer's transactions: whoever is late with it changes nothing.
pub(super) async fn note_published(database: Database, position: u64) -> Read<()> {
    let counters = database.collection::<Document>(COUNTERS);
    let later = doc! { "$max": { "last": clamped(position) } };
    counters.update_one(doc! { "_id": PUBLISHED }, later).upsert(true).await?;
    Ok(())
}

pub(super) async fn ping(database: Database) -> Read<()> {
    one(&database, META, doc! {}, |_| Ok(())).await.map(drop)
}

/// Everything beyond the largest integer there is, is as far out as the largest.
fn clamped(place: u64) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}
