//! The AsyncAPI document (3.0): what is published, and what is taken in.

use serde_json::{Map, Value, json};

use super::{
    command::{ADJUST_STOCK_TYPE, MAX_COMMAND_BYTES, MAX_COMMAND_ID_CHARS},
    dead_letters::REASON_HEADER,
    event_message::{AUDIENCE_HEADER, POSITION_HEADER, TRACEPARENT_HEADER},
    queues::{COMMAND_QUEUE, dead_letter_queue},
    topology::EVENT_EXCHANGE,
};
use crate::domain::inventory::MAX_ON_HAND;

/// An event's type, the schema of its data, and what it says.
type EventType = (&'static str, &'static str, &'static str);

/// Every type of event.
const EVENT_TYPES: &[EventType] = &[
    ("catalog.product.created", "Product", "A product is new."),
    ("catalog.product.updated", "Product", "What is said of a product has changed."),
    ("catalog.product.deleted", "ProductDeleted", "A product is no longer sold."),
    (
        "inventory.stock.changed",
        "Stock",
        "A product's stock has changed; changes that were made together are one event.",
    ),
    (
        "inventory.stock.low",
        "Stock",
        "Few pieces are left. Comes with the change of the same sequence.",
    ),
    (
        "inventory.stock.depleted",
        "Stock",
        "No piece is left. Comes with the change of the same sequence.",
    ),
    ("cart.item.added", "CartItemAdded", "A product was put into a cart, or more of it."),
    ("cart.item.updated", "CartItemUpdated", "A line of a cart has another quantity."),
    ("cart.item.removed", "CartItemRemoved", "A line was taken out of a cart."),
    ("cart.cleared", "Cart", "A cart was emptied."),
    ("cart.checked_out", "CartCheckedOut", "A cart's lines became an order."),
    ("cart.merged", "CartMerged", "A guest's cart was taken over into a user's."),
    ("cart.closed", "CartClosed", "The guest's side of a merge."),
    ("cart.abandoned", "Cart", "A cart was left untouched for long."),
    ("order.placed", "Order", "An order was placed; its stock is reserved."),
    ("order.paid", "Order", "An order was paid."),
    ("order.cancelled", "Order", "An order was cancelled; its stock is free again."),
    ("order.expired", "Order", "An order was not paid in time; its stock is free again."),
    ("order.fulfilled", "Order", "An order's pieces have left the house."),
    ("auth.user.registered", "UserRegistered", "An account is new."),
    (
        "auth.session.revoked",
        "SessionRevoked",
        "A session was ended; its tokens are good no longer.",
    ),
];

/// The document.
#[must_use]
pub fn build_document() -> Value {
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for (kind, data, says) in EVENT_TYPES {
        let exchange = json!({"name": EVENT_EXCHANGE, "type": "topic", "durable": true});
        let bindings = json!({"amqp": {"is": "routingKey", "exchange": exchange}});
        add_channel(&mut channels, kind, kind, says, &bindings);
        operations.insert(format!("publish.{kind}"), operation_object("send", kind));
        messages.insert(
            (*kind).to_owned(),
            message_object(kind, says, &event_headers(), event_schema(kind, data)),
        );
    }
    let aside = dead_letter_queue(COMMAND_QUEUE);
    let taken =
        "Changes of stock that other systems ask for, carried out in order and once for each id.";
    let refused = "Commands that cannot be carried out, as they came, with the reason in a header.";
    add_channel(
        &mut channels,
        COMMAND_QUEUE,
        "inventory.adjust",
        taken,
        &queue_binding(COMMAND_QUEUE),
    );
    add_channel(&mut channels, &aside, "refused", refused, &queue_binding(&aside));
    operations.insert("receive.commands".to_owned(), operation_object("receive", COMMAND_QUEUE));
    operations.insert("publish.refused".to_owned(), operation_object("send", &aside));
    messages.insert(
        ADJUST_STOCK_TYPE.to_owned(),
        message_object(ADJUST_STOCK_TYPE, taken, &command_headers(), schema_ref("InventoryAdjust")),
    );
    messages.insert(
        "refused".to_owned(),
        message_object("refused", refused, &refused_headers(), json!({})),
    );
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Souk",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Events are CloudEvents 1.0 in structured JSON, published at least once on the topic exchange souk.events \
                under their type. Per subject and family (the first word of the type) `sequence` has no gaps, and first times are in \
                its order; `id` is the same on every repeat.",
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas()},
    })
}

