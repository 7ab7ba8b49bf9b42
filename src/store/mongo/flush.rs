//! Writes what was decided: one or two commands for each collection, however many commits there are.

use std::collections::{HashMap, HashSet};

use mongodb::bson::{RawBson, rawdoc};
use serde::Serialize;
use uuid::Uuid;

use super::{
    documents::{
        CartDocument, EventBatchDocument, IdempotencyKeyDocument, IdempotencyKeyId,
        MovementDocument, OrderDocument, ProductDocument, SessionDocument, StockDocument,
        UserDocument, id_to_binary, timestamp_to_bson, to_raw_document,
    },
    failure::TransactionError,
    schema::{
        CARTS, IDEMPOTENCY_KEYS, INBOX, MOVEMENTS, ORDERS, OUTBOX, PRODUCTS, SESSIONS, STOCK, USERS,
    },
    transaction::{Statement, Transaction},
};
use crate::{
    domain::{
        clock::Timestamp,
        ids::{OrderId, ProductId, SessionId, UserId},
    },
    events::{EventEnvelope, OutboxEvent},
    store::plan::{LoadedState, OwnedIdempotencyKey, WriteSet},
};

/// Most events in one document, and most bytes of them, unless one alone has more.
const EVENT_BATCH_LIMITS: (usize, usize) = (256, 1024 * 1024);

/// What the snapshot holds of the records that may be written, and who has which sku.
///
/// A record is written by its id alone. It has the version that was read: the server lets a transaction fail that writes a document
/// which has changed since its snapshot. To ask for the version as well would take the server nearly twice as long.
pub(super) struct ExistingRecords {
    carts: HashSet<UserId>,
    products: HashSet<ProductId>,
    skus: HashMap<String, ProductId>,
    orders: HashSet<OrderId>,
    users: HashSet<UserId>,
    sessions: HashSet<SessionId>,
    stock: HashSet<ProductId>,
    /// Keys that are there and honoured no longer.
    expired_keys: HashSet<OwnedIdempotencyKey>,
}

impl ExistingRecords {
    pub(super) fn from_loaded(loaded: &LoadedState, worn: HashSet<OwnedIdempotencyKey>) -> Self {
        Self {
            carts: loaded.carts.keys().copied().collect(),
            products: loaded.products.keys().copied().collect(),
            skus: loaded.sku_owners.clone(),
            orders: loaded.orders.keys().copied().collect(),
            users: loaded.users.keys().copied().collect(),
            sessions: loaded.sessions.keys().copied().collect(),
            stock: loaded.stock.keys().copied().collect(),
            expired_keys: worn,
        }
    }
}

/// Writes everything in `writes`; `published` are its events, rendered.
pub(super) async fn flush(
    transaction: &mut Transaction<'_>,
    writes: &WriteSet,
    before: &ExistingRecords,
    published: &[OutboxEvent],
) -> Result<(), TransactionError> {
    for documents in ordered_writes(writes, before, published)? {
        documents.execute(transaction).await?;
    }
    Ok(())
}

/// What is written, in that order. Stock comes last and in the order of ids, since it is what other nodes most likely want at the same
/// time.
fn ordered_writes(
    writes: &WriteSet,
    before: &ExistingRecords,
    published: &[OutboxEvent],
) -> Result<[CollectionWrites; 11], TransactionError> {
    let mut users = CollectionWrites::for_collection(USERS);
    for (user_id, user) in &writes.users {
        users.add_document(
            user_id.as_uuid(),
            before.users.contains(user_id),
            &UserDocument::from(&**user),
        )?;
    }
    let mut sessions = CollectionWrites::for_collection(SESSIONS);
    for (session_id, session) in &writes.sessions {
        sessions.add_document(
            session_id.as_uuid(),
            before.sessions.contains(session_id),
            &SessionDocument::from(&**session),
        )?;
    }
    let mut carts = CollectionWrites::for_collection(CARTS);
    for (owner, cart) in &writes.carts {
        carts.add_document(
            owner.as_uuid(),
            before.carts.contains(owner),
            &CartDocument::from(&**cart),
        )?;
    }
    let mut products = CollectionWrites::for_collection(PRODUCTS);
    for (product_id, product) in &writes.products {
        let record = product_id.as_uuid();
        let document = ProductDocument::try_from(&**product)
            .map_err(|error| TransactionError::invalid_document(record, error))?;
        products.add_document(record, before.products.contains(product_id), &document)?;
    }
    let mut orders = CollectionWrites::for_collection(ORDERS);
    for (order_id, order) in &writes.orders {
        orders.add_document(
            order_id.as_uuid(),
            before.orders.contains(order_id),
            &OrderDocument::from(&**order),
        )?;
    }
    let mut stock = CollectionWrites::for_collection(STOCK);
    for (product_id, level) in &writes.stock {
        stock.add_document(
            product_id.as_uuid(),
            before.stock.contains(product_id),
            &StockDocument::from(*level),
        )?;
    }
    Ok([
        users,
        sessions,
        carts,
        sku_release_writes(writes, before),
        products,
        orders,
        idempotency_key_writes(writes, before)?,
        inbox_writes(writes),
        movement_writes(writes)?,
        outbox_writes(writes, published)?,
        stock,
    ])
}

