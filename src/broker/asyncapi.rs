//! The AsyncAPI 3.0 document: the events that Souk publishes and the commands that it accepts. The
//! schemas are derived from the types that serialize these messages.

use schemars::{
    JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, transform::RecursiveTransform,
};
use serde_json::{Map, Value, json};
use strum::VariantArray;

use super::{
    command::{ADJUST_STOCK_TYPE, MAX_COMMAND_BYTES, MAX_COMMAND_ID_CHARS},
    dead_letters::REASON_HEADER,
    event_message::{AUDIENCE_HEADER, POSITION_HEADER, TRACEPARENT_HEADER},
    exchanges::EVENT_EXCHANGE,
    queues::{COMMAND_QUEUE, dead_letter_queue},
};
use crate::{
    domain::inventory::MAX_ON_HAND,
    events::{
        CloudEvent, EventType,
        auth::{
            ApiKeyData, RightsChangedData, SessionRevokedData, UserDeletedData, UserRegisteredData,
        },
        cart::{
            CartCheckedOutData, CartClosedData, CartData, CartItemAddedData, CartItemRemovedData,
            CartItemUpdatedData, CartMergedData,
        },
        catalog::{ProductData, ProductDeletedData},
        inventory::StockData,
        order::OrderData,
        pricing::{PromotionData, RuleDeletedData, ShippingMethodData, TaxRateData},
        webhook::WebhookPausedData,
    },
};

/// The path of shared schemas, for `$ref`.
const SCHEMAS_PATH: &str = "/components/schemas";

const COMMAND_SUMMARY: &str =
    "Stock changes from other systems. They are applied in order, and once per id.";

const REFUSED_SUMMARY: &str =
    "Commands that cannot be applied, unchanged, with the reason in a header.";

const DESCRIPTION: &str = "Events are CloudEvents 1.0 in structured JSON. Each is published at \
    least once on the topic exchange souk.events, and its type is the routing key. Per subject and \
    family (the first word of the type) `sequence` has no gaps, and events are first published in \
    its order. The `id` is the same on every repeat.";

/// Describes when an event of this type is published.
const fn summary(kind: EventType) -> &'static str {
    match kind {
        EventType::ProductCreated => "A product was created.",
        EventType::ProductUpdated => "The details of a product changed.",
        EventType::ProductDeleted => "A product was deleted.",
        EventType::StockChanged => {
            "The stock of a product changed. Changes in one transaction are one event."
        }
        EventType::StockLow => {
            "Few units are left. Published with the change that has the same sequence."
        }
        EventType::StockDepleted => {
            "No unit is left. Published with the change that has the same sequence."
        }
        EventType::CartItemAdded => "Units of a product were added to a cart.",
        EventType::CartItemUpdated => "The quantity of a line in a cart was set.",
        EventType::CartItemRemoved => "A line was removed from a cart.",
        EventType::CartCleared => "All lines were removed from a cart.",
        EventType::CartCheckedOut => "Lines of a cart became an order.",
        EventType::CartMerged => "A guest's cart was merged into a user's cart.",
        EventType::CartClosed => "A guest's cart was closed by a merge.",
        EventType::CartAbandoned => "A cart was not changed for a long time.",
        EventType::CartCodesChanged => "A code was added to a cart or removed from it.",
        EventType::CartShippingChanged => {
            "The address or the shipping method of a cart was changed."
        }
        EventType::OrderPlaced => "An order was placed and its stock reserved.",
        EventType::OrderPaid => "An order was paid.",
        EventType::OrderPaymentChanged => {
            "The payment of an order was begun, a try was declined, or it is unclear."
        }
        EventType::OrderOwnerChanged => "An order of a guest moved to the guest's account.",
        EventType::OrderRefunded => "Money of an order's payment went back to the buyer.",
        EventType::OrderCancelled => "An order was cancelled and its stock released.",
        EventType::OrderExpired => "An order was not paid in time and its stock was released.",
        EventType::OrderPartiallyFulfilled => "Some units of an order were shipped.",
        EventType::OrderFulfilled => "An order was shipped completely.",
        EventType::UserRegistered => "An account was registered.",
        EventType::RightsChanged => {
            "The role, the scopes or the block of an account changed. Its tokens go on with them."
        }
        EventType::ApiKeyCreated => "An API key was created. The subject is the key.",
        EventType::ApiKeyDeleted => "An API key was deleted. It is refused from then on.",
        EventType::UserDeleted => {
            "An account was deleted, and what told whose it was. Delete what you keep of it."
        }
        EventType::SessionRevoked => "A session ended. Its tokens are no longer valid.",
        EventType::WebhookPaused => {
            "A webhook endpoint gets nothing any more. The subject is the endpoint."
        }
        EventType::PromotionCreated => "A promotion was created.",
        EventType::PromotionUpdated => "A promotion changed.",
        EventType::PromotionDeleted => "A promotion was deleted.",
        EventType::ShippingMethodCreated => "A shipping method was created.",
        EventType::ShippingMethodUpdated => "A shipping method changed.",
        EventType::ShippingMethodDeleted => "A shipping method was deleted.",
        EventType::TaxRateCreated => "A tax rate was created.",
        EventType::TaxRateUpdated => "A tax rate changed.",
        EventType::TaxRateDeleted => "A tax rate was deleted.",
    }
}

