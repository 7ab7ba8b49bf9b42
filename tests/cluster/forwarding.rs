//! The nodes forward what changes the stock of a hot product to one of them, its home: the books
//! stay exact, and every change has its answer, whatever happens to the home and to the links.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    net::TcpListener,
};

use futures_util::future::{join_all, select_all};
use serde_json::json;

use crate::{
    cluster::Cluster,
    failover::stock_history,
    members::Members,
    proxy::Proxy,
    recorder::{CHANGES, CLIENTS, Recorder},
    support::{Account, Progress, TestApp, assert_gap_free, unique_number},
};

const NODES: usize = 3;
/// The setting with which nodes forward commits of hot products.
pub(crate) const FORWARDING: (&str, &str) = ("cluster.bind", "127.0.0.1:0");
/// Clients that change the stock at the same time.
const SELLERS: usize = 24;
/// Changes after which a test looks or acts again.
const STEP: usize = 150;
const OPENING_STOCK: usize = 1_000_000;

const FORWARDED: &str = "souk_forwarded_commits_total";

/// Sells units of one product, on nodes that a test may stop.
struct Sale<'a> {
    cluster: &'a Cluster,
    admin: Account,
    product: String,
    /// The nodes that sell.
    open: RefCell<Vec<usize>>,
    /// Counts the units that were certainly sold.
    sold: Progress,
    over: Cell<bool>,
    /// The units of requests that were answered with 200.
    acknowledged: RefCell<BTreeSet<String>>,
    /// What came instead of 200.
    failures: RefCell<Vec<String>>,
}

impl<'a> Sale<'a> {
    async fn of_new_product(cluster: &'a Cluster) -> Self {
        let admin = cluster.nodes[0].admin().await;
        let product = cluster.nodes[0].new_product(&admin, &json!(4.5), OPENING_STOCK as u64).await;
        for node in &cluster.nodes {
            node.get(&format!("/api/products/{product}"))
                .header("cache-control", "no-cache")
                .await
                .ok();
        }
        Self {
            cluster,
            admin,
            product,
            open: RefCell::new((0..NODES).collect()),
            sold: Progress::new(),
            over: Cell::new(false),
            acknowledged: RefCell::default(),
            failures: RefCell::default(),
        }
    }

    /// Sells until the sale is over. Every second unit is sold under a key: it is tried until its
    /// outcome is known. Others are tried once.
    async fn sell(&self) {
        while !self.over.get() {
            let number = unique_number();
            let unit = format!("unit-{number}");
            let sale = json!({"delta": -1, "reason": "sold", "reference": unit});
            let is_repeatable = number.is_multiple_of(2);
            let is_sold = loop {
                let open = self.open.borrow().clone();
                let node = &self.cluster.nodes[open[rand::random_range(0..open.len())]];
                let call = node.change_stock(&self.admin, &self.product, &sale);
                let call = if is_repeatable { call.key(&unit) } else { call };
                match call.attempt().await {
                    Ok(response) if response.status == 200 => break true,
                    Ok(response) => self.failures.borrow_mut().push(response.to_string()),
                    Err(error) => self.failures.borrow_mut().push(error.to_string()),
                }
                if !is_repeatable {
                    break false;
                }
            };
            if is_sold {
                self.acknowledged.borrow_mut().insert(unit);
                self.sold.increment();
            }
        }
    }

    /// Sells with all sellers while `script` runs.
    async fn run<T>(&self, script: impl Future<Output = T>) -> T {
        let script = async {
            let result = script.await;
            self.over.set(true);
            result
        };
        tokio::join!(script, join_all((0..SELLERS).map(|_| self.sell()))).0
    }

    async fn wait_for_changes(&self, count: usize) {
        self.sold.wait_for(self.sold.count() + count).await;
    }

    /// Waits until all other nodes forward to one, and returns that one.
    async fn find_home(&self) -> usize {
        loop {
            let before = self.forwarded_counts().await;
            self.wait_for_changes(STEP).await;
            let after = self.forwarded_counts().await;
            let idle: Vec<usize> =
                (0..NODES).filter(|node| after[*node] == before[*node]).collect();
            if let [home] = idle[..] {
                return home;
            }
        }
    }

    async fn forwarded_counts(&self) -> Vec<f64> {
        join_all(self.cluster.nodes.iter().map(|node| node.metric(FORWARDED))).await
    }

    fn into_books(self) -> Books {
        eprintln!("{} failures, {} units sold", self.failures.take().len(), self.sold.count());
        let acknowledged = self.acknowledged.into_inner();
        Books { admin: self.admin, product: self.product, acknowledged }
    }
}

