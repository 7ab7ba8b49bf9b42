//! Writes a plan: a few commands for each collection, however many commits there are.

mod existing_records;
mod staff;

use mongodb::bson::rawdoc;
use uuid::Uuid;

pub(super) use self::existing_records::ExistingRecords;
use super::{
    collection_writes::CollectionWrites,
    documents::{
        AddressBookDocument, CartDocument, ChangesDocument, DocumentError, EventBatchDocument,
        IdempotencyKeyDocument, IdempotencyKeyId, MAX_EVENTS_PER_DOCUMENT, MailDocument,
        MovementDocument, OrderDocument, ProductDocument, RefusedKeyDocument, SessionDocument,
        StockDocument, UserDocument, id_to_binary, timestamp_to_bson, to_raw_document,
    },
    erasure,
    expected_state::Expectation,
    partition::ClaimedPartition,
    promotion_uses,
    rules::{self, RuleDocument},
    schema::{
        ADDRESS_BOOKS, ADMIN_GUARD, CARTS, COUNTERS, IDEMPOTENCY_KEYS, INBOX, MAILS, MOVEMENTS,
        ORDERS, OUTBOX, PRICING_RULES, PRODUCTS, SESSIONS, STOCK, USERS,
    },
    transaction::{Statement, Transaction},
    transaction_error::TransactionError,
    webhooks,
};
use crate::{
    domain::clock::Timestamp,
    events::{EventEnvelope, OutboxEvent},
    store::plan::WriteSet,
};

/// The most bytes of events in one document. A single event may be larger.
const MAX_EVENT_BYTES_PER_DOCUMENT: usize = 1024 * 1024;

/// Writes everything in `writes`. `outbox_events` are its events with their positions,
/// `commit_time` is the logical time that the records get.
pub(super) async fn flush(
    transaction: &mut Transaction<'_>,
    writes: &WriteSet,
    existing: &ExistingRecords,
    outbox_events: &[OutboxEvent],
    partition: &ClaimedPartition,
    commit_time: i64,
) -> Result<(), TransactionError> {
    let outbox = outbox_writes(writes, outbox_events, partition, commit_time)?;
    erasure::delete_accounts(transaction, writes).await?;
    for documents in ordered_writes(writes, existing, outbox, commit_time)? {
        documents.execute(transaction).await?;
    }
    erasure::reassign_replies(transaction, writes, commit_time).await?;
    erasure::erase_traces(transaction, writes).await
}

/// The writes in their order. Uses of promotions and stock are last, because other nodes most
/// likely write them at the same time, and in the order of ids.
fn ordered_writes(
    writes: &WriteSet,
    existing: &ExistingRecords,
    outbox: CollectionWrites,
    commit_time: i64,
) -> Result<[CollectionWrites; 20], TransactionError> {
    Ok([
        guard_writes(writes, commit_time),
        rule_writes(writes, existing, commit_time)?,
        user_writes(writes, existing, commit_time)?,
        address_book_writes(writes)?,
        session_writes(writes, existing, commit_time)?,
        staff::api_key_writes(writes, existing, commit_time)?,
        mail_writes(writes, existing, commit_time)?,
        webhooks::webhook_writes(writes, existing, commit_time)?,
        webhooks::delivery_writes(writes)?,
        cart_writes(writes, existing, commit_time)?,
        sku_release_writes(writes, existing),
        product_writes(writes, existing, commit_time)?,
        order_writes(writes, existing, commit_time)?,
        idempotency_key_writes(writes, existing)?,
        inbox_writes(writes),
        movement_writes(writes)?,
        staff::action_writes(writes)?,
        outbox,
        promotion_uses::writes(writes, existing, commit_time)?,
        stock_writes(writes, existing, commit_time)?,
    ])
}

fn user_writes(
    writes: &WriteSet,
    existing: &ExistingRecords,
    commit_time: i64,
) -> Result<CollectionWrites, TransactionError> {
    let mut users = CollectionWrites::for_records(USERS, commit_time);
    for (user_id, user) in &writes.users {
        let exists = existing.users.contains(user_id);
        users.add_document(user_id.as_uuid(), exists, &UserDocument::from(&**user))?;
    }
    Ok(users)
}

fn session_writes(
    writes: &WriteSet,
    existing: &ExistingRecords,
    commit_time: i64,
) -> Result<CollectionWrites, TransactionError> {
    let mut sessions = CollectionWrites::for_records(SESSIONS, commit_time);
    for (session_id, session) in &writes.sessions {
        let exists = existing.sessions.contains(session_id);
        sessions.add_document(session_id.as_uuid(), exists, &SessionDocument::from(&**session))?;
    }
    Ok(sessions)
}

