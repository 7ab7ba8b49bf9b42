//! Reads, from the primary. Each returns only what a majority of the members has.

mod accounts;
mod carts;
mod catalog;
mod idempotency;
mod mails;
mod orders;
mod outbox;
mod rules;
mod snapshot;
mod staff;

use mongodb::{
    Database,
    bson::{Document, RawDocument, RawDocumentBuf, doc},
};

pub(super) use self::{
    accounts::{
        find_address_book, find_emails, find_session, find_user, find_user_by_email,
        greatest_password_hash, has_admin, list_active_sessions, list_sessions_revoked_since,
        list_special_rights, list_stale_sessions, list_users,
    },
    carts::{find_cart, list_idle_carts},
    catalog::{
        find_product, find_products_by_id, find_products_by_sku, list_movements, list_products,
    },
    idempotency::{find_stored_reply, is_in_inbox, stored_reply_usage},
    mails::list_due_mails,
    orders::{
        count_due_payments, find_order, find_order_by_intent, list_due_payments, list_orders,
        list_overdue_orders, list_unfinished_orders, move_payment_due, order_from_document,
        orders_with_key, unfinished_orders_with,
    },
    outbox::{
        linearizable_outbox_heads, list_changes_after, list_events_after, mark_published,
        outbox_heads, probe_write, published_cursor, read_partitions, read_published_cursor,
    },
    rules::{count_buyer_uses, find_pricing_rule, list_pricing_rules, list_promotion_uses},
    snapshot::SnapshotReader,
    staff::{find_api_key, list_actions, list_api_keys, record_api_key_uses},
};
use super::{
    documents::{DocumentError, ForEach},
    schema::META,
    transaction_error,
};

/// The reason that a read failed, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct ReadError(String);

impl From<mongodb::error::Error> for ReadError {
    fn from(error: mongodb::error::Error) -> Self {
        Self(transaction_error::one_line_message(&error))
    }
}

impl From<DocumentError> for ReadError {
    fn from(error: DocumentError) -> Self {
        Self(format!("invalid document: {error}"))
    }
}

impl From<mongodb::bson::error::Error> for ReadError {
    fn from(error: mongodb::bson::error::Error) -> Self {
        DocumentError::from(error).into()
    }
}

pub(super) type ReadResult<T> = Result<T, ReadError>;

/// A query for several documents. Without a limit it finds all.
#[derive(Default)]
pub(super) struct ListQuery {
    pub(super) filter: Document,
    pub(super) sort: Option<Document>,
    pub(super) projection: Option<Document>,
    pub(super) skip: u32,
    pub(super) limit: Option<u32>,
}

pub(super) async fn find_one<T>(
    database: &Database,
    collection: &str,
    filter: Document,
    convert: impl FnOnce(&RawDocument) -> Result<T, DocumentError>,
) -> ReadResult<Option<T>> {
    let found = database.collection::<RawDocumentBuf>(collection).find_one(filter).await?;
    Ok(found.map(|document| convert(&document)).transpose()?)
}

pub(super) async fn find_many<T: Send>(
    database: &Database,
    collection: &str,
    query: ListQuery,
    mut convert: impl FnMut(&RawDocument) -> Result<T, DocumentError> + Send,
) -> ReadResult<Vec<T>> {
    let mut found = Vec::new();
    let mut each = |document: &RawDocument| {
        found.push(convert(document)?);
        Ok(())
    };
    find_each(database, collection, query, &mut each).await?;
    Ok(found)
}

async fn find_each(
    database: &Database,
    collection: &str,
    query: ListQuery,
    each: &mut ForEach<'_>,
) -> ReadResult<()> {
    if query.limit == Some(0) {
        // To the server, 0 means no limit.
        return Ok(());
    }
    let collection = database.collection::<RawDocumentBuf>(collection);
    let mut find = collection.find(query.filter).batch_size(10_000);
    if let Some(sort) = query.sort {
        find = find.sort(sort);
    }
    if let Some(projection) = query.projection {
        find = find.projection(projection);
    }
    if query.skip > 0 {
        find = find.skip(u64::from(query.skip));
    }
    if let Some(limit) = query.limit {
        find = find.limit(i64::from(limit));
    }
    let mut cursor = find.await?;
    while cursor.advance().await? {
        each(cursor.current())?;
    }
    Ok(())
}

pub(super) async fn ping(database: Database) -> ReadResult<()> {
    find_one(&database, META, doc! {}, |_| Ok(())).await.map(drop)
}

/// BSON has no unsigned integers. No stored position or sequence exceeds [`i64::MAX`].
fn clamp_to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
