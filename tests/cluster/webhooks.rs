//! Webhooks of a cluster: one node delivers to each, and another one takes over when it dies.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    shared_replica_set,
    support::{
        Account, TestApp,
        webhooks::{Receiver, SETTINGS},
    },
};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Products that are changed.
const PRODUCTS: usize = 12;

/// How many changes a test makes. `SOUK_TEST_WEBHOOK_CHANGES` sets another number.
fn changes() -> usize {
    let number = std::env::var("SOUK_TEST_WEBHOOK_CHANGES").ok();
    number.map_or(400, |number| number.parse().unwrap())
}

/// What one endpoint has heard.
#[derive(Default)]
struct Heard {
    /// The id and the bytes of each event, by subject and sequence.
    events: BTreeMap<(String, u64), Value>,
    /// What it has answered with 200.
    taken: BTreeSet<(String, u64)>,
    newest: BTreeMap<String, u64>,
    last_at: f64,
    longest_pause: f64,
}

impl Heard {
    fn record(&mut self, request: &Value) {
        assert_eq!(request["verified_by"], json!([0]), "{request}");
        let subject = request["subject"].as_str().unwrap().to_owned();
        let sequence = request["sequence"].as_u64().unwrap();
        let key = (subject.clone(), sequence);
        let same = json!([request["id"], request["event_id"], request["body"]]);
        let first = self.events.entry(key.clone()).or_insert_with(|| same.clone());
        assert_eq!(*first, same, "a repeat has the same id and the same bytes");
        let newest = self.newest.entry(subject).or_default();
        assert!(sequence <= *newest + 1, "{} came after {newest}: {request}", sequence);
        *newest = sequence.max(*newest);
        if request["rule"] == "ok" {
            self.taken.insert(key);
        }
        let at = request["at"].as_f64().unwrap();
        if self.last_at > 0.0 {
            self.longest_pause = self.longest_pause.max(at - self.last_at);
        }
        self.last_at = at;
    }
}

/// Changes a product, on whichever node is there.
async fn change(nodes: &[&TestApp], admin: &Account, product: &str, price: usize) {
    let patch = json!({"price": price});
    let key = format!("{product}-{price}");
    for attempt in 0.. {
        let node = nodes[(price + attempt) % nodes.len()];
        let call = node.patch(&format!("/api/products/{product}"), &patch);
        let response = call.token(admin).key(&key).attempt().await;
        if response.is_ok_and(|response| response.status == 200) {
            return;
        }
        // The node is dead or starts.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn create_webhooks(
    receiver: &mut Receiver,
    node: &TestApp,
    admin: &Account,
) -> BTreeMap<&'static str, Value> {
    let mut webhooks = BTreeMap::new();
    for (path, rule) in [
        ("/ok-1", "ok"),
        ("/ok-2", "ok"),
        ("/random", "random"),
        ("/broken", "500"),
        ("/gone", "410"),
        ("/moved", "redirect"),
        ("/hanging", "hang"),
        ("/cut", "cut"),
    ] {
        let made = receiver.create(node, admin, path, &["catalog.*"]).await;
        receiver.set_rule(path, rule).await;
        webhooks.insert(path, made);
    }
    webhooks
}

