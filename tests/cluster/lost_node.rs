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
    support::{Account, Progress, TestApp, unique},
};

/// Customers per node.
const SHOPPERS: usize = 8;
/// Acknowledged changes before the kill, and again after it.
const BUSY: usize = 200;

/// A customer who prefers one node.
struct Shopper {
    who: Account,
    home: usize,
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
    let mut cluster = Cluster::on(&Members::uri(members.hosts()), &[]).await;
    let boss = cluster.nodes[0].admin().await;
    let price = json!(4.5);
    let wares = join_all((0..8).map(|_| cluster.nodes[0].product(&boss, &price, 1_000_000))).await;
    let customers = cluster.nodes[1].customers(2 * SHOPPERS).await;
    let shopper = |(n, who)| Shopper { who, home: n % 2, acknowledged: 0 };
    let mut shoppers: Vec<Shopper> = customers.into_iter().enumerate().map(shopper).collect();
    for victim in [0, 1] {
        killed_under_load(&cluster, victim, &mut shoppers, &wares).await;
        cluster.nodes[victim].reap().await;
        cluster.nodes[victim].restart().await;
        for shopper in &shoppers {
            for node in &cluster.nodes {
                let cart = node
                    .get("/api/cart")
                    .token(&shopper.who)
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
    cluster.end().await;
}

async fn killed_under_load(
    cluster: &Cluster,
    victim: usize,
    shoppers: &mut [Shopper],
    wares: &[String],
) {
    let (progress, over) = (Progress::new(), Cell::new(false));
    let strike = async {
        progress.reaches(BUSY).await;
        stop_in_transaction(cluster, victim, &progress).await;
        cluster.nodes[victim].signal("KILL");
        let (began, before) = (Instant::now(), progress.count());
        progress.reaches(before + 1).await;
        let resumed = began.elapsed();
        progress.reaches(before + BUSY).await;
        over.set(true);
        resumed
    };
    let shopping = join_all(
        shoppers.iter_mut().map(|shopper| shopper.shop(&cluster.nodes, wares, &progress, &over)),
    );
    let (resumed, slowest) = tokio::join!(strike, shopping);
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
    async fn shop(
        &mut self,
        nodes: &[TestApp],
        wares: &[String],
        progress: &Progress,
        over: &Cell<bool>,
    ) -> Option<Duration> {
        let mut slowest = None;
        let mut place = self.home;
        while !over.get() {
            let (key, product) =
                (format!("add-{}", unique()), &wares[self.acknowledged as usize % wares.len()]);
            let cart = loop {
                let began = Instant::now();
                if let Ok(answer) =
                    nodes[place].add(&self.who, product, 1).key(&key).attempt().await
                {
                    slowest = slowest.max(Some(began.elapsed()));
                    break answer.ok();
                }
                place = 1 - place;
            };
            self.acknowledged += 1;
            assert_eq!(
                cart["version"], self.acknowledged,
                "each request makes one version, however often it is sent"
            );
            progress.one();
        }
        slowest
    }
}

/// Stops a node while it has an open transaction.
async fn stop_in_transaction(cluster: &Cluster, victim: usize, progress: &Progress) {
    let node = &cluster.nodes[victim];
    loop {
        node.signal("STOP");
        if is_in_transaction(&cluster.database, node.pid()).await {
            return;
        }
        node.signal("CONT");
        progress.reaches(progress.count() + 1).await;
    }
}

/// Whether a stopped process has an open transaction; waits for a commit in progress.
async fn is_in_transaction(database: &Database, process: u32) -> bool {
    const LEFT: i64 = 100_000;
    let nodes = database.collection::<Document>("nodes");
    let node = nodes.find_one(doc! { "process": i64::from(process) }).await.unwrap().unwrap();
    let session = node.get("session").unwrap();
    loop {
        let all = doc! { "$currentOp": { "allUsers": true, "idleSessions": true } };
        let of_node = doc! { "$match": { "lsid.id": session, "transaction": { "$exists": true } } };
        let found = database.client().database("admin").aggregate([all, of_node]).await.unwrap();
        let found: Vec<Document> = found.try_collect().await.unwrap();
        let Some(operation) = found.first() else { return false };
        let open =
            operation.get_document("transaction").unwrap().get_i64("timeOpenMicros").unwrap();
        if open > LEFT && operation.get_str("type").is_ok_and(|kind| kind == "idleSession") {
            return true;
        }
    }
}
