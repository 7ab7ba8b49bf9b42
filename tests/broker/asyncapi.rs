//! Published events match the AsyncAPI document.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use souk::domain::order::OrderNumber;

use crate::{
    amqp_client::AmqpClient,
    audit_queue::{AuditQueue, Message},
    broker::shared_uri,
    support::{Account, Cli, PASSWORD, TestApp, payments::Provider},
};

/// Checks `value` against a schema; panics at a keyword that the document does not use today.
fn check_schema(document: &Value, schema: &Value, value: &Value, at: &str) {
    for (keyword, expected) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$ref" => check_schema(document, resolve(document, expected), value, at),
            "type" => {
                let types = expected.as_array().cloned().unwrap_or_else(|| vec![expected.clone()]);
                assert!(
                    types.iter().any(|name| has_type(value, name.as_str().unwrap())),
                    "{at}: {value} is not {expected}"
                );
            }
            "const" => assert_eq!(value, expected, "{at}"),
            "enum" => assert!(
                expected.as_array().unwrap().contains(value),
                "{at}: {value} is not one of {expected}"
            ),
            "required" => check_required(expected, value, at),
            "properties" => {
                for (name, inner) in expected.as_object().unwrap() {
                    if let Some(member) = value.get(name) {
                        check_schema(document, inner, member, &format!("{at}.{name}"));
                    }
                }
            }
            "additionalProperties" => check_additional(document, schema, expected, value, at),
            "items" => value
                .as_array()
                .unwrap()
                .iter()
                .for_each(|item| check_schema(document, expected, item, &format!("{at}[]"))),
            "anyOf" => {
                let options = expected.as_array().unwrap().iter();
                let fits = |option: &&Value| (option["type"] == "null") == value.is_null();
                let option = options.clone().find(fits).unwrap();
                check_schema(document, option, value, at);
            }
            // These are about numbers and texts only; `type` says whether null is allowed.
            "minimum" | "format" if value.is_null() => {}
            "minimum" => assert!(
                value.as_f64().unwrap() >= expected.as_f64().unwrap(),
                "{at}: {value} is below {expected}"
            ),
            "pattern" => check_pattern(expected.as_str().unwrap(), value.as_str().unwrap(), at),
            "format" if expected == "uuid" => {
                assert!(value.as_str().unwrap().parse::<uuid::Uuid>().is_ok(), "{at}: {value}");
            }
            "format" if expected == "date-time" => {
                assert!(
                    value.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(),
                    "{at}: {value}"
                );
            }
            "format" if expected == "uint" || expected == "uint32" || expected == "uint64" => {
                assert!(value.is_u64(), "{at}: {value} is not a {expected}");
            }
            "format" if expected == "int32" => assert!(value.is_i64(), "{at}: {value}"),
            "description" => {}
            _ => panic!("{at}: unsupported keyword {keyword}: {expected}"),
        }
    }
}

fn check_pattern(pattern: &str, text: &str, at: &str) {
    match pattern {
        "^[1-9][0-9]*$" => assert!(text.parse::<u64>().unwrap() > 0, "{at}: {text}"),
        "^[A-Z]{3}$" => {
            assert!(text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase()), "{at}: {text}")
        }
        "^[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){2}$" => {
            assert_eq!(text.parse::<OrderNumber>().unwrap().to_string(), text, "{at}");
        }
        other => panic!("{at}: unsupported pattern {other}"),
    }
}

fn resolve<'a>(document: &'a Value, reference: &Value) -> &'a Value {
    document.pointer(reference.as_str().unwrap().strip_prefix('#').unwrap()).unwrap()
}

fn check_required(expected: &Value, value: &Value, at: &str) {
    for name in expected.as_array().unwrap() {
        assert!(value.get(name.as_str().unwrap()).is_some(), "{at}: {name} is missing in {value}");
    }
}

fn check_additional(document: &Value, schema: &Value, expected: &Value, value: &Value, at: &str) {
    let known = schema.get("properties");
    let more = value
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| known.is_none_or(|k| k.get(name).is_none()));
    for (name, member) in more {
        assert!(expected != &Value::Bool(false), "{at}: {name} is not in the document");
        check_schema(document, expected, member, &format!("{at}.{name}"));
    }
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        _ => panic!("{name} is not a type"),
    }
}

