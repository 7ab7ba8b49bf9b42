//! Commands from other systems are applied once and in order, or dead-lettered with a reason.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};

use crate::{
    amqp_client::{AmqpClient, COMMANDS, DEAD_LETTERS, dead_letter_reason},
    audit_queue::AuditQueue,
    broker::shared_uri,
    support::{Account, TestApp},
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A shop that uses the broker at `uri`.
pub(crate) async fn shop_with_broker(uri: &str) -> TestApp {
    TestApp::with_settings(&[("broker.kind", "rabbitmq"), ("broker.uri", uri)]).await
}

/// Creates a product with ten units and a SKU; returns its id.
pub(crate) async fn product_with_ten_units(app: &TestApp, admin: &Account, sku: &str) -> String {
    let body =
        json!({"name": "Mint tea", "description": "", "price": 4.5, "stock": 10, "sku": sku});
    app.create_product(admin, &body).await["id"].as_str().unwrap().to_owned()
}

/// An adjust command with this id and additional fields.
pub(crate) fn adjust_command(id: &str, more: Value) -> Value {
    let mut command = json!({"id": id, "type": "inventory.adjust", "reason": "delivery"});
    command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    command
}

pub(crate) async fn on_hand(app: &TestApp, admin: &Account, product: &str) -> u64 {
    app.stock(admin, product).await["on_hand"].as_u64().unwrap()
}

#[tokio::test]
async fn command_changes_stock_once() {
    let Some(uri) = shared_uri() else { return };
    let audit = AuditQueue::declare(&uri).await;
    let app = shop_with_broker(&uri).await;
    let admin = app.admin().await;
    let tea = product_with_ten_units(&app, &admin, "TEA").await;
    let amqp_client = AmqpClient::connect_when_ready(&uri).await;
    let first = adjust_command("1", json!({"sku": "TEA", "delta": 5, "reference": "D-17"}));
    let headers = FieldTable::from(std::collections::BTreeMap::from([(
        "traceparent".into(),
        AMQPValue::LongString(TRACE.into()),
    )]));
    amqp_client
        .send_raw(
            COMMANDS,
            first.to_string().as_bytes(),
            BasicProperties::default().with_headers(headers),
        )
        .await;
    amqp_client
        .send(&adjust_command("2", json!({"product_id": tea, "delta": -2, "reason": "broken"})))
        .await;
    for _ in 0..3 {
        amqp_client.send(&first).await;
    }
    amqp_client.send(&adjust_command("1", json!({"sku": "TEA", "delta": 100}))).await;
    amqp_client.wait_until_settled().await;
    assert_eq!(on_hand(&app, &admin, &tea).await, 13);
    let movements =
        app.all_pages(&admin, &format!("/api/products/{tea}/stock/movements"), 10).await;
    let changes: Vec<_> = movements
        .iter()
        .rev()
        .skip(1)
        .map(|m| (&m["on_hand_delta"], &m["reason"], &m["reference"]))
        .collect();
    assert_eq!(
        changes,
        [
            (&json!(5), &json!("delivery"), &json!("D-17")),
            (&json!(-2), &json!("broken"), &Value::Null)
        ]
    );
    let is_last = |data: &Value| data["on_hand"] == 13;
    let events = audit.read_until(|message| is_last(&message.event.body["data"])).await;
    let traced: Vec<_> = events.iter().filter(|message| message.traceparent.is_some()).collect();
    assert_eq!((traced.len(), &traced[0].event.body["data"]["on_hand"]), (1, &json!(15)));
    assert_eq!(traced[0].event.body["traceparent"], TRACE);
    // A no-op command counts as applied: a repeat stays without effect even when it would change
    // stock.
    amqp_client.send(&adjust_command("3", json!({"sku": "TEA", "set": 13}))).await;
    amqp_client.send(&adjust_command("4", json!({"sku": "TEA", "set": 7}))).await;
    amqp_client.send(&adjust_command("3", json!({"sku": "TEA", "set": 13}))).await;
    amqp_client.wait_until_settled().await;
    assert_eq!(on_hand(&app, &admin, &tea).await, 7);
    // A repeat is not an error even when its product is deleted.
    app.delete(&format!("/api/products/{tea}")).token(&admin).await.is(204);
    amqp_client.send(&first).await;
    amqp_client.wait_until_settled().await;
}

#[tokio::test]
async fn sku_refers_to_the_active_product() {
    let Some(uri) = shared_uri() else { return };
    let app = shop_with_broker(&uri).await;
    let admin = app.admin().await;
    let amqp_client = AmqpClient::connect_when_ready(&uri).await;
    let old = product_with_ten_units(&app, &admin, "TEA").await;
    app.delete(&format!("/api/products/{old}")).token(&admin).await.is(204);
    let new = product_with_ten_units(&app, &admin, "TEA").await;
    amqp_client.send(&adjust_command("1", json!({"sku": "TEA", "delta": 1}))).await;
    amqp_client.wait_until_settled().await;
    assert_eq!(on_hand(&app, &admin, &new).await, 11);
    app.patch(&format!("/api/products/{new}"), &json!({"sku": "OLD"})).token(&admin).await.ok();
    amqp_client.send(&adjust_command("2", json!({"sku": "TEA", "delta": 1}))).await;
    amqp_client.send(&adjust_command("3", json!({"sku": "OLD", "delta": 1}))).await;
    let dead = amqp_client.consume(DEAD_LETTERS, 1).await;
    assert_eq!(
        dead_letter_reason(&dead[0]).unwrap(),
        "product_not_found: No product has this sku."
    );
    amqp_client.wait_until_settled().await;
    assert_eq!(on_hand(&app, &admin, &new).await, 12);
}

#[tokio::test]
async fn message_properties_do_no_harm() {
    let Some(uri) = shared_uri() else { return };
    let app = shop_with_broker(&uri).await;
    let admin = app.admin().await;
    let tea = product_with_ten_units(&app, &admin, "TEA").await;
    let amqp_client = AmqpClient::connect_when_ready(&uri).await;
    let with = |name: &str, value: AMQPValue| {
        BasicProperties::default().with_headers(FieldTable::from(std::collections::BTreeMap::from(
            [(name.into(), value)],
        )))
    };
    let list =
        |queue: &str| AMQPValue::FieldArray(vec![AMQPValue::LongString(queue.into())].into());
    // A CC header on a dead letter would route it back forever.
    amqp_client.send_raw(COMMANDS, b"copies", with("CC", list(DEAD_LETTERS))).await;
    amqp_client.send_raw(COMMANDS, b"loops", with("CC", list("nowhere"))).await;
    amqp_client
        .send_raw(
            COMMANDS,
            b"large",
            with("notes", AMQPValue::LongString("x".repeat(130_000).into())),
        )
        .await;
    amqp_client.send_raw(COMMANDS, b"reasoned", with("x-souk-error", AMQPValue::LongInt(1))).await;
    amqp_client.send_raw(COMMANDS, b"traced", with("traceparent", AMQPValue::Boolean(true))).await;
    amqp_client
        .send_raw(COMMANDS, b"replies", BasicProperties::default().with_reply_to("nowhere".into()))
        .await;
    amqp_client
        .send_raw(COMMANDS, b"named", BasicProperties::default().with_user_id("guest".into()))
        .await;
    amqp_client
        .send_raw(COMMANDS, b"expires", BasicProperties::default().with_expiration("600000".into()))
        .await;
    let dead = amqp_client.consume(DEAD_LETTERS, 9).await;
    let bodies: Vec<_> =
        dead.iter().map(|delivery| String::from_utf8_lossy(&delivery.data).into_owned()).collect();
    // The first message is the copy that the CC header requested.
    assert_eq!(
        bodies,
        ["copies", "copies", "loops", "large", "reasoned", "traced", "replies", "named", "expires"]
    );
    assert!(
        dead.iter()
            .skip(1)
            .all(|delivery| dead_letter_reason(delivery).unwrap().starts_with("malformed_json: "))
    );
    assert_eq!(*dead[8].properties.expiration(), None, "a dead letter does not expire");
    amqp_client.send(&adjust_command("1", json!({"sku": "TEA", "delta": 1}))).await;
    amqp_client.wait_until_settled().await;
    assert_eq!(on_hand(&app, &admin, &tea).await, 11);
}

/// lapin cannot decode a content type that is not UTF-8, so the message closes every connection.
const SEND_UNDECODABLE: &str = r#"
import pika, sys
connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
channel.confirm_delivery()
for body, kind in [(b"before", None), (b"unreadable", b"\xff\xfe"), (b"after", None)]:
    properties = pika.BasicProperties(content_type=kind, delivery_mode=2)
    channel.basic_publish("", "souk.inventory.commands", body, properties)
connection.close()
"#;

#[tokio::test]
async fn undecodable_message_is_dead_lettered_by_the_broker() {
    let (Some(uri), Some(python)) = (shared_uri(), python_with_pika()) else { return };
    let app = shop_with_broker(&uri).await;
    let admin = app.admin().await;
    let tea = product_with_ten_units(&app, &admin, "TEA").await;
    let amqp_client = AmqpClient::connect_when_ready(&uri).await;
    let sent = tokio::process::Command::new(python)
        .args(["-c", SEND_UNDECODABLE, &uri])
        .status()
        .await
        .unwrap();
    assert!(sent.success());
    amqp_client.send(&adjust_command("1", json!({"sku": "TEA", "delta": 1}))).await;
    let changed = async {
        while on_hand(&app, &admin, &tea).await != 11 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), changed)
        .await
        .expect("the valid command is not applied");
    assert_eq!(amqp_client.message_count(DEAD_LETTERS).await, 3);
}

