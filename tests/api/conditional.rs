//! Versions, ETags, and the headers `If-Match` and `If-None-Match`.

use std::future::IntoFuture;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Account, Response, TestApp};

async fn get_ok(app: &TestApp, account: &Account, path: &str) -> Response {
    app.get(path).token(account).await.is(200)
}

/// Asserts the responses to `If-None-Match` for an unchanged resource.
async fn assert_revalidation(app: &TestApp, account: &Account, path: &str) {
    let now = get_ok(app, account, path).await;
    let tag = now.etag();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2, "{tag}");
    for known in [tag.clone(), "*".to_owned(), format!("W/{tag}"), format!("\"other\", {tag}")] {
        let response = app.get(path).token(account).header("if-none-match", &known).await.is(304);
        assert!(response.body.is_empty());
        assert_eq!(response.etag(), tag, "for {known}");
    }
    for other in ["\"other\"", "", tag.trim_matches('"'), "W/\"other\", \"and another\""] {
        let response = app.get(path).token(account).header("if-none-match", other).await.is(200);
        assert_eq!(
            (response.body, response.headers["etag"].clone()),
            (now.body.clone(), now.headers["etag"].clone())
        );
    }
}

#[tokio::test]
async fn matching_if_none_match_returns_304() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let ada = app.customer().await;
    assert_revalidation(&app, &ada, "/api/cart").await;
    app.add_to_cart(&ada, &tea, 2).await.ok();
    assert_revalidation(&app, &ada, "/api/cart").await;
    assert_revalidation(&app, &ada, &format!("/api/products/{tea}")).await;
    assert_revalidation(&app, &admin, &format!("/api/products/{tea}/stock")).await;
}

#[tokio::test]
async fn stale_if_match_rejects_cart_changes() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let (ada, guest) = (app.customer().await, app.guest().await);
    let untouched = get_ok(&app, &ada, "/api/cart").await;
    assert_eq!(untouched.json()["version"], 0);
    let first = app.add_to_cart(&ada, &tea, 2).header("if-match", untouched.etag()).await.is(200);
    app.add_to_cart(&guest, &tea, 1).await.ok();

    let remove = format!("/api/cart/remove/{tea}");
    for stale in [
        untouched.etag(),
        "\"0\"".into(),
        "\"2\"".into(),
        "W/\"2\"".into(),
        String::new(),
        "nonsense".into(),
    ] {
        app.add_to_cart(&ada, &tea, 1)
            .header("if-match", &stale)
            .await
            .problem(412, "version_mismatch");
        app.update_cart(&ada, &tea, 1)
            .header("if-match", &stale)
            .await
            .problem(412, "version_mismatch");
        app.delete(&remove)
            .token(&ada)
            .header("if-match", &stale)
            .await
            .problem(412, "version_mismatch");
        app.delete("/api/cart")
            .token(&ada)
            .header("if-match", &stale)
            .await
            .problem(412, "version_mismatch");
        app.merge_cart(&ada, &guest)
            .header("if-match", &stale)
            .await
            .problem(412, "version_mismatch");
    }
    let cart = get_ok(&app, &ada, "/api/cart").await;
    assert_eq!((cart.etag(), cart.json()), (first.etag(), first.json()));

    let updated = app
        .update_cart(&ada, &tea, 3)
        .header("if-match", format!("\"other\", {}", cart.etag()))
        .await
        .is(200);
    let merged = app.merge_cart(&ada, &guest).header("if-match", updated.etag()).await.is(200);
    assert_eq!(merged.lines(), [(tea.clone(), 4)]);
    let any = app.update_cart(&ada, &tea, 5).header("if-match", "*").await.is(200);
    let removed = app.delete(&remove).token(&ada).header("if-match", any.etag()).await.is(200);
    assert_eq!((removed.json()["version"].clone(), removed.lines()), (json!(5), vec![]));
    // The version alone is enough for clients that know it from the body.
    app.add_to_cart(&ada, &tea, 1).header("if-match", "\"5\"").await.is(200);
}

#[tokio::test]
async fn one_of_many_changes_with_the_same_etag_succeeds() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let ada = app.customer().await;
    let tag = get_ok(&app, &ada, "/api/cart").await.etag();
    let adds = join_all(
        (0..50).map(|_| app.add_to_cart(&ada, &tea, 1).header("if-match", &tag).into_future()),
    )
    .await;
    assert_one_succeeds(adds);
    assert_eq!(app.cart(&ada).await["item_count"], 1);

    let delta = json!({"delta": 1, "reason": "delivery"});
    let changes = (0..50)
        .map(|_| app.change_stock(&admin, &tea, &delta).header("if-match", "\"1\"").into_future());
    assert_one_succeeds(join_all(changes).await);
    assert_eq!(app.stock(&admin, &tea).await["on_hand"], 101);

    let path = format!("/api/products/{tea}");
    let patch = |n: usize| json!({"name": format!("Tea {n}")});
    let patches = (0..50).map(|n| {
        app.patch(&path, &patch(n)).token(&admin).header("if-match", "\"1\"").into_future()
    });
    assert_one_succeeds(join_all(patches).await);
    assert_eq!(app.get(&path).await.ok()["version"], 2);
}

