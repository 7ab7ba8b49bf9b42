//! Two nodes sell the same products: exactly the stock, each request once, and each node can finish
//! another's orders.

use std::future::IntoFuture;

use futures_util::future::join_all;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    shared_replica_set,
    support::{
        Account, Response, TestApp, assert_gap_free, assert_one_change, sorted_statuses,
        unique_number,
    },
};

/// Checks out for all buyers concurrently, alternating between the nodes.
async fn check_out_all(cluster: &Cluster, buyers: &[Account]) -> Vec<Response> {
    let buy = |(n, account): (usize, &Account)| {
        cluster.nodes[n % 2].check_out(account, "buy").into_future()
    };
    join_all(buyers.iter().enumerate().map(buy)).await
}

/// A product's current stock counts in the store.
async fn fresh_stock_counts(node: &TestApp, admin: &Account, product: &str) -> [u64; 3] {
    let stock = node
        .get(&format!("/api/products/{product}/stock"))
        .token(admin)
        .header("cache-control", "no-cache")
        .await
        .ok();
    ["on_hand", "reserved", "available"].map(|name| stock[name].as_u64().unwrap())
}

#[tokio::test]
async fn two_nodes_sell_exactly_the_available_stock() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let tea = there.new_product(&admin, &json!(4.5), 40).await;
    let buyers = here.customers(100).await;
    for (n, account) in buyers.iter().enumerate() {
        // Added on one node, bought on the other.
        cluster.nodes[(n + 1) % 2].add_to_cart(account, &tea, 1).await.ok();
    }
    let mut feed = here.open_feed(None, None).await;
    let responses = check_out_all(&cluster, &buyers).await;
    assert_eq!(sorted_statuses(&responses), [vec![201; 40], vec![409; 60]].concat());
    for (account, response) in buyers.iter().zip(responses) {
        let orders = there.all_pages(account, "/api/orders", 10).await;
        if response.status == 201 {
            assert_eq!(orders, [response.json()]);
        } else {
            assert_eq!(response.problem(409, "insufficient_stock")["lines"][0]["available"], 0);
            assert_eq!(orders, [Value::Null; 0]);
        }
    }
    for node in &cluster.nodes {
        assert_eq!(fresh_stock_counts(node, &admin, &tea).await, [40, 40, 0]);
    }
    let sentinel = there.new_product(&admin, &json!(1), 0).await;
    assert_gap_free(&feed.read_until(|event| event.subject() == sentinel).await);
    drop(feed);
    cluster.shut_down().await;
}

