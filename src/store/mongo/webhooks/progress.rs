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

/// The most bytes of a command's statements. The server takes 16 MiB in all, and a document that is
/// larger than this alone.
const MAX_COMMAND_BYTES: usize = 12 * 1024 * 1024;

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
            let stages = keep_requested(document, delivery.updated_at);
            pending.push(rawdoc! { "q": { "_id": key }, "u": stages, "upsert": true });
        }
        for (event, at) in &one.done {
            let key = delivery_id_to_binaries(id, *event);
            let newer = rawdoc! { "$gt": timestamp_to_bson(*at) };
            let requested = rawdoc! { "requested": true, "updated_at": newer };
            let mut others = RawArrayBuf::new();
            others.push(requested);
            done.push(rawdoc! { "q": { "_id": key, "$nor": others }, "limit": 1_i32 });
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

/// The stages of an update that writes an event as it is after an attempt that began at `at`, but
/// for one that staff has asked for since: that stays due.
fn keep_requested(after: RawDocumentBuf, at: Timestamp) -> RawArrayBuf {
    let array = |values: [RawDocumentBuf; 2]| values.into_iter().collect::<RawArrayBuf>();
    let is_requested = rawdoc! { "$eq": ["$requested", true] };
    let is_newer = rawdoc! { "$gt": ["$updated_at", timestamp_to_bson(at)] };
    let counted = rawdoc! { "$max": ["$attempts", after.get("attempts").ok().flatten()
    .and_then(|attempts| attempts.as_i64().or(attempts.as_i32().map(i64::from)))
    .unwrap_or(0)] };
    let kept = rawdoc! { "$mergeObjects": ["$$ROOT", { "attempts": counted }] };
    let condition = rawdoc! { "$cond": {
        "if": { "$and": array([is_requested, is_newer]) },
        "then": kept,
        "else": { "$literal": after },
    } };
    let mut stages = RawArrayBuf::new();
    stages.push(rawdoc! { "$replaceWith": condition });
    stages
}

/// Runs statements outside of a transaction. An attempt that exists was written before.
async fn run(
    database: &Database,
    command: &str,
    collection: &str,
    list: &str,
    statements: Vec<RawDocumentBuf>,
) -> ReadResult<()> {
    for chunk in split(&statements) {
        let statements: RawArrayBuf = chunk.iter().collect();
        let mut document = RawDocumentBuf::new();
        document.append(mongodb::bson::raw::CString::try_from(command)?, collection);
        document.append(mongodb::bson::raw::CString::try_from(list)?, statements);
        document.append(mongodb::bson::cstr!("ordered"), false);
        document.append(mongodb::bson::cstr!("writeConcern"), rawdoc! { "w": "majority" });
        let reply = database.run_raw_command(document).await?;
        if let Some(reason) = failure_in(&reply) {
            return Err(DocumentError(reason.to_owned()).into());
        }
    }
    Ok(())
}

/// Statements of one command each.
fn split(statements: &[RawDocumentBuf]) -> Vec<&[RawDocumentBuf]> {
    let mut commands = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (end, statement) in statements.iter().enumerate() {
        let size = statement.as_bytes().len();
        if end > start && (end - start == MAX_STATEMENTS || bytes + size > MAX_COMMAND_BYTES) {
            commands.extend(statements.get(start..end));
            (start, bytes) = (end, 0);
        }
        bytes += size;
    }
    commands.extend(statements.get(start..).filter(|rest| !rest.is_empty()));
    commands
}

/// Why not everything is written, and will stay so if the primary fails. The driver returns the
/// reply of such a command as it is.
fn failure_in(reply: &Document) -> Option<&str> {
    let errors = reply.get_array("writeErrors").ok().into_iter().flatten();
    let rejected = errors
        .filter_map(Bson::as_document)
        .find(|error| error.get_i32("code").ok() != Some(DUPLICATE_KEY));
    let error = rejected.or_else(|| reply.get_document("writeConcernError").ok())?;
    Some(error.get_str("errmsg").unwrap_or("the server did not write a statement"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_bounded_in_statements_and_bytes() {
        let of_size = |bytes: usize| rawdoc! { "u": "x".repeat(bytes) };
        let lengths = |statements: &[RawDocumentBuf]| -> Vec<usize> {
            split(statements).into_iter().map(<[_]>::len).collect()
        };
        assert!(split(&[]).is_empty());
        assert_eq!(lengths(&vec![of_size(1); 2 * MAX_STATEMENTS + 1]), [2000, 2000, 1]);
        assert_eq!(lengths(&vec![of_size(5 * 1024 * 1024); 5]), [2, 2, 1]);
        assert_eq!(lengths(&[of_size(1), of_size(13 * 1024 * 1024), of_size(1)]), [1, 1, 1]);
    }

    #[test]
    fn reply_fails_unless_everything_is_written_for_good() {
        let error = |code: i32| doc! { "code": code, "errmsg": "no" };
        assert_eq!(failure_in(&doc! { "ok": 1 }), None);
        assert_eq!(failure_in(&doc! { "writeErrors": [error(DUPLICATE_KEY)] }), None);
        let rejected = doc! { "writeErrors": [error(DUPLICATE_KEY), error(121)] };
        assert_eq!(failure_in(&rejected), Some("no"));
        assert_eq!(failure_in(&doc! { "ok": 1, "writeConcernError": error(91) }), Some("no"));
    }
}