/// A Python with pika. Without one it prints a notice and returns `None`; it panics when
/// `SOUK_TEST_ALL` requires every test to run.
pub(crate) fn python_with_pika() -> Option<std::ffi::OsString> {
    let python = std::env::var_os("SOUK_TEST_PYTHON");
    if python.is_none() {
        assert!(
            std::env::var_os("SOUK_TEST_ALL").is_none(),
            "SOUK_TEST_PYTHON is not set; scripts/test sets it"
        );
        eprintln!("SOUK_TEST_PYTHON is not set: skipping a test that needs pika");
    }
    python
}

#[tokio::test]
async fn commands_are_applied_in_order() {
    let Some(uri) = shared_uri() else { return };
    let app = shop_with_broker(&uri).await;
    let admin = app.admin().await;
    let tea = product_with_ten_units(&app, &admin, "TEA").await;
    let amqp_client = AmqpClient::connect_when_ready(&uri).await;
    let began = std::time::Instant::now();
    for number in 1..=300 {
        amqp_client
            .send(&adjust_command(&number.to_string(), json!({"sku": "TEA", "set": 1000 + number})))
            .await;
    }
    amqp_client.wait_until_settled().await;
    eprintln!("300 commands, sent sequentially, took {:?}", began.elapsed());
    assert_eq!(on_hand(&app, &admin, &tea).await, 1300);
    let movements =
        app.all_pages(&admin, &format!("/api/products/{tea}/stock/movements"), 100).await;
    assert!(
        movements.iter().take(299).all(|movement| movement["on_hand_delta"] == 1),
        "each command changes stock by one"
    );
}
