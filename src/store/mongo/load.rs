//! Loads what a batch depends on, from the transaction's snapshot.

mod staff;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::Hash,
};

use mongodb::bson::{Document, RawDocument, Uuid as BsonUuid, doc};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    documents::{
        self, DocumentError, IdempotencyKeyDocument, RefusedKeyDocument, StockDocument,
        id_from_bson, id_to_bson,
    },
    erasure, promotion_uses, rules,
    schema::{
        BOUGHT_OF_USER, CARTS, COMMIT_TIME, IDEMPOTENCY_KEYS, INBOX, MAILS, ORDERS, PAID_STATUSES,
        PENDING_UNITS_OF_USER, PRICING_RULES, PRODUCTS, SESSIONS, STOCK, USERS, WEBHOOKS,
    },
    transaction::Transaction,
    transaction_error::TransactionError,
};
use crate::{
    domain::{
        clock::Timestamp,
        ids::{MailId, OrderId, ProductId, RuleId, SessionId, UserId, WebhookId},
        inventory::StockLevel,
        order::OrderStatus,
    },
    store::plan::{LoadedState, OwnedIdempotencyKey, ReadSet, StoredOrder},
};

/// What a batch depends on.
pub(super) struct LoadedBatch {
    pub(super) state: LoadedState,
    /// Idempotency keys without a reply that have a document: of an expired reply, or of a refusal.
    pub(super) replaceable_keys: HashSet<OwnedIdempotencyKey>,
    /// The latest logical time at which any of the records was written; 0 if there are none.
    pub(super) latest_commit_time: i64,
}

/// Loads everything in `read_set`. Of the idempotency keys, only those that were stored later than
/// `keys_stored_after` have a reply: older ones are expired.
pub(super) async fn load(
    transaction: &mut Transaction<'_>,
    read_set: &ReadSet,
    keys_stored_after: Timestamp,
) -> Result<LoadedBatch, TransactionError> {
    let mut latest = 0;
    let carts = to_bson_ids(&read_set.carts, UserId::as_uuid);
    let products = to_bson_ids(&read_set.products, ProductId::as_uuid);
    let users = to_bson_ids(&read_set.users, UserId::as_uuid);
    let sessions = to_bson_ids(&read_set.sessions, SessionId::as_uuid);
    let mails = to_bson_ids(&read_set.mails, MailId::as_uuid);
    let webhooks = to_bson_ids(&read_set.webhooks, WebhookId::as_uuid);
    let mut loaded = LoadedState {
        carts: load_versions(transaction, CARTS, carts, &mut latest).await?,
        products: load_versions(transaction, PRODUCTS, products, &mut latest).await?,
        users: load_versions(transaction, USERS, users, &mut latest).await?,
        sessions: load_versions(transaction, SESSIONS, sessions, &mut latest).await?,
        mails: load_versions(transaction, MAILS, mails, &mut latest).await?,
        webhooks: load_versions(transaction, WEBHOOKS, webhooks, &mut latest).await?,
        sku_owners: load_unique_field_owners(
            transaction,
            PRODUCTS,
            "sku",
            &read_set.skus,
            doc! { "deleted": false },
        )
        .await?,
        email_owners: load_unique_field_owners(
            transaction,
            USERS,
            "email",
            &read_set.emails,
            doc! {},
        )
        .await?,
        ..LoadedState::default()
    };
    let replaceable_keys = load_idempotency_keys(
        transaction,
        &read_set.idempotency_keys,
        keys_stored_after,
        &mut loaded,
    )
    .await?;
    load_orders(transaction, read_set, &mut loaded, &mut latest).await?;
    load_purchases(transaction, read_set, &mut loaded).await?;
    erasure::load_unfinished_orders(transaction, read_set, &mut loaded).await?;
    load_inbox(transaction, &read_set.inbox, &mut loaded).await?;
    staff::load_active_admins(transaction, read_set, &mut loaded).await?;
    staff::load_api_keys(transaction, read_set, &mut loaded, &mut latest).await?;
    let rules = to_bson_ids(&read_set.rules, RuleId::as_uuid);
    loaded.rules = load_versions(transaction, PRICING_RULES, rules, &mut latest).await?;
    rules::load(transaction, read_set, &mut loaded, &mut latest).await?;
    promotion_uses::load(transaction, read_set, &mut loaded, &mut latest).await?;
    load_stock_levels(transaction, read_set, &mut loaded, &mut latest).await?;
    Ok(LoadedBatch { state: loaded, replaceable_keys, latest_commit_time: latest })
}

fn to_bson_ids<I: Copy>(ids: &BTreeSet<I>, to_uuid: impl Fn(I) -> Uuid) -> Vec<BsonUuid> {
    ids.iter().map(|id| id_to_bson(to_uuid(*id))).collect()
}

/// The logical time at which a record was written; 0 if before schema version 4.
pub(super) fn commit_time(record: &RawDocument) -> i64 {
    record.get_i64(COMMIT_TIME).unwrap_or(0)
}

