//! Which node serves whom.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    balancer::{Balancer, NodePorts},
    shop::Shop,
    support::{Account, TestApp},
};

/// More than enough users for three nodes to have some each.
const USERS: usize = 16;

/// Adds to a cart through the load balancer, over a connection of its own.
async fn add_to_cart(balancer: &Balancer, account: &Account, product: &str) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client
        .post(format!("{}/api/cart/add", balancer.http))
        .bearer_auth(&account.token)
        .json(&json!({"product_id": product, "quantity": 1}))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

/// The node that serves a user: it alone gets some requests of theirs. `units` is what the cart has
/// after each of them.
pub(crate) async fn find_home(
    shop: &Shop,
    user: &Account,
    product: &str,
    units: std::ops::RangeInclusive<u64>,
) -> usize {
    const METRIC: &str =
        r#"souk_http_requests_total{method="POST",route="/api/cart/add",status="200"}"#;
    let before = shop.metric(METRIC).await;
    let mut sent = 0.0;
    for units in units {
        assert_eq!(add_to_cart(&shop.balancer, user, product).await["item_count"], units);
        sent += 1.0;
    }
    let after = shop.metric(METRIC).await;
    let served: Vec<f64> = std::iter::zip(after, before)
        .map(|(after, before)| after.unwrap_or_default() - before.unwrap_or_default())
        .collect();
    let home = served.iter().position(|count| *count == sent);
    home.unwrap_or_else(|| panic!("several nodes served {}: {served:?}", user.id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_guests_stay_on_a_node_and_leave_one_that_stops() {
    let Some(mut shop) = Shop::start().await else { return };
    let admin = shop.nodes[0].admin().await;
    let tea = shop.nodes[0].new_product(&admin, &json!(4.5), 1_000_000).await;
    let mut users = shop.nodes[0].customers(USERS / 2).await;
    while users.len() < USERS {
        users.push(shop.nodes[1].guest().await);
    }
    let mut homes = Vec::new();
    for user in &users {
        homes.push(find_home(&shop, user, &tea, 1..=4).await);
    }
    let count = |node: usize| homes.iter().filter(|home| **home == node).count();
    let busiest = (0..3).max_by_key(|node| count(*node)).unwrap();
    assert!(count(busiest) < USERS, "one node has all users: {homes:?}");

    shop.nodes[busiest].signal("TERM");
    shop.nodes[busiest].wait_for_log("stopping: not ready").await;
    // Until the load balancer has noticed, the node goes on.
    for user in &users {
        assert_eq!(add_to_cart(&shop.balancer, user, &tea).await["item_count"], 5);
    }
    shop.balancer.wait_until(|servers| !servers[busiest]).await;
    // Only its own users move.
    for (user, home) in users.iter().zip(&homes) {
        let now = find_home(&shop, user, &tea, 6..=8).await;
        assert!(now != busiest && (*home == busiest || now == *home), "from {home} to {now}");
    }
    let (status, _) = shop.nodes[busiest].wait_for_exit().await;
    assert_eq!(status.code(), Some(0));
    shop.nodes[busiest].restart().await;
    shop.balancer.wait_until(|servers| servers == [true; 3]).await;
    // And they return.
    for (user, home) in users.iter().zip(&homes) {
        assert_eq!(find_home(&shop, user, &tea, 9..=10).await, *home);
    }
    shop.shut_down().await;
}

/// Runs curl; returns what it writes.
fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["--silent", "--show-error"]).args(arguments).output();
    let output = output.expect("curl is not installed; scripts/test installs it");
    String::from_utf8(output.stdout).unwrap()
}

/// A load balancer whose three servers are one node with the embedded store.
async fn balanced_node() -> Option<(TestApp, Balancer)> {
    let ports = NodePorts::choose();
    let (http, ops) = (format!("127.0.0.1:{}", ports.http), format!("127.0.0.1:{}", ports.ops));
    let node = TestApp::with_settings(&[("http.bind", &http), ("ops.bind", &ops)]).await;
    let balancer = Balancer::start(&[ports; 3]).await?;
    balancer.wait_until(|servers| servers == [true; 3]).await;
    Some((node, balancer))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_carries_many_feeds_and_requests_over_one_connection() {
    let Some((node, balancer)) = balanced_node().await else { return };
    let (feed, products) =
        (format!("{}/api/events", balancer.https), format!("{}/api/products", balancer.https));
    let format = "%{url} %{http_version} %{http_code} %{num_connects}\n";
    let mut arguments = vec!["--insecure", "--http2", "--parallel", "--parallel-max", "20"];
    // Feeds never end.
    arguments.extend(["--max-time", "8", "--write-out", format]);
    for url in std::iter::repeat_n(feed.as_str(), 8).chain([products.as_str()]) {
        arguments.extend(["--output", "/dev/null", url]);
    }
    let written = tokio::task::block_in_place(|| curl(&arguments));
    let lines: Vec<Vec<&str>> = written.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.len(), 9, "{written}");
    assert!(lines.iter().all(|line| line[1..3] == ["2", "200"]), "{written}");
    let connections: u32 = lines.iter().map(|line| line[3].parse::<u32>().unwrap()).sum();
    assert_eq!(connections, 1, "{written}");
    assert_eq!(lines[0][0], products, "it does not wait for the feeds: {written}");
    drop(node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn balancer_passes_the_client_on_and_keeps_operators_ports_private() {
    let Some((node, balancer)) = balanced_node().await else { return };
    let url = |path: &str| format!("{}{path}", balancer.http);
    for path in ["/metrics", "/livez", "/readyz"] {
        let response = reqwest::get(url(path)).await.unwrap();
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let problem: Value = response.json().await.unwrap();
        assert_eq!((&problem["code"], &problem["request_id"]), (&json!("not_found"), &json!(id)));
    }
    assert_eq!(balancer.admin_status("/healthz").await, 200);
    assert_eq!(balancer.admin_status("/metrics").await, 200);
    let client = reqwest::Client::new();
    let sent = client.get(url("/api/products")).header("x-request-id", "mine.1").send();
    assert_eq!(sent.await.unwrap().headers()["x-request-id"], "mine.1");
    let forged = client.get(url("/api/products")).header("x-request-id", "a \"quote\"").send();
    assert_eq!(forged.await.unwrap().headers()["x-request-id"].len(), 36);
    drop(node);
    balancer.wait_until(|servers| servers == [false; 3]).await;
    assert_eq!(balancer.admin_status("/healthz").await, 503);
    let response = reqwest::get(url("/api/products")).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "overloaded");
}
