//! Reads of orders.

use mongodb::{
    Database,
    bson::{Document, RawDocument, RawDocumentBuf, doc},
};

use super::{
    super::{
        documents::{DocumentError, OrderDocument, id_to_bson, timestamp_to_bson},
        load::deserialize_document,
        schema::ORDERS,
    },
    ListQuery, ReadResult, find_many, find_one,
};
use crate::domain::{
    clock::Timestamp,
    ids::OrderId,
    order::{BuyerKey, Order, OrderFilter, OrderStatus},
};

pub(in crate::store::mongo) fn order_from_document(
    document: &RawDocument,
) -> Result<Order, DocumentError> {
    deserialize_document::<OrderDocument<'_>>(document)?.try_into()
}

pub(in crate::store::mongo) async fn find_order(
    database: Database,
    order: OrderId,
) -> ReadResult<Option<Order>> {
    let filter = doc! { "_id": id_to_bson(order.as_uuid()) };
    find_one(&database, ORDERS, filter, order_from_document).await
}

pub(in crate::store::mongo) async fn list_orders(
    database: Database,
    filter: OrderFilter,
    before: Option<OrderId>,
    limit: u32,
) -> ReadResult<Vec<Order>> {
    let mut query = Document::new();
    if let Some(user) = filter.user_id {
        query.insert("user_id", id_to_bson(user.as_uuid()));
    }
    if let Some(email) = &filter.email {
        query.insert("email", email.as_str());
    }
    if let Some(status) = filter.status {
        query.insert("status", status.as_str());
    }
    let mut ids = Vec::new();
    if let Some((first, end)) = filter.number.map(|number| number.id_range()) {
        ids.push(doc! { "_id": { "$gte": id_to_bson(first), "$lt": id_to_bson(end) } });
    }
    if let Some(before) = before {
        ids.push(doc! { "_id": { "$lt": id_to_bson(before.as_uuid()) } });
    }
    if !ids.is_empty() {
        query.insert("$and", ids);
    }
    let mut placed_at = Document::new();
    let bounds = [("$gte", filter.placed_from), ("$lte", filter.placed_to)];
    for (operator, bound) in bounds {
        if let Some(bound) = bound {
            placed_at.insert(operator, timestamp_to_bson(bound));
        }
    }
    if !placed_at.is_empty() {
        query.insert("placed_at", placed_at);
    }
    let sort = Some(doc! { "_id": -1 });
    // The few orders of a millisecond are compared with the number here.
    let most = if filter.number.is_some() { None } else { Some(limit) };
    let query = ListQuery { filter: query, sort, limit: most, ..ListQuery::default() };
    let mut found = find_many(&database, ORDERS, query, order_from_document).await?;
    found.retain(|order| filter.matches(order));
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found)
}

/// The orders with a key.
pub(in crate::store::mongo) fn orders_with_key(key: &BuyerKey) -> Document {
    match key {
        BuyerKey::User(user) => doc! { "user_id": id_to_bson(user.as_uuid()) },
        BuyerKey::Email(email) => doc! { "email": email.as_str() },
        BuyerKey::GuestEmail(email) => doc! { "email": email.as_str(), "guest": true },
    }
}

/// The unfinished orders with a key.
pub(in crate::store::mongo) fn unfinished_orders_with(key: &BuyerKey) -> Document {
    let unfinished = key.unfinished_statuses().iter().map(|status| status.as_str());
    let mut filter = orders_with_key(key);
    filter.insert("status", doc! { "$in": unfinished.collect::<Vec<_>>() });
    filter
}

pub(in crate::store::mongo) async fn list_unfinished_orders(
    database: Database,
    key: BuyerKey,
    limit: u32,
) -> ReadResult<Vec<Order>> {
    let filter = unfinished_orders_with(&key);
    let sort = Some(doc! { "_id": 1 });
    let query = ListQuery { filter, sort, limit: Some(limit), ..ListQuery::default() };
    find_many(&database, ORDERS, query, order_from_document).await
}

pub(in crate::store::mongo) async fn find_order_by_intent(
    database: Database,
    intent: String,
) -> ReadResult<Option<Order>> {
    find_one(&database, ORDERS, doc! { "payment.provider.intents.id": intent }, order_from_document)
        .await
}

pub(in crate::store::mongo) async fn list_due_payments(
    database: Database,
    now: Timestamp,
    limit: u32,
) -> ReadResult<Vec<Order>> {
    let filter = doc! { "payment.provider.due_at": { "$lte": timestamp_to_bson(now) } };
    let sort = Some(doc! { "payment.provider.due_at": 1 });
    let query = ListQuery { filter, sort, limit: Some(limit), ..ListQuery::default() };
    find_many(&database, ORDERS, query, order_from_document).await
}

pub(in crate::store::mongo) async fn count_due_payments(
    database: Database,
    now: Timestamp,
) -> ReadResult<u64> {
    let filter = doc! { "payment.provider.due_at": { "$lte": timestamp_to_bson(now) } };
    Ok(database.collection::<Document>(ORDERS).count_documents(filter).await?)
}

/// Moves the time at which a provider is to be asked, if it is still `from`. Returns whether it
/// was.
pub(in crate::store::mongo) async fn move_payment_due(
    database: Database,
    order: OrderId,
    from: Timestamp,
    to: Timestamp,
) -> ReadResult<bool> {
    let filter = doc! {
        "_id": id_to_bson(order.as_uuid()), "payment.provider.due_at": timestamp_to_bson(from),
    };
    let update = doc! { "$set": { "payment.provider.due_at": timestamp_to_bson(to) } };
    let orders = database.collection::<Document>(ORDERS);
    Ok(orders.update_one(filter, update).await?.modified_count == 1)
}

/// Skips an order that cannot be read, so that it does not keep the others from expiring.
pub(in crate::store::mongo) async fn list_overdue_orders(
    database: Database,
    now: Timestamp,
    after: Option<(Timestamp, OrderId)>,
    limit: u32,
) -> ReadResult<Vec<Order>> {
    let mut filter = doc! {
        "status": OrderStatus::PendingPayment.as_str(),
        "expires_at": { "$lte": timestamp_to_bson(now) },
    };
    if let Some((expires_at, order)) = after {
        let expires_at = timestamp_to_bson(expires_at);
        let same_time =
            doc! { "expires_at": expires_at, "_id": { "$gt": id_to_bson(order.as_uuid()) } };
        filter.insert("$or", [doc! { "expires_at": { "$gt": expires_at } }, same_time]);
    }
    let mut cursor = database
        .collection::<RawDocumentBuf>(ORDERS)
        .find(filter)
        .sort(doc! { "expires_at": 1, "_id": 1 })
        .batch_size(limit.clamp(1, 10_000))
        .await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut orders = Vec::new();
    while orders.len() < limit && cursor.advance().await? {
        match order_from_document(cursor.current()) {
            Ok(order) => orders.push(order),
            Err(error) => {
                let order = cursor.current().get("_id").ok().flatten();
                tracing::error!(
                    ?order,
                    %error,
                    "failed to read an overdue order; it cannot expire"
                );
            }
        }
    }
    Ok(orders)
}