fn assert_one_succeeds(responses: Vec<Response>) {
    assert_eq!(responses.iter().filter(|response| response.status == 200).count(), 1);
    for refused in responses.into_iter().filter(|response| response.status != 200) {
        refused.problem(412, "version_mismatch");
    }
}

#[tokio::test]
async fn no_op_changes_keep_version_and_etag() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let (ada, guest) = (app.customer().await, app.guest().await);
    assert_eq!(app.delete("/api/cart").token(&ada).await.ok()["version"], 0);
    app.add_to_cart(&ada, &tea, 2).await.ok();
    app.add_to_cart(&guest, &tea, 1).await.ok();
    let merged = app.merge_cart(&ada, &guest).await.is(200);
    for same in [
        app.update_cart(&ada, &tea, 3).await,
        app.merge_cart(&ada, &guest).await,
        get_ok(&app, &ada, "/api/cart").await,
    ] {
        assert_eq!((same.etag(), same.text()), (merged.etag(), merged.text()));
    }
    let cleared = app.delete("/api/cart").token(&ada).await.is(200);
    let again = app.delete("/api/cart").token(&ada).await.is(200);
    assert_eq!((again.etag(), again.text()), (cleared.etag(), cleared.text()));
    assert_eq!(cleared.json()["version"], 3);

    let path = format!("/api/products/{tea}");
    let product = get_ok(&app, &admin, &path).await;
    for same in [
        app.put(&path, &product.json()).token(&admin).await,
        app.patch(&path, &json!({})).token(&admin).await,
        app.patch(&path, &json!({"price": 4.50, "sku": null})).token(&admin).await,
    ] {
        assert_eq!((same.status, same.etag(), same.text()), (200, product.etag(), product.text()));
    }
    let stock = get_ok(&app, &admin, &format!("{path}/stock")).await;
    for change in [json!({"set": 100, "reason": "count"}), json!({"delta": 0, "reason": "none"})] {
        let same = app.change_stock(&admin, &tea, &change).await;
        assert_eq!((same.status, same.etag(), same.json()), (200, stock.etag(), stock.json()));
    }
    assert_eq!(app.all_pages(&admin, &format!("{path}/stock/movements"), 10).await.len(), 1);
}

#[tokio::test]
async fn product_etag_combines_product_and_stock_versions() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 0).await;
    let path = format!("/api/products/{tea}");
    let tag = async || get_ok(&app, &admin, &path).await.etag();
    assert_eq!(tag().await, "\"1.0\"");
    app.change_stock(&admin, &tea, &json!({"delta": 5, "reason": "delivery"}))
        .header("if-match", "\"0\"")
        .await
        .is(200);
    assert_eq!(tag().await, "\"1.1\"");
    // The stock has changed since the caller read the product, but not the product itself.
    let patched = app
        .patch(&path, &json!({"name": "Sage"}))
        .token(&admin)
        .header("if-match", "\"1.0\"")
        .await
        .is(200);
    assert_eq!((patched.etag().as_str(), &patched.json()["stock"]), ("\"2.1\"", &json!(5)));
    for stale in ["\"1.1\"", "\"1\"", "\"3\"", "W/\"1.1\"", "\"2x\"", "\"\"", "2"] {
        app.patch(&path, &json!({"name": "Thyme"}))
            .token(&admin)
            .header("if-match", stale)
            .await
            .problem(412, "version_mismatch");
        let whole = json!({"name": "Thyme", "description": "", "price": 1});
        app.put(&path, &whole)
            .token(&admin)
            .header("if-match", stale)
            .await
            .problem(412, "version_mismatch");
        app.delete(&path)
            .token(&admin)
            .header("if-match", stale)
            .await
            .problem(412, "version_mismatch");
    }
    app.patch(&path, &json!({"name": "Rose"}))
        .token(&admin)
        .header("if-match", "\"2\"")
        .await
        .is(200);
    for stale in ["\"0\"", "\"2\"", "\"3.1\""] {
        let set = json!({"set": 9, "reason": "count"});
        app.change_stock(&admin, &tea, &set)
            .header("if-match", stale)
            .await
            .problem(412, "version_mismatch");
    }
    assert_eq!(tag().await, "\"3.1\"");
    app.delete(&path).token(&admin).header("if-match", "\"9\", \"3.0\"").await.is(204);
    app.delete(&path).token(&admin).header("if-match", "*").await.problem(404, "product_not_found");
}

/// The cart's only line.
fn only_line(cart: &Response) -> Value {
    cart.json()["items"][0].clone()
}