/// Builds the schema of an event of this type.
fn event_schema(kind: EventType, generator: &mut SchemaGenerator) -> Schema {
    let schema = match kind {
        EventType::ProductCreated | EventType::ProductUpdated => envelope_schema::<ProductData<'_>>,
        EventType::ProductDeleted => envelope_schema::<ProductDeletedData<'_>>,
        EventType::StockChanged | EventType::StockLow | EventType::StockDepleted => {
            envelope_schema::<StockData>
        }
        EventType::CartItemAdded => envelope_schema::<CartItemAddedData>,
        EventType::CartItemUpdated => envelope_schema::<CartItemUpdatedData>,
        EventType::CartItemRemoved => envelope_schema::<CartItemRemovedData>,
        EventType::CartCleared
        | EventType::CartAbandoned
        | EventType::CartCodesChanged
        | EventType::CartShippingChanged => envelope_schema::<CartData>,
        EventType::CartCheckedOut => envelope_schema::<CartCheckedOutData>,
        EventType::CartMerged => envelope_schema::<CartMergedData>,
        EventType::CartClosed => envelope_schema::<CartClosedData>,
        EventType::OrderPlaced
        | EventType::OrderPaid
        | EventType::OrderCancelled
        | EventType::OrderExpired
        | EventType::OrderRefunded
        | EventType::OrderPaymentChanged
        | EventType::OrderOwnerChanged
        | EventType::OrderPartiallyFulfilled
        | EventType::OrderFulfilled => envelope_schema::<OrderData<'_>>,
        EventType::UserRegistered => envelope_schema::<UserRegisteredData>,
        EventType::RightsChanged => envelope_schema::<RightsChangedData>,
        EventType::ApiKeyCreated | EventType::ApiKeyDeleted => envelope_schema::<ApiKeyData>,
        EventType::UserDeleted => envelope_schema::<UserDeletedData>,
        EventType::SessionRevoked => envelope_schema::<SessionRevokedData<'_>>,
        EventType::WebhookPaused => envelope_schema::<WebhookPausedData>,
        EventType::PromotionCreated | EventType::PromotionUpdated => {
            envelope_schema::<PromotionData<'_>>
        }
        EventType::ShippingMethodCreated | EventType::ShippingMethodUpdated => {
            envelope_schema::<ShippingMethodData<'_>>
        }
        EventType::TaxRateCreated | EventType::TaxRateUpdated => envelope_schema::<TaxRateData<'_>>,
        EventType::PromotionDeleted
        | EventType::ShippingMethodDeleted
        | EventType::TaxRateDeleted => envelope_schema::<RuleDeletedData>,
    };
    schema(kind, generator)
}

