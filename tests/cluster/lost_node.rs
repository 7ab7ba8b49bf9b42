//! One of two nodes is killed during a transaction: the other continues, and nothing is lost or
//! duplicated.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use futures_util::{TryStreamExt, future::join_all};
use mongodb::{
    Database,
    bson::{Bson, Document, doc},
};
use serde_json::json;

use crate::{
    cluster::Cluster,
    members::Members,
    replica_set,
    support::{Account, Progress, TestApp, unique_number},
};

/// Customers per node.
const SHOPPERS: usize = 8;
/// Acknowledged changes before the kill, and again after it.
const CHANGES: usize = 200;

/// A customer who prefers one node.
struct Shopper {
    account: Account,
    preferred_node: usize,
    /// Units added to the cart, each in its own version.
    acknowledged: u64,
}

#[tokio::test]
async fn node_killed_in_a_transaction_does_not_block_the_other() {
    let Some(members) = Members::start(1).await else { return };
    // A fresh server has the default transaction lifetime.
    let admin = replica_set::direct(&members.hosts()[0]).await.database("admin");
    let lifetime = admin
        .run_command(doc! { "getParameter": 1, "transactionLifetimeLimitSeconds": 1 })
        .await
        .unwrap();
    assert_eq!(lifetime.get("transactionLifetimeLimitSeconds"), Some(&Bson::Int32(60)));
    let mut cluster = Cluster::start(&Members::uri(members.hosts()), &[]).await;
    let admin_account = cluster.nodes[0].admin().await;
    let price = json!(4.5);
    let product_ids =
        join_all((0..8).map(|_| cluster.nodes[0].new_product(&admin_account, &price, 1_000_000)))
            .await;
    let customers = cluster.nodes[1].customers(2 * SHOPPERS).await;
    let shopper = |(n, account)| Shopper { account, preferred_node: n % 2, acknowledged: 0 };
    let mut shoppers: Vec<Shopper> = customers.into_iter().enumerate().map(shopper).collect();
    for victim in [0, 1] {
        kill_under_load(&cluster, victim, &mut shoppers, &product_ids).await;
        cluster.nodes[victim].reap().await;
        cluster.nodes[victim].restart().await;
        for shopper in &shoppers {
            for node in &cluster.nodes {
                let cart = node
                    .get("/api/cart")
                    .token(&shopper.account)
                    .header("cache-control", "no-cache")
                    .await
                    .ok();
                assert_eq!(
                    (&cart["version"], &cart["item_count"]),
                    (&json!(shopper.acknowledged), &json!(shopper.acknowledged))
                );
            }
        }
    }
    cluster.shut_down().await;
}

async fn kill_under_load(
    cluster: &Cluster,
    victim: usize,
    shoppers: &mut [Shopper],
    product_ids: &[String],
) {
    let (progress, over) = (Progress::new(), Cell::new(false));
    let kill = async {
        progress.wait_for(CHANGES).await;
        pause_in_transaction(cluster, victim, &progress).await;
        cluster.nodes[victim].signal("KILL");
        let (began, before) = (Instant::now(), progress.count());
        progress.wait_for(before + 1).await;
        let resumed = began.elapsed();
        progress.wait_for(before + CHANGES).await;
        over.set(true);
        resumed
    };
    let shopping = join_all(
        shoppers
            .iter_mut()
            .map(|shopper| shopper.run(&cluster.nodes, product_ids, &progress, &over)),
    );
    let (resumed, slowest) = tokio::join!(kill, shopping);
    let slowest = slowest.into_iter().flatten().max().unwrap();
    eprintln!(
        "the other node continued {resumed:?} after the kill; its slowest response took {slowest:?}"
    );
    // The 200 responses already imply this, because requests time out earlier.
    assert!(slowest < Duration::from_secs(6), "{slowest:?}");
}

impl Shopper {
    /// Adds unit after unit to the cart; repeats a request at the other node when its node is gone.
    /// Returns the slowest response of a running node.
    async fn run(
        &mut self,
        nodes: &[TestApp],
        product_ids: &[String],
        progress: &Progress,
        over: &Cell<bool>,
    ) -> Option<Duration> {
        let mut slowest = None;
        let mut place = self.preferred_node;
        while !over.get() {
            let (key, product) = (
                format!("add-{}", unique_number()),
                &product_ids[self.acknowledged as usize % product_ids.len()],
            );
            let cart = loop {
                let began = Instant::now();
                if let Ok(response) =
                    nodes[place].add_to_cart(&self.account, product, 1).key(&key).attempt().await
                {
                    slowest = slowest.max(Some(began.elapsed()));
                    break response.ok();
                }
                place = 1 - place;
            };
            self.acknowledged += 1;
            assert_eq!(
                cart["version"], self.acknowledged,
                "each request makes one version, however often it is sent"
            );
            progress.increment();
        }
        slowest
    }
}

/// Stops a node while it has an open transaction.
async fn pause_in_transaction(cluster: &Cluster, victim: usize, progress: &Progress) {
    let node = &cluster.nodes[victim];
    loop {
        node.signal("STOP");
        if is_in_transaction(&cluster.database, node.pid()).await {
            return;
        }
        node.signal("CONT");
        progress.wait_for(progress.count() + 1).await;
    }
}

/// Whether a stopped process has an open transaction; waits for a commit in progress.
async fn is_in_transaction(database: &Database, process: u32) -> bool {
    const OPEN_MICROS: i64 = 100_000;
    let nodes = database.collection::<Document>("nodes");
    let node = nodes.find_one(doc! { "process": i64::from(process) }).await.unwrap().unwrap();
    let sessions = node.get_array("sessions").unwrap();
    loop {
        let all = doc! { "$currentOp": { "allUsers": true, "idleSessions": true } };
        let of_node = doc! {
            "$match": { "lsid.id": { "$in": sessions }, "transaction": { "$exists": true } },
        };
        let found = database.client().database("admin").aggregate([all, of_node]).await.unwrap();
        let found: Vec<Document> = found.try_collect().await.unwrap();
        if found.is_empty() {
            return false;
        }
        let is_open = |operation: &Document| {
            let transaction = operation.get_document("transaction").unwrap();
            transaction.get_i64("timeOpenMicros").unwrap() > OPEN_MICROS
                && operation.get_str("type").is_ok_and(|kind| kind == "idleSession")
        };
        if found.iter().any(is_open) {
            return true;
        }
    }
}