fn cart_writes(
    writes: &WriteSet,
    existing: &ExistingRecords,
    commit_time: i64,
) -> Result<CollectionWrites, TransactionError> {
    let mut carts = CollectionWrites::for_records(CARTS, commit_time);
    carts.checks_expectation = existing.expectation == Expectation::NewKeysAndCarts;
    for (owner, cart) in &writes.carts {
        let (record, document) = (owner.as_uuid(), CartDocument::from(&**cart));
        match existing.carts.get(owner) {
            Some(version) if carts.checks_expectation => {
                carts.replace_version(record, *version, &document)?;
            }
            stored => carts.add_document(record, stored.is_some(), &document)?,
        }
    }
    Ok(carts)
}

fn product_writes(
    writes: &WriteSet,
    existing: &ExistingRecords,
    commit_time: i64,
) -> Result<CollectionWrites, TransactionError> {
    let mut products = CollectionWrites::for_records(PRODUCTS, commit_time);
    for (product_id, product) in &writes.products {
        let record = product_id.as_uuid();
        let document = ProductDocument::try_from(&**product)
            .map_err(|error| TransactionError::invalid_document(record, error))?;
        products.add_document(record, existing.products.contains(product_id), &document)?;
    }
    Ok(products)
}

fn order_writes(
    writes: &WriteSet,
    existing: &ExistingRecords,
    commit_time: i64,
) -> Result<CollectionWrites, TransactionError> {
    let mut orders = CollectionWrites::for_records(ORDERS, commit_time);
    for (order_id, order) in &writes.orders {
        let exists = existing.orders.contains(order_id);
        orders.add_document(order_id.as_uuid(), exists, &OrderDocument::from(&**order))?;
    }
    Ok(orders)
}

fn address_book_writes(writes: &WriteSet) -> Result<CollectionWrites, TransactionError> {
    let mut address_books = CollectionWrites::for_collection(ADDRESS_BOOKS);
    for (user_id, book) in &writes.address_books {
        address_books.put_document(user_id.as_uuid(), &AddressBookDocument::from(&**book))?;
    }
    Ok(address_books)
}

