//! What shipping and tax depend on: a product's `weight_grams` and `tax_class`.

use serde_json::{Value, json};

use crate::support::TestApp;

#[tokio::test]
async fn weight_and_tax_class_are_members_of_products() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let body = |weight: Value, class: Value| {
        json!({"name": "Pot", "description": "", "price": 12, "stock": 3, "sku": "POT-1",
            "weight_grams": weight, "tax_class": class})
    };
    let long = json!("x".repeat(65));
    for (field, weight, class) in [
        ("weight_grams", json!(-1), Value::Null),
        ("weight_grams", json!(1.5), Value::Null),
        ("weight_grams", json!("250"), Value::Null),
        ("weight_grams", json!(100_000_001), Value::Null),
        ("tax_class", json!(1), json!("")),
        ("tax_class", json!(1), long),
        ("tax_class", json!(1), json!(7)),
    ] {
        let call = app.post("/api/products", &body(weight, class)).token(&admin);
        let problem = call.await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let product = app.create_product(&admin, &body(json!(100_000_000), json!(" reduced "))).await;
    let path = format!("/api/products/{}", product["id"].as_str().unwrap());
    let shown = async || {
        let product = app.get(&path).await.ok();
        [product["weight_grams"].clone(), product["tax_class"].clone()]
    };
    assert_eq!(shown().await, [json!(100_000_000), json!("reduced")]);
    let mut replaced = product.clone();
    replaced["weight_grams"] = json!(0);
    app.put(&path, &replaced).token(&admin).await.ok();
    assert_eq!(shown().await, [json!(0), json!("reduced")]);
    let nulls = json!({"weight_grams": null, "tax_class": null});
    app.patch(&path, &nulls).token(&admin).await.ok();
    assert_eq!(shown().await, [Value::Null, Value::Null]);

    let line = json!({"sku": "POT-1", "weight_grams": 7, "tax_class": "books"}).to_string();
    assert_eq!(app.import_products(&admin, line).await["updated"], 1);
    assert_eq!(shown().await, [json!(7), json!("books")]);
    for (row, failed, weight, class) in [
        ("250,food", 0, 250, "food"),
        (",", 0, 250, "food"),
        ("100000001,", 1, 250, "food"),
        ("x,", 1, 250, "food"),
    ] {
        let import = app.call("POST", "/api/products/import").token(&admin);
        let text = format!("sku,weight_grams,tax_class\nPOT-1,{row}\n");
        let report = import.header("content-type", "text/csv").body(text).await.ok();
        assert_eq!(report["failed"], failed, "{report}");
        assert_eq!(shown().await, [json!(weight), json!(class)]);
    }
    for member in ["weight_grams", "tax_class"] {
        replaced.as_object_mut().unwrap().remove(member);
    }
    app.put(&path, &replaced).token(&admin).await.ok();
    assert_eq!(shown().await, [Value::Null, Value::Null]);
}
