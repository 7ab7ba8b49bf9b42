//! Erases accounts, inside the writer's transaction.

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
    schema::{ADDRESS_BOOKS, IDEMPOTENCY_KEYS, MAILS, ORDERS, SESSIONS, USERS},
    transaction::Transaction,
    transaction_error::TransactionError,
};
use crate::{
    domain::{
        ids::UserId,
        order::{KEPT_ADDRESS_FIELDS, OrderStatus},
    },
    store::plan::{LoadedState, WriteSet},
};

/// Finds those of `users` who have an order that is paid and not shipped.
pub(super) async fn load_open_order_users(
    transaction: &mut Transaction<'_>,
    users: &BTreeSet<UserId>,
    loaded: &mut LoadedState,
) -> Result<(), TransactionError> {
    #[derive(Deserialize)]
    struct Buyer {
        user_id: BsonUuid,
    }
    if users.is_empty() {
        return Ok(());
    }
    let ids: Vec<BsonUuid> = users.iter().map(|user| id_to_bson(user.as_uuid())).collect();
    let to_ship = OrderStatus::TO_SHIP.map(OrderStatus::as_str).to_vec();
    let open = doc! { "user_id": { "$in": ids }, "status": { "$in": to_ship } };
    let record = |document: &RawDocument| {
        let Buyer { user_id } = deserialize_document(document)?;
        loaded.open_order_users.insert(id_from_bson(user_id));
        Ok(())
    };
    transaction.for_each_document(ORDERS, open, doc! { "_id": 0, "user_id": 1 }, record).await
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
        // The range of ids that begin with the owner, since a document is compared field by field.
        let range = doc! {
            "$gt": { "owner": id_to_bson(user.as_uuid()) },
            "$lt": { "owner": id_to_bson(user.as_uuid()), "key": Bson::MaxKey },
        };
        let own_keys = to_raw(&doc! { "_id": range })?;
        transaction.delete_many(IDEMPOTENCY_KEYS, own_keys).await?;
        let clients = to_raw(&doc! {
            "q": { "user_id": id_to_bson(user.as_uuid()) },
            "u": { "$unset": { "address": "", "user_agent": "" } },
            "multi": true,
        })?;
        transaction.update_many(SESSIONS, one(clients)).await?;
        transaction.update_many(ORDERS, one(to_raw(&order_anonymization(*user))?)).await?;
        anonymize_replies_about(transaction, *user).await?;
    }
    Ok(())
}

/// The update of all orders of a user. It leaves the logical time of their last change as it is,
/// since it is no change of them, and has no event.
fn order_anonymization(user: UserId) -> Document {
    let fields = doc! { "$objectToArray": "$shipping_address" };
    let is_kept = doc! { "$in": ["$$this.k", KEPT_ADDRESS_FIELDS.to_vec()] };
    let kept = doc! { "$filter": { "input": fields, "cond": is_kept } };
    let address = doc! { "$cond": [
        { "$eq": [{ "$type": "$shipping_address" }, "object"] },
        { "$arrayToObject": kept },
        "$$REMOVE",
    ] };
    doc! {
        "q": { "user_id": id_to_bson(user.as_uuid()), "anonymized": { "$ne": true } },
        "u": [
            { "$set": { "anonymized": true, "shipping_address": address } },
            { "$unset": "charges.shipping_to.postal_code" },
        ],
        "multi": true,
    }
}

/// The replies that staff got when it changed the account or its orders. They stay, so that a
/// repeat still changes nothing.
async fn anonymize_replies_about(
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
    let about = doc! { "about": id_to_bson(user.as_uuid()) };
    transaction.for_each_document(IDEMPOTENCY_KEYS, about, doc! {}, record).await?;
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
