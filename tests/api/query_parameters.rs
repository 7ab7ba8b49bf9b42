//! Query parameters that a route does not know, and those that are given twice.

use serde_json::{Value, json};

use crate::support::{Response, TestApp, rules::InactiveRules};

/// The code and message of the only field error.
fn field_error(response: Response, field: &str) -> (String, String) {
    let problem = response.problem(422, "validation_failed");
    let errors = problem["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 1, "{problem}");
    assert_eq!(errors[0]["field"], field, "{problem}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&errors[0]["code"]), text(&errors[0]["message"]))
}

#[tokio::test]
async fn unknown_parameter_names_the_nearest_known_one() {
    let app = TestApp::start().await;
    for (query, field, nearest) in [
        ("categroy=tea", "categroy", "category"),
        ("maxprice=3", "maxprice", "max_price"),
        ("Limit=3", "Limit", "limit"),
    ] {
        let response = app.get(&format!("/api/products?{query}")).await;
        let (code, message) = field_error(response, field);
        assert_eq!(code, "unknown_parameter");
        assert!(message.ends_with(&format!("{nearest}?")), "{message}");
    }
}

#[tokio::test]
async fn repeated_parameter_is_rejected() {
    let app = TestApp::start().await;
    for query in ["limit=1&limit=1", "limit=1&q=tea&limit=2&limit=3"] {
        let (code, _) = field_error(app.get(&format!("/api/products?{query}")).await, "limit");
        assert_eq!(code, "duplicate_parameter", "{query}");
    }
    let twice = app.get("/api/products?foo=1&foo=2").await;
    assert_eq!(field_error(twice, "foo").0, "unknown_parameter");
}

#[tokio::test]
async fn empty_value_is_a_value() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    app.new_product(&admin, &json!(4.5), 1).await;
    for name in ["limit", "cursor", "sort", "in_stock", "min_price", "max_price"] {
        let response = app.get(&format!("/api/products?{name}=")).await;
        field_error(response, name);
    }
    field_error(app.get("/api/orders?all=").token(&ada).await, "all");
    assert_eq!(app.get("/api/products?category=").await.ok()["total"], 0);
    assert_eq!(app.get("/api/products?q=").await.ok()["total"], 1);
}

#[tokio::test]
async fn every_route_rejects_unknown_parameters() {
    let app = TestApp::with_settings(&[("webhooks.allow_private", "true")]).await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 10).await;
    let order = app.buy(&admin, &tea, 1).await["id"].as_str().unwrap().to_owned();
    app.add_to_cart(&admin, &tea, 1).await.ok();
    let sessions = app.get("/api/auth/sessions").token(&admin).await.ok();
    let session = sessions["items"][0]["id"].as_str().unwrap().to_owned();
    let key = json!({"name": "warehouse", "scopes": ["stock"]});
    let key = app.post("/api/api-keys", &key).token(&admin).await.is(201).json();
    let key = key["id"].as_str().unwrap().to_owned();
    let address = crate::support::person::address();
    let address = app.post("/api/auth/me/addresses", &address).token(&admin).await.is(201).json();
    let address = address["id"].as_str().unwrap().to_owned();
    let hook = json!({"url": "http://127.0.0.1:9/", "types": ["catalog.*"]});
    let hook = app.post("/api/webhooks", &hook).token(&admin).await.is(201).json();
    let hook = hook["id"].as_str().unwrap().to_owned();
    let test = app.call("POST", &format!("/api/webhooks/{hook}/test")).token(&admin).await;
    let event = test.is(202).json()["event_id"].as_str().unwrap().to_owned();
    let rules = InactiveRules::create(&app, &admin).await;
    let ten = json!({"name": "Ten", "code": "TEN", "effect": {"percent_off": 10}});
    app.post("/api/promotions", &ten).token(&admin).await.is(201);
    app.post("/api/cart/codes", &json!({"code": "TEN"})).token(&admin).await.ok();
    let document = app.get("/openapi.json").await.ok();
    for (path, item) in document["paths"].as_object().unwrap() {
        if !path.starts_with("/api/") {
            continue;
        }
        let id = match path {
            path if path.starts_with("/api/orders") => &order,
            path if path.starts_with("/api/users") => &admin.id,
            path if path.starts_with("/api/api-keys") => &key,
            path if path.starts_with("/api/webhooks") => &hook,
            path if path.starts_with("/api/auth/sessions") => &session,
            path if path.starts_with("/api/auth/me/addresses") => &address,
            path => rules.id_for(path).unwrap_or(&tea),
        };
        let path = path.replace("{id}", id).replace("{product_id}", id).replace("{code}", "TEN");
        let path = path.replace("{event_id}", &event);
        for method in item.as_object().unwrap().keys() {
            let call = app.call(&method.to_uppercase(), &format!("{path}?nonsense=1"));
            let (code, _) = field_error(call.token(&admin).await, "nonsense");
            assert_eq!(code, "unknown_parameter", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn access_and_existence_are_checked_before_parameters() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let tea = app.new_product(&admin, &json!(4.5), 10).await;
    let of_admin = app.buy(&admin, &tea, 1).await["id"].as_str().unwrap().to_owned();
    let missing = "01a206bc-0609-7165-8b52-173bd2923daf";
    app.get("/api/cart?x=1").await.problem(401, "unauthenticated");
    app.get("/api/orders?all=true&x=1").token(&ada).await.problem(403, "forbidden");
    app.get("/api/orders?all=true&all=no").token(&ada).await.problem(403, "forbidden");
    let stock = format!("/api/products/{tea}/stock?x=1");
    app.get(&stock).token(&ada).await.problem(403, "forbidden");
    for path in ["", "/stock", "/stock/movements"] {
        let path = format!("/api/products/{missing}{path}?x=1");
        app.get(&path).token(&admin).await.problem(404, "product_not_found");
    }
    let product = format!("/api/products/{missing}?x=1");
    app.patch(&product, &json!({})).token(&admin).await.problem(404, "product_not_found");
    let cancel = format!("/api/orders/{of_admin}/cancel?x=1");
    app.call("POST", &cancel).token(&ada).await.problem(404, "not_found");
    let order = format!("/api/orders/{of_admin}?x=1");
    app.get(&order).token(&ada).await.problem(404, "not_found");
    let line = format!("/api/cart/remove/{tea}?x=1");
    app.delete(&line).token(&ada).await.problem(404, "line_not_found");
    app.add_to_cart(&ada, &tea, 1).await.ok();
    app.delete(&line).token(&ada).await.problem(422, "validation_failed");
    assert_eq!(app.get("/api/cart").token(&ada).await.ok()["item_count"], 1);
}
