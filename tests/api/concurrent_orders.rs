//! Checkouts and orders: repeated requests, concurrent requests, and expiry.

use std::{collections::BTreeMap, future::IntoFuture};

use futures_util::future::join_all;
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use souk::domain::clock::{Clock, SystemClock};

use crate::support::{
    Account, Event, Response, TestApp, assert_gap_free, assert_one_change, sorted_statuses,
};

async fn start_shop(settings: &[(&str, &str)], stock: u64) -> (TestApp, Account, String) {
    let app = TestApp::with_settings(settings).await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), stock).await;
    (app, admin, tea)
}

#[tokio::test]
async fn requests_sent_twice_take_effect_once() {
    let (app, admin, tea) = start_shop(&[], 10).await;
    let ada = app.customer().await;
    app.add_to_cart(&ada, &tea, 2).await.ok();
    let body = json!({"expected_total": 9});
    let first = app.check_out(&ada, "buy").json(&body).await.is(201);
    let order = first.json();
    // Items added since then stay in the cart.
    app.add_to_cart(&ada, &tea, 1).await.ok();
    let again = app.check_out(&ada, "buy").json(&body).await.is(201);
    assert!(again.is_replayed() && !first.is_replayed());
    assert_eq!(again.text(), first.text());
    app.check_out(&ada, "buy")
        .json(&json!({"expected_total": 10}))
        .await
        .problem(422, "idempotency_key_reused");
    app.check_out(&ada, "buy").await.problem(422, "idempotency_key_reused");
    assert_eq!(
        (app.cart(&ada).await["item_count"].clone(), app.stock_counts(&admin, &tea).await),
        (json!(1), [10, 2, 8])
    );

    for action in ["pay", "fulfil"] {
        let first = app.order_action(&admin, &order, action).key(action).await.is(200);
        let again = app
            .order_action(&admin, &order, action)
            .key(action)
            .header("if-match", "\"1\"")
            .await
            .is(200);
        assert!(again.is_replayed());
        assert_eq!(again.text(), first.text());
        app.order_action(&admin, &order, action).await.problem(409, "invalid_transition");
        app.order_action(&admin, &order, action)
            .key("another")
            .await
            .problem(409, "invalid_transition");
        app.order_action(&admin, &order, "cancel")
            .key(action)
            .await
            .problem(422, "idempotency_key_reused");
    }
    let second = app.check_out(&ada, "second").await.is(201).json();
    let cancel = || app.order_action(&ada, &second, "cancel");
    for _ in 0..2 {
        assert_eq!(cancel().key("cancel").await.ok()["version"], 2);
    }
    // A missing body is equivalent to an empty object.
    assert!(cancel().key("cancel").json(&json!({})).await.is(200).is_replayed());
    cancel().await.problem(409, "invalid_transition");
    assert_eq!(app.stock_counts(&admin, &tea).await, [8, 0, 8]);
    assert_eq!(
        app.all_pages(&admin, &format!("/api/products/{tea}/stock/movements"), 20).await.len(),
        5
    );
    // The first response is replayed whatever the order's current state, even for a checkout that
    // emptied the cart.
    assert_eq!(app.check_out(&ada, "buy").json(&body).await.is(201).text(), first.text());
}

#[tokio::test]
async fn concurrent_repeats_place_one_order() {
    let (app, admin, tea) = start_shop(&[], 100).await;
    let ada = app.customer().await;
    app.add_to_cart(&ada, &tea, 2).await.ok();
    assert_one_change(
        join_all((0..40).map(|_| app.check_out(&ada, "buy").into_future())).await,
        201,
    );
    let orders = app.all_pages(&ada, "/api/orders", 20).await;
    assert_eq!((orders.len(), app.stock_counts(&admin, &tea).await), (1, [100, 2, 98]));
    assert_one_change(
        join_all(
            (0..40).map(|_| app.order_action(&admin, &orders[0], "pay").key("pay").into_future()),
        )
        .await,
        200,
    );
    let responses =
        join_all((0..40).map(|_| app.order_action(&admin, &orders[0], "fulfil").into_future()))
            .await;
    assert_eq!(sorted_statuses(&responses), [vec![200], vec![409; 39]].concat());
    assert_eq!(app.stock_counts(&admin, &tea).await, [98, 0, 98]);
}

#[tokio::test]
async fn concurrent_checkouts_sell_exactly_the_available_stock() {
    let (app, admin, tea) = start_shop(&[], 20).await;
    let buyers = app.customers(50).await;
    join_all(buyers.iter().map(|account| app.add_to_cart(account, &tea, 1).into_future()))
        .await
        .into_iter()
        .for_each(|response| drop(response.ok()));
    let responses =
        join_all(buyers.iter().map(|account| app.check_out(account, "buy").into_future())).await;
    assert_eq!(sorted_statuses(&responses), [vec![201; 20], vec![409; 30]].concat());
    for (account, response) in buyers.iter().zip(responses) {
        let (orders, left) = (
            app.all_pages(account, "/api/orders", 10).await,
            app.cart(account).await["item_count"].clone(),
        );
        if response.status == 201 {
            assert_eq!((orders, left), (vec![response.json()], json!(0)));
        } else {
            let problem = response.problem(409, "insufficient_stock");
            assert_eq!(
                problem["lines"],
                json!([{"product_id": tea, "requested": 1, "available": 0}])
            );
            assert_eq!((orders, left), (vec![], json!(1)));
        }
    }
    assert_eq!(app.stock_counts(&admin, &tea).await, [20, 20, 0]);
    let movements =
        app.all_pages(&admin, &format!("/api/products/{tea}/stock/movements"), 100).await;
    assert_eq!(movements.iter().map(|m| m["reserved_delta"].as_i64().unwrap()).sum::<i64>(), 20);
}

