//! Invalid commands are dead-lettered unchanged, with the reason.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};

use crate::{
    amqp_client::{AmqpClient, COMMANDS, DEAD_LETTERS, dead_letter_reason, text_header},
    broker::shared_uri,
    commands::{adjust_command, on_hand, product_with_ten_units, shop_with_broker},
};

/// A command body with the start and another part of the reason for its rejection.
type InvalidCommand = (Vec<u8>, &'static str, &'static str);

fn command_body(more: Value) -> Vec<u8> {
    adjust_command("poison", more).to_string().into_bytes()
}

fn malformed_commands() -> Vec<InvalidCommand> {
    let mut padded = command_body(json!({"sku": "TEA", "delta": 1}));
    padded.resize(65_537, b' ');
    vec![
        (Vec::new(), "malformed_json: ", "EOF"),
        (b"restock the tea".to_vec(), "malformed_json: ", "not valid JSON"),
        (b"{\"id\": \"1\"".to_vec(), "malformed_json: ", "EOF"),
        (
            b"[\"poison\", \"inventory.adjust\"]".to_vec(),
            "validation_failed: ",
            "must be a JSON object",
        ),
        (b"{\"id\": \"\xff\"}".to_vec(), "malformed_json: ", "not UTF-8"),
        (padded, "payload_too_large: ", "65537 bytes"),
        (vec![b'{'; 10_000_000], "payload_too_large: ", "10000000 bytes"),
    ]
}

fn inapplicable_commands() -> Vec<InvalidCommand> {
    let command = command_body;
    vec![
        (
            command(json!({"sku": "COFFEE", "delta": 1})),
            "product_not_found: ",
            "No product has this sku",
        ),
        (
            command(json!({"product_id": uuid::Uuid::nil(), "delta": 1})),
            "product_not_found: ",
            "This product does not exist",
        ),
        (command(json!({"product_id": "tea", "delta": 1})), "validation_failed: ", "UUID"),
        (
            command(json!({"sku": "TEA", "delta": -11})),
            "insufficient_stock: ",
            "11 requested, 10 available",
        ),
        (
            command(json!({"sku": "TEA", "delta": 1_000_000_000_000_i64})),
            "validation_failed: ",
            "on_hand would exceed the largest supported stock level",
        ),
    ]
}

fn commands_with_invalid_fields(product: &str) -> Vec<InvalidCommand> {
    let command = command_body;
    let command_without = |name: &str| {
        let mut command = adjust_command("poison", json!({"sku": "TEA", "delta": 1}));
        command.as_object_mut().unwrap().remove(name);
        command.to_string().into_bytes()
    };
    let invalid = "validation_failed: ";
    vec![
        (command_without("id"), invalid, "id is required"),
        (command_without("type"), invalid, "type is required"),
        (command_without("reason"), invalid, "reason is required"),
        (command_without("sku"), invalid, "send either product_id or sku"),
        (command_without("delta"), invalid, "send either delta or set"),
        (command(json!({"sku": "TEA", "delta": 1, "set": 1})), invalid, "send either delta or set"),
        (
            command(json!({"sku": "TEA", "product_id": product, "delta": 1})),
            invalid,
            "send either product_id or sku",
        ),
        (
            command(json!({"sku": "TEA", "delta": 1, "warehouse": "north"})),
            invalid,
            "warehouse is not a field",
        ),
        (
            command(json!({"sku": "TEA", "delta": 1, "type": "inventory.count"})),
            invalid,
            "type must be \"inventory.adjust\"",
        ),
        (
            command(json!({"sku": "TEA", "delta": "1"})),
            invalid,
            "delta must be a whole number, not the string",
        ),
        (
            command(json!({"sku": "TEA", "delta": 1.5})),
            invalid,
            "delta must be a whole number, not 1.5",
        ),
        (command(json!({"sku": 7, "delta": 1})), invalid, "sku must be a string, not 7"),
        (command(json!({"sku": "TEA", "set": -1})), invalid, "set must be from 0"),
        (command(json!({"sku": "TEA", "delta": 1, "id": ""})), invalid, "id has 0 characters"),
        (
            command(json!({"sku": "TEA", "delta": 1, "reason": "x".repeat(201)})),
            invalid,
            "reason has 201 characters",
        ),
    ]
}

#[tokio::test]
async fn invalid_commands_are_dead_lettered_with_a_reason() {
    let Some(uri) = shared_uri() else { return };
    let app = shop_with_broker(&uri).await;
    let admin = app.admin().await;
    let tea = product_with_ten_units(&app, &admin, "TEA").await;
    let amqp_client = AmqpClient::connect_when_ready(&uri).await;
    let invalid_commands =
        [malformed_commands(), commands_with_invalid_fields(&tea), inapplicable_commands()]
            .concat();
    for (body, ..) in &invalid_commands {
        let sent = BasicProperties::default()
            .with_message_id("m-1".into())
            .with_content_type("application/json".into());
        let headers = FieldTable::from(std::collections::BTreeMap::from([(
            "from".into(),
            AMQPValue::LongString("north".into()),
        )]));
        amqp_client.send_raw(COMMANDS, body, sent.with_headers(headers)).await;
    }
    amqp_client
        .send(&adjust_command(
            "poison",
            json!({
                "sku": "TEA", "delta": 1,
                "reason": "a valid command with the id of the invalid ones",
            }),
        ))
        .await;
    let dead = amqp_client.consume(DEAD_LETTERS, invalid_commands.len()).await;
    for (delivery, (body, code, detail)) in dead.iter().zip(&invalid_commands) {
        let reason = dead_letter_reason(delivery).unwrap();
        assert!(
            reason.starts_with(code) && reason.contains(detail),
            "{reason}, not {code}{detail}"
        );
        assert!(
            delivery.data == *body,
            "the body must be unchanged, not {} bytes: {reason}",
            delivery.data.len()
        );
        let properties = &delivery.properties;
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "m-1");
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
        assert_eq!(
            (text_header(delivery, "from").as_deref(), *properties.delivery_mode()),
            (Some("north"), Some(2))
        );
    }
    amqp_client.wait_until_settled().await;
    assert_eq!(on_hand(&app, &admin, &tea).await, 11);
}