/// Triggers every event of accounts, of API keys and of webhooks.
async fn trigger_account_events(app: &TestApp, admin: &Account, ada: &Account, left: &Account) {
    app.call("POST", "/api/auth/logout").token(ada).await.is(204);
    let ada = app.login(&ada.email, PASSWORD).await;
    let other = app.login(&ada.email, PASSWORD).await;
    let change = json!({"current_password": PASSWORD, "new_password": "another password"});
    app.post("/api/auth/password", &change).token(&ada).await.is(204);
    let reuse = json!({"refresh_token": other.refresh_token});
    app.post("/api/auth/refresh", &reuse).await.problem(401, "unauthenticated");
    for change in [json!({"role": "staff", "scopes": ["stock"]}), json!({"blocked": true})] {
        app.patch(&format!("/api/users/{}", left.id), &change).token(admin).await.ok();
    }
    let key = json!({"name": "warehouse", "scopes": ["stock"]});
    let key = app.post("/api/api-keys", &key).token(admin).await.is(201).json();
    let key = format!("/api/api-keys/{}", key["id"].as_str().unwrap());
    app.delete(&key).token(admin).await.is(204);
    let hook = json!({"url": "https://93.184.215.14/", "types": ["*"]});
    let hook = app.post("/api/webhooks", &hook).token(admin).await.is(201).json();
    let hook = format!("/api/webhooks/{}", hook["id"].as_str().unwrap());
    app.patch(&hook, &json!({"status": "paused"})).token(admin).await.ok();
    let leaver = app.customer().await;
    let password = json!({"current_password": PASSWORD});
    app.delete("/api/auth/me").json(&password).token(&leaver).await.is(204);
}

/// The payment of an order is begun, and a try is declined.
async fn trigger_payment_events(app: &TestApp, provider: &Provider, buyer: &Account, cup: &str) {
    app.add_to_cart(buyer, cup, 1).await.ok();
    let method = json!({"payment_method": "stripe"});
    let order = app.check_out(buyer, "by-stripe").json(&method).await.is(201).json();
    let payment = app.begin_payment(buyer, &order).await;
    provider.decline(payment["reference"].as_str().unwrap()).await;
    app.wait_for_payment(buyer, &order, "failed").await;
    app.order_action(buyer, &order, "cancel").await.ok();
}

/// Triggers every documented event; the last one is a deleted product.
async fn trigger_every_event(app: &TestApp, provider: &Provider) {
    let admin = app.admin().await;
    let body = json!({
        "name": "Mint tea", "description": "Green", "price": 4.5, "stock": 20, "sku": "TEA",
        "category": "tea",
        "tags": ["green"], "image_url": "https://souk.example/tea.png", "purchase_limit": 5,
        "weight_grams": 100, "tax_class": "reduced",
        "attributes": {"grams": 100, "loose": true, "origin": "Fès"},
    });
    let tea = app.create_product(&admin, &body).await["id"].as_str().unwrap().to_owned();
    app.patch(&format!("/api/products/{tea}"), &json!({"sku": null, "category": null}))
        .token(&admin)
        .await
        .ok();
    let (ada, guest) = (app.customer().await, app.guest().await);
    app.add_to_cart(&ada, &tea, 2)
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .await
        .ok();
    app.update_cart(&ada, &tea, 3).await.ok();
    app.delete(&format!("/api/cart/remove/{tea}")).token(&ada).await.ok();
    app.add_to_cart(&guest, &tea, 1).await.ok();
    app.merge_cart(&ada, &guest).await.ok();
    app.delete("/api/cart").token(&ada).await.ok();
    let cup = app.new_product(&admin, &json!(7), 20).await;
    let (buyer, visitor) = (app.customer().await, app.guest().await);
    app.add_to_cart(&visitor, &cup, 1).await.ok();
    let email = json!({"email": "visitor@shop.example"});
    app.check_out(&visitor, "by-visitor").json(&email).await.is(201);
    app.merge_cart(&buyer, &visitor).await.ok();
    let order = app.buy(&buyer, &cup, 2).await;
    app.order_action(&admin, &order, "pay").json(&json!({"reference": "bank 1"})).await.ok();
    let parcel = json!({
        "items": [{"product_id": cup, "quantity": 1}], "carrier": "DHL", "tracking": "0034043",
        "reference": "parcel 4",
    });
    app.order_action(&admin, &order, "fulfil").json(&parcel).await.ok();
    app.order_action(&admin, &order, "fulfil").await.ok();
    let refund = json!({
        "amount": 1, "reason": "broken", "restock": [{"product_id": cup, "quantity": 1}],
    });
    app.order_action(&admin, &order, "refund").json(&refund).await.is(202);
    let order = app.buy(&buyer, &cup, 1).await;
    app.order_action(&buyer, &order, "cancel").await.ok();
    trigger_payment_events(app, provider, &buyer, &cup).await;
    app.add_to_cart(&buyer, &cup, 1).await.ok();
    let address = json!({"shipping_address": crate::support::person::address()});
    app.post("/api/checkout", &address).token(&buyer).key("never-paid").await.is(201);
    let left = app.customer().await;
    app.add_to_cart(&left, &tea, 1).await.ok();
    app.change_stock(&admin, &tea, &json!({"set": 5, "reason": "count"})).await.ok();
    app.change_stock(&admin, &tea, &json!({"set": 0, "reason": "count"})).await.ok();
    trigger_account_events(app, &admin, &ada, &left).await;
    trigger_pricing_events(app, &admin).await;
    app.delete(&format!("/api/products/{tea}")).token(&admin).await.is(204);
}

