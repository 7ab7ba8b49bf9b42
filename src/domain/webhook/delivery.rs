//! Deliveries: attempts that were made, and events that wait for another one.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::domain::{
    clock::Timestamp,
    ids::{AttemptId, EventId, WebhookId},
};

/// What an attempt has led to.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum DeliveryStatus {
    /// The endpoint has taken the event.
    Delivered,
    /// Another attempt follows.
    Retrying,
    /// It was the last attempt.
    Failed,
}

impl DeliveryStatus {
    /// Every status, in the order of declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name in responses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Why an attempt got no answer.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum DeliveryError {
    /// It took too long.
    Timeout,
    /// No connection could be made.
    Connect,
    /// The connection could not be secured.
    Tls,
    /// The host could not be resolved.
    Dns,
    /// The URL leads to an address that is not public.
    AddressNotAllowed,
    /// The connection was closed, or what came is no HTTP.
    Protocol,
}

impl DeliveryError {
    /// Every error, in the order of declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name in responses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One attempt to deliver an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryAttempt {
    /// The attempt's identifier. Later ones sort after it.
    pub id: AttemptId,
    /// The endpoint.
    pub webhook_id: WebhookId,
    /// The event.
    pub event_id: EventId,
    /// The event's type.
    pub kind: String,
    /// The event's subject.
    pub subject: Uuid,
    /// Counts the attempts of the event at this endpoint, from 1.
    pub attempt: u32,
    /// What it has led to.
    pub status: DeliveryStatus,
    /// The status of the answer, if there was one.
    pub status_code: Option<u16>,
    /// Why there was no answer.
    pub error: Option<DeliveryError>,
    /// How long it took.
    pub duration: Duration,
    /// When it began.
    pub at: Timestamp,
    /// When the next attempt is due.
    pub next_at: Option<Timestamp>,
    /// Where the event stands in the outbox, as one number, if it came from there.
    pub position: Option<i64>,
}

/// An event that an endpoint has not taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingDelivery {
    /// The endpoint.
    pub webhook_id: WebhookId,
    /// The event.
    pub event_id: EventId,
    /// The event's type.
    pub kind: String,
    /// The event's subject.
    pub subject: Uuid,
    /// The CloudEvent as JSON.
    pub body: Bytes,
    /// The attempts so far.
    pub attempts: u32,
    /// When it is tried again; `None` if it is not, since its last attempt has failed.
    pub due_at: Option<Timestamp>,
    /// Whether staff has asked for it, and the node that delivers may not know yet.
    pub requested: bool,
    /// When the record was written.
    pub updated_at: Timestamp,
}
