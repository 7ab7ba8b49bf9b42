//! Changes propagate between nodes, with the broker and without it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    broker::shared_uri,
    cluster::Cluster,
    proxy::Proxy,
    servers::proxied_broker,
    shared_replica_set,
    support::{Account, Event, TestApp, assert_gap_free, unique_number},
    takeover::find_relay,
};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The number of changes while the connection is cut, unless `SOUK_TEST_CUT` overrides it.
const CHANGES_WHILE_CUT: usize = 25;

/// The limit for detecting a silent connection, out of the 10 s allowed. A node needs 7 s at most:
/// it probes the broker every 2 s and waits 5 s. Heartbeats alone would take nearly 10 s.
const DETECTION_LIMIT: Duration = Duration::from_secs(9);

/// Two nodes that receive peer events from the broker.
async fn connected_cluster() -> Option<Cluster> {
    let (set, uri) = (shared_replica_set::uri().await?, shared_uri()?);
    let cluster = Cluster::start(&set, &[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    for node in &cluster.nodes {
        node.wait_for_readiness("ready").await;
    }
    find_relay(&cluster).await;
    Some(cluster)
}

#[tokio::test]
async fn stock_changes_propagate_to_the_other_node() {
    let Some(cluster) = connected_cluster().await else { return };
    let admin = cluster.nodes[0].admin().await;
    let tea = cluster.nodes[0].new_product(&admin, &json!(4.5), 1000).await;
    let path = format!("/api/products/{tea}");
    // The second node must know the product first.
    cluster.nodes[1].get(&path).header("cache-control", "no-cache").await.ok();
    let mut waits = Vec::new();
    for n in 0..200 {
        let (one, other) = (&cluster.nodes[n % 2], &cluster.nodes[(n + 1) % 2]);
        let change = json!({"delta": -1, "reason": "sold at the counter"});
        let left = one.change_stock(&admin, &tea, &change).await.ok()["available"].clone();
        let changed = Instant::now();
        while other.get(&path).await.ok()["stock"] != left {
            assert!(changed.elapsed() < TIMEOUT, "the change does not propagate");
        }
        waits.push(changed.elapsed());
    }
    waits.sort_unstable();
    eprintln!(
        "seen on the other node after {:?} (median), {:?} (99th percentile)",
        waits[100], waits[198]
    );
    cluster.shut_down().await;
}

#[tokio::test]
async fn changed_rights_hold_on_the_other_node_when_answered() {
    let Some(cluster) = connected_cluster().await else { return };
    let admin = cluster.nodes[0].admin().await;
    let ada = cluster.nodes[0].customer().await;
    let path = format!("/api/users/{}", ada.id);
    for n in 0..20 {
        let (one, other) = (&cluster.nodes[n % 2], &cluster.nodes[(n + 1) % 2]);
        let staff = json!({"role": "staff", "scopes": ["customers:read"]});
        one.patch(&path, &staff).token(&admin).await.ok();
        other.get("/api/users").token(&ada).await.ok();
        one.patch(&path, &json!({"role": "customer"})).token(&admin).await.ok();
        other.get("/api/users").token(&ada).await.problem(403, "forbidden");
    }
    cluster.shut_down().await;
}

async fn proxied_cluster() -> Option<(Cluster, Proxy)> {
    let (set, (_, proxy, through)) = (shared_replica_set::uri().await?, proxied_broker().await?);
    Some((
        Cluster::start(&set, &[("broker.kind", "rabbitmq"), ("broker.uri", &through)]).await,
        proxy,
    ))
}

/// State that both nodes know before the connection is cut.
struct SharedState {
    admin: Account,
    ada: Account,
    tea: String,
}

impl SharedState {
    async fn create(cluster: &Cluster) -> Self {
        let here = &cluster.nodes[0];
        let (admin, ada) = (here.admin().await, here.customer().await);
        let tea = here.new_product(&admin, &json!(4.5), 100_000).await;
        for node in &cluster.nodes {
            node.add_to_cart(&ada, &tea, 1).await.ok();
            assert_eq!(
                node.get(&format!("/api/products/{tea}"))
                    .header("cache-control", "no-cache")
                    .await
                    .ok()["stock"],
                100_000
            );
        }
        Self { admin, ada, tea }
    }
}

/// Changes each kind of shared state on one node and reads it on the other, without peer events.
async fn assert_changes_visible(
    cluster: &Cluster,
    SharedState { admin, ada, tea }: &SharedState,
    changes: usize,
) {
    let (here, there) = cluster.both_nodes();
    let began = Instant::now();
    for n in 0..changes {
        let (one, other) = if n % 2 == 0 { (here, there) } else { (there, here) };
        let change = json!({"delta": -1, "reason": "sold at the counter"});
        let left = one.change_stock(admin, tea, &change).await.ok()["available"].clone();
        assert_eq!(
            other.get(&format!("/api/products/{tea}")).await.ok()["stock"],
            left,
            "change {n}"
        );
        assert_eq!(other.stock(admin, tea).await["available"], left);
        let cart = one.add_to_cart(ada, tea, 1).await.ok();
        assert_eq!(other.cart(ada).await["version"], cart["version"]);
        let bob = one.guest().await;
        assert_eq!(other.cart(&bob).await["version"], 0);
        let guest_add = one.add_to_cart(&bob, tea, 1).await.ok();
        assert_eq!(other.cart(&bob).await, guest_add);
    }
    eprintln!("{changes} changes in {:?} without the broker", began.elapsed());
    let last = here.new_product(admin, &json!(4.5), 1).await;
    assert_eq!(there.get(&format!("/api/products/{last}")).await.ok()["stock"], 1);
    here.add_to_cart(ada, &last, 1).await.ok();
    here.check_out(ada, format!("last-unit-{}", unique_number())).await.is(201);
    assert_eq!(there.get(&format!("/api/products/{last}")).await.ok()["stock"], 0);
    assert_eq!(there.cart(ada).await["item_count"], 0);
    let bob = here.customer().await;
    there.add_to_cart(&bob, &last, 1).await.problem(409, "insufficient_stock");
    assert_eq!(there.get("/api/auth/me").token(&bob).await.ok()["id"], bob.id);
    here.call("POST", "/api/auth/logout").token(&bob).await.is(204);
    there.get("/api/auth/me").token(&bob).await.problem(401, "unauthenticated");
    assert_eq!(
        there.post("/api/auth/validate", &json!({"token": bob.token})).await.ok()["valid"],
        false
    );
}

async fn wait_until_ready(cluster: &Cluster) {
    for node in &cluster.nodes {
        node.wait_for_readiness("ready").await;
        node.wait_until_published().await;
    }
}

#[tokio::test]
async fn nodes_serve_no_stale_data_while_disconnected() {
    let Some((cluster, proxy)) = proxied_cluster().await else { return };
    let state = SharedState::create(&cluster).await;
    let changes =
        std::env::var("SOUK_TEST_CUT").map_or(CHANGES_WHILE_CUT, |count| count.parse().unwrap());
    for _ in 0..2 {
        wait_until_ready(&cluster).await;
        proxy.cut();
        for node in &cluster.nodes {
            node.wait_for_readiness("degraded").await;
            node.wait_until_disconnected().await;
        }
        assert_changes_visible(&cluster, &state, changes).await;
        proxy.restore();
    }
    wait_until_ready(&cluster).await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn silent_connection_is_detected_and_serves_no_stale_data() {
    let Some((cluster, proxy)) = proxied_cluster().await else { return };
    let state = SharedState::create(&cluster).await;
    let mut took = vec![Vec::new(); 2];
    for _ in 0..2 {
        wait_until_ready(&cluster).await;
        proxy.set_silent(true);
        let silent = Instant::now();
        let noticed = cluster.nodes.iter().map(async |node| {
            node.wait_until_disconnected().await;
            silent.elapsed()
        });
        took.iter_mut().zip(join_all(noticed).await).for_each(|(of_node, took)| of_node.push(took));
        assert_changes_visible(&cluster, &state, 5).await;
        proxy.set_silent(false);
    }
    eprintln!("silence was detected after {took:?}");
    // A busy machine may cause one delay; a systematic delay shows in the minimum.
    assert!(
        took.iter().all(|of_node| *of_node.iter().min().unwrap() < DETECTION_LIMIT),
        "detection took {took:?}"
    );
    wait_until_ready(&cluster).await;
    cluster.shut_down().await;
}

#[tokio::test]
async fn logout_propagates_to_the_other_node() {
    let Some(cluster) = connected_cluster().await else { return };
    let (here, there) = cluster.both_nodes();
    for _ in 0..10 {
        let ada = here.customer().await;
        assert_eq!(there.get("/api/auth/me").token(&ada).await.ok()["id"], ada.id);
        here.call("POST", "/api/auth/logout").token(&ada).await.is(204);
        let out = Instant::now();
        while there.get("/api/auth/me").token(&ada).await.status == 200 {
            assert!(out.elapsed() < TIMEOUT, "the session stays valid");
        }
        there.get("/api/auth/me").token(&ada).await.problem(401, "unauthenticated");
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn feeds_of_both_nodes_are_identical() {
    let Some(cluster) = connected_cluster().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let ada = there.customer().await;
    let mut feeds = Vec::new();
    for node in &cluster.nodes {
        feeds.push(node.open_feed(Some(&ada), None).await);
    }
    let tea = here.new_product(&admin, &json!(1), 1000).await;
    let changes = (0..60).map(|n: usize| {
        let call = match n % 2 {
            0 => cluster.any_node().add_to_cart(&ada, &tea, 1),
            _ => cluster.any_node().change_stock(
                &admin,
                &tea,
                &json!({"delta": -1, "reason": "sold"}),
            ),
        };
        std::future::IntoFuture::into_future(call)
    });
    join_all(changes).await.into_iter().for_each(|response| drop(response.ok()));
    let last = there.new_product(&admin, &json!(1), 0).await;
    let mut received = Vec::new();
    for feed in &mut feeds {
        let events: Vec<Event> = feed.read_until(|event| event.subject() == last).await;
        assert_eq!(assert_gap_free(&events)[&(ada.id.clone(), "cart".into())], 30);
        assert_eq!(
            events.iter().map(|event| &event.id).collect::<BTreeSet<_>>().len(),
            events.len(),
            "each event is sent once"
        );
        received.push(events);
    }
    // Both have the order of each subject; `assert_gap_free` has compared it.
    received.iter_mut().for_each(|events| events.sort_by(|a, b| a.id.cmp(&b.id)));
    assert!(received[0] == received[1], "both feeds have the same events");
    drop(feeds);
    cluster.shut_down().await;
}

/// Makes changes for feeds to report, half of them to the listener's own cart.
async fn keep_changing(
    node: &TestApp,
    SharedState { admin, ada, tea }: &SharedState,
    changes: usize,
) {
    for _ in 0..changes / 2 {
        node.add_to_cart(ada, tea, 1).await.ok();
        node.change_stock(admin, tea, &json!({"delta": -1, "reason": "sold at the counter"}))
            .await
            .ok();
    }
}

#[tokio::test]
async fn interrupted_feed_resumes_at_another_node() {
    let Some(mut cluster) = connected_cluster().await else { return };
    let state = SharedState::create(&cluster).await;
    let mut received: Vec<Event> = Vec::new();
    // The client reconnects to the other node again and again while both nodes make changes.
    let (here, there) = cluster.both_nodes();
    let listening = async {
        let mut nodes = [here, there].into_iter().cycle();
        let mut feed = nodes.next().unwrap().open_whole_feed(Some(&state.ada)).await;
        while received.len() < 300 {
            for _ in 0..rand::random_range(1..10) {
                received.push(feed.next().await);
            }
            let node = nodes.next().unwrap();
            feed = node.open_feed(Some(&state.ada), feed.last_id()).await;
        }
    };
    tokio::join!(listening, keep_changing(here, &state, 180), keep_changing(there, &state, 180));
    // A node is killed while the other makes changes.
    for index in [0, 1] {
        let [one, other] = &mut cluster.nodes[..] else { panic!("two nodes") };
        let (killed, other) = if index == 0 { (one, other) } else { (other, one) };
        let listening = async {
            let last = received[received.len() - 1].feed_id.as_deref();
            let mut feed = killed.open_feed(Some(&state.ada), last).await;
            let goal = received.len() + 100;
            while received.len() < goal {
                received.push(feed.next().await);
            }
            killed.signal("KILL");
            while let Some(event) = feed.next_or_end().await {
                received.push(event);
            }
        };
        tokio::join!(listening, keep_changing(other, &state, 120));
        killed.reap().await;
        killed.restart().await;
    }
    let last = cluster.nodes[0].new_product(&state.admin, &json!(1), 0).await;
    let is_last = |event: &Event| event.subject() == last;
    let newest = received[received.len() - 1].feed_id.as_deref();
    let mut rest = cluster.nodes[0].open_feed(Some(&state.ada), newest).await;
    received.extend(rest.read_until(is_last).await);
    let mut whole = cluster.nodes[1].open_whole_feed(Some(&state.ada)).await;
    let mut all = whole.read_until(is_last).await;
    assert_gap_free(&all);
    let last = assert_gap_free(&received);
    received.sort_by(|a, b| a.id.cmp(&b.id));
    all.sort_by(|a, b| a.id.cmp(&b.id));
    assert!(received == all, "no event is missing or repeated");
    assert_eq!(last[&(state.ada.id.clone(), "cart".into())], 302);
    drop((rest, whole));
    cluster.shut_down().await;
}
