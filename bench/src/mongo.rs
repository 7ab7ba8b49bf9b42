//! Durable adds on MongoDB: 256 concurrent users through HTTP, against 256 tasks that each run one
//! durable `update_one` at a time, without HTTP and without events. Both run alternately on one
//! replica set; the server reports the processor time that it used.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use mongodb::{
    Client, Database,
    bson::{Document, doc},
    options::{Acknowledgment, ClientOptions, WriteConcern},
};
use serde_json::json;
use souk::domain::{account::Role, ids::EventId};

use crate::{
    load_generator::{Request, measure_rate, send_once},
    samples::Samples,
    shop_process::{ShopProcess, new_user_token},
};

const USERS: u32 = 256;
const ROUNDS: usize = 5;
const ROUND_TIME: Duration = Duration::from_secs(4);

/// Adds per second, and the MongoDB server's processor time per add in microseconds.
struct AddRate {
    rate: f64,
    cpu: f64,
}

pub async fn run() -> anyhow::Result<()> {
    let uri = std::env::var("SOUK_TEST_MONGO_URI")
        .context("set SOUK_TEST_MONGO_URI to the connection string of a replica set")?;
    let name = format!("souk_bench_{}", EventId::new().as_uuid().simple());
    let shop = ShopProcess::start_with(&[
        ("STORE__KIND", "mongodb"),
        ("STORE__URI", &uri),
        ("STORE__DATABASE", &name),
    ])?;
    let database = connect(&uri).await?.database(&name);
    let product = shop.create_product().await?;
    let tokens: Vec<String> =
        (0..USERS).map(|_| new_user_token(Role::Customer)).collect::<Result<_, _>>()?;
    let add = json!({"product_id": product, "quantity": 1}).to_string();
    let requests: Vec<Request> =
        tokens.iter().map(|token| Request::post("/api/cart/add", token, &add)).collect();
    let mut pairs = Vec::new();
    for round in 0..=ROUNDS {
        // Empty the carts between rounds, so that no line reaches its limit.
        for token in &tokens {
            send_once(shop.address, &Request::delete("/api/cart", token)).await?;
        }
        let souk =
            measure_with_cpu(&database, measure_rate(shop.address, &requests, ROUND_TIME)).await?;
        let plain = measure_with_cpu(&database, plain_update_rate(&database)).await?;
        if round > 0 {
            pairs.push((souk, plain));
        }
    }
    database.drop().await?;
    println!(
        "durable POST /api/cart/add on MongoDB: {USERS} concurrent users, \
         {ROUNDS} rounds of {ROUND_TIME:?}"
    );
    println!("  souk, HTTP   adds/s        {}", Samples::new(pairs.iter().map(|pair| pair.0.rate)));
    println!("  update_one   adds/s        {}", Samples::new(pairs.iter().map(|pair| pair.1.rate)));
    println!(
        "  ratio                      {}",
        Samples::new(pairs.iter().map(|pair| pair.0.rate / pair.1.rate))
    );
    println!("  souk, HTTP   mongod us/add {}", Samples::new(pairs.iter().map(|pair| pair.0.cpu)));
    println!("  update_one   mongod us/add {}", Samples::new(pairs.iter().map(|pair| pair.1.cpu)));
    Ok(())
}

/// Connects with the write concern that souk uses.
pub async fn connect(uri: &str) -> anyhow::Result<Client> {
    let mut options = ClientOptions::parse(uri).await?;
    (options.min_pool_size, options.max_pool_size) = (Some(64), Some(64));
    options.write_concern =
        Some(WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build());
    Ok(Client::with_options(options)?)
}

async fn measure_with_cpu(
    database: &Database,
    work: impl Future<Output = anyhow::Result<f64>>,
) -> anyhow::Result<AddRate> {
    let (before, started) = (processor_time(database).await?, Instant::now());
    let rate = work.await?;
    let elapsed = started.elapsed().as_secs_f64();
    Ok(AddRate { rate, cpu: (processor_time(database).await? - before) / (rate * elapsed) })
}

/// The processor time that the MongoDB server has used, in microseconds.
async fn processor_time(database: &Database) -> anyhow::Result<f64> {
    let status = database.run_command(doc! { "serverStatus": 1 }).await?;
    let info = status.get_document("extra_info")?;
    let micros = |name: &str| {
        info.get(name).and_then(|value| value.as_i64().or_else(|| value.as_i32().map(i64::from)))
    };
    let sum =
        micros("user_time_us").zip(micros("system_time_us")).map(|(user, system)| user + system);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    Ok(sum.context("the server does not report its processor time")? as f64)
}

async fn plain_update_rate(database: &Database) -> anyhow::Result<f64> {
    let over = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let tasks: Vec<_> = (0..USERS)
        .map(|user| {
            let (carts, over) = (database.collection::<Document>("plain_carts"), Arc::clone(&over));
            tokio::spawn(async move {
                let mut count = 0_u32;
                while !over.load(Ordering::Relaxed) {
                    let add = doc! {
                        "$inc": { "version": 1_i64, "lines.0.quantity": 1_i64 },
                        "$setOnInsert": { "name": "Mint tea" },
                    };
                    carts.update_one(doc! { "_id": i64::from(user) }, add).upsert(true).await?;
                    count += 1;
                }
                anyhow::Ok(count)
            })
        })
        .collect();
    tokio::time::sleep(ROUND_TIME).await;
    over.store(true, Ordering::Relaxed);
    let mut count = 0.0;
    for task in tasks {
        count += f64::from(task.await??);
    }
    Ok(count / started.elapsed().as_secs_f64())
}