fn add_channel(
    channels: &mut Map<String, Value>,
    name: &str,
    message: &str,
    says: &str,
    bindings: &Value,
) {
    let messages = json!({message: {"$ref": format!("#/components/messages/{message}")}});
    let channel =
        json!({"address": name, "description": says, "messages": messages, "bindings": bindings});
    channels.insert(name.to_owned(), channel);
}

fn queue_binding(name: &str) -> Value {
    json!({"amqp": {"is": "queue", "queue": {"name": name, "durable": true, "exclusive": false, "autoDelete": false}}})
}

fn operation_object(action: &str, channel: &str) -> Value {
    json!({"action": action, "channel": {"$ref": format!("#/channels/{channel}")}})
}

fn message_object(name: &str, says: &str, headers: &Value, payload: Value) -> Value {
    let content_type = if name == ADJUST_STOCK_TYPE || name == "refused" {
        "application/json"
    } else {
        "application/cloudevents+json"
    };
    json!({"name": name, "summary": says, "contentType": content_type, "headers": headers, "payload": payload})
}

fn event_headers() -> Value {
    json!({"type": "object", "required": [POSITION_HEADER, AUDIENCE_HEADER], "properties": {
        POSITION_HEADER: {"type": "integer", "minimum": 1, "description": "The event's place in commit order, over all nodes; the same on \
            every repeat. Whoever remembers the last one can tell what is missing and what is repeated."},
        AUDIENCE_HEADER: {"type": "string", "description": "Who may see it on /api/events: everyone, nobody, or a user's id"},
        TRACEPARENT_HEADER: {"type": "string", "description": "The trace of the request that caused it (W3C Trace Context)"},
    }})
}

fn command_headers() -> Value {
    json!({"type": "object", "properties": {
        TRACEPARENT_HEADER: {"type": "string", "description": "Carried into the events of the change (W3C Trace Context)"},
    }})
}

fn refused_headers() -> Value {
    json!({"type": "object", "properties": {
        REASON_HEADER: {"type": "string", "description": "Why: an error code, a colon and a sentence. Missing when the broker has put it \
            aside, which it does when no node survives it."},
    }})
}

/// A CloudEvent.
fn event_schema(kind: &str, data: &str) -> Value {
    strict_object(
        &[
            "specversion",
            "id",
            "source",
            "type",
            "subject",
            "time",
            "sequence",
            "sequencetype",
            "datacontenttype",
            "data",
        ],
        json!({
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "format": "uuid"},
            "source": {"const": "/souk"},
            "type": {"const": kind},
            "subject": {"type": "string", "format": "uuid", "description": "The id of the product, user or guest, or order"},
            "time": {"type": "string", "format": "date-time"},
            "sequence": {"type": "string", "pattern": "^[1-9][0-9]*$", "description": "The subject's version after the change"},
            "sequencetype": {"const": "Integer"},
            "traceparent": {"type": "string"},
            "datacontenttype": {"const": "application/json"},
            "data": schema_ref(data),
        }),
    )
}

fn schema_ref(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// An object with these members and no others.
fn strict_object(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "additionalProperties": false, "properties": properties})
}

fn schemas() -> Value {
    let (id, text, count) = (
        json!({"type": "string", "format": "uuid"}),
        json!({"type": "string"}),
        json!({"type": "integer", "minimum": 0}),
    );
    let optional = json!({"type": ["string", "null"]});
    let reason = json!({"enum": ["logout", "token_reuse", "password_changed"]});
    json!({
        "Product": product_schema(),
        "ProductDeleted": strict_object(&["product_id", "sku", "version"], json!({"product_id": id, "sku": optional, "version": count})),
        "Stock": strict_object(
            &["product_id", "on_hand", "reserved", "available", "version"],
            json!({"product_id": id, "on_hand": count, "reserved": count, "available": count, "version": count}),
        ),
        "Cart": cart_schema(json!({})),
        "CartItemAdded": cart_schema(json!({"product_id": id, "added": count, "quantity": count})),
        "CartItemUpdated": cart_schema(json!({"product_id": id, "quantity": count})),
        "CartItemRemoved": cart_schema(json!({"product_id": id, "quantity": {"const": 0}})),
        "CartCheckedOut": cart_schema(json!({"order_id": id})),
        "CartMerged": cart_schema(json!({"guest_id": id})),
        "CartClosed": cart_schema(json!({"merged_into": id})),
        "Order": order_schema(),
        "UserRegistered": strict_object(
            &["user_id", "email", "name", "role"],
            json!({"user_id": id, "email": text, "name": text, "role": {"enum": ["customer", "admin"]}}),
        ),
        "SessionRevoked": strict_object(
            &["user_id", "session_id", "reason"], json!({"user_id": id, "session_id": id, "reason": reason}),
        ),
        "InventoryAdjust": command_schema(),
    })
}

