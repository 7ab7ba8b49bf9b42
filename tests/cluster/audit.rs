//! The audit of a shop on two nodes: no false findings, and real damage is found and repaired.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use mongodb::bson::{Document, Uuid, doc};
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    members::Members,
    replica_set, shared_replica_set,
    support::{Account, Cli, TestApp, unique_number},
};

/// The number of concurrent customers, and of orders per customer.
const BUYERS: usize = 6;
const ROUNDS: usize = 12;

async fn run_audit(node: &TestApp, admin: &Account, repair: bool) -> Value {
    node.post("/api/admin/audit", &json!({"repair": repair})).token(admin).await.ok()
}

/// Buys all products at once on random nodes; orders are paid, cancelled, shipped, or left to
/// expire.
async fn run_buyer(cluster: &Cluster, admin: &Account, teas: &[String]) {
    let ada = cluster.any_node().customer().await;
    for round in 0..ROUNDS {
        for tea in teas {
            cluster.any_node().add_to_cart(&ada, tea, 1).await.ok();
        }
        let key = format!("buy-{}", unique_number());
        let order = cluster
            .any_node()
            .post("/api/checkout", &json!({}))
            .token(&ada)
            .key(key)
            .await
            .is(201)
            .json();
        let steps: &[&str] =
            [&["pay"][..], &["cancel"], &["pay", "fulfil"], &["pay", "cancel"], &[]][round % 5];
        for step in steps {
            let path = format!("/api/orders/{}/{step}", order["id"].as_str().unwrap());
            cluster.any_node().post(&path, &json!({})).token(admin).await.ok();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_during_trade_reports_nothing() {
    let Some(uri) = shared_replica_set::uri().await else { return };
    let cluster = Cluster::start(&uri, &[("orders.payment_timeout", "5s")]).await;
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let price = json!(4.5);
    let teas = join_all((0..3).map(|_| here.new_product(&admin, &price, 10_000))).await;
    let orders = cluster.database.collection::<Document>("orders");
    let trading = AtomicUsize::new(BUYERS);
    let buyers = join_all((0..BUYERS).map(async |_| {
        run_buyer(&cluster, &admin, &teas).await;
        trading.fetch_sub(1, Ordering::Relaxed);
    }));
    let auditor = async |node: &TestApp| {
        let mut audits = 0;
        while trading.load(Ordering::Relaxed) > 0 {
            let found = run_audit(node, &admin, audits % 2 == 1).await;
            assert_eq!(found["clean"], true, "{found}");
            audits += 1;
        }
        audits
    };
    let ((), first, second) =
        tokio::join!(async { drop(buyers.await) }, auditor(here), auditor(there));
    assert!(first > 0 && second > 0, "audits run during the trade");
    // Unpaid orders expire meanwhile.
    loop {
        let found = run_audit(there, &admin, false).await;
        assert_eq!(
            (&found["clean"], &found["orders"]),
            (&json!(true), &json!(BUYERS * ROUNDS)),
            "{found}"
        );
        if orders.count_documents(doc! { "status": "pending_payment" }).await.unwrap() == 0 {
            break;
        }
    }
    let run = Cli::run(here.command().arg("audit")).ok();
    assert!(run.ends_with(": 0 findings, 0 corrected\n") && run.lines().count() == 1, "{run}");
    cluster.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_repaired_while_both_nodes_run() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let tea = here.new_product(&admin, &json!(4.5), 10).await;
    let cup = here.new_product(&admin, &json!(4.5), 10).await;
    let one = |id: &str| doc! { "_id": Uuid::parse_str(id).unwrap() };
    let stock = cluster.database.collection::<Document>("stock");
    stock.update_one(one(&tea), doc! { "$set": { "reserved": 3_i64 } }).await.unwrap();
    stock
        .update_one(one(&cup), doc! { "$set": { "on_hand": 9_i64, "last_movement": 0_i64 } })
        .await
        .unwrap();
    let outbox = cluster.database.collection::<Document>("outbox");
    let events = outbox
        .find_one(doc! { "_id": { "$type": "number" } })
        .sort(doc! { "_id": -1 })
        .await
        .unwrap()
        .unwrap();
    let found = run_audit(there, &admin, false).await;
    let kinds: Vec<&str> = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["kind"].as_str().unwrap())
        .collect();
    let mut wanted =
        vec!["reserved_mismatch", "open_orders_mismatch", "on_hand_mismatch", "movement_sequence"];
    if tea > cup {
        wanted.rotate_left(2);
    }
    assert_eq!(kinds, wanted, "{found}");
    // A separate process besides both nodes.
    let run = Cli::run(here.command().args(["audit", "--repair"]));
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.stdout.ends_with(": 4 findings, 2 corrected\n")
            && run.stdout.contains("to 1, then repair"),
        "{run:?}"
    );
    stock.update_one(one(&cup), doc! { "$set": { "last_movement": 1_i64 } }).await.unwrap();
    assert_eq!(run_audit(there, &admin, true).await["repaired"], 1);
    for node in [here, there] {
        let path = format!("/api/products/{tea}/stock");
        let seen = node.get(&path).token(&admin).header("cache-control", "no-cache").await.ok();
        assert_eq!((&seen["on_hand"], &seen["reserved"]), (&json!(10), &json!(0)), "{seen}");
        assert_eq!(run_audit(node, &admin, false).await["clean"], true);
    }
    // Lost events can only be reported.
    here.change_stock(&admin, &tea, &json!({"delta": 1, "reason": "found"})).await.ok();
    outbox.delete_one(doc! { "_id": events.get("_id").unwrap() }).await.unwrap();
    let found = run_audit(here, &admin, true).await;
    assert_eq!(
        (&found["found"], &found["findings"][0]["kind"]),
        (&json!(1), &json!("event_positions")),
        "{found}"
    );
    cluster.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deep_audit_finds_a_document_that_an_index_misses() {
    let options = ["--replSet", "souk", "--setParameter", "enableTestCommands=1"];
    let Some(mut members) = Members::start_servers(1, &options) else { return };
    let hosts = members.hosts().to_vec();
    members.initiate(&hosts).await;
    let uri = Members::uri(&hosts);
    let cluster = Cluster::start(&uri, &[]).await;
    let (here, _) = cluster.both_nodes();
    here.new_product(&here.admin().await, &json!(4.5), 3).await;
    let deep_audit = || Cli::run(here.command().args(["audit", "--deep"]));
    let sound = deep_audit();
    assert_eq!(sound.code, 0, "{sound:?}");
    let server = replica_set::direct(&hosts[0]).await;
    let skip_indexes = |mode: &str| {
        let data = doc! { "skipIdIndex": false };
        doc! { "configureFailPoint": "skipIndexNewRecords", "mode": mode, "data": data }
    };
    // Without retryable writes, so that the server inserts nothing else meanwhile.
    let uri = format!("mongodb://{}/?directConnection=true&retryWrites=false", hosts[0]);
    let raw = mongodb::Client::with_uri_str(uri).await.unwrap();
    let orders = raw.database(cluster.database.name()).collection::<Document>("orders");
    let admin = server.database("admin");
    admin.run_command(skip_indexes("alwaysOn")).await.unwrap();
    let inserted = orders.insert_one(doc! { "_id": Uuid::new(), "status": "expired" }).await;
    admin.run_command(skip_indexes("off")).await.unwrap();
    inserted.unwrap();
    // A validation in the background reads the last checkpoint.
    admin.run_command(doc! { "fsync": 1 }).await.unwrap();
    let damaged = deep_audit();
    assert_eq!(damaged.code, 1, "{damaged:?}");
    let lines: Vec<&str> = damaged.stdout.lines().collect();
    assert!(
        lines.iter().any(|line| line.starts_with("database: collection orders: ")),
        "{damaged:?}"
    );
}
