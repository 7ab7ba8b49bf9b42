//! Erases accounts, and notes what else is about them, inside the writer's transaction.

use std::collections::BTreeSet;

use mongodb::bson::{
    Bson, Document, RawArrayBuf, RawDocument, RawDocumentBuf, Uuid as BsonUuid, doc, rawdoc,
};
use serde::Deserialize;

use super::{
    documents::{
        DocumentError, IdempotencyKeyDocument, id_from_bson, id_to_binary, id_to_bson,
        to_raw_document,
    },
    load::deserialize_document,
    read::{orders_with_key, unfinished_orders_with},
    schema::{ADDRESS_BOOKS, COMMIT_TIME, IDEMPOTENCY_KEYS, MAILS, ORDERS, SESSIONS, USERS},
    transaction::Transaction,
    transaction_error::TransactionError,
};
use crate::{
    domain::{
        ids::UserId,
        order::{BuyerKey, KEPT_ADDRESS_FIELDS, OrderStatus},
        payment::PaymentStatus,
    },
    store::plan::{LoadedState, ReadSet, WriteSet},
};

/// Finds the unfinished orders of buyers.
pub(super) async fn load_unfinished_orders(
    transaction: &mut Transaction<'_>,
    read_set: &ReadSet,
    loaded: &mut LoadedState,
) -> Result<(), TransactionError> {
    #[derive(Deserialize)]
    struct UnfinishedOrder<'a> {
        #[serde(rename = "_id")]
        id: BsonUuid,
        status: &'a str,
    }
    for key in &read_set.unfinished_orders {
        let orders = loaded.unfinished_orders.entry(key.clone()).or_default();
        let record = |document: &RawDocument| {
            let UnfinishedOrder { id, status } = deserialize_document(document)?;
            let status = status
                .parse()
                .map_err(|_| DocumentError(format!("{status:?} is not a valid order status")))?;
            orders.insert(id_from_bson(id), status);
            Ok(())
        };
        let filter = unfinished_orders_with(key);
        transaction.for_each_document(ORDERS, filter, doc! { "status": 1 }, record).await?;
    }
    Ok(())
}

/// Records that the replies stored for guests, or about them, are about their accounts from now on.
/// It also writes the accounts, so that it conflicts with an erasure of one of them.
pub(super) async fn reassign_replies(
    transaction: &mut Transaction<'_>,
    writes: &WriteSet,
    commit_time: i64,
) -> Result<(), TransactionError> {
    for (guest, user) in &writes.reply_reassignments {
        let account = doc! {
            "q": { "_id": id_to_bson(user.as_uuid()) },
            "u": { "$set": { COMMIT_TIME: commit_time } },
        };
        transaction.update_many(USERS, one(to_raw(&account)?)).await?;
        let of_guest = doc! { "$or": [
            { "_id": keys_of(*guest) }, { "about": id_to_bson(guest.as_uuid()) },
        ], "refused_at": { "$exists": false } };
        let replies = doc! {
            "q": of_guest,
            "u": { "$set": { "about": id_to_bson(user.as_uuid()) } },
            "multi": true,
        };
        transaction.update_many(IDEMPOTENCY_KEYS, one(to_raw(&replies)?)).await?;
    }
    Ok(())
}

/// Deletes the erased accounts, so that others can have their e-mail addresses in the same batch.
pub(super) async fn delete_accounts(
    transaction: &mut Transaction<'_>,
    writes: &WriteSet,
) -> Result<(), TransactionError> {
    for user in writes.erased_accounts.keys() {
        let id = id_to_binary(user.as_uuid());
        transaction.delete_many(USERS, rawdoc! { "_id": id }).await?;
    }
    Ok(())
}

/// Erases what else tells who an account belonged to. It comes last, so that it finds what the same
/// batch has written.
pub(super) async fn erase_traces(
    transaction: &mut Transaction<'_>,
    writes: &WriteSet,
) -> Result<(), TransactionError> {
    for (user, account) in &writes.erased_accounts {
        let id = || id_to_binary(user.as_uuid());
        transaction.delete_many(ADDRESS_BOOKS, rawdoc! { "_id": id() }).await?;
        // A request for a new password names only the address.
        let [own, requested] =
            [rawdoc! { "user_id": id() }, rawdoc! { "recipient": account.email.as_str() }];
        transaction.delete_many(MAILS, rawdoc! { "$or": [own, requested] }).await?;
        let own_keys = to_raw(&doc! { "_id": keys_of(*user) })?;
        transaction.delete_many(IDEMPOTENCY_KEYS, own_keys).await?;
        let clients = to_raw(&doc! {
            "q": { "user_id": id_to_bson(user.as_uuid()) },
            "u": { "$unset": { "address": "", "user_agent": "" } },
            "multi": true,
        })?;
        transaction.update_many(SESSIONS, one(clients)).await?;
        let mut keys = vec![BuyerKey::User(*user)];
        let mut of_erased = BTreeSet::from([*user]);
        if account.email_verified {
            let of_guests = BuyerKey::GuestEmail(account.email.clone());
            of_erased.extend(load_buyers(transaction, &of_guests).await?);
            keys.push(of_guests);
        }
        for key in keys {
            for update in order_anonymizations(&key) {
                transaction.update_many(ORDERS, one(to_raw(&update)?)).await?;
            }
        }
        for user in of_erased {
            anonymize_replies_of(transaction, user).await?;
        }
    }
    Ok(())
}

