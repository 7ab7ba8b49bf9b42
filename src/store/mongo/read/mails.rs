//! Reads of mails.

use mongodb::{
    Database,
    bson::{RawDocument, RawDocumentBuf, doc},
};

use super::{
    super::{
        documents::{DocumentError, MailDocument, timestamp_to_bson},
        load::deserialize_document,
        schema::MAILS,
    },
    ReadResult,
};
use crate::domain::{clock::Timestamp, mail::Mail};

/// Skips a mail that cannot be read, so that it does not keep the others from being sent.
pub(in crate::store::mongo) async fn list_due_mails(
    database: Database,
    now: Timestamp,
    limit: u32,
) -> ReadResult<Vec<Mail>> {
    let mut cursor = database
        .collection::<RawDocumentBuf>(MAILS)
        .find(doc! { "due_at": { "$lte": timestamp_to_bson(now) } })
        .sort(doc! { "due_at": 1, "_id": 1 })
        .batch_size(limit.clamp(1, 10_000))
        .await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut mails = Vec::new();
    while mails.len() < limit && cursor.advance().await? {
        match mail_from_document(cursor.current()) {
            Ok(mail) => mails.push(mail),
            Err(error) => {
                let mail = cursor.current().get("_id").ok().flatten();
                tracing::error!(?mail, %error, "failed to read a mail; it cannot be sent");
            }
        }
    }
    Ok(mails)
}

fn mail_from_document(document: &RawDocument) -> Result<Mail, DocumentError> {
    deserialize_document::<MailDocument>(document)?.try_into()
}
