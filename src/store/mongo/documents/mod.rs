//! Conversions between domain types and MongoDB documents.
//!
//! Ids are UUIDs, timestamps are BSON dates, and amounts are minor units next to their currency.
//! A value that is `None` in the domain has no field in the document.

mod accounts;
mod carts;
mod catalog;
mod changes;
mod idempotency;
mod mails;
mod orders;
mod outbox;
mod shipments;
mod staff;

use mongodb::bson::{
    Binary, DateTime, RawDeserializer, RawDocument, RawDocumentBuf, Uuid as BsonUuid,
    spec::BinarySubtype,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(super) use self::{
    accounts::{AddressBookDocument, SessionDocument, UserDocument},
    carts::{CartDocument, truncate_to_hour},
    catalog::{MovementDocument, ProductDocument, StockDocument},
    changes::ChangesDocument,
    idempotency::{IdempotencyKeyDocument, IdempotencyKeyId, RefusedKeyDocument},
    mails::MailDocument,
    orders::OrderDocument,
    outbox::{EventBatchDocument, MAX_EVENTS_PER_DOCUMENT},
    staff::{ActionDocument, ActorDocument, ApiKeyDocument},
};
use crate::domain::{
    clock::Timestamp,
    money::{Currency, Money},
};

/// A stored document is invalid, or a record cannot be represented as a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(in crate::store::mongo) struct DocumentError(pub(in crate::store::mongo) String);

impl From<mongodb::bson::error::Error> for DocumentError {
    fn from(error: mongodb::bson::error::Error) -> Self {
        Self(error.to_string())
    }
}

/// What a query does with each document. Not generic, so that the program has the code of a query
/// once and not for each use.
pub(super) type ForEach<'a> = dyn FnMut(&RawDocument) -> Result<(), DocumentError> + Send + 'a;

/// An id for documents that serde writes, and for filters.
pub(super) fn id_to_bson(uuid: Uuid) -> BsonUuid {
    BsonUuid::from_bytes(uuid.into_bytes())
}

/// An id for raw documents, which take no BSON `Uuid`.
pub(super) fn id_to_binary(uuid: Uuid) -> Binary {
    Binary { subtype: BinarySubtype::Uuid, bytes: uuid.as_bytes().to_vec() }
}

/// A domain id from the id in a document.
pub(super) fn id_from_bson<I: From<Uuid>>(id: BsonUuid) -> I {
    I::from(Uuid::from_bytes(id.bytes()))
}

/// A BSON date, which has millisecond precision like [`Timestamp`].
pub(super) const fn timestamp_to_bson(time: Timestamp) -> DateTime {
    DateTime::from_millis(time.as_millis())
}

pub(super) const fn timestamp_from_bson(date: DateTime) -> Timestamp {
    Timestamp::from_millis(date.timestamp_millis())
}

fn parse_money(minor: i64, currency: &str) -> Result<Money, DocumentError> {
    let currency: Currency =
        currency.parse().map_err(|_| DocumentError(format!("{currency:?} is not a currency")))?;
    Money::from_minor_units(minor, currency)
        .map_err(|error| DocumentError(format!("invalid price: {error}")))
}

/// Serializes `value` without an intermediate [`Document`](mongodb::bson::Document).
pub(super) fn to_raw_document(value: &impl Serialize) -> Result<RawDocumentBuf, DocumentError> {
    Ok(mongodb::bson::serialize_to_raw_document_buf(value)?)
}

/// Deserializes a document without copying, so the result may borrow from `bytes`.
///
/// Erased, since BSON's deserializer has ten kinds of maps: without it, the code of each type of
/// document would be in the program ten times.
pub(super) fn deserialize_bytes<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
) -> Result<T, DocumentError> {
    let mut deserializer =
        <dyn erased_serde::Deserializer<'_>>::erase(RawDeserializer::new(bytes)?);
    erased_serde::deserialize(&mut deserializer).map_err(|error| DocumentError(error.to_string()))
}

pub(super) fn bytes_to_binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

pub(super) fn hash_from_binary(binary: &Binary) -> Result<[u8; 32], DocumentError> {
    binary
        .bytes
        .as_slice()
        .try_into()
        .map_err(|_| DocumentError("a stored hash is not 32 bytes long".to_owned()))
}
