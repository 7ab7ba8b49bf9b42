//! Promotions, shipping methods and tax rates, as staff sets them up.

use serde_json::{Value, json};

use crate::support::{Account, TestApp};

/// Of each kind: its path, a full body, and how to say that one does not exist.
fn kinds() -> [(&'static str, Value, &'static str); 3] {
    let promotion = json!({"name": "Ten", "code": "Ten-1", "effect": {"percent_off": 12.5},
        "applies_to": {"categories": ["tea"], "tags": ["a", "b"]}, "min_subtotal": 20,
        "starts_at": "2026-01-01T00:00:00.000Z", "ends_at": "2027-01-01T00:00:00.000Z",
        "usage_limit": 100, "per_customer_limit": 1, "combinable": true, "priority": -3,
        "active": false});
    let method = json!({"name": "Parcel", "countries": ["AT", "DE"], "price": 4.9,
        "free_from": 50, "per_kg": 0.25, "active": false});
    let rate = json!({"name": "VAT", "country": "US", "region": "NY", "tax_class": "food",
        "rate": "0.08875"});
    [
        ("/api/shipping-methods", method, "shipping_method_not_found"),
        ("/api/tax-rates", rate, "tax_rate_not_found"),
        ("/api/promotions", promotion, "promotion_not_found"),
    ]
}

async fn create(app: &TestApp, admin: &Account, path: &str, body: &Value) -> Value {
    app.post(path, body).token(admin).await.is(201).json()
}

fn assert_has(found: &Value, expected: &Value) {
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(&found[member], value, "{member}");
    }
}

#[tokio::test]
async fn rules_are_created_changed_and_deleted() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    for (path, body, not_found) in kinds() {
        let created = app.post(path, &body).token(&admin).key(path).await.is(201);
        let rule = created.json();
        let location = format!("{path}/{}", rule["id"].as_str().unwrap());
        assert_eq!(created.header("location"), Some(&*location));
        assert_eq!((created.etag(), &rule["version"]), ("\"1\"".to_owned(), &json!(1)));
        assert_has(&rule, &body);
        let repeat = app.post(path, &body).token(&admin).key(path).await.is(201);
        assert_eq!(repeat.header("idempotency-replayed"), Some("true"));
        assert_eq!(repeat.text(), created.text());

        let read = app.get(&location).token(&admin).await.is(200);
        assert_eq!((read.text(), read.etag()), (created.text(), created.etag()));
        app.get(&location).token(&admin).header("if-none-match", "\"1\"").await.is(304);
        // What was read can be written back.
        let same = app.put(&location, &rule).token(&admin).await.is(200);
        assert_eq!(same.text(), created.text(), "nothing changed");

        let renamed = app.patch(&location, &json!({"name": " New "})).token(&admin).await.ok();
        assert_eq!((&renamed["name"], &renamed["version"]), (&json!("New"), &json!(2)));
        let stale = app.patch(&location, &json!({"name": "X"})).token(&admin);
        stale.header("if-match", "\"1\"").await.problem(412, "version_mismatch");
        app.patch(&location, &json!({"name": null}))
            .token(&admin)
            .await
            .problem(422, "validation_failed");

        app.delete(&location).token(&admin).await.is(204);
        for call in [app.get(&location), app.delete(&location), app.put(&location, &body)] {
            call.token(&admin).await.problem(404, not_found);
        }
        assert_eq!(app.get(path).token(&admin).await.ok()["items"], json!([]));
    }
}

#[tokio::test]
async fn rules_survive_a_crash() {
    let mut app = TestApp::start().await;
    let admin = app.admin().await;
    let mut rules = Vec::new();
    for (path, body, _) in kinds() {
        rules.push((path, create(&app, &admin, path, &body).await));
    }
    app.kill_9().await;
    app.restart().await;
    for (path, rule) in rules {
        let location = format!("{path}/{}", rule["id"].as_str().unwrap());
        assert_eq!(app.get(&location).token(&admin).await.ok(), rule);
    }
}

