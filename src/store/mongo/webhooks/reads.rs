//! Reads of webhooks.

use mongodb::{
    Database,
    bson::{Bson, Document, RawDocument, RawDocumentBuf, Uuid as BsonUuid, doc},
};
use serde::Deserialize;

use super::documents::{AttemptDocument, PendingDocument, WebhookDocument, delivery_id_to_bson};
use crate::{
    domain::{
        ids::{AttemptId, EventId, WebhookId},
        webhook::{DeliveryAttempt, DeliveryStatus, PendingDelivery, Webhook},
    },
    events::{OutboxCursor, OutboxPosition},
    store::{
        mongo::{
            documents::{DocumentError, id_from_bson, id_to_bson},
            load::deserialize_document,
            read::{ListQuery, ReadResult, find_many, find_one},
            schema::{WEBHOOK_ATTEMPTS, WEBHOOK_DELIVERIES, WEBHOOK_STATES, WEBHOOKS},
        },
        webhook_store::WebhookHeads,
    },
};

/// Up to where every endpoint has read the outbox: the least offset of each partition. `None`
/// without endpoints.
pub(in crate::store::mongo) async fn read_by_all_endpoints(
    database: &Database,
) -> ReadResult<Option<OutboxCursor>> {
    #[derive(Deserialize)]
    struct EndpointCursor {
        start: String,
        cursor: Option<String>,
    }
    let from = doc! {
        "from": WEBHOOK_STATES, "localField": "_id", "foreignField": "_id", "as": "state",
    };
    let cursor = doc! { "$first": "$state.cursor" };
    let mut places = database
        .collection::<RawDocumentBuf>(WEBHOOKS)
        .aggregate([
            doc! { "$lookup": from },
            doc! { "$project": { "start": 1, "cursor": cursor } },
        ])
        .with_type::<EndpointCursor>()
        .await?;
    let mut read_by_all: Option<OutboxCursor> = None;
    while places.advance().await? {
        let EndpointCursor { start, cursor } = places.deserialize_current()?;
        let place = cursor.unwrap_or(start).parse::<OutboxCursor>().unwrap_or_default();
        read_by_all = Some(match read_by_all {
            None => place,
            Some(read_by_all) => read_by_all
                .positions()
                .map(|at| OutboxPosition {
                    offset: at.offset.min(place.offset(at.partition)),
                    ..at
                })
                .collect(),
        });
    }
    Ok(read_by_all)
}

fn webhook_from_document(document: &RawDocument) -> Result<Webhook, DocumentError> {
    deserialize_document::<WebhookDocument>(document)?.try_into()
}

fn pending_from_document(document: &RawDocument) -> Result<PendingDelivery, DocumentError> {
    Ok(deserialize_document::<PendingDocument>(document)?.into())
}

fn attempt_from_document(document: &RawDocument) -> Result<DeliveryAttempt, DocumentError> {
    deserialize_document::<AttemptDocument>(document)?.try_into()
}

pub(super) async fn list_heads(database: Database) -> ReadResult<WebhookHeads> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(rename = "_id")]
        id: BsonUuid,
        version: u64,
    }
    let projection = Some(doc! { "version": 1 });
    let query = ListQuery { projection, ..ListQuery::default() };
    let webhooks = find_many(&database, WEBHOOKS, query, |document| {
        let Head { id, version } = deserialize_document(document)?;
        Ok((id_from_bson(id), version))
    })
    .await?;
    if webhooks.is_empty() {
        return Ok(WebhookHeads::default());
    }
    let requested = database
        .collection::<Document>(WEBHOOK_DELIVERIES)
        .distinct("webhook_id", doc! { "requested": true })
        .await?;
    let id = |id: Bson| match id {
        Bson::Binary(id) => Some(id_from_bson::<WebhookId>(id.to_uuid().ok()?)),
        _ => None,
    };
    Ok(WebhookHeads { webhooks, requested: requested.into_iter().filter_map(id).collect() })
}

pub(super) async fn list_attempts(
    database: Database,
    id: WebhookId,
    status: Option<DeliveryStatus>,
    before: Option<AttemptId>,
    limit: u32,
) -> ReadResult<Vec<DeliveryAttempt>> {
    let mut filter = doc! { "webhook_id": id_to_bson(id.as_uuid()) };
    if let Some(before) = before {
        filter.insert("_id", doc! { "$lt": id_to_bson(before.as_uuid()) });
    }
    if let Some(status) = status {
        filter.insert("status", status.as_str());
    }
    let sort = Some(doc! { "_id": -1 });
    let query = ListQuery { filter, sort, limit: Some(limit), ..ListQuery::default() };
    find_many(&database, WEBHOOK_ATTEMPTS, query, attempt_from_document).await
}

pub(super) async fn find_delivery(
    database: Database,
    id: WebhookId,
    event: EventId,
) -> ReadResult<(Option<DeliveryAttempt>, Option<PendingDelivery>)> {
    let webhook_id = id_to_bson(id.as_uuid());
    let of_event = doc! { "webhook_id": webhook_id, "event_id": id_to_bson(event.as_uuid()) };
    let query = ListQuery {
        filter: of_event.clone(),
        sort: Some(doc! { "_id": -1 }),
        limit: Some(1),
        ..ListQuery::default()
    };
    let attempt = find_many(&database, WEBHOOK_ATTEMPTS, query, attempt_from_document).await?;
    let mut with_position = of_event;
    with_position.insert("position", doc! { "$exists": true, "$ne": null });
    let first = find_one(&database, WEBHOOK_ATTEMPTS, with_position, attempt_from_document).await?;
    let position = first.and_then(|first| first.position);
    let filter = doc! { "_id": delivery_id_to_bson(id, event) };
    let pending = find_one(&database, WEBHOOK_DELIVERIES, filter, pending_from_document).await?;
    let attempt = attempt.into_iter().next();
    Ok((attempt.map(|attempt| DeliveryAttempt { position, ..attempt }), pending))
}

pub(super) async fn list_waiting(
    database: Database,
    id: WebhookId,
    limit: u32,
) -> ReadResult<Vec<PendingDelivery>> {
    let query = ListQuery {
        filter: doc! { "webhook_id": id_to_bson(id.as_uuid()), "due_at": { "$type": "date" } },
        sort: Some(doc! { "due_at": 1 }),
        limit: Some(limit),
        ..ListQuery::default()
    };
    find_many(&database, WEBHOOK_DELIVERIES, query, pending_from_document).await
}

pub(super) async fn count_waiting(database: Database, id: WebhookId) -> ReadResult<u64> {
    let filter = doc! { "webhook_id": id_to_bson(id.as_uuid()), "due_at": { "$type": "date" } };
    Ok(database.collection::<Document>(WEBHOOK_DELIVERIES).count_documents(filter).await?)
}

pub(super) async fn find_webhook(database: Database, id: WebhookId) -> ReadResult<Option<Webhook>> {
    let filter = doc! { "_id": id_to_bson(id.as_uuid()) };
    find_one(&database, WEBHOOKS, filter, webhook_from_document).await
}

pub(super) async fn list_webhooks(
    database: Database,
    before: Option<WebhookId>,
    limit: u32,
) -> ReadResult<Vec<Webhook>> {
    let before = before.map(|id| doc! { "_id": { "$lt": id_to_bson(id.as_uuid()) } });
    let sort = Some(doc! { "_id": -1 });
    let filter = before.unwrap_or_default();
    let query = ListQuery { filter, sort, limit: Some(limit), ..ListQuery::default() };
    find_many(&database, WEBHOOKS, query, webhook_from_document).await
}
