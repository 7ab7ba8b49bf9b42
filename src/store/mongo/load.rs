//! What a batch touches, as the transaction's snapshot holds it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::Hash,
};

use mongodb::bson::{Document, RawDocument, Uuid as Id, deserialize_from_slice, doc};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    documents::{DocumentError, IdempotencyKeyDocument, StockDocument, id_from_bson, id_to_bson},
    failure::TransactionError,
    schema::{CARTS, IDEMPOTENCY_KEYS, INBOX, ORDERS, PRODUCTS, SESSIONS, STOCK, USERS},
    transaction::Transaction,
};
use crate::{
    domain::{clock::Timestamp, inventory::StockLevel, order::OrderStatus},
    store::plan::{LoadedState, OwnedIdempotencyKey, ReadSet},
};

/// Loads what `touched` names. Keys that were first used at `forgotten` or before are told apart, since they are honoured no longer.
pub(super) async fn load(
    transaction: &mut Transaction<'_>,
    touched: &ReadSet,
    forgotten: Timestamp,
) -> Result<(LoadedState, HashSet<OwnedIdempotencyKey>), TransactionError> {
    let mut loaded = LoadedState {
        carts: load_versions(transaction, CARTS, touched.carts.iter().map(|id| id.as_uuid()))
            .await?,
        products: load_versions(
            transaction,
            PRODUCTS,
            touched.products.iter().map(|id| id.as_uuid()),
        )
        .await?,
        users: load_versions(transaction, USERS, touched.users.iter().map(|id| id.as_uuid()))
            .await?,
        sessions: load_versions(
            transaction,
            SESSIONS,
            touched.sessions.iter().map(|id| id.as_uuid()),
        )
        .await?,
        sku_owners: load_unique_field_owners(
            transaction,
            PRODUCTS,
            "sku",
            &touched.skus,
            doc! { "deleted": false },
        )
        .await?,
        email_owners: load_unique_field_owners(
            transaction,
            USERS,
            "email",
            &touched.emails,
            doc! {},
        )
        .await?,
        ..LoadedState::default()
    };
    let worn =
        load_idempotency_keys(transaction, &touched.idempotency_keys, forgotten, &mut loaded)
            .await?;
    load_orders(transaction, touched, &mut loaded).await?;
    load_inbox(transaction, &touched.inbox, &mut loaded).await?;
    load_stock_levels(transaction, touched, &mut loaded).await?;
    Ok((loaded, worn))
}

async fn load_versions<I: From<Uuid> + Eq + Hash>(
    transaction: &mut Transaction<'_>,
    collection: &str,
    ids: impl Iterator<Item = Uuid>,
) -> Result<HashMap<I, u64>, TransactionError> {
    #[derive(Deserialize)]
    struct RecordVersion {
        #[serde(rename = "_id")]
        id: Id,
        version: u64,
    }
    let ids: Vec<Id> = ids.map(id_to_bson).collect();
    let mut found = HashMap::with_capacity(ids.len());
    if ids.is_empty() {
        return Ok(found);
    }
    let note = |document: &RawDocument| {
        let RecordVersion { id, version } = deserialize_document(document)?;
        found.insert(id_from_bson(id), version);
        Ok(())
    };
    transaction
        .for_each_document(collection, doc! { "_id": { "$in": ids } }, doc! { "version": 1 }, note)
        .await?;
    Ok(found)
}

/// Who has each of these names in `field`, among the documents that `more` allows.
async fn load_unique_field_owners<I: From<Uuid>>(
    transaction: &mut Transaction<'_>,
    collection: &str,
    field: &str,
    names: &BTreeSet<String>,
    more: Document,
) -> Result<HashMap<String, I>, TransactionError> {
    #[derive(Deserialize)]
    struct UniqueFieldOwner {
        #[serde(rename = "_id")]
        id: Id,
    }
    let mut found = HashMap::with_capacity(names.len());
    if names.is_empty() {
        return Ok(found);
    }
    let note = |document: &RawDocument| {
        let UniqueFieldOwner { id } = deserialize_document(document)?;
        let name = document.get_str(field).map_err(|error| DocumentError(error.to_string()))?;
        found.insert(name.to_owned(), id_from_bson(id));
        Ok(())
    };
    let mut filter = doc! { field: { "$in": names.iter().collect::<Vec<_>>(), "$exists": true } };
    filter.extend(more);
    transaction.for_each_document(collection, filter, doc! { field: 1 }, note).await?;
    Ok(found)
}

