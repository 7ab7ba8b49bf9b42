//! End to end: while nodes and the broker are killed in turn, no event is lost, invented or
//! reordered.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use souk::events::{OutboxCursor, OutboxPosition};
use tokio::sync::RwLock;

use crate::{
    audit_queue::{AuditQueue, Message, first_deliveries},
    broker::Broker,
    cluster::Cluster,
    outbox,
    proxy::{COMMIT, Proxy},
    servers::proxied_replica_set,
    support::{Account, Call, Event, TestApp, assert_gap_free, unique_number},
};

/// The minimum number of changes, unless `SOUK_TEST_CHANGES` overrides it.
const CHANGES: usize = 2_000;

/// Concurrent clients.
const BUYERS: usize = 24;

const PRODUCTS: usize = 6;

/// The pause between two kills, in which events start to flow again.
const KILL_PAUSE: Duration = Duration::from_millis(1500);

/// Part of a request that reads events from the outbox: their positions are in one of these ranges.
const OUTBOX_QUERY: &[u8] = b"\x04$or\0";

/// The state that all clients share.
struct LoadTest {
    nodes: Vec<RwLock<TestApp>>,
    /// The nodes' connections to the store.
    proxy: Proxy,
    admin: Account,
    products: Vec<String>,
    /// Acknowledged changes.
    changes: AtomicUsize,
    /// Remaining kills.
    kills: AtomicUsize,
    goal: usize,
}

impl LoadTest {
    fn is_done(&self) -> bool {
        self.kills.load(Ordering::Acquire) == 0 && self.changes.load(Ordering::Acquire) >= self.goal
    }