#[tokio::test]
async fn checkout_of_several_products_is_all_or_nothing() {
    let (app, admin, _) = start_shop(&[], 0).await;
    let price = json!(1);
    let product_ids =
        join_all([12, 9, 15].map(|stock| app.new_product(&admin, &price, stock))).await;
    let buyers = app.customers(24).await;
    for account in &buyers {
        let mut order = product_ids.clone();
        order.shuffle(&mut rand::rng());
        for product in &order {
            app.add_to_cart(account, product, 1).await.ok();
        }
    }
    let responses =
        join_all(buyers.iter().map(|account| app.check_out(account, "buy").into_future())).await;
    assert_eq!(sorted_statuses(&responses), [vec![201; 9], vec![409; 15]].concat());
    for response in responses.iter().filter(|response| response.status == 201) {
        assert_eq!(response.json()["items"].as_array().unwrap().len(), 3);
    }
    for (product, stock) in product_ids.iter().zip([12, 9, 15]) {
        assert_eq!(app.stock_counts(&admin, product).await, [stock, 9, stock - 9]);
    }
}

#[tokio::test]
async fn items_added_during_checkout_stay_in_the_cart() {
    let (app, admin, tea) = start_shop(&[("orders.max_pending", "1000")], 10_000).await;
    let ada = app.customer().await;
    let adds = (0..60).map(|_| app.add_to_cart(&ada, &tea, 1).into_future());
    let checkouts = (0..20).map(|n| app.check_out(&ada, format!("buy-{n}")).into_future());
    let (adds, checkouts): (Vec<Response>, Vec<Response>) =
        tokio::join!(join_all(adds), join_all(checkouts));
    adds.into_iter().for_each(|response| drop(response.ok()));
    for response in checkouts {
        if response.status != 201 {
            response.problem(409, "cart_empty");
        }
    }
    let sold: u64 = app
        .all_pages(&ada, "/api/orders", 100)
        .await
        .iter()
        .map(|order| order["items"][0]["quantity"].as_u64().unwrap())
        .sum();
    let left = app.cart(&ada).await["item_count"].as_u64().unwrap();
    assert_eq!(
        (sold + left, app.stock_counts(&admin, &tea).await),
        (60, [10_000, sold, 10_000 - sold])
    );
}

#[tokio::test]
async fn pending_order_limit_holds_for_concurrent_checkouts() {
    let (app, _, tea) = start_shop(&[("orders.max_pending", "3")], 10_000).await;
    let ada = app.customer().await;
    let mut placed = 0;
    for round in 0..6 {
        app.add_to_cart(&ada, &tea, 1).await.ok();
        let responses =
            join_all((0..5).map(|n| app.check_out(&ada, format!("{round}-{n}")).into_future()))
                .await;
        placed += responses.iter().filter(|response| response.status == 201).count();
    }
    assert_eq!((placed, app.all_pages(&ada, "/api/orders", 20).await.len()), (3, 3));
}

#[tokio::test]
async fn order_price_is_never_older_than_the_catalog() {
    let (app, admin, tea) = start_shop(&[], 1_000).await;
    let buyers = app.customers(8).await;
    let reprice = async {
        for price in 5..30 {
            app.patch(&format!("/api/products/{tea}"), &json!({"price": price}))
                .token(&admin)
                .await
                .ok();
        }
    };
    let buy = async |account: &Account| {
        for n in 0..6 {
            app.add_to_cart(account, &tea, 1).await.ok();
            let before =
                app.get(&format!("/api/products/{tea}")).await.ok()["price"].as_f64().unwrap();
            let response = app
                .check_out(account, format!("{n}"))
                .json(&json!({"expected_total": before}))
                .await;
            if response.status == 201 {
                assert!(
                    response.json()["total_amount"].as_f64().unwrap() >= before,
                    "the price is not older than the acknowledged one"
                );
            } else {
                assert!(
                    response.problem(409, "price_changed")["total_amount"].as_f64().unwrap()
                        > before
                );
            }
            app.delete("/api/cart").token(account).await.ok();
        }
    };
    tokio::join!(reprice, join_all(buyers.iter().map(buy)));
}