#[tokio::test]
async fn checkout_of_several_products_is_all_or_nothing() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let price = json!(1);
    let product_ids =
        join_all([30, 20, 25].map(|stock| there.new_product(&admin, &price, stock))).await;
    let buyers = here.customers(60).await;
    for account in &buyers {
        let mut mixed = product_ids.clone();
        mixed.shuffle(&mut rand::rng());
        for product in &mixed {
            cluster.any_node().add_to_cart(account, product, 1).await.ok();
        }
    }
    let responses = check_out_all(&cluster, &buyers).await;
    assert_eq!(sorted_statuses(&responses), [vec![201; 20], vec![409; 40]].concat());
    assert!(
        responses.iter().filter(|a| a.status == 201).all(|a| a.json()["items"]
            .as_array()
            .unwrap()
            .len()
            == 3)
    );
    for (product, stock) in product_ids.iter().zip([30, 20, 25]) {
        assert_eq!(fresh_stock_counts(there, &admin, product).await, [stock, 20, stock - 20]);
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn order_changes_once_across_both_nodes() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let tea = there.new_product(&admin, &json!(4.5), 100).await;
    let ada = here.customer().await;
    here.add_to_cart(&ada, &tea, 2).await.ok();
    let both = |count: usize| (0..count).map(|n| &cluster.nodes[n % 2]);
    assert_one_change(
        join_all(both(20).map(|node| node.check_out(&ada, "buy").into_future())).await,
        201,
    );
    let order = there.get("/api/orders").token(&ada).await.ok()["items"][0].clone();
    assert_eq!(here.order(&ada, &order).await, order);
    assert_one_change(
        join_all(
            both(20).map(|node| node.order_action(&admin, &order, "pay").key("pay").into_future()),
        )
        .await,
        200,
    );
    let responses =
        join_all(both(20).map(|node| node.order_action(&admin, &order, "fulfil").into_future()))
            .await;
    assert_eq!(sorted_statuses(&responses), [vec![200], vec![409; 19]].concat());
    assert_eq!(fresh_stock_counts(here, &admin, &tea).await, [98, 0, 98]);
    for (action, left) in [("cancel", [98, 0, 98]), ("fulfil", [97, 0, 97])] {
        let order = here.buy(&ada, &tea, 1).await;
        if action == "fulfil" {
            there.order_action(&admin, &order, "pay").await.ok();
        }
        assert_one_change(
            join_all(
                both(20).map(|node| {
                    node.order_action(&admin, &order, action).key(action).into_future()
                }),
            )
            .await,
            200,
        );
        assert_eq!(fresh_stock_counts(here, &admin, &tea).await, left);
    }
    // A price changed on one node applies to checkouts on the other.
    for price in 5..25 {
        let (one, other) = if price % 2 == 0 { (here, there) } else { (there, here) };
        other.add_to_cart(&ada, &tea, 1).await.ok();
        one.patch(&format!("/api/products/{tea}"), &json!({"price": price}))
            .token(&admin)
            .await
            .ok();
        let order = other.check_out(&ada, format!("at-{price}")).await.is(201).json();
        assert_eq!(order["total_amount"], price);
        one.order_action(&ada, &order, "cancel").await.ok();
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn pending_order_limit_holds_across_both_nodes() {
    let Some(uri) = shared_replica_set::uri().await else { return };
    let cluster = Cluster::start(&uri, &[("orders.max_pending", "3")]).await;
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let tea = there.new_product(&admin, &json!(4.5), 1000).await;
    let ada = here.customer().await;
    for _ in 0..4 {
        let buy = async |n: usize| {
            let node = &cluster.nodes[n % 3];
            node.add_to_cart(&ada, &tea, 1).await.ok();
            node.check_out(&ada, format!("buy-{}", unique_number())).await.status
        };
        let statuses = join_all((0..9).map(buy)).await;
        assert!(statuses.iter().all(|status| [201, 409].contains(status)), "{statuses:?}");
        let is_pending = |order: &Value| order["status"] == "pending_payment";
        let orders = there.all_pages(&ada, "/api/orders", 20).await;
        let units = |order: &Value| order["items"][0]["quantity"].as_u64().unwrap();
        let bought: u64 = orders.iter().filter(|order| is_pending(order)).map(units).sum();
        assert!(bought <= 3, "{bought} units");

        // What is left to the buyer, exactly.
        here.delete("/api/cart").token(&ada).await.ok();
        if bought < 3 {
            here.add_to_cart(&ada, &tea, 3 - bought).await.ok();
            let rest = here.check_out(&ada, format!("rest-{}", unique_number())).await;
            assert_eq!(rest.status, 201);
        }
        there.add_to_cart(&ada, &tea, 1).await.ok();
        let beyond = there.check_out(&ada, format!("beyond-{}", unique_number())).await;
        beyond.problem(409, "purchase_limit_reached");

        // What the buyer gives back can be bought again, on whatever node.
        there.delete("/api/cart").token(&ada).await.ok();
        for order in here.all_pages(&ada, "/api/orders", 20).await.iter().filter(|o| is_pending(o))
        {
            there.order_action(&ada, order, "cancel").await.ok();
        }
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn purchase_limit_holds_for_one_buyer_on_several_nodes() {
    let Some(uri) = shared_replica_set::uri().await else { return };
    let cluster = Cluster::start_nodes(3, &uri, &[("limits.per_user", "0")]).await;
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let tea = there.new_product(&admin, &json!(4.5), 1000).await;
    let limit = json!({"purchase_limit": 3});
    there.patch(&format!("/api/products/{tea}"), &limit).token(&admin).await.ok();
    let ada = here.customer().await;
    let mut placed = 0;
    for _ in 0..6 {
        here.add_to_cart(&ada, &tea, 1).await.ok();
        let buy = |n: usize| {
            let key = format!("buy-{}", unique_number());
            cluster.nodes[n % 3].check_out(&ada, key).into_future()
        };
        let responses = join_all((0..9).map(buy)).await;
        placed += responses.iter().filter(|response| response.status == 201).count();
        let order = there.all_pages(&ada, "/api/orders", 20).await.remove(0);
        if placed == 3 && order["status"] == "pending_payment" {
            there.order_action(&ada, &order, "cancel").await.ok();
            placed -= 1;
        }
    }
    // What the buyer gave back was sold again, on whatever node.
    let orders = here.all_pages(&ada, "/api/orders", 20).await;
    let standing = orders.iter().filter(|order| order["status"] == "pending_payment").count();
    assert_eq!((standing, orders.len()), (placed, 6));
    assert!(placed <= 3);
    cluster.shut_down().await;
}

#[tokio::test]
async fn orders_of_a_dead_node_still_expire() {
    let Some(uri) = shared_replica_set::uri().await else { return };
    let mut cluster =
        Cluster::start(&uri, &[("orders.payment_timeout", "4s"), ("orders.max_pending", "1000")])
            .await;
    let admin = cluster.nodes[0].admin().await;
    let tea = cluster.nodes[0].new_product(&admin, &json!(4.5), 1000).await;
    let buyers = cluster.nodes[0].customers(8).await;
    let mut orders = Vec::new();
    for account in &buyers {
        for _ in 0..4 {
            orders.push(cluster.nodes[0].buy(account, &tea, 1).await);
        }
    }
    let paid = orders.pop().unwrap();
    cluster.nodes[0].order_action(&admin, &paid, "pay").await.ok();
    cluster.nodes[0].kill_9().await;
    let other = &cluster.nodes[1];
    for order in &orders {
        let expired = other.wait_for_order_status(&admin, order, "expired").await;
        assert_eq!(expired["version"], 2);
    }
    assert_eq!(fresh_stock_counts(other, &admin, &tea).await, [1000, 1, 999]);
    assert_eq!(other.order(&admin, &paid).await["status"], "paid");
    cluster.nodes[0].restart().await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn orders_expire_once_across_both_nodes() {
    let Some(uri) = shared_replica_set::uri().await else { return };
    let cluster =
        Cluster::start(&uri, &[("orders.payment_timeout", "2s"), ("orders.max_pending", "1000")])
            .await;
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let tea = there.new_product(&admin, &json!(4.5), 1000).await;
    let buyers = here.customers(10).await;
    let buy = async |(n, account): (usize, &Account)| {
        let mut orders = Vec::new();
        for _ in 0..5 {
            orders.push(cluster.nodes[n % 2].buy(account, &tea, 1).await);
        }
        orders
    };
    let orders = join_all(buyers.iter().enumerate().map(buy)).await.concat();
    for order in &orders {
        assert_eq!(there.wait_for_order_status(&admin, order, "expired").await["version"], 2);
    }
    assert_eq!(fresh_stock_counts(here, &admin, &tea).await, [1000, 0, 1000]);
    let movements =
        here.all_pages(&admin, &format!("/api/products/{tea}/stock/movements"), 100).await;
    assert_eq!(
        movements.iter().filter(|movement| movement["kind"] == "released").count(),
        orders.len()
    );
    cluster.shut_down().await;
}

#[tokio::test]
async fn deleted_product_rejects_stock_changes_on_the_other_node() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    for round in 0..10 {
        let tea = here.new_product(&admin, &json!(4.5), 5).await;
        // The other node knows the product now.
        there.get(&format!("/api/products/{tea}")).header("cache-control", "no-cache").await.ok();
        here.delete(&format!("/api/products/{tea}")).token(&admin).await.is(204);
        let refused =
            there.change_stock(&admin, &tea, &json!({"delta": 1, "reason": "found"})).await;
        assert_eq!(refused.status, 404, "round {round}: {refused}");
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn order_uses_the_last_price_published_before_it() {
    const ORDERS: usize = 40;
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let ada = here.customer().await;
    let mut feed = there.open_feed(Some(&ada), None).await;
    let tea = here.new_product(&admin, &json!(1), 1000).await;
    for n in 0..ORDERS {
        there.add_to_cart(&ada, &tea, 1).await.ok();
        let reprice = here
            .patch(&format!("/api/products/{tea}"), &json!({"price": n + 2}))
            .token(&admin)
            .into_future();
        let (repriced, order) =
            tokio::join!(reprice, there.check_out(&ada, format!("{n}")).into_future());
        repriced.ok();
        there.order_action(&ada, &order.is(201).json(), "cancel").await.ok();
    }
    let last = here.new_product(&admin, &json!(1), 0).await;
    let (mut last_price, mut orders) = (json!(1), 0);
    for event in feed.read_until(|event| event.subject() == last).await {
        match &*event.kind {
            "catalog.product.updated" => last_price = event.body["data"]["price"].clone(),
            "order.placed" => {
                assert_eq!(event.body["data"]["total_amount"], last_price, "order {orders}");
                orders += 1;
            }
            _ => {}
        }
    }
    assert_eq!(orders, ORDERS);
    drop(feed);
    cluster.shut_down().await;
}