#[tokio::test]
async fn members_have_defaults_and_null_removes_them() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let methods = "/api/shipping-methods";
    let bare = create(&app, &admin, methods, &json!({"name": "Post", "price": 0})).await;
    let defaults = json!({"countries": null, "free_from": null, "per_kg": null, "active": true});
    assert_has(&bare, &defaults);
    let [(_, full, _), (rates, rate, _), (promotions, promotion, _)] = kinds();
    let full = create(&app, &admin, methods, &full).await;
    let path = format!("{methods}/{}", full["id"].as_str().unwrap());
    let nulls = json!({"countries": null, "free_from": null, "per_kg": null, "active": null});
    let cleared = app.patch(&path, &nulls).token(&admin).await.ok();
    assert_has(&cleared, &defaults);

    let rate = create(&app, &admin, rates, &rate).await;
    let path = format!("{rates}/{}", rate["id"].as_str().unwrap());
    let nulls = json!({"region": null, "tax_class": null, "rate": "0.190000", "country": "de"});
    let cleared = app.patch(&path, &nulls).token(&admin).await.ok();
    let expected = json!({"region": null, "tax_class": null, "rate": "0.19", "country": "DE"});
    assert_has(&cleared, &expected);

    let body = json!({"name": "Free", "effect": {"free_shipping": true}, "applies_to": {}});
    let bare = create(&app, &admin, promotions, &body).await;
    let defaults = json!({"code": null, "applies_to": null, "min_subtotal": null,
        "starts_at": null, "ends_at": null, "usage_limit": null, "per_customer_limit": null,
        "combinable": false, "priority": 0, "active": true});
    assert_has(&bare, &defaults);
    let full = create(&app, &admin, promotions, &promotion).await;
    let path = format!("{promotions}/{}", full["id"].as_str().unwrap());
    let nulls = json!({"code": null, "applies_to": null, "min_subtotal": null,
        "starts_at": null, "ends_at": null, "usage_limit": null, "per_customer_limit": null,
        "combinable": null, "priority": null, "active": null});
    assert_has(&app.patch(&path, &nulls).token(&admin).await.ok(), &defaults);
}

#[tokio::test]
async fn members_of_members_are_patched() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let body = json!({"name": "Three for two", "effect": {"buy": 2, "get": 1, "percent_off": 100},
        "applies_to": {"categories": ["tea"], "tags": ["a"]}});
    let rule = create(&app, &admin, "/api/promotions", &body).await;
    let path = format!("/api/promotions/{}", rule["id"].as_str().unwrap());
    for (patch, effect) in [
        (json!({"percent_off": 50}), json!({"buy": 2, "get": 1, "percent_off": 50})),
        (json!({"buy": null, "get": null}), json!({"percent_off": 50})),
        (json!({"amount_off": 5}), json!({"amount_off": 5})),
        (json!({"amount_off": null, "free_shipping": true}), json!({"free_shipping": true})),
    ] {
        let changed = app.patch(&path, &json!({"effect": patch})).token(&admin).await.ok();
        assert_eq!(changed["effect"], effect, "{patch}");
    }
    let patch = json!({"applies_to": {"categories": null}});
    let changed = app.patch(&path, &patch).token(&admin).await.ok();
    assert_eq!(changed["applies_to"], json!({"tags": ["a"]}));
}

#[tokio::test]
async fn one_promotion_has_a_code() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let path = "/api/promotions";
    let with = |code: Value| json!({"name": "Ten", "code": code, "effect": {"percent_off": 10}});
    let ten = create(&app, &admin, path, &with(json!("TEN"))).await;
    let other = create(&app, &admin, path, &with(json!("other"))).await;
    create(&app, &admin, path, &with(Value::Null)).await;
    create(&app, &admin, path, &with(Value::Null)).await;
    app.post(path, &with(json!("ten"))).token(&admin).await.problem(409, "code_taken");
    let other = format!("{path}/{}", other["id"].as_str().unwrap());
    let patch = json!({"code": "Ten"});
    app.patch(&other, &patch).token(&admin).await.problem(409, "code_taken");
    app.delete(&format!("{path}/{}", ten["id"].as_str().unwrap())).token(&admin).await.is(204);
    app.patch(&other, &patch).token(&admin).await.ok();
}

#[tokio::test]
async fn one_tax_rate_has_a_country_region_and_class() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let path = "/api/tax-rates";
    let rate = |country: &str, region: Value, class: Value| {
        json!({"name": "VAT", "country": country, "region": region, "tax_class": class,
            "rate": "0.1"})
    };
    let first = create(&app, &admin, path, &rate("US", json!("NY"), json!("food"))).await;
    for (region, class) in
        [(json!("CA"), json!("food")), (json!("NY"), Value::Null), (Value::Null, json!("food"))]
    {
        create(&app, &admin, path, &rate("US", region, class)).await;
    }
    let again = rate("us", json!("ny"), json!("food"));
    app.post(path, &again).token(&admin).await.problem(409, "tax_rate_exists");
    let other = create(&app, &admin, path, &rate("DE", Value::Null, Value::Null)).await;
    let other = format!("{path}/{}", other["id"].as_str().unwrap());
    app.put(&other, &again).token(&admin).await.problem(409, "tax_rate_exists");
    app.delete(&format!("{path}/{}", first["id"].as_str().unwrap())).token(&admin).await.is(204);
    app.put(&other, &again).token(&admin).await.ok();
}

