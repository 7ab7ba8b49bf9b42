//! Overload on MongoDB: how many requests succeed, how many are rejected, and whether memory grows.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::json;
use souk::domain::{account::Role, ids::EventId};

use crate::{
    load_generator::{Connection, Request},
    mongo::connect,
    shop_process::{ShopProcess, new_user_token},
};

/// The numbers of connections: a load within capacity, ten times as many, and more than the queues
/// hold. The last runs twice, since the first run also allocates the state of each user.
const CONNECTION_COUNTS: [usize; 4] = [256, 2560, 15_000, 15_000];
const ROUND_TIME: Duration = Duration::from_secs(20);

pub async fn run() -> anyhow::Result<()> {
    let uri = std::env::var("SOUK_TEST_MONGO_URI")
        .context("set SOUK_TEST_MONGO_URI to the connection string of a replica set")?;
    let name = format!("souk_bench_{}", EventId::new().as_uuid().simple());
    let shop = ShopProcess::start_with(&[
        ("STORE__KIND", "mongodb"),
        ("STORE__URI", &uri),
        ("STORE__DATABASE", &name),
    ])?;
    let product = shop.create_product().await?;
    let add = json!({"product_id": product, "quantity": 1}).to_string();
    println!("POST /api/cart/add on MongoDB, one user per connection, rounds of {ROUND_TIME:?}");
    let most = CONNECTION_COUNTS.into_iter().max().unwrap_or(0);
    let tokens: Vec<String> =
        (0..most).map(|_| new_user_token(Role::Customer)).collect::<Result<_, _>>()?;
    for connections in CONNECTION_COUNTS {
        let requests = tokens
            .iter()
            .take(connections)
            .map(|token| Request::post("/api/cart/add", token, &add))
            .collect();
        let (latencies_by_status, memory) =
            tokio::join!(collect_latencies(&shop, requests), sample_memory(&shop));
        println!("  {connections} connections");
        for (status, latencies) in latencies_by_status? {
            let slowest = latencies.last().copied().unwrap_or_default();
            let [median, p99] = [50, 99].map(|percent| percentile(&latencies, percent));
            println!(
                "    {status}: {} responses, median {median:.2?}, p99 {p99:.2?}, max {slowest:.2?}",
                latencies.len()
            );
        }
        println!("    resident MiB, every 2 s: {}", memory?.join(" "));
    }
    drop(shop);
    connect(&uri).await?.database(&name).drop().await?;
    Ok(())
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}

/// The sorted latencies of all responses, by status.
async fn collect_latencies(
    shop: &ShopProcess,
    requests: Vec<Request>,
) -> anyhow::Result<BTreeMap<u16, Vec<Duration>>> {
    let all: Arc<Mutex<BTreeMap<u16, Vec<Duration>>>> = Arc::default();
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for request in requests {
        let (all, over, address) = (Arc::clone(&all), Arc::clone(&over), shop.address);
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(address).await?;
            while !over.load(Ordering::Relaxed) {
                let started = Instant::now();
                let (status, _) = connection.exchange(&request).await?;
                all.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .entry(status)
                    .or_default()
                    .push(started.elapsed());
            }
            anyhow::Ok(())
        }));
    }
    tokio::time::sleep(ROUND_TIME).await;
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    let mut all = std::mem::take(&mut *all.lock().unwrap_or_else(PoisonError::into_inner));
    all.values_mut().for_each(|latencies| latencies.sort_unstable());
    Ok(all)
}

async fn sample_memory(shop: &ShopProcess) -> anyhow::Result<Vec<String>> {
    let mut samples = Vec::new();
    for _ in 0..10 {
        tokio::time::sleep(ROUND_TIME / 10).await;
        samples.push(format!("{:.0}", shop.resident_mib()?));
    }
    Ok(samples)
}