async fn load_idempotency_keys(
    transaction: &mut Transaction<'_>,
    keys: &BTreeSet<OwnedIdempotencyKey>,
    forgotten: Timestamp,
    loaded: &mut LoadedState,
) -> Result<HashSet<OwnedIdempotencyKey>, TransactionError> {
    let mut worn = HashSet::new();
    if keys.is_empty() {
        return Ok(worn);
    }
    let names: Vec<Document> = keys
        .iter()
        .map(|(owner, key)| doc! { "owner": id_to_bson(owner.as_uuid()), "key": &**key })
        .collect();
    let note = |document: &RawDocument| {
        let document: IdempotencyKeyDocument<'_> = deserialize_document(document)?;
        let id: OwnedIdempotencyKey =
            (id_from_bson(document.id.owner), document.id.key.as_ref().into());
        if document.is_stored_by(forgotten) {
            worn.insert(id);
        } else {
            loaded.stored_responses.insert(id, document.into_response()?);
        }
        Ok(())
    };
    transaction
        .for_each_document(IDEMPOTENCY_KEYS, doc! { "_id": { "$in": names } }, doc! {}, note)
        .await?;
    Ok(worn)
}

/// Orders that are named, and how many buyers have that are not paid yet, which the server counts off an index.
async fn load_orders(
    transaction: &mut Transaction<'_>,
    touched: &ReadSet,
    loaded: &mut LoadedState,
) -> Result<(), TransactionError> {
    #[derive(Deserialize)]
    struct OrderHeader<'a> {
        #[serde(rename = "_id")]
        id: Id,
        version: u64,
        status: &'a str,
    }
    #[derive(Deserialize)]
    struct PendingOrder {
        user_id: Id,
    }
    let ids: Vec<Id> = touched.orders.iter().map(|order| id_to_bson(order.as_uuid())).collect();
    if !ids.is_empty() {
        let note = |document: &RawDocument| {
            let OrderHeader { id, version, status } = deserialize_document(document)?;
            let status = status
                .parse::<OrderStatus>()
                .map_err(|_| DocumentError(format!("{status:?} is no status of an order")))?;
            loaded.orders.insert(id_from_bson(id), (version, status));
            Ok(())
        };
        transaction
            .for_each_document(
                ORDERS,
                doc! { "_id": { "$in": ids } },
                doc! { "version": 1, "status": 1 },
                note,
            )
            .await?;
    }
    let buyers: Vec<Id> =
        touched.pending_order_users.iter().map(|user| id_to_bson(user.as_uuid())).collect();
    if !buyers.is_empty() {
        let note = |document: &RawDocument| {
            *loaded
                .pending_orders
                .entry(id_from_bson(deserialize_document::<PendingOrder>(document)?.user_id))
                .or_insert(0) += 1;
            Ok(())
        };
        let pending =
            doc! { "user_id": { "$in": buyers }, "status": OrderStatus::PendingPayment.as_str() };
        transaction
            .for_each_document(ORDERS, pending, doc! { "_id": 0, "user_id": 1 }, note)
            .await?;
    }
    Ok(())
}

async fn load_inbox(
    transaction: &mut Transaction<'_>,
    ids: &BTreeSet<Box<str>>,
    loaded: &mut LoadedState,
) -> Result<(), TransactionError> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = ids.iter().map(|id| &**id).collect();
    let note = |document: &RawDocument| {
        loaded.applied_messages.insert(
            document.get_str("_id").map_err(|error| DocumentError(error.to_string()))?.into(),
        );
        Ok(())
    };
    transaction
        .for_each_document(INBOX, doc! { "_id": { "$in": ids } }, doc! { "_id": 1 }, note)
        .await
}

async fn load_stock_levels(
    transaction: &mut Transaction<'_>,
    touched: &ReadSet,
    loaded: &mut LoadedState,
) -> Result<(), TransactionError> {
    let ids: Vec<Id> = touched.stock.iter().map(|product| id_to_bson(product.as_uuid())).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let note = |document: &RawDocument| {
        let level = StockLevel::from(deserialize_document::<StockDocument>(document)?);
        loaded.stock.insert(level.product_id, level);
        Ok(())
    };
    transaction.for_each_document(STOCK, doc! { "_id": { "$in": ids } }, doc! {}, note).await
}

/// A document as what it should be.
pub(super) fn deserialize_document<'de, T: Deserialize<'de>>(
    document: &'de RawDocument,
) -> Result<T, DocumentError> {
    Ok(deserialize_from_slice(document.as_bytes())?)
}