async fn load_versions<I: From<Uuid> + Eq + Hash + Send>(
    transaction: &mut Transaction<'_>,
    collection: &str,
    ids: Vec<BsonUuid>,
    latest: &mut i64,
) -> Result<HashMap<I, u64>, TransactionError> {
    #[derive(Deserialize)]
    struct RecordVersion {
        #[serde(rename = "_id")]
        id: BsonUuid,
        version: u64,
    }
    let mut found = HashMap::with_capacity(ids.len());
    if ids.is_empty() {
        return Ok(found);
    }
    let record = |document: &RawDocument| {
        let RecordVersion { id, version } = deserialize_document(document)?;
        found.insert(id_from_bson(id), version);
        *latest = commit_time(document).max(*latest);
        Ok(())
    };
    transaction
        .for_each_document(
            collection,
            doc! { "_id": { "$in": ids } },
            doc! { "version": 1, COMMIT_TIME: 1 },
            record,
        )
        .await?;
    Ok(found)
}

/// The owner of each of `values` in a unique `field`, among documents that match `condition`.
async fn load_unique_field_owners<I: From<Uuid> + Send>(
    transaction: &mut Transaction<'_>,
    collection: &str,
    field: &str,
    values: &BTreeSet<String>,
    condition: Document,
) -> Result<HashMap<String, I>, TransactionError> {
    #[derive(Deserialize)]
    struct UniqueFieldOwner {
        #[serde(rename = "_id")]
        id: BsonUuid,
    }
    let mut found = HashMap::with_capacity(values.len());
    if values.is_empty() {
        return Ok(found);
    }
    let record = |document: &RawDocument| {
        let UniqueFieldOwner { id } = deserialize_document(document)?;
        let value = document.get_str(field).map_err(|error| DocumentError(error.to_string()))?;
        found.insert(value.to_owned(), id_from_bson(id));
        Ok(())
    };
    let mut filter = doc! { field: { "$in": values.iter().collect::<Vec<_>>(), "$exists": true } };
    filter.extend(condition);
    transaction.for_each_document(collection, filter, doc! { field: 1 }, record).await?;
    Ok(found)
}

async fn load_idempotency_keys(
    transaction: &mut Transaction<'_>,
    keys: &BTreeSet<OwnedIdempotencyKey>,
    keys_stored_after: Timestamp,
    loaded: &mut LoadedState,
) -> Result<HashSet<OwnedIdempotencyKey>, TransactionError> {
    let mut replaceable_keys = HashSet::new();
    if keys.is_empty() {
        return Ok(replaceable_keys);
    }
    let key_ids: Vec<Document> = keys
        .iter()
        .map(|(owner, key)| doc! { "owner": id_to_bson(owner.as_uuid()), "key": &**key })
        .collect();
    let record = |document: &RawDocument| {
        if document.get("refused_at").is_ok_and(|value| value.is_some()) {
            let refusal: RefusedKeyDocument<'_> = deserialize_document(document)?;
            let id: OwnedIdempotencyKey = refusal.id.to_owned_key();
            loaded.refused_keys.insert(id.clone(), refusal.received_at());
            replaceable_keys.insert(id);
            return Ok(());
        }
        let document: IdempotencyKeyDocument<'_> = deserialize_document(document)?;
        let id = document.id.to_owned_key();
        if document.is_stored_by(keys_stored_after) {
            replaceable_keys.insert(id);
        } else {
            loaded.stored_replies.insert(id, document.into_response()?);
        }
        Ok(())
    };
    transaction
        .for_each_document(IDEMPOTENCY_KEYS, doc! { "_id": { "$in": key_ids } }, doc! {}, record)
        .await?;
    Ok(replaceable_keys)
}

async fn load_orders(
    transaction: &mut Transaction<'_>,
    read_set: &ReadSet,
    loaded: &mut LoadedState,
    latest: &mut i64,
) -> Result<(), TransactionError> {
    #[derive(Deserialize)]
    struct OrderHeader<'a> {
        #[serde(rename = "_id")]
        id: BsonUuid,
        version: u64,
        status: &'a str,
        user_id: BsonUuid,
        #[serde(default)]
        anonymized: bool,
    }
    let ids: Vec<BsonUuid> =
        read_set.orders.iter().map(|order| id_to_bson(order.as_uuid())).collect();
    if !ids.is_empty() {
        let record = |document: &RawDocument| {
            let OrderHeader { id, version, status, user_id, anonymized } =
                deserialize_document(document)?;
            let status = status
                .parse::<OrderStatus>()
                .map_err(|_| DocumentError(format!("{status:?} is not a valid order status")))?;
            let id: OrderId = id_from_bson(id);
            let user_id = id_from_bson(user_id);
            loaded.orders.insert(id, StoredOrder { version, status, user_id });
            loaded.anonymized_orders.extend(anonymized.then_some(id));
            *latest = commit_time(document).max(*latest);
            Ok(())
        };
        transaction
            .for_each_document(
                ORDERS,
                doc! { "_id": { "$in": ids } },
                doc! { "version": 1, "status": 1, "user_id": 1, "anonymized": 1, COMMIT_TIME: 1 },
                record,
            )
            .await?;
    }
    Ok(())
}

