//! Failed logins count on all nodes.

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    cluster::Cluster,
    shared_replica_set,
    support::{Call, PASSWORD, TestApp},
};

/// A login through a proxy that reports the address `forwarded`.
fn login(node: &TestApp, email: &str, password: &str, forwarded: &str) -> Call {
    node.post("/api/auth/login", &json!({"email": email, "password": password}))
        .header("x-forwarded-for", forwarded)
}

async fn start_cluster() -> Option<Cluster> {
    let settings = [
        ("http.request_timeout", "60s"),
        ("limits.login", "4"),
        ("http.trusted_proxies", "127.0.0.1"),
    ];
    Some(Cluster::start(&shared_replica_set::uri().await?, &settings).await)
}

#[tokio::test]
async fn failed_logins_count_on_all_nodes() {
    let Some(cluster) = start_cluster().await else { return };
    let (here, there) = cluster.both_nodes();
    let ada = here.customer().await;
    for node in [here, there, here, there] {
        login(node, &ada.email, "wrong password", "192.0.2.1")
            .await
            .problem(401, "invalid_credentials");
    }
    for node in [here, there] {
        let refused = login(node, &ada.email, PASSWORD, "192.0.2.2").await;
        assert!(refused.header("retry-after").is_some());
        refused.problem(429, "rate_limited");
        login(node, "nobody@souk.example", PASSWORD, "192.0.2.1")
            .await
            .problem(429, "rate_limited");
        node.login(&ada.email, PASSWORD).await;
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn guesses_spread_over_nodes_gain_nothing() {
    let Some(cluster) = start_cluster().await else { return };
    let ada = cluster.any_node().customer().await;
    let guess = async |n: usize| {
        let address = format!("192.0.2.{n}");
        let node = &cluster.nodes[n % cluster.nodes.len()];
        login(node, &ada.email, &format!("guess number {n}"), &address).await.status
    };
    let statuses = join_all((0..40).map(guess)).await;
    let tried = statuses.iter().filter(|status| **status == 401).count();
    assert_eq!((tried, statuses.len() - tried), (4, 36), "{statuses:?}");
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    cluster.shut_down().await;
}