/// Removes each sku from a product that gives it up in this batch. The product's own document may
/// be written after the sku's new owner, which would violate the unique index.
fn sku_release_writes(writes: &WriteSet, existing: &ExistingRecords) -> CollectionWrites {
    let mut released = CollectionWrites::for_collection(PRODUCTS);
    for product in writes.products.values().filter(|product| !product.deleted) {
        let holder = product.details.sku.as_ref().and_then(|sku| existing.skus.get(sku));
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
    existing: &ExistingRecords,
) -> Result<CollectionWrites, TransactionError> {
    let mut keys = CollectionWrites::for_collection(IDEMPOTENCY_KEYS);
    keys.checks_expectation = existing.expectation != Expectation::Nothing;
    for stored in &writes.stored_replies {
        let key = &stored.key;
        let record = key.owner.as_uuid();
        let id = to_raw_document(&IdempotencyKeyId::from_key(key))
            .map_err(|error| TransactionError::invalid_document(record, error))?;
        let exists = !existing.replaceable_keys.is_empty()
            && existing.replaceable_keys.contains(&(key.owner, key.key.clone()));
        keys.add_document_with_id(record, exists, id, &IdempotencyKeyDocument::new(stored))?;
    }
    for (id, received_at) in &writes.refused_keys {
        let (owner, key) = id;
        let record = owner.as_uuid();
        let document = RefusedKeyDocument::new(*owner, key, *received_at);
        let document_id = to_raw_document(&document.id)
            .map_err(|error| TransactionError::invalid_document(record, error))?;
        let exists = existing.replaceable_keys.contains(id);
        keys.add_document_with_id(record, exists, document_id, &document)?;
    }
    Ok(keys)
}

/// Of two transactions that depend on which admins there are, one fails on this document, and is
/// decided again on what the other left. So does one of two that change pricing rules.
fn guard_writes(writes: &WriteSet, commit_time: i64) -> CollectionWrites {
    let mut guard = CollectionWrites::for_collection(COUNTERS);
    if writes.depends_on_admins {
        guard.updates.push(Statement {
            record_id: Uuid::nil(),
            body: rawdoc! { "q": { "_id": ADMIN_GUARD }, "u": { "$inc": { "changes": 1_i64 } } },
        });
    }
    guard.updates.extend(rules::guard_update(writes, commit_time));
    guard
}

fn rule_writes(
    writes: &WriteSet,
    existing: &ExistingRecords,
    commit_time: i64,
) -> Result<CollectionWrites, TransactionError> {
    let mut rules = CollectionWrites::for_records(PRICING_RULES, commit_time);
    for (id, rule) in &writes.rules {
        let exists = existing.rules.contains(id);
        rules.add_document(id.as_uuid(), exists, &RuleDocument::from(&**rule))?;
    }
    Ok(rules)
}

fn inbox_writes(writes: &WriteSet) -> CollectionWrites {
    // No record: a message id does not identify the commit at fault.
    let statement = |(id, at): &(Box<str>, Timestamp)| Statement {
        record_id: Uuid::nil(),
        body: rawdoc! { "_id": &**id, "at": timestamp_to_bson(*at) },
    };
    let mut inbox = CollectionWrites::for_collection(INBOX);
    inbox.inserts.extend(writes.inbox.iter().map(statement));
    inbox
}

/// The mails that wait. One that was added and has ended in the same batch is not written at all.
fn mail_writes(
    writes: &WriteSet,
    existing: &ExistingRecords,
    commit_time: i64,
) -> Result<CollectionWrites, TransactionError> {
    let mut mails = CollectionWrites::for_records(MAILS, commit_time);
    for (mail_id, mail) in &writes.mails {
        let exists = existing.mails.contains(mail_id);
        if !mail.ended {
            mails.add_document(mail_id.as_uuid(), exists, &MailDocument::from(&**mail))?;
        } else if exists {
            mails.delete_document(mail_id.as_uuid());
        }
    }
    Ok(mails)
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

/// The stock levels that moved, and a mark on the stock of products that changed: so a transaction
/// that changes a product and one that sells it on its former terms write the same document.
fn stock_writes(
    writes: &WriteSet,
    existing: &ExistingRecords,
    commit_time: i64,
) -> Result<CollectionWrites, TransactionError> {
    let mut stock = CollectionWrites::for_records(STOCK, commit_time);
    for (product_id, level) in &writes.stock {
        stock.add_document(
            product_id.as_uuid(),
            existing.stock.contains(product_id),
            &StockDocument::from(*level),
        )?;
    }
    // Nobody can have decided anything on a product that does not exist yet.
    let changed = writes.products.values().filter(|product| {
        existing.products.contains(&product.id) && !writes.stock.contains_key(&product.id)
    });
    for product in changed {
        let record = product.id.as_uuid();
        let version = i64::try_from(product.version)
            .map_err(|_| TransactionError::permanent("a product has no versions left"))?;
        // The first movement of a product would insert the document.
        let empty = rawdoc! {
            "on_hand": 0_i64, "reserved": 0_i64, "version": 0_i64, "last_movement": 0_i64,
        };
        stock.updates.push(Statement {
            record_id: record,
            body: rawdoc! {
                "q": { "_id": id_to_binary(record) },
                "u": {
                    "$set": { "product_version": version, "commit_time": commit_time },
                    "$setOnInsert": empty,
                },
                "upsert": true,
            },
        });
    }
    Ok(stock)
}

/// The head of the partition and the documents with the events, in one command. A rejected document
/// has events of many commits, so no record identifies the one at fault.
fn outbox_writes(
    writes: &WriteSet,
    outbox_events: &[OutboxEvent],
    partition: &ClaimedPartition,
    commit_time: i64,
) -> Result<CollectionWrites, TransactionError> {
    let mut documents = CollectionWrites::for_collection(OUTBOX);
    if outbox_events.is_empty() {
        return Ok(documents);
    }
    // First: the insertion of events must not replace those of another writer.
    documents.updates.push(Statement {
        record_id: Uuid::nil(),
        body: partition.head_update(outbox_events.len() as u64, commit_time)?,
    });
    let events: Vec<(&EventEnvelope, &OutboxEvent)> =
        writes.events.iter().zip(outbox_events).collect();
    let mut rest = events.as_slice();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |(_, event): &&(&EventEnvelope, &OutboxEvent)| {
            bytes += event.body.len();
            bytes <= MAX_EVENT_BYTES_PER_DOCUMENT
        };
        let count = rest.iter().take(MAX_EVENTS_PER_DOCUMENT).take_while(fits).count().max(1);
        let (batch, after) = rest.split_at(count);
        let invalid = |error: DocumentError| TransactionError::permanent(error.0);
        let mut document = EventBatchDocument::new(batch, commit_time).map_err(invalid)?;
        if let (true, Some(document)) = (after.is_empty(), &mut document) {
            document.set_changes(ChangesDocument::from(writes));
        }
        let position = batch.last().map_or(0, |(_, event)| event.position.to_i64());
        documents.updates.push(Statement {
            record_id: Uuid::nil(),
            body: rawdoc! {
                "q": { "_id": position },
                "u": to_raw_document(&document).map_err(invalid)?,
                "upsert": true,
            },
        });
        rest = after;
    }
    Ok(documents)
}