/// What was certainly sold.
struct Books {
    admin: Account,
    product: String,
    acknowledged: BTreeSet<String>,
}

impl Books {
    /// Asserts that each of these units was sold once and no other one twice, and that all nodes
    /// say so.
    async fn check(&self, cluster: &Cluster) {
        let node = &cluster.nodes[0];
        let path = format!("/api/products/{}/stock/movements", self.product);
        let movements = node.all_pages(&self.admin, &path, 100).await;
        let sold: Vec<&str> =
            movements.iter().filter_map(|movement| movement["reference"].as_str()).collect();
        let units: BTreeSet<&str> = sold.iter().copied().collect();
        assert_eq!(units.len(), sold.len(), "a unit was sold twice");
        let lost: Vec<&String> =
            self.acknowledged.iter().filter(|unit| !units.contains(unit.as_str())).collect();
        assert!(lost.is_empty(), "not sold after all: {lost:?}");
        for node in &cluster.nodes {
            let stock = node
                .get(&format!("/api/products/{}/stock", self.product))
                .token(&self.admin)
                .header("cache-control", "no-cache")
                .await
                .ok();
            assert_eq!(stock["on_hand"], OPENING_STOCK - sold.len(), "{stock}");
        }
        let audit = node.call("POST", "/api/admin/audit").token(&self.admin).await.ok();
        assert_eq!(audit["clean"], true, "{audit}");
    }
}

/// The time for a request is long: hundreds of requests at once take long on a busy machine.
async fn start_cluster() -> Option<(Members, Cluster)> {
    let members = Members::start(1).await?;
    let settings = [("http.request_timeout", "30s"), FORWARDING];
    let cluster = Cluster::start_nodes(NODES, &Members::uri(members.hosts()), &settings).await;
    Some((members, cluster))
}

