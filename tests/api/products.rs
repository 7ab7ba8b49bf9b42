//! Products: created, replaced, patched, deleted.

use serde_json::{Value, json};

use crate::support::{Account, TestApp};

fn tea_body() -> Value {
    json!({
        "name": "Mint tea", "description": "From the Atlas.", "price": 4.5, "stock": 12,
        "sku": "TEA-1", "category": "tea",
        "tags": ["green", "loose"], "image_url": "https://souk.example/tea.png",
        "attributes": {"organic": true, "grams": 250, "origin": "Morocco", "ph": 6.5},
    })
}

async fn start_shop() -> (TestApp, Account, Value, String) {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let product = app.create_product(&admin, &tea_body()).await;
    let path = format!("/api/products/{}", product["id"].as_str().unwrap());
    (app, admin, product, path)
}

fn field_names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn created_product_is_at_its_location() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let created = app.post("/api/products", &tea_body()).token(&admin).await.is(201);
    let product = created.json();
    let id = uuid::Uuid::try_parse(product["id"].as_str().unwrap()).unwrap();
    assert_eq!(id.get_version_num(), 7);
    assert_eq!(created.header("location"), Some(&*format!("/api/products/{id}")));
    let shown = app.get(created.header("location").unwrap()).await.is(200);
    assert_eq!((shown.text(), shown.etag()), (created.text(), created.etag()));
    assert_eq!(created.etag(), "\"1.1\"");
    for (name, value) in tea_body().as_object().unwrap() {
        assert_eq!(&product[name], value, "{name}");
    }
    let all = "attributes category created_at currency description id image_url name price \
               purchase_limit sku stock tags tax_class updated_at version weight_grams";
    assert_eq!(field_names(&product).join(" "), all);
    assert_eq!((&product["currency"], &product["version"]), (&json!("USD"), &json!(1)));
    assert_eq!(product["created_at"], product["updated_at"]);
    let at = product["created_at"].as_str().unwrap();
    assert!(at.len() == "2026-01-01T00:00:00.000Z".len() && at.ends_with('Z'), "{at}");

    let least = app
        .create_product(&admin, &json!({"name": "Cup", "description": "", "price": 0, "stock": 0}))
        .await;
    assert_eq!(
        (&least["sku"], &least["category"], &least["image_url"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(
        (&least["tags"], &least["attributes"], &least["stock"]),
        (&json!([]), &json!({}), &json!(0))
    );
}

#[tokio::test]
async fn put_replaces_the_whole_product() {
    let (app, admin, product, path) = start_shop().await;
    let replaced = app
        .put(&path, &json!({"name": "Sage tea", "description": "", "price": 5}))
        .token(&admin)
        .await
        .ok();
    assert_eq!(
        (&replaced["name"], &replaced["price"], &replaced["version"]),
        (&json!("Sage tea"), &json!(5), &json!(2))
    );
    assert_eq!(
        (&replaced["sku"], &replaced["tags"], &replaced["attributes"]),
        (&Value::Null, &json!([]), &json!({}))
    );
    assert_eq!(
        (&replaced["id"], &replaced["stock"], &replaced["created_at"]),
        (&product["id"], &json!(12), &product["created_at"])
    );
    assert_eq!(app.get(&path).await.ok(), replaced);
}

#[tokio::test]
async fn fetched_product_can_be_sent_back() {
    let (app, admin, product, path) = start_shop().await;
    // Read-only members are ignored, whatever their values.
    let mut edited = product.clone();
    for (name, value) in [
        ("name", json!("Sage tea")),
        ("id", json!("another")),
        ("currency", json!("EUR")),
        ("stock", json!(-5)),
        ("version", json!("seven")),
        ("created_at", Value::Null),
        ("updated_at", json!([])),
    ] {
        edited[name] = value;
    }
    let replaced = app.put(&path, &edited).token(&admin).await.ok();
    assert_eq!(
        (&replaced["name"], &replaced["version"], &replaced["stock"]),
        (&json!("Sage tea"), &json!(2), &json!(12))
    );
    assert_eq!((&replaced["id"], &replaced["currency"]), (&product["id"], &product["currency"]));
    edited["price"] = json!(6);
    let patched = app.patch(&path, &edited).token(&admin).await.ok();
    assert_eq!(
        (&patched["price"], &patched["version"], &patched["stock"]),
        (&json!(6), &json!(3), &json!(12))
    );
    // Read-only members are rejected in a new product.
    let problem =
        app.post("/api/products", &product).token(&admin).await.problem(422, "validation_failed");
    let fields: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["created_at", "currency", "id", "updated_at", "version"]);
}

#[tokio::test]
async fn patch_changes_only_the_given_fields() {
    let (app, admin, product, path) = start_shop().await;
    let mut wanted = product.clone();
    let steps = [
        (json!({"price": 4.75}), json!({"price": 4.75})),
        (
            json!({"category": null, "image_url": null, "tags": null}),
            json!({"category": null, "image_url": null, "tags": []}),
        ),
        (
            json!({"attributes": {"origin": null, "grams": 300, "new": "x"}}),
            json!({"attributes": {"organic": true, "grams": 300, "ph": 6.5, "new": "x"}}),
        ),
        (json!({"attributes": {}}), json!({})),
        (json!({"tags": ["black"]}), json!({"tags": ["black"]})),
        (json!({"attributes": null}), json!({"attributes": {}})),
        (json!({"sku": null, "description": ""}), json!({"sku": null, "description": ""})),
    ];
    let mut version = 1;
    for (patch, change) in steps {
        for (name, value) in change.as_object().unwrap() {
            wanted[name] = value.clone();
        }
        let mut patched = app.patch(&path, &patch).token(&admin).await.ok();
        version += u64::from(change != json!({}));
        assert_eq!(patched["version"], version, "after {patch}");
        patched["version"] = json!(1);
        patched["updated_at"] = wanted["updated_at"].clone();
        assert_eq!(patched, wanted, "after {patch}");
    }
    for name in ["name", "description", "price"] {
        let problem = app
            .patch(&path, &json!({name: null}))
            .token(&admin)
            .await
            .problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], name);
    }
    // RFC 7396 has its own media type; plain JSON is accepted too.
    let call = app.call("PATCH", &path).token(&admin).json(&json!({"name": "Sage"}));
    assert_eq!(call.await.ok()["name"], "Sage");
    let call = app
        .call("PATCH", &path)
        .token(&admin)
        .header("content-type", "application/json-patch+json");
    call.body("[]").await.problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn deleted_product_is_gone_and_frees_its_sku() {
    let (app, admin, product, path) = start_shop().await;
    let deleted = app.delete(&path).token(&admin).await.is(204);
    assert!(deleted.body.is_empty());
    app.get(&path).await.problem(404, "product_not_found");
    app.put(&path, &json!({"name": "x", "description": "", "price": 1}))
        .token(&admin)
        .await
        .problem(404, "product_not_found");
    app.patch(&path, &json!({"name": "x"})).token(&admin).await.problem(404, "product_not_found");
    app.delete(&path).token(&admin).await.problem(404, "product_not_found");
    app.get(&format!("{path}/stock")).token(&admin).await.problem(404, "product_not_found");
    let id = product["id"].as_str().unwrap();
    app.change_stock(&admin, id, &json!({"delta": 1, "reason": "r"}))
        .await
        .problem(404, "product_not_found");
    assert_eq!(app.get("/api/products?q=mint").await.ok()["total"], 0);
    assert_eq!(app.get("/api/products/suggest?q=mint").await.ok()["items"], json!([]));
    let again = app.create_product(&admin, &tea_body()).await;
    assert_ne!(again["id"], product["id"]);
    assert_eq!(app.get("/api/products").await.ok()["total"], 1);
}

