//! Mails that wait to be sent.

use mongodb::bson::{DateTime, Uuid as BsonUuid};
use serde::{Deserialize, Serialize};

use super::{DocumentError, id_from_bson, id_to_bson, timestamp_from_bson, timestamp_to_bson};
use crate::domain::{
    account::Email,
    mail::{Mail, MailKind, OrderReference},
};

/// A mail as stored in `mails`.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct MailDocument {
    #[serde(rename = "_id")]
    mail_id: BsonUuid,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<BsonUuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<BsonUuid>,
    /// The shipment or the refund that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    part_id: Option<BsonUuid>,
    is_requested: bool,
    created_at: DateTime,
    due_at: DateTime,
    attempts: u32,
    version: u64,
}

impl From<&Mail> for MailDocument {
    fn from(mail: &Mail) -> Self {
        Self {
            mail_id: id_to_bson(mail.id.as_uuid()),
            kind: mail.kind.as_str().to_owned(),
            recipient: mail.recipient.as_ref().map(|address| address.as_str().to_owned()),
            user_id: mail.user_id.map(|id| id_to_bson(id.as_uuid())),
            order_id: mail.order.map(|order| id_to_bson(order.order_id.as_uuid())),
            part_id: mail.order.and_then(|order| order.part).map(id_to_bson),
            is_requested: mail.is_requested,
            created_at: timestamp_to_bson(mail.created_at),
            due_at: timestamp_to_bson(mail.due_at),
            attempts: mail.attempts,
            version: mail.version,
        }
    }
}

impl TryFrom<MailDocument> for Mail {
    type Error = DocumentError;

    fn try_from(document: MailDocument) -> Result<Self, DocumentError> {
        Ok(Self {
            id: id_from_bson(document.mail_id),
            kind: document
                .kind
                .parse::<MailKind>()
                .map_err(|_| DocumentError(format!("{:?} is no kind of mail", document.kind)))?,
            recipient: document.recipient.map(Email::from_stored),
            user_id: document.user_id.map(id_from_bson),
            order: document.order_id.map(|order_id| OrderReference {
                order_id: id_from_bson(order_id),
                part: document.part_id.map(id_from_bson),
            }),
            is_requested: document.is_requested,
            created_at: timestamp_from_bson(document.created_at),
            due_at: timestamp_from_bson(document.due_at),
            attempts: document.attempts,
            version: document.version,
            ended: false,
        })
    }
}