    /// Makes a change on a random running node; repeats it under the same key until it is
    /// acknowledged.
    async fn change_until_acknowledged(&self, call: impl Fn(&TestApp) -> Call) -> Value {
        let key = format!("change-{}", unique_number());
        loop {
            let Ok(node) = self.nodes[rand::random_range(0..self.nodes.len())].try_read() else {
                tokio::task::yield_now().await;
                continue;
            };
            match call(&node).key(&key).attempt().await {
                Ok(response) if response.status == 200 => {
                    self.changes.fetch_add(1, Ordering::AcqRel);
                    return response.json();
                }
                Ok(response) => assert_eq!(response.status, 503, "{response}"),
                // The node has just been killed.
                Err(_) => {}
            }
            drop(node);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Buys and restocks until the run is done; returns the number of cart changes.
    async fn run_buyer(&self, buyer: &Account) -> u64 {
        let mut adds = 0;
        while !self.is_done() {
            let product = &self.products[rand::random_range(0..PRODUCTS)];
            match rand::random_range(0..4) {
                0 | 1 => {
                    let cart = self
                        .change_until_acknowledged(|node| node.add_to_cart(buyer, product, 1))
                        .await;
                    adds += 1;
                    assert_eq!(cart["version"], adds, "each add applies once");
                }
                2 => {
                    let delta = json!({"delta": 1, "reason": "found"});
                    self.change_until_acknowledged(|node| {
                        node.change_stock(&self.admin, product, &delta)
                    })
                    .await;
                }
                _ => {
                    let body = json!({"description": format!("change {}", unique_number())});
                    self.change_until_acknowledged(|node| {
                        node.patch(&format!("/api/products/{product}"), &body).token(&self.admin)
                    })
                    .await;
                }
            }
        }
        adds
    }

    /// Kills a node while it works, and restarts it.
    async fn kill_node(&self, index: usize) {
        self.nodes[index].read().await.signal("KILL");
        let mut node = self.nodes[index].write().await;
        node.reap().await;
        node.restart().await;
    }

    /// Kills a node between its last write and its commit, after the relay on another node has
    /// published all events.
    async fn kill_before_commit(&self) {
        let index = (self.find_relay().await + 1) % self.nodes.len();
        self.proxy.withhold_request(&Cluster::node_name(index), COMMIT).await;
        // The relay publishes a page before it reads the next one. One extra read, because feeds
        // read the outbox too.
        for _ in 0..3 {
            self.proxy.wait_for_request(OUTBOX_QUERY).await;
        }
        self.kill_node(index).await;
    }

    async fn find_relay(&self) -> usize {
        loop {
            for (index, node) in self.nodes.iter().enumerate() {
                if node.read().await.metric("souk_relay_active").await > 0.0 {
                    return index;
                }
            }
        }
    }

    /// Asserts that the newest published sequences are the current versions.
    async fn assert_versions_match(
        &self,
        node: &TestApp,
        events: &[&Event],
        adds: impl Iterator<Item = (&Account, u64)>,
    ) {
        let newest: BTreeMap<(String, String), u64> = assert_gap_free(events.iter().copied());
        for (buyer, adds) in adds {
            let cart =
                node.get("/api/cart").token(buyer).header("cache-control", "no-cache").await.ok();
            assert_eq!(cart["version"], adds);
            assert_eq!(newest.get(&(buyer.id.clone(), "cart".into())).copied().unwrap_or(0), adds);
        }
        for product in &self.products {
            let shown = node
                .get(&format!("/api/products/{product}"))
                .header("cache-control", "no-cache")
                .await
                .ok();
            assert_eq!(shown["version"], newest[&(product.clone(), "catalog".into())]);
            assert_eq!(
                node.stock(&self.admin, product).await["version"],
                newest[&(product.clone(), "inventory".into())]
            );
        }
    }

    /// Kills the relay, the broker and other nodes in turn.
    async fn kill_in_turn(&self, broker: &mut Broker) {
        for round in 0..self.kills.load(Ordering::Acquire) {
            tokio::time::sleep(KILL_PAUSE).await;
            match round % 5 {
                0 => self.kill_node(self.find_relay().await).await,
                1 | 3 => self.kill_before_commit().await,
                2 => {
                    // Messages that reach the frozen broker are lost when it is killed.
                    broker.freeze();
                    tokio::time::sleep(KILL_PAUSE / 2).await;
                    broker.kill();
                    tokio::time::sleep(KILL_PAUSE).await;
                    broker.restart().await;
                }
                _ => self.kill_node(round % self.nodes.len()).await,
            }
            self.kills.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Asserts that the published events match the outbox exactly.
async fn assert_outbox_matches(database: &mongodb::Database, messages: &[Message]) {
    let kept = outbox::events(database).await;
    let published: BTreeMap<OutboxPosition, &Event> =
        messages.iter().map(|message| (message.position, &message.event)).collect();
    let read: OutboxCursor = published.keys().copied().collect();
    for (position, event) in kept.iter().filter(|(position, _)| read.has_read(**position)) {
        assert_eq!(published.get(position), Some(&event), "at {position}");
    }
    for position in published.keys() {
        // Only the oldest ones of a partition may be deleted.
        let (oldest, _) = kept
            .range(OutboxPosition { offset: 0, ..*position }..)
            .next()
            .expect("the newest events are kept");
        assert!(
            kept.contains_key(position) || oldest > position,
            "every published event is in the outbox"
        );
    }
}

fn target_changes() -> usize {
    std::env::var("SOUK_TEST_CHANGES").map_or(CHANGES, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_while_nodes_and_broker_are_killed() {
    let (Some((_members, proxy, set)), Some(mut broker)) =
        (proxied_replica_set().await, Broker::start().await)
    else {
        return;
    };
    let audit = AuditQueue::declare(&broker.uri()).await;
    let settings = [("broker.kind", "rabbitmq"), ("broker.uri", &*broker.uri())];
    let Cluster { mut nodes, database } = Cluster::start_nodes(3, &set, &settings).await;
    nodes.iter_mut().for_each(TestApp::expect_faults);
    let admin = nodes[0].admin().await;
    let price = json!(2);
    let products =
        join_all((0..PRODUCTS).map(|_| nodes[0].new_product(&admin, &price, 1_000_000))).await;
    let buyers = nodes[0].customers(BUYERS).await;
    let goal = target_changes();
    let load_test = LoadTest {
        nodes: nodes.into_iter().map(RwLock::new).collect(),
        proxy,
        admin,
        products,
        changes: AtomicUsize::new(0),
        kills: AtomicUsize::new((goal / 400).clamp(5, 25)),
        goal,
    };
    let began = Instant::now();
    let (adds, ()) = tokio::join!(
        join_all(buyers.iter().map(|buyer| load_test.run_buyer(buyer))),
        load_test.kill_in_turn(&mut broker)
    );
    let (changes, elapsed) = (load_test.changes.load(Ordering::Acquire), began.elapsed());
    let node = load_test.nodes[0].read().await;
    let last = node.new_product(&load_test.admin, &json!(1), 0).await;
    let messages = audit.read_until(|message| message.event.subject() == last).await;
    let events = first_deliveries(&messages);
    eprintln!(
        "{changes} changes in {elapsed:?}; {} messages for {} events",
        messages.len(),
        events.len()
    );
    let mut first = BTreeMap::new();
    for OutboxPosition { partition, offset } in messages.iter().map(|message| message.position) {
        first.entry(partition).or_insert(offset);
    }
    assert!(first.values().all(|offset| *offset == 1), "the first events are published: {first:?}");
    node.wait_until_published().await;
    load_test.assert_versions_match(&node, &events, buyers.iter().zip(adds)).await;
    assert_outbox_matches(&database, &messages).await;
    drop(node);
    let nodes = load_test.nodes.into_iter().map(RwLock::into_inner).collect();
    Cluster { nodes, database }.shut_down().await;
}