#[tokio::test]
async fn sku_belongs_to_one_product() {
    let (app, admin, _, path) = start_shop().await;
    app.post("/api/products", &tea_body()).token(&admin).await.problem(409, "sku_taken");
    let mut sage = tea_body();
    sage["sku"] = json!("TEA-2");
    let sage_path = format!(
        "/api/products/{}",
        app.create_product(&admin, &sage).await["id"].as_str().unwrap()
    );
    app.patch(&sage_path, &json!({"sku": "TEA-1"})).token(&admin).await.problem(409, "sku_taken");
    let whole = json!({"name": "Sage", "description": "", "price": 1, "sku": "TEA-1"});
    app.put(&sage_path, &whole).token(&admin).await.problem(409, "sku_taken");
    assert_eq!(app.get(&sage_path).await.ok()["version"], 1);
    // A released SKU can be taken and returned.
    app.patch(&path, &json!({"sku": null})).token(&admin).await.ok();
    app.patch(&sage_path, &json!({"sku": "TEA-1"})).token(&admin).await.ok();
    app.patch(&path, &json!({"sku": "TEA-1"})).token(&admin).await.problem(409, "sku_taken");
    app.patch(&path, &json!({"sku": "TEA-2"})).token(&admin).await.ok();
    // Any number of products may have no SKU.
    for _ in 0..2 {
        app.create_product(
            &admin,
            &json!({"name": "Cup", "description": "", "price": 1, "stock": 0}),
        )
        .await;
    }
}

#[tokio::test]
async fn products_survive_a_restart_unchanged() {
    let (mut app, admin, _, path) = start_shop().await;
    app.patch(&path, &json!({"price": 0.07, "attributes": {"ü": "é\n\"", "n": -1.5e-7}}))
        .token(&admin)
        .await
        .ok();
    app.change_stock(
        &admin,
        path.rsplit('/').next().unwrap(),
        &json!({"delta": -2, "reason": "r"}),
    )
    .await
    .ok();
    let before = app.get(&path).await.is(200);
    let list = app.get("/api/products").await.is(200).text();
    app.stop().await;
    app.restart().await;
    let after = app.get(&path).await.is(200);
    assert_eq!((after.text(), after.etag()), (before.text(), before.etag()));
    assert_eq!(app.get("/api/products").await.is(200).text(), list);
    app.post("/api/products", &tea_body()).token(&admin).await.problem(409, "sku_taken");
}
