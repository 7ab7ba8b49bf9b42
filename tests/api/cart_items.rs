//! What a cart shows of its products.

use serde_json::{Value, json};

use crate::support::TestApp;

#[tokio::test]
async fn items_have_sku_and_image_of_their_product() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let image = "https://example.com/mint-tea.jpg";
    let tea = json!({"name": "Mint tea", "description": "", "price": 4.5, "stock": 10,
        "sku": "TEA-1", "image_url": image});
    let tea = app.create_product(&admin, &tea).await["id"].as_str().unwrap().to_owned();
    let plain = app.new_product(&admin, &json!(7), 10).await;
    app.add_to_cart(&ada, &tea, 1).await.ok();
    let cart = app.add_to_cart(&ada, &plain, 1).await.ok();
    let shown = |cart: &Value| -> Vec<[Value; 2]> {
        let items = cart["items"].as_array().unwrap();
        items.iter().map(|item| ["sku", "image_url"].map(|name| item[name].clone())).collect()
    };
    assert_eq!(shown(&cart), [[json!("TEA-1"), json!(image)], [Value::Null, Value::Null]]);

    let moved = json!({"sku": "TEA-2", "image_url": null});
    app.patch(&format!("/api/products/{tea}"), &moved).token(&admin).await.ok();
    let cart = app.get("/api/cart").token(&ada).await.ok();
    assert_eq!(shown(&cart)[0], [json!("TEA-2"), Value::Null]);

    app.delete(&format!("/api/products/{tea}")).token(&admin).await.is(204);
    let cart = app.get("/api/cart").token(&ada).await.ok();
    assert_eq!(shown(&cart)[0], [Value::Null, Value::Null]);
}
