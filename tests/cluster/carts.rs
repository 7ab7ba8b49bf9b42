//! One cart, one guest and one key, used on both nodes concurrently.

use std::{collections::BTreeSet, future::IntoFuture};

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    cluster::Cluster,
    support::{Account, Answer, Call, TestApp, one_change, statuses},
};

const USERS: usize = 64;
/// The number of concurrent requests per user, and of sequential requests in each stream.
const STREAMS: usize = 3;
const ADDS: usize = 8;

/// Adds units one by one on random nodes; returns the versions and quantities of the responses.
async fn shop(cluster: &Cluster, who: &Account, product: &str) -> Vec<(u64, u64)> {
    let mut told = Vec::new();
    for _ in 0..ADDS {
        let cart = cluster.any().add(who, product, 1).await.ok();
        told.push((cart["version"].as_u64().unwrap(), cart["item_count"].as_u64().unwrap()));
    }
    told
}

/// Sends `count` calls concurrently, alternating between the nodes.
async fn on_both<'a>(
    cluster: &'a Cluster,
    count: usize,
    call: impl Fn(&'a TestApp, usize) -> Call,
) -> Vec<Answer> {
    join_all((0..count).map(|n| call(&cluster.nodes[n % 2], n).into_future())).await
}

#[tokio::test]
async fn adds_of_many_users_on_both_nodes_are_kept() {
    let Some(cluster) = Cluster::shared().await else { return };
    let (here, there) = cluster.pair();
    let admin = here.admin().await;
    let tea = there.product(&admin, &json!(4.5), 1_000_000).await;
    let users = here.customers(USERS).await;
    let all = users.iter().map(|user| join_all((0..STREAMS).map(|_| shop(&cluster, user, &tea))));
    let pieces = (STREAMS * ADDS) as u64;
    for (user, told) in users.iter().zip(join_all(all).await) {
        let told: BTreeSet<(u64, u64)> = told.into_iter().flatten().collect();
        let expected = (1..=pieces).map(|version| (version, version)).collect();
        assert_eq!(
            told, expected,
            "each version is in one response and shows the sum of the adds"
        );
        for node in &cluster.nodes {
            let cart = node.get("/api/cart").token(user).header("cache-control", "no-cache").await;
            assert_eq!(
                (cart.lines(), &cart.json()["version"]),
                (vec![(tea.clone(), pieces)], &json!(pieces))
            );
        }
    }
    cluster.end().await;
}

#[tokio::test]
async fn concurrent_adds_to_one_cart_on_both_nodes_are_kept() {
    let Some(cluster) = Cluster::shared().await else { return };
    let (here, there) = cluster.pair();
    let admin = here.admin().await;
    let tea = there.product(&admin, &json!(4.5), 1_000_000).await;
    let ada = here.customer().await;
    let answers = on_both(&cluster, 200, |node, _| node.add(&ada, &tea, 1)).await;
    let versions: BTreeSet<u64> =
        answers.into_iter().map(|answer| answer.ok()["version"].as_u64().unwrap()).collect();
    assert_eq!(versions, (1..=200).collect());
    cluster.end().await;
}

#[tokio::test]
async fn guest_cart_merges_once_across_both_nodes() {
    let Some(cluster) = Cluster::shared().await else { return };
    let (here, there) = cluster.pair();
    let admin = here.admin().await;
    let (tea, cup) =
        (here.product(&admin, &json!(4.5), 100).await, there.product(&admin, &json!(7), 100).await);

    // Merged by one user repeatedly.
    let (ada, guest) = (here.customer().await, there.guest().await);
    here.add(&ada, &tea, 2).await.ok();
    there.add(&guest, &tea, 3).await.ok();
    here.add(&guest, &cup, 4).await.ok();
    for answer in on_both(&cluster, 20, |node, _| node.merge(&ada, &guest)).await {
        let cart = answer.is(200);
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
        node.add(&guest, &tea, 1).await.problem(409, "guest_cart_merged");
    }

    // Merged by many users, one of whom gets it.
    let (users, guest) = (here.customers(20).await, here.guest().await);
    there.add(&guest, &cup, 4).await.ok();
    let answers = on_both(&cluster, users.len(), |node, n| node.merge(&users[n], &guest)).await;
    assert_eq!(statuses(&answers), [vec![200], vec![409; 19]].concat());
    for (user, answer) in users.iter().zip(answers) {
        let expected = if answer.status == 200 { vec![(cup.clone(), 4)] } else { Vec::new() };
        if answer.status != 200 {
            answer.problem(409, "guest_cart_merged");
        }
        for node in &cluster.nodes {
            let cart = node.get("/api/cart").token(user).header("cache-control", "no-cache").await;
            assert_eq!(cart.lines(), expected);
        }
    }
    cluster.end().await;
}

#[tokio::test]
async fn repeats_of_one_key_on_both_nodes_make_one_change() {
    let Some(cluster) = Cluster::shared().await else { return };
    let (here, there) = cluster.pair();
    let admin = here.admin().await;
    let ada = there.customer().await;
    let tea = here.product(&admin, &json!(4.5), 100).await;
    one_change(on_both(&cluster, 20, |node, _| node.add(&ada, &tea, 2).key("add")).await, 200);
    assert_eq!(
        there.get("/api/cart").token(&ada).header("cache-control", "no-cache").await.lines(),
        [(tea.clone(), 2)]
    );

    let delta = json!({"delta": 5, "reason": "delivery"});
    one_change(
        on_both(&cluster, 20, |node, _| node.change_stock(&admin, &tea, &delta).key("stock")).await,
        200,
    );
    let movements = there.pages(&admin, &format!("/api/products/{tea}/stock/movements"), 100).await;
    assert_eq!(movements.len(), 2, "the opening stock and one delivery");

    let cup = json!({"name": "Cup", "description": "", "price": 7, "stock": 3, "sku": "CUP-1"});
    one_change(
        on_both(&cluster, 20, |node, _| {
            node.post("/api/products", &cup).token(&admin).key("create")
        })
        .await,
        201,
    );

    let path = format!("/api/products/{tea}");
    let patch = json!({"name": "Green tea"});
    one_change(
        on_both(&cluster, 20, |node, _| node.patch(&path, &patch).token(&admin).key("patch")).await,
        200,
    );
    assert_eq!(there.get(&path).header("cache-control", "no-cache").await.ok()["version"], 2);
    cluster.end().await;
}