/// The lines of an order that name certain products.
#[derive(Deserialize)]
struct BuyerOrder {
    user_id: BsonUuid,
    #[serde(default)]
    pending_units: u64,
    #[serde(default)]
    lines: Vec<OrderedUnits>,
}

#[derive(Deserialize)]
struct OrderedUnits {
    product_id: BsonUuid,
    quantity: u64,
}

impl BuyerOrder {
    fn add_to(&self, loaded: &mut LoadedState) {
        for line in &self.lines {
            let pair = (id_from_bson(self.user_id), id_from_bson(line.product_id));
            loaded.add_purchased_units(pair, line.quantity);
        }
    }
}

/// Counts users' pending orders, and what users have bought of products. Without products that have
/// a purchase limit, this is one query, and the server reads no order but only the index. Neither
/// index has cancelled or expired orders, so their number does not matter.
async fn load_purchases(
    transaction: &mut Transaction<'_>,
    read_set: &ReadSet,
    loaded: &mut LoadedState,
) -> Result<(), TransactionError> {
    if read_set.pending_order_users.is_empty() {
        return Ok(());
    }
    let buyers = to_bson_ids(&read_set.pending_order_users, UserId::as_uuid);
    let pending =
        doc! { "user_id": { "$in": buyers }, "status": OrderStatus::PendingPayment.as_str() };
    let mut fields = doc! { "_id": 0, "user_id": 1, "pending_units": 1 };
    let products: BTreeSet<ProductId> = read_set.purchases.iter().map(|pair| pair.1).collect();
    let products = to_bson_ids(&products, ProductId::as_uuid);
    let limited_lines = doc! { "$filter": {
        "input": "$lines", "cond": { "$in": ["$$this.product_id", &products] },
    } };
    if !products.is_empty() {
        fields.insert("lines", &limited_lines);
    }
    loaded.purchased_units = read_set.purchases.iter().map(|pair| (*pair, 0)).collect();
    let mut count_pending = |document: &RawDocument| {
        let order: BuyerOrder = deserialize_document(document)?;
        let pending = loaded.pending_orders.entry(id_from_bson(order.user_id)).or_default();
        pending.orders += 1;
        pending.units = pending.units.saturating_add(order.pending_units);
        order.add_to(loaded);
        Ok(())
    };
    let index = Some(PENDING_UNITS_OF_USER);
    transaction.for_each_document_in(ORDERS, index, pending, fields, &mut count_pending).await?;
    if products.is_empty() {
        return Ok(());
    }
    let buyers: BTreeSet<UserId> = read_set.purchases.iter().map(|pair| pair.0).collect();
    let paid = doc! {
        "user_id": { "$in": to_bson_ids(&buyers, UserId::as_uuid) },
        "lines.product_id": { "$in": products },
        "status": { "$in": PAID_STATUSES.map(OrderStatus::as_str).to_vec() },
    };
    let mut count_paid = |document: &RawDocument| {
        deserialize_document::<BuyerOrder>(document)?.add_to(loaded);
        Ok(())
    };
    let fields = doc! { "_id": 0, "user_id": 1, "lines": limited_lines };
    let index = Some(BOUGHT_OF_USER);
    transaction.for_each_document_in(ORDERS, index, paid, fields, &mut count_paid).await
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
    let record = |document: &RawDocument| {
        loaded.applied_messages.insert(
            document.get_str("_id").map_err(|error| DocumentError(error.to_string()))?.into(),
        );
        Ok(())
    };
    transaction
        .for_each_document(INBOX, doc! { "_id": { "$in": ids } }, doc! { "_id": 1 }, record)
        .await
}

async fn load_stock_levels(
    transaction: &mut Transaction<'_>,
    read_set: &ReadSet,
    loaded: &mut LoadedState,
    latest: &mut i64,
) -> Result<(), TransactionError> {
    // A transaction that changes a product marks its stock, so it comes after the last change of
    // it.
    let products: BTreeSet<ProductId> = read_set.stock.union(&read_set.products).copied().collect();
    let ids = to_bson_ids(&products, ProductId::as_uuid);
    if ids.is_empty() {
        return Ok(());
    }
    let record = |document: &RawDocument| {
        let level = StockLevel::from(deserialize_document::<StockDocument>(document)?);
        loaded.stock.insert(level.product_id, level);
        *latest = commit_time(document).max(*latest);
        Ok(())
    };
    transaction.for_each_document(STOCK, doc! { "_id": { "$in": ids } }, doc! {}, record).await
}

/// Deserializes without copying, so the result may borrow from `document`.
pub(super) fn deserialize_document<'de, T: Deserialize<'de>>(
    document: &'de RawDocument,
) -> Result<T, DocumentError> {
    documents::deserialize_bytes(document.as_bytes())
}
