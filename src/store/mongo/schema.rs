//! The collections, and the indexes that their queries need.

use std::time::Duration;

use mongodb::{
    Database,
    bson::{Document, doc},
    error::Result,
};

use super::{
    partition::{PartitionDocument, is_head},
    rules,
    transaction_error::server_error_code,
    webhooks,
};
use crate::{
    domain::{account::login_failures::FAILURE_WINDOW, order::OrderStatus},
    store::retention::{IDEMPOTENCY_KEY_TTL, INBOX_RETENTION},
};

pub(super) const CARTS: &str = "carts";
pub(super) const PRODUCTS: &str = "products";
pub(super) const STOCK: &str = "stock";
pub(super) const MOVEMENTS: &str = "movements";
pub(super) const ORDERS: &str = "orders";
/// The worker numbers that nodes make order ids with.
pub(super) const ORDER_ID_WORKERS: &str = "order_id_workers";
pub(super) const USERS: &str = "users";
/// The addresses of accounts, one document for each account that has had one.
pub(super) const ADDRESS_BOOKS: &str = "address_books";
pub(super) const SESSIONS: &str = "sessions";
/// API keys, deleted ones included.
pub(super) const API_KEYS: &str = "api_keys";
/// Append-only.
pub(super) const ACTIONS: &str = "actions";
/// Mails that wait to be sent.
pub(super) const MAILS: &str = "mails";
/// Webhook endpoints.
pub(super) const WEBHOOKS: &str = "webhooks";
/// How far each endpoint has come, and which node delivers to it.
pub(super) const WEBHOOK_STATES: &str = "webhook_states";
/// Events that an endpoint has not taken yet.
pub(super) const WEBHOOK_DELIVERIES: &str = "webhook_deliveries";
/// Attempts to deliver events.
pub(super) const WEBHOOK_ATTEMPTS: &str = "webhook_attempts";
/// Which node delivers to which shard of the endpoints, and which nodes deliver at all.
pub(super) const WEBHOOK_LEASES: &str = "webhook_leases";
pub(super) const LOGIN_FAILURES: &str = "login_failures";
pub(super) const IDEMPOTENCY_KEYS: &str = "idempotency_keys";
pub(super) const INBOX: &str = "inbox";
/// Events, and the owners and heads of the partitions.
pub(super) const OUTBOX: &str = "outbox";
/// Holds [`PUBLISHED_COUNTER`], [`ADMIN_GUARD`], [`RULES_GUARD`], and the numbers of `stock_queue`.
pub(super) const COUNTERS: &str = "counters";
/// The cursor of the relay: which events the broker has confirmed. Exists once a node with a broker
/// has connected.
pub(super) const PUBLISHED_COUNTER: &str = "published";
/// The document that every transaction writes that depends on which admins or API keys there are,
/// so that two of them conflict.
pub(super) const ADMIN_GUARD: &str = "admins";
/// The document that every transaction writes that changes pricing rules. It counts the changes.
pub(super) const RULES_GUARD: &str = "pricing_rules";
/// How often promotions are used.
pub(super) const PROMOTION_USES: &str = "promotion_uses";
/// The index of the buyers' orders that have promotions.
pub(super) const PROMOTIONS_OF_BUYER: &str = "promotions_of_buyer";
/// The same by the e-mail addresses of the orders.
pub(super) const PROMOTIONS_OF_EMAIL: &str = "promotions_of_email";
/// Promotions, shipping methods and tax rates.
pub(super) const PRICING_RULES: &str = "pricing_rules";
/// The index of users' pending orders, which are placed and not paid, and of the units in each.
pub(super) const PENDING_UNITS_OF_USER: &str = "pending_units_of_user";
/// The index of what users have paid for, by product.
pub(super) const BOUGHT_OF_USER: &str = "bought_of_user";
/// The statuses of the orders in [`BOUGHT_OF_USER`].
pub(super) const PAID_STATUSES: [OrderStatus; 3] =
    [OrderStatus::Paid, OrderStatus::PartiallyFulfilled, OrderStatus::Fulfilled];
/// The field with the logical time at which a record was last written.
pub(super) const COMMIT_TIME: &str = "commit_time";
/// The field, and the index, by which maintenance finds carts.
pub(super) const MAINTENANCE: &str = "maintenance";
/// One document for each running node, with the sessions that its transactions run in.
pub(super) const NODES: &str = "nodes";
/// One document, [`SHOP`].
pub(super) const META: &str = "meta";
/// The currency and the schema version, set by the first node that connects.
pub(super) const SHOP: &str = "shop";

/// The version of the documents' layout. `migration` upgrades versions 2 to 10; no release
/// wrote version 1.
pub(super) const SCHEMA_VERSION: i64 = 11;

/// How long idempotency keys are kept: an hour longer than they are honored, because the clocks of
/// nodes and servers differ.
const IDEMPOTENCY_KEY_RETENTION: Duration =
    IDEMPOTENCY_KEY_TTL.saturating_add(Duration::from_secs(60 * 60));

