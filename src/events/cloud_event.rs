//! The envelope of every event (CloudEvents 1.0, JSON format).

use std::borrow::Cow;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{clock::Timestamp, ids::EventId};

/// The `source` of every event.
const EVENT_SOURCE: &str = "/souk";

/// A CloudEvent with data of type `D`, for reading and writing.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct CloudEvent<'a, D> {
    #[schemars(extend("const" = "1.0"))]
    specversion: Cow<'a, str>,
    /// The event's identifier. It is the same on every repeat.
    #[schemars(with = "Uuid")]
    pub id: EventId,
    #[schemars(extend("const" = "/souk"))]
    source: Cow<'a, str>,
    /// The name of the event's type.
    #[serde(rename = "type")]
    pub kind: Cow<'a, str>,
    /// The id of the product, user, guest or order.
    pub subject: Uuid,
    #[schemars(extend("format" = "date-time"))]
    time: Cow<'a, str>,
    /// The subject's version after the change.
    #[schemars(regex(pattern = "^[1-9][0-9]*$"))]
    pub sequence: Cow<'a, str>,
    #[schemars(extend("const" = "Integer"))]
    sequencetype: Cow<'a, str>,
    /// The trace of the request that caused the event (W3C Trace Context).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    traceparent: Option<Cow<'a, str>>,
    #[schemars(extend("const" = "application/json"))]
    datacontenttype: Cow<'a, str>,
    /// The data of the event, whose members depend on the event's type.
    pub data: D,
}

impl<'a, D> CloudEvent<'a, D> {
    pub(super) fn new(
        id: EventId,
        kind: &'a str,
        subject: Uuid,
        time: Timestamp,
        sequence: u64,
        traceparent: Option<&'a str>,
        data: D,
    ) -> Self {
        Self {
            specversion: "1.0".into(),
            id,
            source: EVENT_SOURCE.into(),
            kind: kind.into(),
            subject,
            time: time.to_string().into(),
            sequence: sequence.to_string().into(),
            sequencetype: "Integer".into(),
            traceparent: traceparent.map(Cow::Borrowed),
            datacontenttype: "application/json".into(),
            data,
        }
    }

    /// The same event with other data.
    pub(super) fn map_data<E>(self, map: impl FnOnce(D) -> E) -> CloudEvent<'a, E> {
        CloudEvent {
            specversion: self.specversion,
            id: self.id,
            source: self.source,
            kind: self.kind,
            subject: self.subject,
            time: self.time,
            sequence: self.sequence,
            sequencetype: self.sequencetype,
            traceparent: self.traceparent,
            datacontenttype: self.datacontenttype,
            data: map(self.data),
        }
    }

    /// Parses `sequence`. Returns `None` if it is not a number.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.sequence.parse().ok()
    }
}

impl<D: Serialize> CloudEvent<'_, D> {
    pub(super) fn to_json(&self) -> Bytes {
        // Serializing plain structs with string keys cannot fail.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

impl<'a, D: Deserialize<'a>> CloudEvent<'a, D> {
    /// Parses an event. Ignores unknown attributes, since a newer node may have written the event.
    ///
    /// # Errors
    /// The body is not a CloudEvent with data of type `D`.
    pub fn from_json(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }
}