/// Rules of every kind, and an order that was priced with them.
async fn trigger_pricing_events(app: &TestApp, admin: &Account) {
    let method = json!({"name": "Parcel", "price": 4.9, "free_from": 50, "countries": ["DE"]});
    let rate = json!({"name": "VAT", "country": "DE", "rate": "0.19"});
    let ten = json!({"name": "Ten", "code": "TEN", "effect": {"percent_off": 10}, "usage_limit": 9,
        "applies_to": {"tags": ["x"], "categories": ["tea"]}, "starts_at": "2026-01-01T00:00:00Z",
        "combinable": true});
    let amount = json!({"name": "Five", "effect": {"amount_off": 5}, "combinable": true,
        "applies_to": {"product_ids": ["01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d"]}});
    let mut rules = Vec::new();
    for (path, body) in [
        ("/api/shipping-methods", method),
        ("/api/tax-rates", rate),
        ("/api/promotions", ten),
        ("/api/promotions", amount),
    ] {
        let rule = app.post(path, &body).token(admin).await.is(201).json();
        rules.push(format!("{path}/{}", rule["id"].as_str().unwrap()));
    }
    let body = json!({"name": "Leaf", "description": "", "price": 9, "stock": 5, "tags": ["x"]});
    let leaf = app.create_product(admin, &body).await["id"].as_str().unwrap().to_owned();
    let buyer = app.customer().await;
    app.add_to_cart(&buyer, &leaf, 1).await.ok();
    let to = json!({"country": "DE", "region": "BE", "postal_code": "10115"});
    app.put("/api/cart/shipping", &to).token(&buyer).await.ok();
    app.post("/api/cart/codes", &json!({"code": "ten"})).token(&buyer).await.ok();
    app.check_out(&buyer, "priced").await.is(201);
    for path in rules {
        app.patch(&path, &json!({"name": "New"})).token(admin).await.ok();
        app.delete(&path).token(admin).await.is(204);
    }
}

#[tokio::test]
async fn published_events_match_the_asyncapi_document() {
    let Some(uri) = shared_uri() else { return };
    let audit = AuditQueue::declare(&uri).await;
    let settings = [
        ("cart.abandoned_after", "1s"),
        ("orders.payment_timeout", "3s"),
        ("payments.default", "manual"),
        ("broker.kind", "rabbitmq"),
        ("broker.uri", &uri),
    ];
    let provider = Provider::start().await;
    let app = provider.start_shop(&settings).await;
    trigger_every_event(&app, &provider).await;
    let mut last = BTreeSet::from(["catalog.product.deleted", "cart.abandoned", "order.expired"]);
    let messages = audit
        .read_until(|message| {
            last.remove(message.event.kind.as_str());
            last.is_empty()
        })
        .await;
    let document = app.get("/asyncapi.json").await.ok();
    assert_eq!(document["asyncapi"], "3.0.0");
    let mut seen: BTreeMap<&str, Vec<&Message>> = BTreeMap::new();
    for message in &messages {
        seen.entry(&message.event.kind).or_default().push(message);
    }
    for (kind, messages) in &seen {
        let channel = &document["channels"][kind];
        assert_eq!(channel["address"], *kind, "{kind} is not in the document");
        let described = resolve(&document, &channel["messages"][kind]["$ref"]);
        for message in messages {
            check_schema(&document, &described["payload"], &message.event.body, kind);
            assert_eq!(described["contentType"], message.content_type.as_str());
            let headers = described["headers"]["properties"].as_object().unwrap();
            assert!(headers.contains_key("souk-position") && headers.contains_key("traceparent"));
        }
    }
    let seen: BTreeSet<&str> = seen.into_keys().collect();
    let documented: BTreeSet<&str> =
        document["channels"].as_object().unwrap().keys().map(String::as_str).collect();
    let queues = ["souk.inventory.commands", "souk.inventory.commands.dead"];
    let expected: BTreeSet<&str> = seen.iter().copied().chain(queues).collect();
    assert_eq!(documented, expected);
    AmqpClient::connect_when_ready(&uri).await.wait_for_queue(queues[1]).await;
    let printed: Value =
        serde_json::from_str(&Cli::run(app.command().arg("asyncapi")).ok()).unwrap();
    assert_eq!(printed, document, "the command line prints the same");
}
