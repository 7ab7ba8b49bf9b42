//! Reads: each from what a majority has, on the primary.

use std::collections::HashMap;

use mongodb::{
    Database,
    bson::{Document, RawDocumentBuf, Uuid as Id, doc},
};
use serde::Deserialize;

use super::{
    documents::{
        CartDocument, EventDocument, KeyDocument, KeyName, MovementDocument, ProductDocument, SessionDocument, StockDocument,
        Unfit, UserDocument, date, id, own, raw,
    },
    failure,
    load::read,
    schema::{CARTS, COUNTERS, KEYS, META, MOVEMENTS, OUTBOX, PRODUCTS, SESSIONS, STOCK, USERS},
};
use crate::{
    domain::{
        account::{Email, Session, User},
        cart::{Cart, Owner},
        clock::Timestamp,
        ids::{EventId, ProductId, SessionId, UserId},
        product::Product,
        stock::{Movement, StockLevel},
    },
    messages::{
        change::{IdempotencyKey, Remembered},
        events::Published,
    },
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

type Read<T> = Result<T, ReadError>;

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

pub(super) async fn carts_untouched_since(database: Database, before: Timestamp, limit: u32) -> Read<Vec<Owner>> {
    #[derive(Deserialize)]
    struct Left {
        #[serde(rename = "_id")]
        owner_id: Id,
        guest: bool,
    }
    let filter =
        doc! { "lines.0": { "$exists": true }, "abandoned": false, "merged_into": null, "updated_at": { "$lt": date(before) } };
    let fields = Some(doc! { "guest": 1 });
    let list = List { filter, sort: Some(doc! { "updated_at": 1 }), fields, limit: Some(limit) };
    many(&database, CARTS, list, |document| {
        let Left { owner_id, guest } = read(document)?;
        Ok(Owner { id: own(owner_id), guest })
    })
    .await
}

async fn with_stock(database: &Database, products: Vec<Product>) -> Read<Vec<(Product, StockLevel)>> {
    let ids: Vec<Id> = products.iter().map(|product| id(product.id.as_uuid())).collect();
    let mut levels = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(1000) {
        let list = List { filter: doc! { "_id": { "$in": ids } }, ..List::default() };
        let stock = |document: &mongodb::bson::RawDocument| Ok(StockLevel::from(read::<StockDocument>(document)?));
        levels.extend(many(database, STOCK, list, stock).await?.into_iter().map(|level| (level.product_id, level)));
    }
    let level = |product: &Product| levels.get(&product.id).copied().unwrap_or(StockLevel::none(product.id));
    Ok(products.into_iter().map(|product| (level(&product), product)).map(|(level, product)| (product, level)).collect())
}

pub(super) async fn products(database: Database, after: Option<ProductId>, limit: u32) -> Read<Vec<(Product, StockLevel)>> {
    let mut filter = doc! { "deleted": false };
    if let Some(after) = after {
        filter.insert("_id", doc! { "$gt": id(after.as_uuid()) });
    }
    let list = List { filter, sort: Some(doc! { "_id": 1 }), fields: None, limit: Some(limit) };
    let found = many(&database, PRODUCTS, list, |document| read::<ProductDocument>(document)?.try_into()).await?;
    with_stock(&database, found).await
}

pub(super) async fn product(database: Database, product_id: ProductId) -> Read<Option<(Product, StockLevel)>> {
    let product = |document: &RawDocumentBuf| read::<ProductDocument>(document)?.try_into();
    let Some(found) = one(&database, PRODUCTS, doc! { "_id": id(product_id.as_uuid()) }, product).await? else {
        return Ok(None);
    };
    Ok(with_stock(&database, vec![found]).await?.pop())
}

pub(super) async fn movements(database: Database, product: ProductId, before: Option<u64>, limit: u32) -> Read<Vec<Movement>> {
    let before = before.map_or(i64::MAX, clamped);
    let filter = doc! { "product_id": id(product.as_uuid()), "sequence": { "$lt": before } };
    let list = List { filter, sort: Some(doc! { "sequence": -1 }), fields: None, limit: Some(limit) };
    many(&database, MOVEMENTS, list, |document| read::<MovementDocument>(document)?.try_into()).await
}

pub(super) async fn user(database: Database, user: UserId) -> Read<Option<User>> {
    one(&database, USERS, doc! { "_id": id(user.as_uuid()) }, |document| read::<UserDocument>(document)?.try_into()).await
}

pub(super) async fn user_by_email(database: Database, email: Email) -> Read<Option<User>> {
    one(&database, USERS, doc! { "email": email.as_str() }, |document| read::<UserDocument>(document)?.try_into()).await
}

pub(super) async fn has_admin(database: Database) -> Read<bool> {
    Ok(one(&database, USERS, doc! { "role": "admin" }, |_| Ok(())).await?.is_some())
}

pub(super) async fn session(database: Database, session: SessionId) -> Read<Option<Session>> {
    let filter = doc! { "_id": id(session.as_uuid()) };
    one(&database, SESSIONS, filter, |document| read::<SessionDocument>(document)?.try_into()).await
}

pub(super) async fn live_sessions(database: Database, user: UserId, now: Timestamp) -> Read<Vec<Session>> {
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
    let list = List { filter, sort: Some(doc! { "revoked_at": 1 }), fields: Some(doc! { "_id": 1 }), limit: None };
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

pub(super) async fn events_after(database: Database, position: u64, limit: u32) -> Read<Vec<Published>> {
    let filter = doc! { "_id": { "$gt": clamped(position) } };
    let list = List { filter, sort: Some(doc! { "_id": 1 }), fields: None, limit: Some(limit) };
    many(&database, OUTBOX, list, |document| read::<EventDocument<'_>>(document)?.try_into()).await
}

pub(super) async fn event_position(database: Database, event: EventId) -> Read<Option<u64>> {
    let position = |document: &RawDocumentBuf| read::<EventDocument<'_>>(document).map(|event| event.position());
    one(&database, OUTBOX, doc! { "id": id(event.as_uuid()) }, position).await
}

pub(super) async fn last_position(database: Database) -> Read<u64> {
    #[derive(Deserialize)]
    struct Counter {
        last: u64,
    }
    let counter = one(&database, COUNTERS, doc! { "_id": OUTBOX }, |document| read::<Counter>(document)).await?;
    Ok(counter.map_or(0, |counter| counter.last))
}

pub(super) async fn ping(database: Database) -> Read<()> {
    one(&database, META, doc! {}, |_| Ok(())).await.map(drop)
}

/// Everything beyond the largest integer there is, is as far out as the largest.
fn clamped(place: u64) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}