/// The range of the ids of idempotency keys that begin with the owner, since a document is compared
/// field by field.
fn keys_of(owner: UserId) -> Document {
    doc! {
        "$gt": { "owner": id_to_bson(owner.as_uuid()) },
        "$lt": { "owner": id_to_bson(owner.as_uuid()), "key": Bson::MaxKey },
    }
}

/// The buyers of the orders with a key.
async fn load_buyers(
    transaction: &mut Transaction<'_>,
    key: &BuyerKey,
) -> Result<BTreeSet<UserId>, TransactionError> {
    #[derive(Deserialize)]
    struct Buyer {
        user_id: BsonUuid,
    }
    let mut buyers = BTreeSet::new();
    let record = |document: &RawDocument| {
        let Buyer { user_id } = deserialize_document(document)?;
        buyers.insert(id_from_bson(user_id));
        Ok(())
    };
    let fields = doc! { "_id": 0, "user_id": 1 };
    transaction.for_each_document(ORDERS, orders_with_key(key), fields, record).await?;
    Ok(buyers)
}

/// The updates of all orders with a key. They leave the logical time of their last change as it is,
/// since it is no change of them, and has no event. The shop still has to know where to send what
/// guests have paid.
fn order_anonymizations(key: &BuyerKey) -> [Document; 2] {
    let to_ship = doc! {
        "status": { "$in": OrderStatus::TO_SHIP.map(OrderStatus::as_str).to_vec() },
        "payment.status": { "$ne": PaymentStatus::Refunded.as_str() },
    };
    let orders = |operator: &str| {
        let mut orders = orders_with_key(key);
        orders.insert("anonymized", doc! { "$ne": true });
        orders.insert(operator, [to_ship.clone()]);
        orders
    };
    let addresses = doc! {
        "anonymized": true,
        "shipping_address": kept_address("$shipping_address"),
        "billing_address": kept_address("$billing_address"),
    };
    let done = doc! {
        "q": orders("$nor"),
        "u": [
            { "$set": addresses },
            { "$unset": ["email", "charges.shipping_to.postal_code"] },
        ],
        "multi": true,
    };
    let to_ship = doc! {
        "q": orders("$and"),
        "u": { "$set": { "anonymized": true }, "$unset": { "email": "" } },
        "multi": true,
    };
    [done, to_ship]
}

/// What is left of an address, if there is one.
fn kept_address(address: &str) -> Document {
    let fields = doc! { "$objectToArray": address };
    let is_kept = doc! { "$in": ["$$this.k", KEPT_ADDRESS_FIELDS.to_vec()] };
    let kept = doc! { "$filter": { "input": fields, "cond": is_kept } };
    doc! { "$cond": [
        { "$eq": [{ "$type": address }, "object"] }, { "$arrayToObject": kept }, "$$REMOVE",
    ] }
}

/// The replies that staff got when it changed the account or its orders, and those that a guest
/// got. They stay, so that a repeat still changes nothing.
async fn anonymize_replies_of(
    transaction: &mut Transaction<'_>,
    user: UserId,
) -> Result<(), TransactionError> {
    let mut updates: Vec<RawDocumentBuf> = Vec::new();
    let record = |document: &RawDocument| {
        let reply: IdempotencyKeyDocument<'_> = deserialize_document(document)?;
        let id = to_raw_document(&reply.id)?;
        let reply = to_raw_document(&reply.into_anonymized())?;
        updates.push(rawdoc! { "q": { "_id": id }, "u": reply });
        Ok(())
    };
    let replies = doc! { "$or": [
        { "about": id_to_bson(user.as_uuid()) }, { "_id": keys_of(user) },
    ], "refused_at": { "$exists": false } };
    transaction.for_each_document(IDEMPOTENCY_KEYS, replies, doc! {}, record).await?;
    for update in updates {
        transaction.update_many(IDEMPOTENCY_KEYS, one(update)).await?;
    }
    Ok(())
}

fn one(statement: RawDocumentBuf) -> RawArrayBuf {
    std::iter::once(statement).collect()
}

fn to_raw(document: &Document) -> Result<RawDocumentBuf, TransactionError> {
    let raw = RawDocumentBuf::try_from(document);
    raw.map_err(|error| TransactionError::permanent(DocumentError::from(error).0))
}
