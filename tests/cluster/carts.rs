//! One cart, one guest and one key, used on both nodes concurrently.

use std::{collections::BTreeSet, future::IntoFuture};

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    cluster::Cluster,
    support::{Account, Call, Response, TestApp, assert_one_change, sorted_statuses},
};

const USERS: usize = 64;
/// The number of concurrent requests per user, and of sequential requests in each stream.
const STREAMS: usize = 3;
const ADDS: usize = 8;

/// Adds units one by one on random nodes; returns the versions and quantities of the responses.
async fn add_one_by_one(cluster: &Cluster, account: &Account, product: &str) -> Vec<(u64, u64)> {
    let mut seen = Vec::new();
    for _ in 0..ADDS {
        let cart = cluster.any_node().add_to_cart(account, product, 1).await.ok();
        seen.push((cart["version"].as_u64().unwrap(), cart["item_count"].as_u64().unwrap()));
    }
    seen
}

/// Sends `count` calls concurrently, alternating between the nodes.
async fn send_to_both_nodes<'a>(
    cluster: &'a Cluster,
    count: usize,
    call: impl Fn(&'a TestApp, usize) -> Call,
) -> Vec<Response> {
    join_all((0..count).map(|n| call(&cluster.nodes[n % 2], n).into_future())).await
}

#[tokio::test]
async fn adds_of_many_users_on_both_nodes_are_kept() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let tea = there.new_product(&admin, &json!(4.5), 1_000_000).await;
    let users = here.customers(USERS).await;
    let all = users
        .iter()
        .map(|user| join_all((0..STREAMS).map(|_| add_one_by_one(&cluster, user, &tea))));
    let units = (STREAMS * ADDS) as u64;
    for (user, seen) in users.iter().zip(join_all(all).await) {
        let seen: BTreeSet<(u64, u64)> = seen.into_iter().flatten().collect();
        let expected = (1..=units).map(|version| (version, version)).collect();
        assert_eq!(seen, expected, "each version is in one response and shows the sum of the adds");
        for node in &cluster.nodes {
            let cart = node.get("/api/cart").token(user).header("cache-control", "no-cache").await;
            assert_eq!(
                (cart.lines(), &cart.json()["version"]),
                (vec![(tea.clone(), units)], &json!(units))
            );
        }
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn concurrent_adds_to_one_cart_on_both_nodes_are_kept() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let tea = there.new_product(&admin, &json!(4.5), 1_000_000).await;
    let ada = here.customer().await;
    let responses =
        send_to_both_nodes(&cluster, 200, |node, _| node.add_to_cart(&ada, &tea, 1)).await;
    let versions: BTreeSet<u64> =
        responses.into_iter().map(|response| response.ok()["version"].as_u64().unwrap()).collect();
    assert_eq!(versions, (1..=200).collect());
    cluster.shut_down().await;
}

#[tokio::test]
async fn guest_cart_merges_once_across_both_nodes() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let (tea, cup) = (
        here.new_product(&admin, &json!(4.5), 100).await,
        there.new_product(&admin, &json!(7), 100).await,
    );

    // Merged by one user repeatedly.
    let (ada, guest) = (here.customer().await, there.guest().await);
    here.add_to_cart(&ada, &tea, 2).await.ok();
    there.add_to_cart(&guest, &tea, 3).await.ok();
    here.add_to_cart(&guest, &cup, 4).await.ok();
    for response in send_to_both_nodes(&cluster, 20, |node, _| node.merge_cart(&ada, &guest)).await
    {
        let cart = response.is(200);
        assert_eq!(
            (cart.lines(), &cart.json()["version"]),
            (vec![(tea.clone(), 5), (cup.clone(), 4)], &json!(2))
        );
    }
    for node in &cluster.nodes {
        node.get("/api/cart")
            .token(&guest)
            .header("cache-control", "no-cache")
            .await
            .problem(409, "guest_cart_merged");
        node.add_to_cart(&guest, &tea, 1).await.problem(409, "guest_cart_merged");
    }

    // Merged by many users, one of whom gets it.
    let (users, guest) = (here.customers(20).await, here.guest().await);
    there.add_to_cart(&guest, &cup, 4).await.ok();
    let responses =
        send_to_both_nodes(&cluster, users.len(), |node, n| node.merge_cart(&users[n], &guest))
            .await;
    assert_eq!(sorted_statuses(&responses), [vec![200], vec![409; 19]].concat());
    for (user, response) in users.iter().zip(responses) {
        let expected = if response.status == 200 { vec![(cup.clone(), 4)] } else { Vec::new() };
        if response.status != 200 {
            response.problem(409, "guest_cart_merged");
        }
        for node in &cluster.nodes {
            let cart = node.get("/api/cart").token(user).header("cache-control", "no-cache").await;
            assert_eq!(cart.lines(), expected);
        }
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn repeats_of_one_key_on_both_nodes_make_one_change() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let ada = there.customer().await;
    let tea = here.new_product(&admin, &json!(4.5), 100).await;
    assert_one_change(
        send_to_both_nodes(&cluster, 20, |node, _| node.add_to_cart(&ada, &tea, 2).key("add"))
            .await,
        200,
    );
    assert_eq!(
        there.get("/api/cart").token(&ada).header("cache-control", "no-cache").await.lines(),
        [(tea.clone(), 2)]
    );

    let delta = json!({"delta": 5, "reason": "delivery"});
    assert_one_change(
        send_to_both_nodes(&cluster, 20, |node, _| {
            node.change_stock(&admin, &tea, &delta).key("stock")
        })
        .await,
        200,
    );
    let movements =
        there.all_pages(&admin, &format!("/api/products/{tea}/stock/movements"), 100).await;
    assert_eq!(movements.len(), 2, "the opening stock and one delivery");

    let cup = json!({"name": "Cup", "description": "", "price": 7, "stock": 3, "sku": "CUP-1"});
    assert_one_change(
        send_to_both_nodes(&cluster, 20, |node, _| {
            node.post("/api/products", &cup).token(&admin).key("create")
        })
        .await,
        201,
    );

    let path = format!("/api/products/{tea}");
    let patch = json!({"name": "Green tea"});
    assert_one_change(
        send_to_both_nodes(&cluster, 20, |node, _| {
            node.patch(&path, &patch).token(&admin).key("patch")
        })
        .await,
        200,
    );
    assert_eq!(there.get(&path).header("cache-control", "no-cache").await.ok()["version"], 2);
    cluster.shut_down().await;
}