fn product_schema() -> Value {
    let (text, optional) = (json!({"type": "string"}), json!({"type": ["string", "null"]}));
    strict_object(
        &[
            "product_id",
            "sku",
            "name",
            "description",
            "price",
            "currency",
            "category",
            "tags",
            "image_url",
            "attributes",
            "version",
        ],
        json!({
            "product_id": {"type": "string", "format": "uuid"},
            "sku": optional,
            "name": text,
            "description": text,
            "price": {"type": "number", "minimum": 0},
            "currency": text,
            "category": optional,
            "tags": {"type": "array", "items": text},
            "image_url": optional,
            "attributes": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
            "version": {"type": "integer", "minimum": 1},
        }),
    )
}

/// What all events of carts say, and `more`.
fn cart_schema(more: Value) -> Value {
    let mut properties = json!({
        "user_id": {"type": "string", "format": "uuid"},
        "guest": {"type": "boolean"},
        "version": {"type": "integer", "minimum": 1},
        "lines": {"type": "integer", "minimum": 0},
    });
    if let (Value::Object(properties), Value::Object(more)) = (&mut properties, more) {
        properties.extend(more);
    }
    let required: Vec<&str> =
        properties.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
    strict_object(&required, properties.clone())
}

fn order_schema() -> Value {
    let (id, text, amount) = (
        json!({"type": "string", "format": "uuid"}),
        json!({"type": "string"}),
        json!({"type": "number", "minimum": 0}),
    );
    let time = json!({"type": "string", "format": "date-time"});
    let item = strict_object(
        &["product_id", "sku", "name", "quantity", "unit_price", "total"],
        json!({"product_id": id, "sku": {"type": ["string", "null"]}, "name": text, "quantity": {"type": "integer", "minimum": 1},
            "unit_price": amount, "total": amount}),
    );
    strict_object(
        &[
            "id",
            "user_id",
            "status",
            "version",
            "currency",
            "items",
            "total_amount",
            "payment",
            "placed_at",
            "updated_at",
        ],
        json!({
            "id": id,
            "user_id": id,
            "status": {"enum": ["pending_payment", "paid", "fulfilled", "cancelled", "expired"]},
            "version": {"type": "integer", "minimum": 1},
            "currency": text,
            "items": {"type": "array", "items": item},
            "total_amount": amount,
            "payment": strict_object(&["method"], json!({"method": text, "reference": text})),
            "shipping_address": {},
            "placed_at": time,
            "expires_at": time,
            "updated_at": time,
        }),
    )
}

fn command_schema() -> Value {
    let either =
        |one: &str, other: &str| json!({"oneOf": [{"required": [one]}, {"required": [other]}]});
    let mut schema = strict_object(
        &["id", "type", "reason"],
        json!({
            "id": {"type": "string", "minLength": 1, "maxLength": MAX_COMMAND_ID_CHARS},
            "type": {"const": ADJUST_STOCK_TYPE},
            "product_id": {"type": "string", "format": "uuid"},
            "sku": {"type": "string", "description": "That of a living product"},
            "delta": {"type": "integer", "description": "Changes what is in the house by this much"},
            "set": {"type": "integer", "minimum": 0, "maximum": MAX_ON_HAND, "description": "Sets what is in the house"},
            "reason": {"type": "string", "minLength": 1, "maxLength": 200},
            "reference": {"type": "string", "maxLength": 200},
        }),
    );
    if let Value::Object(schema) = &mut schema {
        schema
            .insert("description".to_owned(), format!("At most {MAX_COMMAND_BYTES} bytes.").into());
        schema.insert(
            "allOf".to_owned(),
            json!([either("product_id", "sku"), either("delta", "set")]),
        );
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that `value` refers to.
    fn collect_references(value: &Value) -> Vec<String> {
        match value {
            Value::Object(members) => {
                let own = members.get("$ref").and_then(Value::as_str).map(str::to_owned);
                own.into_iter().chain(members.values().flat_map(collect_references)).collect()
            }
            Value::Array(items) => items.iter().flat_map(collect_references).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn every_reference_resolves() {
        let document = build_document();
        let references = collect_references(&document);
        assert!(references.len() > 60, "{references:?}");
        for reference in references {
            assert!(
                document.pointer(reference.strip_prefix('#').unwrap()).is_some(),
                "{reference}"
            );
        }
    }
}
