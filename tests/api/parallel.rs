//! Concurrent requests for one cart, one guest, one key.

use std::{collections::BTreeSet, future::IntoFuture, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Response, TestApp, assert_one_change, sorted_statuses};

/// A shop with a long timeout: hundreds of concurrent requests may exceed the default on a busy
/// machine.
async fn start_shop() -> TestApp {
    TestApp::with_settings(&[("http.request_timeout", "60s")]).await
}

#[tokio::test]
async fn concurrent_adds_to_one_cart_are_all_kept() {
    let app = start_shop().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 10_000).await;
    let ada = app.customer().await;
    let responses = join_all((0..500).map(|_| app.add_to_cart(&ada, &tea, 1).into_future())).await;
    let responses: Vec<Value> = responses.into_iter().map(Response::ok).collect();
    let versions: BTreeSet<u64> =
        responses.iter().map(|cart| cart["version"].as_u64().unwrap()).collect();
    assert_eq!(versions, (1..=500).collect(), "each version is in one response");
    for cart in &responses {
        assert_eq!(
            cart["items"][0]["quantity"], cart["version"],
            "a response shows the cart after that request"
        );
    }
    let cart = app.cart(&ada).await;
    assert_eq!(
        (&cart["version"], &cart["item_count"], &cart["total_amount"]),
        (&json!(500), &json!(500), &json!(2250))
    );
    assert_eq!(cart["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn concurrent_adds_to_many_carts_do_not_interfere() {
    let app = start_shop().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 1).await;
    let guests = join_all((0..100).map(|_| app.guest())).await;
    let adds = guests
        .iter()
        .flat_map(|guest| (0..5).map(|_| app.add_to_cart(guest, &tea, 1).into_future()));
    let responses = join_all(adds).await;
    let kept = responses.iter().filter(|response| response.status == 200).count();
    // With one unit in stock, each cart may hold one and none may hold two.
    assert_eq!(kept, 100);
    for refused in responses.into_iter().filter(|response| response.status != 200) {
        refused.problem(409, "insufficient_stock");
    }
    for guest in &guests {
        assert_eq!(app.cart(guest).await["item_count"], 1);
    }
}

#[tokio::test]
async fn guest_cart_merges_once_for_one_user() {
    let app = start_shop().await;
    let admin = app.admin().await;
    let (tea, cup) = (
        app.new_product(&admin, &json!(4.5), 100).await,
        app.new_product(&admin, &json!(7), 100).await,
    );
    let (ada, guest) = (app.customer().await, app.guest().await);
    app.add_to_cart(&ada, &tea, 2).await.ok();
    app.add_to_cart(&guest, &tea, 3).await.ok();
    app.add_to_cart(&guest, &cup, 4).await.ok();
    let responses = join_all((0..50).map(|_| app.merge_cart(&ada, &guest).into_future())).await;
    for response in responses {
        let cart = response.is(200);
        assert_eq!(cart.lines(), [(tea.clone(), 5), (cup.clone(), 4)]);
        assert_eq!(cart.json()["version"], 2, "one merge, one version");
    }
    assert_eq!(app.cart(&ada).await["total_amount"], 50.5);
    app.get("/api/cart").token(&guest).await.problem(409, "guest_cart_merged");
}

#[tokio::test]
async fn guest_cart_merges_into_one_of_many_users() {
    let app = start_shop().await;
    let admin = app.admin().await;
    let (tea, cup) = (
        app.new_product(&admin, &json!(4.5), 100).await,
        app.new_product(&admin, &json!(7), 100).await,
    );
    let guest = app.guest().await;
    app.add_to_cart(&guest, &tea, 3).await.ok();
    app.add_to_cart(&guest, &cup, 4).await.ok();
    let users = app.customers(50).await;
    let responses =
        join_all(users.iter().map(|user| app.merge_cart(user, &guest).into_future())).await;
    assert_eq!(sorted_statuses(&responses), [vec![200], vec![409; 49]].concat());
    let mut holders = 0;
    for (user, response) in users.iter().zip(responses) {
        let cart = app.get("/api/cart").token(user).await.is(200);
        if response.status == 200 {
            assert_eq!(cart.lines(), [(tea.clone(), 3), (cup.clone(), 4)]);
            assert_eq!(response.lines(), cart.lines());
            holders += 1;
        } else {
            response.problem(409, "guest_cart_merged");
            assert_eq!(cart.json()["version"], 0, "a late cart stays untouched");
        }
    }
    assert_eq!(holders, 1);
}

#[tokio::test]
async fn merge_keeps_all_acknowledged_guest_adds() {
    let app = start_shop().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 1000).await;
    for _ in 0..5 {
        let (ada, guest) = (app.customer().await, app.guest().await);
        let adds = join_all((0..20).map(|_| app.add_to_cart(&guest, &tea, 1).into_future()));
        let (merged, adds) = tokio::join!(app.merge_cart(&ada, &guest).into_future(), adds);
        merged.is(200);
        let kept = adds.iter().filter(|response| response.status == 200).count() as u64;
        for refused in adds.into_iter().filter(|response| response.status != 200) {
            refused.problem(409, "guest_cart_merged");
        }
        assert_eq!(app.cart(&ada).await["item_count"], kept);
    }
}