/// How long counters of failed logins are kept: longer than they count, for the same reason.
const FAILURE_RETENTION: Duration = FAILURE_WINDOW.saturating_add(Duration::from_secs(10 * 60));

/// How long the refusal of a keyed request is kept: longer than an earlier attempt can wait on
/// another node.
const REFUSAL_RETENTION: Duration = Duration::from_secs(60 * 60);

/// The collections whose documents are found by their ids alone.
const COLLECTIONS_WITHOUT_INDEXES: [&str; 11] = [
    ADDRESS_BOOKS,
    STOCK,
    ORDER_ID_WORKERS,
    PROMOTION_USES,
    OUTBOX,
    COUNTERS,
    NODES,
    META,
    WEBHOOKS,
    WEBHOOK_STATES,
    WEBHOOK_LEASES,
];

/// The names of all collections that [`create_collections_and_indexes`] creates.
pub(super) fn collections() -> impl Iterator<Item = &'static str> {
    let indexed = all_index_definitions().map(|(collection, _)| collection);
    COLLECTIONS_WITHOUT_INDEXES.into_iter().chain(indexed)
}

/// Creates missing collections and indexes. Several nodes may run it at once.
///
/// `keep_unpublished` is recorded permanently and for all nodes: from then on no event is trimmed
/// before it is published.
pub(super) async fn create_collections_and_indexes(
    database: &Database,
    keep_unpublished: bool,
) -> Result<()> {
    // A transaction that creates a collection blocks every other transaction on it.
    for collection in COLLECTIONS_WITHOUT_INDEXES {
        create_collection_if_missing(database, collection).await?;
    }
    for (collection, indexes) in all_index_definitions() {
        // This also creates the collection.
        let command = doc! {
            "createIndexes": collection,
            "indexes": indexes,
            "writeConcern": { "w": "majority" },
        };
        database.run_command(command).await?;
    }
    create_admin_guard(database).await?;
    webhooks::create_leases(database).await?;
    rules::create_guard(database).await?;
    if keep_unpublished {
        start_publishing(database).await?;
    }
    Ok(())
}

/// Creates the guard, if there is none: transactions only update it.
async fn create_admin_guard(database: &Database) -> Result<()> {
    let new_guard = doc! { "$setOnInsert": { "changes": 0_i64 } };
    let counters = database.collection::<Document>(COUNTERS);
    counters.update_one(doc! { "_id": ADMIN_GUARD }, new_guard).upsert(true).await.map(drop)
}

/// Creates the cursor of the relay, if there is none: before the oldest event that is kept.
async fn start_publishing(database: &Database) -> Result<()> {
    let mut start = Document::new();
    let mut partitions = database.collection::<PartitionDocument>(OUTBOX).find(is_head()).await?;
    while partitions.advance().await? {
        let partition = partitions.deserialize_current()?;
        let trimmed = i64::try_from(partition.trimmed).unwrap_or(i64::MAX);
        start.insert(partition.partition().to_string(), trimmed);
    }
    let start = doc! { "$setOnInsert": { "partitions": start } };
    let counters = database.collection::<Document>(COUNTERS);
    counters.update_one(doc! { "_id": PUBLISHED_COUNTER }, start).upsert(true).await.map(drop)
}

async fn create_collection_if_missing(database: &Database, collection: &str) -> Result<()> {
    const NAMESPACE_EXISTS: i32 = 48;
    match database.create_collection(collection).await {
        Err(error) if server_error_code(&error) == Some(NAMESPACE_EXISTS) => Ok(()),
        result => result,
    }
}

fn index(name: &str, key: Document) -> Document {
    doc! { "name": name, "key": key }
}

fn unique_index(name: &str, key: Document) -> Document {
    doc! { "name": name, "key": key, "unique": true }
}

/// An index of the documents that have the key's field.
fn sparse_index(name: &str, key: Document) -> Document {
    doc! { "name": name, "key": key, "sparse": true }
}

/// An index of the documents that match `filter`.
fn partial_index(name: &str, key: Document, filter: Document) -> Document {
    doc! { "name": name, "key": key, "partialFilterExpression": filter }
}

/// Makes the server delete documents once `at` is older than `age`.
fn expiry_index(age: Duration) -> Document {
    let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    doc! { "name": "age", "key": { "at": 1 }, "expireAfterSeconds": seconds }
}

/// Makes the server delete the refusals of idempotency keys.
fn refusal_expiry_index() -> Document {
    let seconds = i64::try_from(REFUSAL_RETENTION.as_secs()).unwrap_or(i64::MAX);
    doc! {
        "name": "refused", "key": { "refused_at": 1 }, "sparse": true,
        "expireAfterSeconds": seconds,
    }
}

/// The collections with indexes, and the indexes of each.
fn all_index_definitions() -> impl Iterator<Item = (&'static str, Vec<Document>)> {
    index_definitions().into_iter().chain(account_index_definitions())
}

