//! Real nodes, killed in the middle of their transactions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mongodb::bson::doc;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    members::Members,
    replica_set,
    support::{Account, TestApp},
};

/// Customers that keep each node busy.
const CUSTOMERS_PER_NODE: usize = 24;

/// The maximum number of kills; the test stops when one hits an open transaction.
const MAX_KILLS: usize = 6;

/// A longer pause than this shows that the killed node held a lock.
const LOCKED_PAUSE: Duration = Duration::from_secs(1);

fn settings(uri: &str) -> Vec<(&'static str, String)> {
    vec![
        ("store.kind", "mongodb".into()),
        ("store.uri", uri.into()),
        ("store.database", "shop".into()),
        ("auth.jwt_secret", "a secret that all nodes of this test share".into()),
        ("http.request_timeout", "8s".into()),
    ]
}

async fn start_node(uri: &str) -> TestApp {
    let settings = settings(uri);
    TestApp::with_settings(
        &settings.iter().map(|(key, value)| (*key, value.as_str())).collect::<Vec<_>>(),
    )
    .await
}

/// A customer who keeps changing the cart; `done` counts acknowledged changes.
async fn run_customer(
    app: Arc<tokio::sync::RwLock<TestApp>>,
    account: Account,
    product: String,
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) {
    let mut quantity = 0;
    while !stop.load(Ordering::Acquire) {
        quantity = quantity % 900 + 1;
        let call = app.read().await.update_cart(&account, &product, quantity);
        match call.attempt().await {
            Ok(response) if response.status == 200 => {
                done.fetch_add(1, Ordering::AcqRel);
            }
            Ok(response) => {
                assert_eq!(response.status, 503, "{response}");
                sleep(Duration::from_millis(20)).await;
            }
            // The node is down.
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// The longest time in which `done` did not change, observed for `enough`.
async fn longest_pause(done: &AtomicU64, enough: Duration) -> Duration {
    let began = Instant::now();
    let (mut last, mut since, mut longest) =
        (done.load(Ordering::Acquire), Instant::now(), Duration::ZERO);
    while began.elapsed() < enough {
        sleep(Duration::from_millis(2)).await;
        let now = done.load(Ordering::Acquire);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        longest = longest.max(since.elapsed());
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_nodes_continue_when_one_is_killed() {
    let Some(members) = Members::start(1).await else { return };
    let uri = Members::uri(members.hosts());
    let (mut first, second) = (start_node(&uri).await, start_node(&uri).await);
    // The nodes must free the locks themselves; the server would take longer than this test allows.
    let server = replica_set::direct(&members.hosts()[0]).await.database("admin");
    server
        .run_command(doc! { "setParameter": 1, "transactionLifetimeLimitSeconds": 60 })
        .await
        .unwrap();
    first.expect_faults();
    let admin = first.admin().await;
    let product = first.new_product(&admin, &json!(4.5), 1_000_000).await;
    let (done, stop) = (
        [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))],
        Arc::new(AtomicBool::new(false)),
    );
    let mut customers = Vec::new();
    let apps = [first, second].map(|app| Arc::new(tokio::sync::RwLock::new(app)));
    for (app, done) in apps.iter().zip(&done) {
        for _ in 0..CUSTOMERS_PER_NODE {
            let account = app.read().await.customer().await;
            app.read().await.add_to_cart(&account, &product, 1).await.ok();
            customers.push(tokio::spawn(run_customer(
                Arc::clone(app),
                account,
                product.clone(),
                Arc::clone(done),
                Arc::clone(&stop),
            )));
        }
    }
    let mut pauses = Vec::new();
    for _ in 0..MAX_KILLS {
        sleep(Duration::from_millis(1500)).await;
        apps[0].write().await.kill_9().await;
        pauses.push(longest_pause(&done[1], Duration::from_secs(6)).await);
        apps[0].write().await.restart().await;
        if pauses.iter().any(|pause| *pause > LOCKED_PAUSE) {
            break;
        }
    }
    eprintln!("the longest pauses of the surviving node after each kill -9: {pauses:?}");
    assert!(pauses.iter().all(|pause| *pause < Duration::from_secs(5)), "{pauses:?}");
    stop.store(true, Ordering::Release);
    for customer in customers {
        customer.await.unwrap();
    }
    assert!(done.iter().all(|done| done.load(Ordering::Acquire) > 100));
}
