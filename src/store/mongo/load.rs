//! What a batch touches, as the transaction's snapshot holds it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::Hash,
};

use mongodb::bson::{Document, RawDocument, Uuid as Id, deserialize_from_slice, doc};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    documents::{KeyDocument, StockDocument, Unfit, id, own},
    failure::Failure,
    schema::{CARTS, INBOX, KEYS, ORDERS, PRODUCTS, SESSIONS, STOCK, USERS},
    transaction::Transaction,
};
use crate::{
    domain::{clock::Timestamp, inventory::StockLevel, order::OrderStatus},
    store::plan::{KeyId, Loaded, Touched},
};

/// Loads what `touched` names. Keys that were first used at `forgotten` or before are told apart, since they are honoured no longer.
pub(super) async fn load(
    transaction: &mut Transaction<'_>,
    touched: &Touched,
    forgotten: Timestamp,
) -> Result<(Loaded, HashSet<KeyId>), Failure> {
    let mut loaded = Loaded {
        carts: versions(transaction, CARTS, touched.carts.iter().map(|id| id.as_uuid())).await?,
        products: versions(transaction, PRODUCTS, touched.products.iter().map(|id| id.as_uuid()))
            .await?,
        users: versions(transaction, USERS, touched.users.iter().map(|id| id.as_uuid())).await?,
        sessions: versions(transaction, SESSIONS, touched.sessions.iter().map(|id| id.as_uuid()))
            .await?,
        skus: holders(transaction, PRODUCTS, "sku", &touched.skus, doc! { "deleted": false })
            .await?,
        emails: holders(transaction, USERS, "email", &touched.emails, doc! {}).await?,
        ..Loaded::default()
    };
    let worn = keys(transaction, &touched.keys, forgotten, &mut loaded).await?;
    orders(transaction, touched, &mut loaded).await?;
    inbox(transaction, &touched.inbox, &mut loaded).await?;
    stock(transaction, touched, &mut loaded).await?;
    Ok((loaded, worn))
}

async fn versions<I: From<Uuid> + Eq + Hash>(
    transaction: &mut Transaction<'_>,
    collection: &str,
    ids: impl Iterator<Item = Uuid>,
) -> Result<HashMap<I, u64>, Failure> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(rename = "_id")]
        id: Id,
        version: u64,
    }
    let ids: Vec<Id> = ids.map(id).collect();
    let mut found = HashMap::with_capacity(ids.len());
    if ids.is_empty() {
        return Ok(found);
    }
    let note = |document: &RawDocument| {
        let Version { id, version } = read(document)?;
        found.insert(own(id), version);
        Ok(())
    };
    transaction
        .find(collection, doc! { "_id": { "$in": ids } }, doc! { "version": 1 }, note)
        .await?;
    Ok(found)
}

/// Who has each of these names in `field`, among the documents that `more` allows.
async fn holders<I: From<Uuid>>(
    transaction: &mut Transaction<'_>,
    collection: &str,
    field: &str,
    names: &BTreeSet<String>,
    more: Document,
) -> Result<HashMap<String, I>, Failure> {
    #[derive(Deserialize)]
    struct Holder {
        #[serde(rename = "_id")]
        id: Id,
    }
    let mut found = HashMap::with_capacity(names.len());
    if names.is_empty() {
        return Ok(found);
    }
    let note = |document: &RawDocument| {
        let Holder { id } = read(document)?;
        let name = document.get_str(field).map_err(|error| Unfit(error.to_string()))?;
        found.insert(name.to_owned(), own(id));
        Ok(())
    };
    let mut filter = doc! { field: { "$in": names.iter().collect::<Vec<_>>(), "$exists": true } };
    filter.extend(more);
    transaction.find(collection, filter, doc! { field: 1 }, note).await?;
    Ok(found)
}

async fn keys(
    transaction: &mut Transaction<'_>,
    keys: &BTreeSet<KeyId>,
    forgotten: Timestamp,
    loaded: &mut Loaded,
) -> Result<HashSet<KeyId>, Failure> {
    let mut worn = HashSet::new();
    if keys.is_empty() {
        return Ok(worn);
    }
    let names: Vec<Document> = keys
        .iter()
        .map(|(owner, key)| doc! { "owner": id(owner.as_uuid()), "key": &**key })
        .collect();
    let note = |document: &RawDocument| {
        let document: KeyDocument<'_> = read(document)?;
        let id: KeyId = (own(document.name.owner), document.name.key.as_ref().into());
        if document.is_from(forgotten) {
            worn.insert(id);
        } else {
            loaded.keys.insert(id, document.answer()?);
        }
        Ok(())
    };
    transaction.find(KEYS, doc! { "_id": { "$in": names } }, doc! {}, note).await?;
    Ok(worn)
}

/// Orders that are named, and how many buyers have that are not paid yet, which the server counts off an index.
async fn orders(
    transaction: &mut Transaction<'_>,
    touched: &Touched,
    loaded: &mut Loaded,
) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Held<'a> {
        #[serde(rename = "_id")]
        id: Id,
        version: u64,
        status: &'a str,
    }
    #[derive(Deserialize)]
    struct Pending {
        user_id: Id,
    }
    let ids: Vec<Id> = touched.orders.iter().map(|order| id(order.as_uuid())).collect();
    if !ids.is_empty() {
        let note = |document: &RawDocument| {
            let Held { id, version, status } = read(document)?;
            let status = OrderStatus::from_word(status)
                .ok_or_else(|| Unfit(format!("{status:?} is no status of an order")))?;
            loaded.orders.insert(own(id), (version, status));
            Ok(())
        };
        transaction
            .find(ORDERS, doc! { "_id": { "$in": ids } }, doc! { "version": 1, "status": 1 }, note)
            .await?;
    }
    let buyers: Vec<Id> = touched.buyers.iter().map(|user| id(user.as_uuid())).collect();
    if !buyers.is_empty() {
        let note = |document: &RawDocument| {
            *loaded.pending.entry(own(read::<Pending>(document)?.user_id)).or_insert(0) += 1;
            Ok(())
        };
        let pending =
            doc! { "user_id": { "$in": buyers }, "status": OrderStatus::PendingPayment.as_str() };
        transaction.find(ORDERS, pending, doc! { "_id": 0, "user_id": 1 }, note).await?;
    }
    Ok(())
}

async fn inbox(
    transaction: &mut Transaction<'_>,
    ids: &BTreeSet<Box<str>>,
    loaded: &mut Loaded,
) -> Result<(), Failure> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = ids.iter().map(|id| &**id).collect();
    let note = |document: &RawDocument| {
        loaded
            .inbox
            .insert(document.get_str("_id").map_err(|error| Unfit(error.to_string()))?.into());
        Ok(())
    };
    transaction.find(INBOX, doc! { "_id": { "$in": ids } }, doc! { "_id": 1 }, note).await
}

async fn stock(
    transaction: &mut Transaction<'_>,
    touched: &Touched,
    loaded: &mut Loaded,
) -> Result<(), Failure> {
    let ids: Vec<Id> = touched.stock.iter().map(|product| id(product.as_uuid())).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let note = |document: &RawDocument| {
        let level = StockLevel::from(read::<StockDocument>(document)?);
        loaded.stock.insert(level.product_id, level);
        Ok(())
    };
    transaction.find(STOCK, doc! { "_id": { "$in": ids } }, doc! {}, note).await
}

/// A document as what it should be.
pub(super) fn read<'de, T: Deserialize<'de>>(document: &'de RawDocument) -> Result<T, Unfit> {
    Ok(deserialize_from_slice(document.as_bytes())?)
}
