//! The OpenAPI document is complete, and agrees with what the shop does.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Account, Response, TestApp, rules::InactiveRules};

/// Every operation of the document with its method and path.
fn operations(document: &Value) -> impl Iterator<Item = (String, &Value)> {
    document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        let item = item.as_object().unwrap().iter();
        item.map(move |(method, operation)| (format!("{method} {path}"), operation))
    })
}

#[tokio::test]
async fn every_operation_and_schema_is_described() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").await.ok();
    assert!(document["servers"][0]["url"].is_string());
    let mut tags = BTreeSet::new();
    for tag in document["tags"].as_array().unwrap() {
        assert!(!tag["description"].as_str().unwrap().is_empty(), "{tag}");
        tags.insert(tag["name"].as_str().unwrap());
    }
    for (name, operation) in operations(&document) {
        assert!(!operation["security"].as_array().unwrap().is_empty(), "{name}");
        assert!(!operation["description"].as_str().unwrap().is_empty(), "{name}");
        assert!(tags.contains(operation["tags"][0].as_str().unwrap()), "{name}");
        // A verb, and what it is done to; the name of a handler is but one word.
        let id = operation["operationId"].as_str().unwrap();
        assert!(id.contains('_') && id.chars().all(|c| c == '_' || c.is_ascii_lowercase()), "{id}");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(!parameter["schema"].to_string().contains("\"null\""), "{name}: {parameter}");
            assert!(parameter["description"].is_string(), "{name}: {parameter}");
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(schema["examples"][0] != Value::Null, "{name} has no example");
        let attributes = ["Attributes", "AttributeChanges"];
        for (member, described) in schema["properties"].as_object().into_iter().flatten() {
            let is_typed = ["type", "$ref", "oneOf"].iter().any(|key| described.get(key).is_some());
            assert!(is_typed, "{name}.{member} may be anything");
            let reference = described.to_string();
            let named = attributes.iter().any(|name| reference.contains(&format!("/{name}\"")));
            // Facets count the values of attributes.
            let has_values = member == "attributes" && name != "FacetCounts";
            assert_eq!(has_values, named, "{name}.{member}");
        }
    }
    let value = &document["components"]["schemas"]["AttributeValue"]["type"];
    assert_eq!(value, &json!(["string", "number", "boolean"]));
}

#[tokio::test]
async fn security_is_declared_where_a_token_is_needed() {
    let app = TestApp::with_settings(&[("catalog.public_read", "false")]).await;
    let document = app.get("/openapi.json").await.ok();
    for (name, operation) in operations(&document) {
        let (method, path) = name.split_once(' ').unwrap();
        let id = "01a206bc-0609-7165-8b52-173bd2923daf";
        let path = path.replace("{id}", id).replace("{product_id}", id);
        let answer = app.call(&method.to_uppercase(), &path).await;
        let security = &operation["security"];
        let wanted = security.as_array().unwrap().contains(&json!({"bearer": []}));
        assert_eq!(answer.status == 401, wanted, "{name}: {answer}");
        if wanted {
            answer.problem(401, "unauthenticated");
        }
    }
}

#[tokio::test]
async fn declared_sorts_are_those_of_the_search() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").await.ok();
    let sorts = document["components"]["schemas"]["ProductSort"]["enum"].as_array().unwrap();
    for sort in sorts {
        app.get(&format!("/api/products?sort={}", sort.as_str().unwrap())).await.ok();
    }
    let refusal = app.get("/api/products?sort=other").await.problem(422, "validation_failed");
    let message = refusal["errors"][0]["message"].as_str().unwrap();
    assert!(sorts.iter().all(|sort| message.contains(sort.as_str().unwrap())), "{message}");
    assert_eq!(sorts.len(), message.matches(',').count() + 2, "{message}");
}

async fn patch_user(app: &TestApp, admin: &Account, user: &Account) -> Response {
    let change = json!({"role": "staff"});
    app.patch(&format!("/api/users/{}", user.id), &change).token(admin).await
}

/// Creates a webhook to which nothing is delivered; returns its id.
async fn create_webhook(app: &TestApp, admin: &Account) -> String {
    let webhook = json!({
        "url": "https://hooks.example/events", "types": ["order.*"], "status": "paused",
    });
    let webhook = app.post("/api/webhooks", &webhook).token(admin).await.is(201).json();
    webhook["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn etags_are_declared_where_they_are_sent() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").await.ok();
    let (admin, ada) = (app.admin().await, app.customer().await);
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let order = app.buy(&ada, &tea, 2).await["id"].as_str().unwrap().to_owned();
    let webhook = create_webhook(&app, &admin).await;
    let rules = InactiveRules::create(&app, &admin).await;
    let check = |method: &str, path: &str, answer: &Response| {
        let operation = &document["paths"][path][method];
        let described = &operation["responses"][answer.status.to_string()];
        assert!(described.is_object(), "{method} {path} may answer {answer}");
        let is_described = described["headers"].get("ETag").is_some();
        assert_eq!(answer.header("etag").is_some(), is_described, "{method} {path}: {answer}");
        is_described
    };
    for (path, item) in document["paths"].as_object().unwrap() {
        if item.get("get").is_none() || path == "/api/events" {
            continue;
        }
        let id = match path {
            path if path.starts_with("/api/orders") => &order,
            path if path.starts_with("/api/users") => &ada.id,
            path if path.starts_with("/api/webhooks") => &webhook,
            path => rules.id_for(path).unwrap_or(&tea),
        };
        let address = path.replace("{id}", id);
        let address = address.replace("suggest", "suggest?q=t");
        let answer = app.get(&address).token(&admin).await.is(200);
        if check("get", path, &answer) {
            let again = app.get(&address).token(&admin).header("if-none-match", answer.etag());
            check("get", path, &again.await.is(304));
        }
    }
    let product = format!("/api/products/{tea}");
    let line = json!({"product_id": tea, "quantity": 1});
    let more = json!({"delta": 1, "reason": "delivery"});
    let patch = json!({"description": "Loose leaves"});
    let whole = json!({"name": "Tea", "description": "", "price": 5});
    let new = json!({"name": "Cup", "description": "", "price": 5, "stock": 1});
    let remove = format!("/api/cart/remove/{tea}");
    for (method, path, answer) in [
        ("post", "/api/cart/add", app.post("/api/cart/add", &line).token(&ada).await),
        ("put", "/api/cart/update", app.put("/api/cart/update", &line).token(&ada).await),
        ("delete", "/api/cart/remove/{product_id}", app.delete(&remove).token(&ada).await),
        ("delete", "/api/cart", app.delete("/api/cart").token(&ada).await),
        ("post", "/api/cart/guest", app.call("POST", "/api/cart/guest").await),
        ("post", "/api/cart/merge", app.merge_cart(&ada, &app.guest().await).await),
        ("post", "/api/products", app.post("/api/products", &new).token(&admin).await),
        ("patch", "/api/products/{id}", app.patch(&product, &patch).token(&admin).await),
        ("put", "/api/products/{id}", app.put(&product, &whole).token(&admin).await),
        ("patch", "/api/users/{id}", patch_user(&app, &admin, &ada).await),
        ("post", "/api/products/{id}/stock", app.change_stock(&admin, &tea, &more).await),
        ("delete", "/api/products/{id}", app.delete(&product).token(&admin).await),
    ] {
        assert!(answer.status < 300, "{answer}");
        check(method, path, &answer);
    }
    let pay = format!("/api/orders/{order}/pay");
    check("post", "/api/orders/{id}/pay", &app.call("POST", &pay).token(&admin).await.is(200));
}