/// Changes each product `steps` times, from `price` on. In the middle of it, a node is killed; it
/// runs again afterwards.
async fn change_while_a_node_dies(
    cluster: &mut Cluster,
    victim: usize,
    admin: &Account,
    products: &[String],
    prices: std::ops::Range<usize>,
) {
    let done = AtomicUsize::new(0);
    let mut dying = cluster.nodes.remove(victim);
    {
        let nodes: Vec<&TestApp> = cluster.nodes.iter().collect();
        let changing = products.iter().map(|product| {
            let (nodes, done, prices) = (&nodes, &done, prices.clone());
            async move {
                for price in prices {
                    change(nodes, admin, product, price).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let killing = async {
            while done.load(Ordering::Relaxed) < prices.len() * products.len() / 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            dying.kill_9().await;
        };
        tokio::join!(join_all(changing), killing);
    }
    dying.restart().await;
    cluster.nodes.insert(victim, dying);
}

/// The subject and sequence of every event of these products.
async fn all_events(cluster: &Cluster, products: &[String]) -> BTreeSet<(String, u64)> {
    let mut events = BTreeSet::new();
    for product in products {
        let found = cluster.any_node().get(&format!("/api/products/{product}"));
        let found = found.header("cache-control", "no-cache").await.ok();
        let version = found["version"].as_u64().unwrap();
        events.extend((1..=version).map(|sequence| (product.clone(), sequence)));
    }
    events
}

/// Listens until the endpoints `healthy` have taken everything that is `expected`.
async fn listen(
    receiver: &mut Receiver,
    healthy: &[&str],
    expected: &BTreeSet<(String, u64)>,
) -> BTreeMap<String, Heard> {
    let mut heard: BTreeMap<String, Heard> = BTreeMap::new();
    let is_missing = |heard: &BTreeMap<String, Heard>| {
        healthy.iter().any(|path| heard.get(*path).is_none_or(|heard| heard.taken != *expected))
    };
    while is_missing(&heard) {
        let request = receiver.next(TIMEOUT).await.unwrap_or_else(|| {
            let counts: Vec<_> = heard.iter().map(|(path, one)| (path, one.taken.len())).collect();
            panic!("of {} events came {counts:?}", expected.len())
        });
        if let Some(path) = request["path"].as_str() {
            assert_ne!(request["rule"], "GET", "no redirect is followed");
            heard.entry(path.to_owned()).or_default().record(&request);
        }
    }
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_arrives_while_nodes_are_killed_in_turn() {
    let Some(mut receiver) = Receiver::start("webhooks of a cluster").await else { return };
    let Some(uri) = shared_replica_set::uri().await else { return };
    // Enough attempts that one of them succeeds at random.
    let schedule = vec!["50ms"; 60].join(",");
    let settings = [
        SETTINGS[0],
        ("webhooks.retry_schedule", &*schedule),
        ("webhooks.timeout", "5s"),
        ("http.request_timeout", "60s"),
    ];
    let mut cluster = Cluster::start_nodes(3, &uri, &settings).await;
    let admin = cluster.any_node().admin().await;
    let webhooks = create_webhooks(&mut receiver, &cluster.nodes[0], &admin).await;
    let one = json!(1);
    let new_products = (0..PRODUCTS).map(|_| cluster.any_node().new_product(&admin, &one, 0));
    let products = join_all(new_products).await;
    let per_round = changes() / 3 / PRODUCTS;
    for victim in 0..3 {
        let first = 2 + victim * per_round;
        let prices = first..first + per_round;
        change_while_a_node_dies(&mut cluster, victim, &admin, &products, prices).await;
    }
    let expected = all_events(&cluster, &products).await;
    assert_eq!(expected.len(), PRODUCTS * (1 + 3 * per_round));
    let healthy = ["/ok-1", "/ok-2", "/random"];
    let heard = listen(&mut receiver, &healthy, &expected).await;
    for path in ["/broken", "/moved", "/hanging", "/cut", "/gone"] {
        let heard = &heard[path];
        assert!(!heard.events.is_empty() && heard.taken.is_empty(), "{path}");
    }
    let gone = webhooks["/gone"]["id"].as_str().unwrap();
    let gone = cluster.any_node().get(&format!("/api/webhooks/{gone}")).token(&admin).await.ok();
    assert_eq!(gone["paused_reason"], "gone");
    let pauses: Vec<f64> = healthy.iter().map(|path| heard[*path].longest_pause).collect();
    println!("events: {}; longest pauses: {pauses:.1?} s", expected.len());
    cluster.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhook_is_managed_and_tested_on_every_node() {
    let Some(mut receiver) = Receiver::start("webhooks on every node").await else { return };
    let Some(uri) = shared_replica_set::uri().await else { return };
    let settings = [&SETTINGS[..], &[("http.request_timeout", "60s")]].concat();
    let cluster = Cluster::start(&uri, &settings).await;
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let made = receiver.create(here, &admin, "/erp", &["catalog.product.created"]).await;
    let path = format!("/api/webhooks/{}", made["id"].as_str().unwrap());
    // Several, so that both nodes deliver to some.
    for index in 0..20 {
        receiver.create(here, &admin, &format!("/{index}"), &["catalog.product.created"]).await;
    }
    there.get(&path).token(&admin).await.ok();
    let event = there.call("POST", &format!("{path}/test")).token(&admin).await.is(202).json();
    assert_eq!(receiver.event("/erp", "webhook.test").await["id"], event["event_id"]);
    here.new_product(&admin, &json!(1), 0).await;
    there.new_product(&admin, &json!(1), 0).await;
    for index in 0..20 {
        for _ in 0..2 {
            let request = receiver.request(&format!("/{index}")).await;
            assert_eq!(request["verified_by"], json!([0]));
        }
    }
    there.delete(&path).token(&admin).await.is(204);
    here.get(&path).token(&admin).await.problem(404, "webhook_not_found");
    cluster.shut_down().await;
}
