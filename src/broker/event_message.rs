//! The AMQP headers of an event, and how a node reads an event from a message.

use std::borrow::Cow;

use lapin::{message::Delivery, types::AMQPValue};

use crate::{
    events::{Audience, OutboxEvent, OutboxPosition},
    messages::trace_parent::TraceParent,
};

/// The event's position in the outbox, as one number: see [`OutboxPosition::to_i64`].
pub(super) const POSITION_HEADER: &str = "souk-position";

/// Who may see the event on the public feed: `everyone`, `nobody`, or the id of a user.
pub(super) const AUDIENCE_HEADER: &str = "souk-audience";

/// The trace context of the message's publisher. Without a recorded trace, it is that of the
/// request that caused the event, as in the body.
pub(super) const TRACEPARENT_HEADER: &str = "traceparent";

/// The value of [`AUDIENCE_HEADER`].
pub(super) fn audience_header(audience: Audience) -> Cow<'static, str> {
    match audience {
        Audience::Everyone => "everyone".into(),
        Audience::BrokerOnly => "nobody".into(),
        Audience::Owner(user) => user.to_string().into(),
    }
}

/// The trace context in a message's headers, if it has a valid one.
pub(super) fn trace_context(delivery: &Delivery) -> Option<TraceParent> {
    let headers = delivery.properties.headers().as_ref()?;
    match headers.inner().get(TRACEPARENT_HEADER)? {
        AMQPValue::LongString(text) => {
            TraceParent::parse(std::str::from_utf8(text.as_bytes()).ok()?)
        }
        _ => None,
    }
}

/// The event in a message. `None` when the message is not from a relay: other systems may publish
/// to the exchange too.
pub(super) fn event_from_delivery(delivery: Delivery) -> Option<OutboxEvent> {
    let headers = delivery.properties.headers().as_ref()?.inner();
    let position = match headers.get(POSITION_HEADER)? {
        AMQPValue::LongLongInt(position) => OutboxPosition::from_i64(*position)?,
        _ => return None,
    };
    let audience = match headers.get(AUDIENCE_HEADER)? {
        AMQPValue::LongString(text) => match text.as_bytes() {
            b"everyone" => Audience::Everyone,
            b"nobody" => Audience::BrokerOnly,
            user => Audience::Owner(std::str::from_utf8(user).ok()?.parse().ok()?),
        },
        _ => return None,
    };
    let id = delivery.properties.message_id().as_ref()?.as_str().parse().ok()?;
    Some(OutboxEvent {
        position,
        id,
        kind: delivery.routing_key.to_string(),
        audience,
        body: delivery.data.into(),
    })
}