/// Nodes that reach each other through proxies, each behind its own.
async fn start_behind_proxies(settings: &[(&str, &str)]) -> Option<(Members, Cluster, Vec<Proxy>)> {
    let members = Members::start(1).await?;
    let mut cluster = Cluster::start_nodes(NODES, &Members::uri(members.hosts()), settings).await;
    let mut proxies = Vec::new();
    for node in &mut cluster.nodes {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let proxy = Proxy::start(free.clone()).await;
        node.stop().await;
        node.set("cluster.bind", &free);
        node.set("cluster.advertise", &proxy.host);
        node.restart().await;
        proxies.push(proxy);
    }
    Some((members, cluster, proxies))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_sells_a_hot_product_for_all() {
    let Some((_members, cluster)) = start_cluster().await else { return };
    let sale = Sale::of_new_product(&cluster).await;
    let buyers = cluster.nodes[0].customers(60).await;
    let mut feed = cluster.nodes[0].open_feed(None, None).await;
    let buy = async |(n, buyer): (usize, &Account)| {
        let (node, other) = (&cluster.nodes[n % NODES], &cluster.nodes[(n + 1) % NODES]);
        node.add_to_cart(buyer, &sale.product, 1).await.ok();
        let order = node.check_out(buyer, "buy").await.is(201).json();
        // Whoever applied it, the node that answers knows of it.
        assert_eq!(node.cart(buyer).await["item_count"], 0);
        assert_eq!(other.order(buyer, &order).await, order);
        let replayed = other.check_out(buyer, "buy").await;
        assert_eq!(replayed.header("idempotency-replayed"), Some("true"));
        assert_eq!(replayed.json(), order);
        other.order_action(buyer, &order, "cancel").await.ok();
    };
    sale.run(async {
        sale.find_home().await;
        let before = sale.forwarded_counts().await;
        join_all(buyers.iter().enumerate().map(buy)).await;
        let after = sale.forwarded_counts().await;
        assert!(after.iter().sum::<f64>() > before.iter().sum::<f64>());
    })
    .await;
    assert_eq!(*sale.failures.borrow(), [""; 0]);
    let path = format!("/api/products/{}/stock/movements", sale.product);
    let movements = cluster.nodes[1].all_pages(&sale.admin, &path, 100).await;
    // A reservation and its release for each buyer.
    assert_eq!(movements.len(), sale.sold.count() + 1 + 2 * buyers.len());
    let sentinel = cluster.nodes[1].new_product(&sale.admin, &json!(1), 0).await;
    assert_gap_free(&feed.read_until(|event| event.subject() == sentinel).await);
    drop(feed);
    drop(sale);
    cluster.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_home_loses_and_repeats_nothing() {
    let Some((_members, mut cluster)) = start_cluster().await else { return };
    cluster.expect_faults();
    for _ in 0..2 {
        let sale = Sale::of_new_product(&cluster).await;
        let home = sale
            .run(async {
                let home = sale.find_home().await;
                cluster.nodes[home].signal("KILL");
                sale.open.borrow_mut().retain(|node| *node != home);
                sale.wait_for_changes(2 * STEP).await;
                home
            })
            .await;
        let books = sale.into_books();
        cluster.nodes[home].reap().await;
        cluster.nodes[home].restart().await;
        books.check(&cluster).await;
    }
    cluster.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_links_lose_and_repeat_nothing() {
    let settings = [("http.request_timeout", "30s")];
    let Some((_members, cluster, proxies)) = start_behind_proxies(&settings).await else { return };
    let sale = Sale::of_new_product(&cluster).await;
    sale.run(async {
        for _ in 0..8 {
            sale.find_home().await;
            proxies.iter().for_each(Proxy::cut);
            sale.wait_for_changes(STEP / 2).await;
            proxies.iter().for_each(Proxy::restore);
        }
    })
    .await;
    assert!(!sale.failures.borrow().is_empty(), "no commit was on its way");
    let is_unknown = |failure: &String| failure.contains("outcome_unknown");
    assert!(sale.failures.borrow().iter().all(is_unknown), "{:?}", sale.failures.borrow());
    sale.into_books().check(&cluster).await;
    cluster.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn home_that_stops_answers_everything_before() {
    let Some((_members, mut cluster)) = start_cluster().await else { return };
    let sale = Sale::of_new_product(&cluster).await;
    let home = sale
        .run(async {
            let home = sale.find_home().await;
            sale.open.borrow_mut().retain(|node| *node != home);
            // The requests that the home itself has received are answered by then.
            sale.wait_for_changes(STEP).await;
            cluster.nodes[home].signal("TERM");
            sale.wait_for_changes(2 * STEP).await;
            home
        })
        .await;
    assert_eq!(*sale.failures.borrow(), [""; 0]);
    let books = sale.into_books();
    let stopped = &mut cluster.nodes[home];
    assert_eq!(stopped.wait_for_exit().await.0.code(), Some(0));
    stopped.restart().await;
    books.check(&cluster).await;
    cluster.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_linearizable_while_links_break_and_the_home_freezes() {
    // Requests time out soon, so that some outcomes are unknown.
    let settings = [("http.request_timeout", "1s")];
    let Some((_members, mut cluster, proxies)) = start_behind_proxies(&settings).await else {
        return;
    };
    cluster.expect_faults();
    let admin = cluster.nodes[0].admin().await;
    let price = json!(4.5);
    let stocked =
        join_all((0..2).map(|_| cluster.nodes[0].new_product(&admin, &price, 500_000_000))).await;
    let recorder = Recorder::new(&cluster);
    let histories =
        join_all(stocked.iter().map(|product| stock_history(&recorder, &cluster, &admin, product)));
    let total = stocked.len() * CLIENTS * CHANGES;
    let faults = async {
        for round in 1..=4_usize {
            recorder.acknowledged.wait_for(total * round / 8).await;
            let before = recorder.acknowledged.count();
            for proxy in &proxies {
                if round.is_multiple_of(2) { proxy.set_silent(true) } else { proxy.cut() }
            }
            recorder.acknowledged.wait_for(before + 4).await;
            for proxy in &proxies {
                proxy.restore();
                proxy.set_silent(false);
            }
        }
        for (place, node) in cluster.nodes.iter().enumerate() {
            recorder.acknowledged.wait_for(total * (5 + place) / 8).await;
            node.signal("STOP");
            let noticed = format!("\"process\":{}", node.pid());
            let others = cluster.nodes.iter().filter(|other| other.pid() != node.pid());
            select_all(others.map(|other| Box::pin(other.wait_for_log(&noticed)))).await;
            node.signal("CONT");
        }
    };
    let (histories, ()) = tokio::join!(histories, faults);
    let forwarded = join_all(cluster.nodes.iter().map(|node| node.metric(FORWARDED))).await;
    assert!(forwarded.iter().sum::<f64>() > 0.0, "nothing was forwarded");
    for history in &histories {
        history.check().unwrap();
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn stranger_is_refused() {
    let Some((_members, cluster, proxies)) = start_behind_proxies(&[]).await else { return };
    let node: &TestApp = &cluster.nodes[0];
    let answer = reqwest::get(format!("http://{}/livez", proxies[0].host)).await;
    assert!(answer.is_err(), "{answer:?}");
    node.wait_for_log("a connection to cluster.bind failed").await;
    node.get("/livez").await.ok();
    cluster.shut_down().await;
}