#[tokio::test]
async fn expired_order_releases_stock() {
    let (app, admin, tea) = start_shop(&[("orders.payment_timeout", "2s")], 10).await;
    let ada = app.customer().await;
    let mut feed = app.open_feed(Some(&ada), None).await;
    let paid = app.buy(&ada, &tea, 4).await;
    app.order_action(&admin, &paid, "pay").await.ok();
    let order = app.buy(&ada, &tea, 3).await;
    let expired = app.wait_for_order_status(&ada, &order, "expired").await;
    assert_eq!((&expired["version"], expired.get("expires_at")), (&json!(2), None));
    assert!(
        expired["updated_at"].as_str() >= order["expires_at"].as_str(),
        "the order does not expire early"
    );
    assert_eq!(app.stock_counts(&admin, &tea).await, [10, 4, 6]);
    for action in ["cancel", "fulfil"] {
        app.order_action(&admin, &order, action).await.problem(409, "invalid_transition");
    }
    let last = app.buy(&ada, &tea, 1).await;
    app.wait_for_order_status(&ada, &last, "expired").await;
    assert_eq!(app.order(&ada, &paid).await["status"], "paid", "a paid order never expires");
    let events = feed
        .read_until(|event| {
            event.kind == "order.expired" && event.subject() == last["id"].as_str().unwrap()
        })
        .await;
    assert_gap_free(&events);
    let movements =
        app.all_pages(&admin, &format!("/api/products/{tea}/stock/movements"), 20).await;
    let released =
        movements.iter().find(|m| m["kind"] == "released" && m["order_id"] == order["id"]).unwrap();
    assert_eq!(released["reserved_delta"], -3);
}

#[tokio::test]
async fn payment_around_the_deadline_reserves_each_order_once() {
    let (app, admin, tea) =
        start_shop(&[("orders.payment_timeout", "300ms"), ("orders.max_pending", "1000")], 1_000)
            .await;
    let ada = app.customer().await;
    let mut orders = Vec::new();
    for _ in 0..30 {
        orders.push(app.buy(&ada, &tea, 1).await);
    }
    // Each order is paid at a random time around its deadline.
    let race = async |order: &Value| {
        let deadline = order["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let left = deadline.as_millisecond() - SystemClock.now().as_millis()
            + rand::random_range(-50..600);
        // The test needs a request close to the deadline.
        tokio::time::sleep(std::time::Duration::from_millis(left.max(0) as u64)).await;
        // An order that has expired meanwhile takes its units again.
        let paid = app.order_action(&admin, order, "pay").await.ok();
        assert_eq!(paid["status"], "paid");
        assert!(paid["version"] == 2 || paid["version"] == 3, "{paid}");
        assert_eq!(app.order(&admin, order).await, paid);
    };
    join_all(orders.iter().map(race)).await;
    assert_eq!(app.stock_counts(&admin, &tea).await, [1_000, 30, 970]);
}

#[tokio::test]
async fn order_transitions_are_published_to_their_owner() {
    let (app, admin, tea) = start_shop(&[], 10).await;
    let (ada, eve) = (app.customer().await, app.customer().await);
    let (mut feed, mut other) =
        (app.open_feed(Some(&ada), None).await, app.open_feed(Some(&eve), None).await);
    let order = app.buy(&ada, &tea, 2).await;
    let paid = app.order_action(&admin, &order, "pay").await.ok();
    let sent = app.order_action(&admin, &order, "fulfil").await.ok();
    let second = app.buy(&ada, &tea, 1).await;
    let cancelled = app.order_action(&ada, &second, "cancel").await.ok();
    let sentinel = app.new_product(&admin, &json!(1), 0).await;
    let events = feed.read_until(|event| event.subject() == sentinel).await;
    assert_gap_free(&events);
    let of_orders: Vec<&Event> = events.iter().filter(|event| event.family() == "order").collect();
    let wanted = [
        ("order.placed", &order),
        ("order.paid", &paid),
        ("order.fulfilled", &sent),
        ("order.placed", &second),
        ("order.cancelled", &cancelled),
    ];
    assert_eq!(of_orders.len(), wanted.len());
    for (event, (kind, order)) in of_orders.into_iter().zip(wanted) {
        assert_eq!((&*event.kind, event.subject()), (kind, order["id"].as_str().unwrap()));
        let mut data = order.clone();
        data.as_object_mut().unwrap().remove("email");
        assert_eq!(
            (event.sequence(), &event.body["data"]),
            (order["version"].as_u64().unwrap(), &data),
            "the event contains the order"
        );
    }
    let bought: Vec<&Event> =
        events.iter().filter(|event| event.kind == "cart.checked_out").collect();
    let sequences: BTreeMap<&str, u64> = bought
        .iter()
        .map(|event| (event.body["data"]["order_id"].as_str().unwrap(), event.sequence()))
        .collect();
    assert_eq!(
        sequences,
        BTreeMap::from([(order["id"].as_str().unwrap(), 2), (second["id"].as_str().unwrap(), 4)])
    );
    let strangers = other.read_until(|event| event.subject() == sentinel).await;
    assert!(
        strangers.iter().all(|event| event.family() != "order" && event.family() != "cart"),
        "other customers see no private events"
    );
}