/// Builds the schema of a CloudEvent with data `D` and a constant `type`.
fn envelope_schema<D: JsonSchema>(kind: EventType, generator: &mut SchemaGenerator) -> Schema {
    let mut schema = <CloudEvent<'_, D>>::json_schema(generator);
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert("type".to_owned(), json!({"const": kind.as_str()}));
    }
    deny_unknown_members(&mut schema);
    schema
}

/// Denies members that the schema of an object does not name, so that the schema is complete.
fn deny_unknown_members(schema: &mut Schema) {
    if schema.get("properties").is_some() && schema.get("additionalProperties").is_none() {
        schema.insert("additionalProperties".to_owned(), false.into());
    }
}

/// Builds the AsyncAPI document, which the program does not do: it contains the result.
#[must_use]
pub fn build_document() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| settings.definitions_path = SCHEMAS_PATH.into())
        .with_transform(RecursiveTransform(deny_unknown_members));
    let mut generator = settings.into_generator();
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for kind in EventType::VARIANTS {
        let name = kind.as_str();
        let exchange = json!({"name": EVENT_EXCHANGE, "type": "topic", "durable": true});
        let bindings = json!({"amqp": {"is": "routingKey", "exchange": exchange}});
        add_channel(&mut channels, name, name, summary(*kind), &bindings);
        operations.insert(format!("publish.{name}"), operation_object("send", name));
        let payload = event_schema(*kind, &mut generator).into();
        let message = message_object(name, summary(*kind), &event_headers(), payload);
        messages.insert(name.to_owned(), message);
    }
    add_command_queues(&mut channels, &mut operations, &mut messages);
    let mut schemas = generator.take_definitions(true);
    schemas.insert("InventoryAdjust".to_owned(), command_schema());
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Souk",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    })
}

/// Adds the command queue and its dead-letter queue, for commands that cannot be applied.
fn add_command_queues(
    channels: &mut Map<String, Value>,
    operations: &mut Map<String, Value>,
    messages: &mut Map<String, Value>,
) {
    let refused_queue = dead_letter_queue(COMMAND_QUEUE);
    let bindings = queue_binding(COMMAND_QUEUE);
    add_channel(channels, COMMAND_QUEUE, ADJUST_STOCK_TYPE, COMMAND_SUMMARY, &bindings);
    let bindings = queue_binding(&refused_queue);
    add_channel(channels, &refused_queue, "refused", REFUSED_SUMMARY, &bindings);
    operations.insert("receive.commands".to_owned(), operation_object("receive", COMMAND_QUEUE));
    operations.insert("publish.refused".to_owned(), operation_object("send", &refused_queue));
    let command = message_object(
        ADJUST_STOCK_TYPE,
        COMMAND_SUMMARY,
        &command_headers(),
        json!({"$ref": format!("#{SCHEMAS_PATH}/InventoryAdjust")}),
    );
    messages.insert(ADJUST_STOCK_TYPE.to_owned(), command);
    let refused = message_object("refused", REFUSED_SUMMARY, &refused_headers(), json!({}));
    messages.insert("refused".to_owned(), refused);
}

fn add_channel(
    channels: &mut Map<String, Value>,
    name: &str,
    message: &str,
    summary: &str,
    bindings: &Value,
) {
    let messages = json!({message: {"$ref": format!("#/components/messages/{message}")}});
    let channel = json!({
        "address": name,
        "description": summary,
        "messages": messages,
        "bindings": bindings,
    });
    channels.insert(name.to_owned(), channel);
}

fn queue_binding(name: &str) -> Value {
    let queue = json!({"name": name, "durable": true, "exclusive": false, "autoDelete": false});
    json!({"amqp": {"is": "queue", "queue": queue}})
}

fn operation_object(action: &str, channel: &str) -> Value {
    json!({"action": action, "channel": {"$ref": format!("#/channels/{channel}")}})
}

