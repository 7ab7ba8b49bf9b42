//! Caching of responses that belong to the caller, and weak tags.

use serde_json::json;

use crate::support::{PASSWORD, Response, TestApp};

fn assert_private(response: &Response) {
    assert_eq!(response.header("cache-control"), Some("no-store"), "{response}");
}

#[tokio::test]
async fn private_responses_are_not_cached() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let login = json!({"email": ada.email, "password": PASSWORD});
    assert_private(&app.post("/api/auth/login", &login).await.is(200));
    let refresh = json!({"refresh_token": ada.refresh_token});
    assert_private(&app.post("/api/auth/refresh", &refresh).await.is(200));
    let validate = json!({"token": ada.token});
    assert_private(&app.post("/api/auth/validate", &validate).await.is(200));
    assert_private(&app.get("/api/auth/me").token(&ada).await.is(200));
    let user = format!("/api/users/{}", ada.id);
    assert_private(&app.get("/api/users").token(&admin).await.is(200));
    assert_private(&app.get(&user).token(&admin).await.is(200));
    assert_private(&app.patch(&user, &json!({"role": "customer"})).token(&admin).await.is(200));
    let key = json!({"name": "warehouse", "scopes": ["stock"]});
    assert_private(&app.post("/api/api-keys", &key).token(&admin).await.is(201));
    assert_private(&app.get("/api/api-keys").token(&admin).await.is(200));
    assert_private(&app.get("/api/admin/actions").token(&admin).await.is(200));
    assert_private(&app.call("POST", "/api/cart/guest").await.is(201));
    assert_private(&app.add_to_cart(&ada, &tea, 2).key("add").await.is(200));
    assert_private(&app.add_to_cart(&ada, &tea, 2).key("add").await.is(200));
    let placed = app.check_out(&ada, "buy").await.is(201);
    assert_private(&placed);
    let order = format!("/api/orders/{}", placed.json()["id"].as_str().unwrap());
    assert_private(&app.check_out(&ada, "buy").await.is(201));
    assert_private(&app.call("POST", &format!("{order}/cancel")).token(&ada).await.is(200));
    assert_private(&app.get("/api/orders").token(&ada).await.is(200));
    for path in ["/api/cart", &order] {
        let first = app.get(path).token(&ada).await.is(200);
        assert_private(&first);
        let again = app.get(path).token(&ada).header("if-none-match", first.etag());
        assert_private(&again.await.is(304));
    }
    assert_private(&app.call("POST", "/api/auth/logout").token(&ada).await.is(204));
    let product = app.get(&format!("/api/products/{tea}")).await.is(200);
    assert_eq!(product.header("cache-control"), None, "{product}");
}

#[tokio::test]
async fn weak_if_match_counts_as_the_version_it_names() {
    let app = TestApp::start().await;
    let ada = app.customer().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let weak = format!("W/{}", app.add_to_cart(&ada, &tea, 1).await.is(200).etag());
    app.add_to_cart(&ada, &tea, 1).header("if-match", &weak).await.is(200);
    let late = app.add_to_cart(&ada, &tea, 1).header("if-match", &weak).await;
    late.problem(412, "version_mismatch");
    let product = format!("/api/products/{tea}");
    let patch = json!({"description": "Loose leaves"});
    app.patch(&product, &patch).token(&admin).header("if-match", "W/\"1\"").await.is(200);
    let late = app.patch(&product, &patch).token(&admin).header("if-match", "W/\"1\"").await;
    late.problem(412, "version_mismatch");
}