fn index_definitions() -> Vec<(&'static str, Vec<Document>)> {
    let pending = doc! { "status": OrderStatus::PendingPayment.as_str() };
    let paid = doc! { "status": { "$in": PAID_STATUSES.map(OrderStatus::as_str).to_vec() } };
    let to_ship = OrderStatus::TO_SHIP.map(OrderStatus::as_str).to_vec();
    let to_ship = doc! { "status": { "$in": to_ship } };
    let active_with_sku = doc! { "sku": { "$exists": true }, "deleted": false };
    let mut sku = partial_index("sku", doc! { "sku": 1 }, active_with_sku);
    sku.insert("unique", true);
    let of_promotions = doc! { "user_id": 1, "charges.discounts.promotion_id": 1 };
    let has_email = doc! { "email": { "$exists": true } };
    let has_promotions = doc! { "charges.discounts.promotion_id": { "$exists": true } };
    let promotions_of_buyer =
        partial_index(PROMOTIONS_OF_BUYER, of_promotions, has_promotions.clone());
    let of_promotions = doc! { "email": 1, "charges.discounts.promotion_id": 1 };
    let promotions_of_email = partial_index(PROMOTIONS_OF_EMAIL, of_promotions, has_promotions);
    vec![
        (CARTS, vec![sparse_index(MAINTENANCE, doc! { MAINTENANCE: 1 })]),
        (PRODUCTS, vec![sku, index("living", doc! { "deleted": 1, "_id": 1 })]),
        (
            ORDERS,
            vec![
                index("of_user", doc! { "user_id": 1, "_id": -1 }),
                partial_index(
                    PENDING_UNITS_OF_USER,
                    doc! { "user_id": 1, "status": 1, "pending_units": 1 },
                    pending.clone(),
                ),
                sparse_index("payment_intent", doc! { "payment.provider.intents.id": 1 }),
                sparse_index("payment_due", doc! { "payment.provider.due_at": 1 }),
                partial_index("to_ship", doc! { "status": 1, "_id": -1 }, to_ship),
                partial_index(BOUGHT_OF_USER, doc! { "user_id": 1, "lines.product_id": 1 }, paid),
                promotions_of_buyer,
                promotions_of_email,
                partial_index("of_email", doc! { "email": 1, "_id": -1 }, has_email),
                partial_index("overdue", doc! { "expires_at": 1, "_id": 1 }, pending),
            ],
        ),
        (MOVEMENTS, vec![sparse_index("of_order", doc! { "order_id": 1 })]),
        (MAILS, vec![index("due", doc! { "due_at": 1, "_id": 1 })]),
        (
            IDEMPOTENCY_KEYS,
            vec![
                expiry_index(IDEMPOTENCY_KEY_RETENTION),
                refusal_expiry_index(),
                sparse_index("about", doc! { "about": 1 }),
            ],
        ),
        (LOGIN_FAILURES, vec![expiry_index(FAILURE_RETENTION)]),
        (INBOX, vec![expiry_index(INBOX_RETENTION)]),
    ]
}

/// The indexes of accounts, and of what staff does.
fn account_index_definitions() -> Vec<(&'static str, Vec<Document>)> {
    vec![
        (
            USERS,
            vec![
                unique_index("email", doc! { "email": 1 }),
                partial_index("admins", doc! { "role": 1 }, doc! { "role": "admin" }),
                partial_index("staff", doc! { "role": 1 }, doc! { "role": "staff" }),
                partial_index("blocked", doc! { "blocked": 1 }, doc! { "blocked": true }),
            ],
        ),
        (
            SESSIONS,
            vec![
                index("of_user", doc! { "user_id": 1, "expires_at": 1 }),
                sparse_index("revoked", doc! { "revoked_at": 1 }),
                index("expiry", doc! { "expires_at": 1 }),
            ],
        ),
        (API_KEYS, vec![index("of_maker", doc! { "created_by": 1 })]),
        (PRICING_RULES, vec![sparse_index("unique_key", doc! { "unique_key": 1 })]),
        (
            WEBHOOK_DELIVERIES,
            vec![
                index("of_webhook", doc! { "webhook_id": 1, "due_at": 1 }),
                partial_index("requested", doc! { "webhook_id": 1 }, doc! { "requested": true }),
            ],
        ),
        (
            WEBHOOK_ATTEMPTS,
            vec![
                index("of_webhook", doc! { "webhook_id": 1, "_id": -1 }),
                index("of_event", doc! { "webhook_id": 1, "event_id": 1, "_id": -1 }),
            ],
        ),
        (
            ACTIONS,
            vec![
                index("by_time", doc! { "at": 1, "_id": 1 }),
                index("of_actor", doc! { "actor.id": 1, "at": 1, "_id": 1 }),
                index("on_subject", doc! { "subject": 1, "at": 1, "_id": 1 }),
            ],
        ),
    ]
}