#[tokio::test]
async fn cart_etag_changes_with_price_stock_and_name() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let (tea, cup) = (
        app.new_product(&admin, &json!(4.5), 100).await,
        app.new_product(&admin, &json!(7), 100).await,
    );
    let ada = app.customer().await;
    app.add_to_cart(&ada, &tea, 2).await.ok();
    let cart = async || get_ok(&app, &ada, "/api/cart").await;
    let path = format!("/api/products/{tea}");
    let patch = async |change: Value| app.patch(&path, &change).token(&admin).await.is(200);

    let first = cart().await;
    assert!(only_line(&first).get("price_changed").is_none());
    app.patch(&format!("/api/products/{cup}"), &json!({"price": 8})).token(&admin).await.ok();
    assert_eq!(cart().await.etag(), first.etag(), "a product outside the cart has no effect");

    patch(json!({"price": 5.25})).await;
    let dearer = cart().await;
    assert_eq!(only_line(&dearer)["price_changed"], json!({"was": 4.5, "now": 5.25}));
    assert_eq!(
        (&only_line(&dearer)["total"], &dearer.json()["total_amount"]),
        (&json!(10.5), &json!(10.5))
    );
    app.change_stock(&admin, &tea, &json!({"set": 1, "reason": "count"})).await.ok();
    let scarce = cart().await;
    assert_eq!(
        (&only_line(&scarce)["available"], &only_line(&scarce)["quantity"]),
        (&json!(1), &json!(2))
    );
    patch(json!({"name": "Sage"})).await;
    let renamed = cart().await;
    assert_eq!(only_line(&renamed)["name"], "Sage");

    let tags = [&first, &dearer, &scarce, &renamed].map(Response::etag);
    assert_eq!(tags.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{tags:?}");
    for response in [&dearer, &scarce, &renamed] {
        assert_eq!(response.json()["version"], 1, "the cart itself is unchanged");
    }
    app.update_cart(&ada, &tea, 1)
        .header("if-match", first.etag())
        .await
        .problem(412, "version_mismatch");
    // Updating the line acknowledges the new price.
    let settled = app.update_cart(&ada, &tea, 1).header("if-match", renamed.etag()).await.is(200);
    assert!(only_line(&settled).get("price_changed").is_none());
    patch(json!({"price": 4.5})).await;
    assert_eq!(only_line(&cart().await)["price_changed"], json!({"was": 5.25, "now": 4.5}));
}

#[tokio::test]
async fn cart_keeps_the_unavailable_line_of_a_deleted_product() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let (tea, cup) = (
        app.new_product(&admin, &json!(4.5), 100).await,
        app.new_product(&admin, &json!(7), 100).await,
    );
    let ada = app.customer().await;
    app.add_to_cart(&ada, &tea, 3).await.ok();
    let before = app.add_to_cart(&ada, &cup, 1).await.is(200);
    app.delete(&format!("/api/products/{tea}")).token(&admin).await.is(204);

    let after = get_ok(&app, &ada, "/api/cart").await;
    assert_ne!(after.etag(), before.etag());
    let gone = json!({
        "product_id": tea, "sku": null, "name": "Mint tea", "image_url": null, "quantity": 3,
        "unit_price": 4.5, "total": 13.5,
        "discount": 0, "tax": 0, "available": 0,
    });
    assert_eq!(only_line(&after), gone);
    let sums =
        |cart: &Response| ["item_count", "total_amount"].map(|name| cart.json()[name].clone());
    assert_eq!(sums(&before), [json!(4), json!(20.5)]);
    assert_eq!(sums(&after), [json!(1), json!(7)], "it counts in no sum");

    app.add_to_cart(&ada, &tea, 1).await.problem(404, "product_not_found");
    for quantity in [1, 2, 4] {
        let problem =
            app.update_cart(&ada, &tea, quantity).await.problem(409, "insufficient_stock");
        assert_eq!(
            problem["lines"],
            json!([{"product_id": tea, "requested": quantity, "available": 0}])
        );
    }
    let removed = app.update_cart(&ada, &tea, 0).await.is(200);
    assert_eq!(removed.lines(), [(cup, 1)]);
    app.delete(&format!("/api/cart/remove/{tea}")).token(&ada).await.problem(404, "line_not_found");
}

#[tokio::test]
async fn cart_quantity_cannot_exceed_available_stock() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 5).await;
    let ada = app.customer().await;
    let assert_shortage = |problem: Value, requested: u64| {
        assert_eq!(
            problem["lines"],
            json!([{"product_id": tea, "requested": requested, "available": 5}])
        );
    };
    assert_shortage(app.add_to_cart(&ada, &tea, 6).await.problem(409, "insufficient_stock"), 6);
    app.add_to_cart(&ada, &tea, 4).await.ok();
    assert_shortage(app.add_to_cart(&ada, &tea, 2).await.problem(409, "insufficient_stock"), 6);
    assert_shortage(app.update_cart(&ada, &tea, 7).await.problem(409, "insufficient_stock"), 7);
    let cart = app.add_to_cart(&ada, &tea, 1).await.ok();
    assert_eq!(
        (&cart["item_count"], &cart["version"], &cart["items"][0]["available"]),
        (&json!(5), &json!(2), &json!(5))
    );
    // A cart reserves nothing: another customer may add the same five units.
    assert_eq!(app.add_to_cart(&app.customer().await, &tea, 5).await.ok()["item_count"], 5);
}
