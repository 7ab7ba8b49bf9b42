//! What the nodes that deliver write.

use std::sync::Arc;

use mongodb::{
    Database,
    bson::{Bson, DateTime, Document, RawArrayBuf, RawDocumentBuf, Uuid as BsonUuid, doc, rawdoc},
    options::ReturnDocument,
};
use serde::Deserialize;
use uuid::Uuid;

use super::documents::{AttemptDocument, PendingDocument, StateDocument, delivery_id_to_binaries};
use crate::{
    domain::{clock::Timestamp, ids::WebhookId},
    store::{
        mongo::{
            documents::{
                DocumentError, id_to_binary, id_to_bson, timestamp_to_bson, to_raw_document,
            },
            read::ReadResult,
            schema::{WEBHOOK_ATTEMPTS, WEBHOOK_DELIVERIES, WEBHOOK_STATES, WEBHOOKS},
        },
        webhook_store::{WebhookProgress, WebhookState},
    },
};

/// The most statements in one command.
const MAX_STATEMENTS: usize = 2_000;

/// The error of a document that exists.
const DUPLICATE_KEY: i32 = 11000;

pub(super) async fn open(
    database: Database,
    id: WebhookId,
    node: Uuid,
) -> ReadResult<WebhookState> {
    let state = database
        .collection::<StateDocument>(WEBHOOK_STATES)
        .find_one_and_update(
            doc! { "_id": id_to_bson(id.as_uuid()) },
            doc! { "$set": { "node": id_to_bson(node) } },
        )
        .upsert(true)
        .return_document(ReturnDocument::After)
        .await?;
    state.map_or_else(|| Ok(WebhookState::default()), |state| Ok(state.try_into()?))
}

/// Records what was done. States come last, so that no cursor passes an event that is not written,
/// and what is done comes after them: if only that is lost, the event is delivered again.
pub(super) async fn save(
    database: Database,
    node: Uuid,
    progress: Arc<[WebhookProgress]>,
) -> ReadResult<()> {
    let (mut attempts, mut pending) = (Vec::new(), Vec::new());
    let (mut states, mut done) = (Vec::new(), Vec::new());
    for one in progress.iter() {
        let Some(id) = one.webhook_id else { continue };
        for attempt in &one.attempts {
            attempts.push(to_raw_document(&AttemptDocument::from(attempt))?);
        }
        for delivery in &one.pending {
            let key = delivery_id_to_binaries(delivery.webhook_id, delivery.event_id);
            let document = to_raw_document(&PendingDocument::from(delivery))?;
            pending.push(rawdoc! { "q": { "_id": key }, "u": document, "upsert": true });
        }
        for event in &one.done {
            let key = delivery_id_to_binaries(id, *event);
            done.push(rawdoc! { "q": { "_id": key }, "limit": 1_i32 });
        }
        let of_node = rawdoc! { "_id": id_to_binary(id.as_uuid()), "node": id_to_binary(node) };
        let document = to_raw_document(&StateDocument::new(id, node, &one.state))?;
        states.push(rawdoc! { "q": of_node, "u": document });
    }
    run(&database, "insert", WEBHOOK_ATTEMPTS, "documents", attempts).await?;
    run(&database, "update", WEBHOOK_DELIVERIES, "updates", pending).await?;
    run(&database, "update", WEBHOOK_STATES, "updates", states).await?;
    run(&database, "delete", WEBHOOK_DELIVERIES, "deletes", done).await
}

/// Runs statements outside of a transaction. An attempt that exists was written before.
async fn run(
    database: &Database,
    command: &str,
    collection: &str,
    list: &str,
    statements: Vec<RawDocumentBuf>,
) -> ReadResult<()> {
    for chunk in statements.chunks(MAX_STATEMENTS) {
        let statements: RawArrayBuf = chunk.iter().collect();
        let mut document = RawDocumentBuf::new();
        document.append(mongodb::bson::raw::CString::try_from(command)?, collection);
        document.append(mongodb::bson::raw::CString::try_from(list)?, statements);
        document.append(mongodb::bson::cstr!("ordered"), false);
        document.append(mongodb::bson::cstr!("writeConcern"), rawdoc! { "w": "majority" });
        let reply = database.run_raw_command(document).await?;
        let errors = reply.get_array("writeErrors").ok();
        let serious = errors
            .into_iter()
            .flatten()
            .filter_map(Bson::as_document)
            .find(|error| error.get_i32("code").ok() != Some(DUPLICATE_KEY));
        if let Some(error) = serious {
            let reason = error.get_str("errmsg").unwrap_or("the server rejected a statement");
            return Err(DocumentError(reason.to_owned()).into());
        }
    }
    Ok(())
}

/// Deletes old attempts, and events that failed with them.
pub(super) async fn trim(
    database: Database,
    id: WebhookId,
    older_than: Timestamp,
    kept: u32,
) -> ReadResult<()> {
    #[derive(Deserialize)]
    struct Kept {
        #[serde(rename = "_id")]
        id: BsonUuid,
        at: DateTime,
    }
    let of_webhook = doc! { "webhook_id": id_to_bson(id.as_uuid()) };
    let attempts = database.collection::<Kept>(WEBHOOK_ATTEMPTS);
    let with = |name: &str, value: Bson| {
        let mut filter = of_webhook.clone();
        filter.insert(name, value);
        filter
    };
    let cutoff = timestamp_to_bson(older_than);
    attempts.delete_many(with("at", doc! { "$lt": cutoff }.into())).await?;
    let sort = doc! { "_id": -1 };
    let extra = attempts.find_one(of_webhook.clone()).sort(sort).skip(kept.into()).await?;
    if let Some(extra) = extra {
        attempts.delete_many(with("_id", doc! { "$lte": extra.id }.into())).await?;
    }
    let oldest = attempts.find_one(of_webhook.clone()).sort(doc! { "_id": 1 }).await?;
    let oldest = oldest.map_or(cutoff, |oldest| oldest.at);
    let mut failed = with("due_at", Bson::Null);
    failed.insert("updated_at", doc! { "$lt": oldest });
    database.collection::<Document>(WEBHOOK_DELIVERIES).delete_many(failed).await?;
    Ok(())
}

/// Deletes what is left of deleted endpoints.
pub(super) async fn delete_remains(database: Database) -> ReadResult<u64> {
    let mut deleted = 0;
    for (collection, field) in [
        (WEBHOOK_ATTEMPTS, "webhook_id"),
        (WEBHOOK_DELIVERIES, "webhook_id"),
        (WEBHOOK_STATES, "_id"),
    ] {
        let collection = database.collection::<Document>(collection);
        // Read before the endpoints are, so that nothing of a new one is deleted.
        let owners = collection.distinct(field, doc! {}).await?;
        if owners.is_empty() {
            continue;
        }
        let filter = doc! { "_id": { "$in": owners.clone() } };
        let existing = database.collection::<Document>(WEBHOOKS).distinct("_id", filter).await?;
        let gone: Vec<Bson> = owners.into_iter().filter(|id| !existing.contains(id)).collect();
        if !gone.is_empty() {
            let left = doc! { field: { "$in": gone } };
            deleted += collection.delete_many(left).await?.deleted_count;
        }
    }
    Ok(deleted)
}