#[tokio::test]
async fn invalid_rules_are_refused() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let [(methods, method, _), (rates, rate, _), (promotions, promotion, _)] = kinds();
    let wrong = [
        (methods, &method, "name", json!("")),
        (methods, &method, "countries", json!([])),
        (methods, &method, "countries", json!(["DEU"])),
        (methods, &method, "price", json!(-1)),
        (methods, &method, "price", json!(0.001)),
        (methods, &method, "free_from", json!(1e15)),
        (methods, &method, "per_kg", json!("1")),
        (methods, &method, "active", json!("yes")),
        (methods, &method, "speed", json!(1)),
        (methods, &method, "countries", json!(["XX"])),
        (rates, &rate, "country", json!("D")),
        (rates, &rate, "country", json!("ÄÖ")),
        (rates, &rate, "region", json!("")),
        (rates, &rate, "region", json!("N-Y")),
        (rates, &rate, "tax_class", json!("")),
        (rates, &rate, "rate", json!(0.19)),
        (rates, &rate, "rate", json!("1.1")),
        (rates, &rate, "rate", json!("0.0000001")),
        (promotions, &promotion, "name", json!("")),
        (promotions, &promotion, "code", json!("")),
        (promotions, &promotion, "code", json!("a b")),
        (promotions, &promotion, "code", json!("x".repeat(65))),
        (promotions, &promotion, "effect", json!({})),
        (promotions, &promotion, "effect", json!({"percent_off": 10, "amount_off": 5})),
        (promotions, &promotion, "effect", json!({"percent_off": 0})),
        (promotions, &promotion, "effect", json!({"percent_off": 100.01})),
        (promotions, &promotion, "effect", json!({"percent_off": 33.333})),
        (promotions, &promotion, "effect", json!({"amount_off": 0})),
        (promotions, &promotion, "effect", json!({"free_shipping": false})),
        (promotions, &promotion, "effect", json!({"buy": 0, "get": 1, "percent_off": 5})),
        (promotions, &promotion, "effect", json!({"buy": 1, "get": 1})),
        (promotions, &promotion, "applies_to", json!({"tags": []})),
        (promotions, &promotion, "applies_to", json!({"product_ids": ["tea"]})),
        (promotions, &promotion, "min_subtotal", json!(-1)),
        (promotions, &promotion, "starts_at", json!("tomorrow")),
        (promotions, &promotion, "ends_at", json!("2026-01-01T00:00:00Z")),
        (promotions, &promotion, "usage_limit", json!(0)),
        (promotions, &promotion, "per_customer_limit", json!(0)),
        (promotions, &promotion, "priority", json!(1.5)),
    ];
    for (path, body, member, value) in wrong {
        let mut body = body.clone();
        body[member] = value.clone();
        let problem = app.post(path, &body).token(&admin).await.problem(422, "validation_failed");
        let field = problem["errors"][0]["field"].as_str().unwrap();
        assert!(field.starts_with(member), "{member}: {value}: {problem}");
    }
}

#[tokio::test]
async fn rules_are_listed_newest_first() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let path = "/api/shipping-methods";
    let mut names = Vec::new();
    for number in 0..5 {
        let name = format!("Method {number}");
        create(&app, &admin, path, &json!({"name": name, "price": number})).await;
        names.insert(0, name);
    }
    let found = app.all_pages(&admin, path, 2).await;
    let found: Vec<_> = found.iter().map(|rule| rule["name"].as_str().unwrap()).collect();
    assert_eq!(found, names);
}

#[tokio::test]
async fn checkout_goes_on_while_rules_change() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let tea = app.new_product(&admin, &json!(4.5), 1000).await;
    app.put("/api/cart/shipping", &json!({"country": "DE"})).token(&ada).await.ok();
    for number in 0..10 {
        let rule = json!({"name": format!("Method {number}"), "price": number});
        let (rule, order) = tokio::join!(
            create(&app, &admin, "/api/shipping-methods", &rule),
            app.buy(&ada, &tea, 1)
        );
        // The order was placed before the first method or with the cheapest.
        let total = order["total_amount"].as_f64().unwrap();
        assert!((total - 4.5).abs() < 1e-9, "{total}: {rule}");
    }
}
