//! How the domain's types stand in documents, and back.
//!
//! Ids are UUIDs, times are dates, money is in minor units beside its currency. What is absent in the domain is absent in the document.

mod accounts;
mod carts;
mod catalog;
mod orders;
mod told;

use mongodb::bson::{Binary, DateTime, RawDocumentBuf, Uuid as Id, spec::BinarySubtype};
use serde::Serialize;
use uuid::Uuid;

pub(super) use self::{
    accounts::{SessionDocument, UserDocument},
    carts::{CartDocument, truncate_to_hour},
    catalog::{MovementDocument, ProductDocument, StockDocument},
    orders::OrderDocument,
    told::{EventBatchDocument, IdempotencyKeyDocument, IdempotencyKeyId},
};
use crate::domain::{
    clock::Timestamp,
    money::{Currency, Money},
};

/// A document that does not say what it should, or a record that no document can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(in crate::store::mongo) struct DocumentError(pub(in crate::store::mongo) String);

impl From<mongodb::bson::error::Error> for DocumentError {
    fn from(error: mongodb::bson::error::Error) -> Self {
        Self(error.to_string())
    }
}

/// An id as documents hold it.
pub(super) fn id_to_bson(uuid: Uuid) -> Id {
    Id::from_bytes(uuid.into_bytes())
}

/// An id in a document that is put together by hand.
pub(super) fn id_to_binary(uuid: Uuid) -> Binary {
    Binary { subtype: BinarySubtype::Uuid, bytes: uuid.as_bytes().to_vec() }
}

/// An id as the domain holds it.
pub(super) fn id_from_bson<I: From<Uuid>>(id: Id) -> I {
    I::from(Uuid::from_bytes(id.bytes()))
}

/// A time as documents hold it.
pub(super) const fn timestamp_to_bson(time: Timestamp) -> DateTime {
    DateTime::from_millis(time.as_millis())
}

const fn timestamp_from_bson(date: DateTime) -> Timestamp {
    Timestamp::from_millis(date.timestamp_millis())
}

fn parse_money(minor: i64, currency: &str) -> Result<Money, DocumentError> {
    let currency: Currency =
        currency.parse().map_err(|_| DocumentError(format!("{currency:?} is not a currency")))?;
    Money::from_minor_units(minor, currency)
        .map_err(|error| DocumentError(format!("a price: {error}")))
}

/// A value as BSON.
pub(super) fn to_raw_document(value: &impl Serialize) -> Result<RawDocumentBuf, DocumentError> {
    Ok(mongodb::bson::serialize_to_raw_document_buf(value)?)
}

fn bytes_to_binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

fn hash_from_binary(binary: &Binary) -> Result<[u8; 32], DocumentError> {
    binary
        .bytes
        .as_slice()
        .try_into()
        .map_err(|_| DocumentError("a hash has not 32 bytes".to_owned()))
}