#[tokio::test]
async fn concurrent_repeats_of_one_key_make_one_change() {
    let app = start_shop().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let ada = app.customer().await;
    let adds =
        join_all((0..50).map(|_| app.add_to_cart(&ada, &tea, 2).key("add-1").into_future())).await;
    assert_one_change(adds, 200);
    assert_eq!(app.cart(&ada).await["item_count"], 2);

    let delta = json!({"delta": 5, "reason": "delivery"});
    let changes = join_all(
        (0..50).map(|_| app.change_stock(&admin, &tea, &delta).key("stock-1").into_future()),
    )
    .await;
    assert_one_change(changes, 200);
    assert_eq!(app.stock(&admin, &tea).await["on_hand"], 105);

    let cup = json!({"name": "Cup", "description": "", "price": 7, "stock": 3, "sku": "CUP-1"});
    let creates = (0..50)
        .map(|_| app.post("/api/products", &cup).token(&admin).key("create-1").into_future());
    assert_one_change(join_all(creates).await, 201);
    assert_eq!(app.get("/api/products?q=CUP-1").await.ok()["total"], 1);

    let patch = json!({"name": "Green tea"});
    let path = format!("/api/products/{tea}");
    let patches = join_all(
        (0..50).map(|_| app.patch(&path, &patch).token(&admin).key("patch-1").into_future()),
    )
    .await;
    assert_one_change(patches, 200);
    assert_eq!(app.get(&path).await.ok()["version"], 2);
}

#[tokio::test]
async fn parallel_stock_changes_add_up() {
    let app = start_shop().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 50).await;
    // 100 requests for one of 50 units each: 50 are refused, and stock does not go below zero.
    let take = json!({"delta": -1, "reason": "sold at the counter"});
    let responses =
        join_all((0..100).map(|_| app.change_stock(&admin, &tea, &take).into_future())).await;
    assert_eq!(sorted_statuses(&responses), [vec![200; 50], vec![409; 50]].concat());
    let stock = app.stock(&admin, &tea).await;
    assert_eq!((&stock["on_hand"], &stock["available"]), (&json!(0), &json!(0)));
    let movements =
        app.all_pages(&admin, &format!("/api/products/{tea}/stock/movements"), 100).await;
    assert_eq!(movements.len(), 51);
    let sum: i64 =
        movements.iter().map(|movement| movement["on_hand_delta"].as_i64().unwrap()).sum();
    assert_eq!(sum, 0);
}

#[tokio::test]
async fn parallel_patches_of_one_product_do_not_undo_each_other() {
    let app = start_shop().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 50).await;
    let path = format!("/api/products/{tea}");
    for round in 0..10 {
        let patch = |n: usize| json!({"attributes": {format!("a{n}"): round}});
        let patches = (0..8).map(|n| app.patch(&path, &patch(n)).token(&admin).into_future());
        for response in join_all(patches).await {
            response.is(200);
        }
        let product = app.get(&path).await.ok();
        let attributes = product["attributes"].as_object().unwrap();
        assert!(
            attributes.len() == 8 && attributes.values().all(|value| value == round),
            "round {round}: {attributes:?}"
        );
    }
}

#[tokio::test]
async fn email_and_sku_are_assigned_once() {
    let app = start_shop().await;
    let admin = app.admin().await;
    let body = json!({"email": "one@souk.example", "password": "a good password", "name": "One"});
    let registered =
        join_all((0..8).map(|_| app.post("/api/auth/register", &body).into_future())).await;
    assert_eq!(sorted_statuses(&registered), [vec![201], vec![409; 7]].concat());
    let cup = json!({"name": "Cup", "description": "", "price": 7, "stock": 3, "sku": "CUP-1"});
    let created =
        join_all((0..20).map(|_| app.post("/api/products", &cup).token(&admin).into_future()))
            .await;
    assert_eq!(sorted_statuses(&created), [vec![201], vec![409; 19]].concat());
    assert_eq!(app.get("/api/products").await.ok()["total"], 1);
}

#[tokio::test]
async fn connection_burst_is_queued_and_not_rejected() {
    let app = start_shop().await;
    // While the process is stopped, only the kernel's queue accepts connections; one that does not
    // fit is retried seconds later.
    app.signal("STOP");
    let connected =
        tokio::time::timeout(Duration::from_secs(10), join_all((0..500).map(|_| app.connect())))
            .await;
    app.signal("CONT");
    for mut connection in connected.expect("not all 500 connections are accepted") {
        connection.send("GET /livez HTTP/1.1\r\nhost: souk\r\n\r\n").await;
        assert_eq!(connection.response().await.status, 200);
    }
}

#[tokio::test]
async fn if_match_wildcard_accepts_any_stock_version() {
    let app = start_shop().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 10).await;
    let delivery = json!({"delta": 1, "reason": "delivery"});
    let change =
        |tag: &str| app.change_stock(&admin, &tea, &delivery).header("if-match", tag).into_future();
    let responses = join_all((0..50).map(|_| change("*"))).await;
    responses.into_iter().for_each(|response| drop(response.ok()));
    // With a version, at most one change succeeds.
    let tag = format!("\"{}\"", app.stock(&admin, &tea).await["version"]);
    let responses = join_all((0..50).map(|_| change(&tag))).await;
    assert_eq!(sorted_statuses(&responses), [vec![200], vec![412; 49]].concat());
    assert_eq!(app.stock(&admin, &tea).await["on_hand"], 61);
}