/// Documents of one collection: some are new, the others replace what was read.
struct CollectionWrites {
    collection: &'static str,
    inserts: Vec<Statement>,
    updates: Vec<Statement>,
}

impl CollectionWrites {
    const fn for_collection(collection: &'static str) -> Self {
        Self { collection, inserts: Vec::new(), updates: Vec::new() }
    }

    fn add_document(
        &mut self,
        record: Uuid,
        exists: bool,
        document: &impl Serialize,
    ) -> Result<(), TransactionError> {
        self.add_document_with_id(record, exists, id_to_binary(record), document)
    }

    /// Puts one whose `_id` is another than that of the record it is blamed on.
    fn add_document_with_id(
        &mut self,
        record: Uuid,
        exists: bool,
        name: impl Into<RawBson>,
        document: &impl Serialize,
    ) -> Result<(), TransactionError> {
        let document = to_raw_document(document)
            .map_err(|error| TransactionError::invalid_document(record, error))?;
        if exists {
            self.updates.push(Statement {
                record_id: record,
                body: rawdoc! { "q": { "_id": name.into() }, "u": document },
            });
        } else {
            self.inserts.push(Statement { record_id: record, body: document });
        }
        Ok(())
    }

    async fn execute(self, transaction: &mut Transaction<'_>) -> Result<(), TransactionError> {
        transaction.insert(self.collection, &self.inserts).await?;
        transaction.update(self.collection, &self.updates).await
    }
}

/// Takes each sku from the product that gives it up in this same batch, which is written later and may come after.
fn sku_release_writes(writes: &WriteSet, before: &ExistingRecords) -> CollectionWrites {
    let mut released = CollectionWrites::for_collection(PRODUCTS);
    for product in writes.products.values().filter(|product| !product.deleted) {
        let holder = product.details.sku.as_ref().and_then(|sku| before.skus.get(sku));
        let Some(holder) =
            holder.filter(|holder| **holder != product.id && writes.products.contains_key(holder))
        else {
            continue;
        };
        let record = holder.as_uuid();
        let unset =
            rawdoc! { "q": { "_id": id_to_binary(record) }, "u": { "$unset": { "sku": "" } } };
        released.updates.push(Statement { record_id: record, body: unset });
    }
    released
}

fn idempotency_key_writes(
    writes: &WriteSet,
    before: &ExistingRecords,
) -> Result<CollectionWrites, TransactionError> {
    let mut keys = CollectionWrites::for_collection(IDEMPOTENCY_KEYS);
    for (key, answer, at) in &writes.stored_responses {
        let record = key.owner.as_uuid();
        let name = to_raw_document(&IdempotencyKeyId::from_key(key))
            .map_err(|error| TransactionError::invalid_document(record, error))?;
        let worn = !before.expired_keys.is_empty()
            && before.expired_keys.contains(&(key.owner, key.key.clone()));
        keys.add_document_with_id(
            record,
            worn,
            name,
            &IdempotencyKeyDocument::new(key, answer, *at),
        )?;
    }
    Ok(keys)
}

fn inbox_writes(writes: &WriteSet) -> CollectionWrites {
    // No record to blame: should one not be written, nobody knows whose it is.
    let statement = |(id, at): &(Box<str>, Timestamp)| Statement {
        record_id: Uuid::nil(),
        body: rawdoc! { "_id": &**id, "at": timestamp_to_bson(*at) },
    };
    CollectionWrites {
        inserts: writes.inbox.iter().map(statement).collect(),
        ..CollectionWrites::for_collection(INBOX)
    }
}

fn movement_writes(writes: &WriteSet) -> Result<CollectionWrites, TransactionError> {
    let mut movements = CollectionWrites::for_collection(MOVEMENTS);
    for movement in &writes.movements {
        movements.add_document(
            movement.product_id.as_uuid(),
            false,
            &MovementDocument::from(movement),
        )?;
    }
    Ok(movements)
}

/// A document that is refused cannot be blamed on one commit.
fn outbox_writes(
    writes: &WriteSet,
    published: &[OutboxEvent],
) -> Result<CollectionWrites, TransactionError> {
    let events: Vec<(&EventEnvelope, &OutboxEvent)> = writes.events.iter().zip(published).collect();
    let mut documents = CollectionWrites::for_collection(OUTBOX);
    let mut rest = events.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |(_, place): &&(&EventEnvelope, &OutboxEvent)| {
            bytes += place.body.len();
            bytes <= EVENT_BATCH_LIMITS.1
        };
        let count = rest.iter().take(EVENT_BATCH_LIMITS.0).take_while(fits).count().max(1);
        let (together, after) = rest.split_at(count);
        let document = EventBatchDocument::new(together)
            .map_err(|error| TransactionError::permanent(error.0))?;
        documents.add_document(Uuid::nil(), false, &document)?;
        rest = after;
    }
    Ok(documents)
}