fn message_object(name: &str, summary: &str, headers: &Value, payload: Value) -> Value {
    let content_type = if name == ADJUST_STOCK_TYPE || name == "refused" {
        "application/json"
    } else {
        "application/cloudevents+json"
    };
    json!({
        "name": name,
        "summary": summary,
        "contentType": content_type,
        "headers": headers,
        "payload": payload,
    })
}

fn event_headers() -> Value {
    let position = "The event's place in the outbox, the same on every repeat. Positions are in no \
        order over all nodes: to tell missing events of a subject from repeated ones, use \
        `sequence`.";
    let audience = "Who may read the event on /api/events: everyone, nobody, or a user's id";
    let trace = "The span that publishes the message, or else the `traceparent` of the event";
    json!({"type": "object", "required": [POSITION_HEADER, AUDIENCE_HEADER], "properties": {
        POSITION_HEADER: {"type": "integer", "minimum": 1, "description": position},
        AUDIENCE_HEADER: {"type": "string", "description": audience},
        TRACEPARENT_HEADER: {"type": "string", "description": trace},
    }})
}

fn command_headers() -> Value {
    let trace = "Continued by the events of the change (W3C Trace Context)";
    json!({"type": "object", "properties": {
        TRACEPARENT_HEADER: {"type": "string", "description": trace},
    }})
}

fn refused_headers() -> Value {
    let reason = "An error code, a colon and a sentence. Missing if the broker moved the command, \
        which it does when nodes crash on it repeatedly.";
    json!({"type": "object", "properties": {
        REASON_HEADER: {"type": "string", "description": reason},
    }})
}

/// Builds the schema of a command by hand. The parser in `command.rs` reports all errors of a
/// command at once, so there is no type to derive the schema from.
fn command_schema() -> Value {
    let either =
        |one: &str, other: &str| json!({"oneOf": [{"required": [one]}, {"required": [other]}]});
    json!({
        "type": "object",
        "description": format!("At most {MAX_COMMAND_BYTES} bytes."),
        "required": ["id", "type", "reason"],
        "additionalProperties": false,
        "properties": {
            "id": {"type": "string", "minLength": 1, "maxLength": MAX_COMMAND_ID_CHARS},
            "type": {"const": ADJUST_STOCK_TYPE},
            "product_id": {"type": "string", "format": "uuid"},
            "sku": {"type": "string", "description": "The sku of an active product"},
            "delta": {"type": "integer", "description": "The change of `on_hand`"},
            "set": {
                "type": "integer",
                "minimum": 0,
                "maximum": MAX_ON_HAND,
                "description": "The new `on_hand`",
            },
            "reason": {"type": "string", "minLength": 1, "maxLength": 200},
            "reference": {"type": "string", "maxLength": 200},
        },
        "allOf": [either("product_id", "sku"), either("delta", "set")],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Collects every `$ref` in `value`.
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

    #[test]
    fn schemas_name_every_member_and_no_other() {
        let document = build_document();
        let required = |schema: &str| {
            let schema = document.pointer(&format!("/components/schemas/{schema}")).unwrap();
            assert_eq!(schema["additionalProperties"], false, "{schema}");
            let names = schema["required"].as_array().unwrap().iter();
            names.map(|name| name.as_str().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(required("Stock"), "product_id on_hand reserved available version");
        assert_eq!(
            required("Order"),
            "id number user_id status version currency items subtotal discounts codes taxes \
             total_amount payment shipments placed_at updated_at"
        );
        assert_eq!(
            required("CartItemAdded"),
            "user_id guest version lines product_id added quantity"
        );
        let order = document.pointer("/components/schemas/Order/properties").unwrap();
        assert_eq!(
            order["expires_at"],
            json!({"type": "string", "format": "date-time",
            "description": "When the order expires. Only an order that is not paid has it."})
        );
        let paid = document.pointer("/components/messages/order.paid/payload").unwrap();
        assert_eq!(paid["properties"]["type"], json!({"const": "order.paid"}));
        assert_eq!(paid["properties"]["data"]["$ref"], "#/components/schemas/Order");
        assert_eq!(paid["additionalProperties"], false);
    }
}
