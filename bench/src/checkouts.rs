//! Checkouts on MongoDB through HTTP, of one product and of a thousand, against three alternatives
//! on the same replica set: one transaction per order, which the driver retries with a backoff
//! after a conflict; the same without a backoff, as older drivers did; and one
//! `find_one_and_update` per buyer, without an order, a cart or an event.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use mongodb::{
    Client, ClientSession, Database,
    bson::{Document, doc},
    error::TRANSIENT_TRANSACTION_ERROR,
};
use serde_json::json;
use souk::domain::{
    account::Role,
    ids::{EventId, OrderId, UserId},
};

use crate::{
    load_generator::{Request, send_each_once},
    mongo::connect,
    samples::Samples,
    shop_process::{ShopProcess, new_user_token},
};

/// Concurrent buyers through HTTP.
const CONNECTIONS: usize = 256;
/// Concurrent buyers of the alternatives, which use the database directly.
const TASKS: u32 = 64;
/// Checkouts per round.
const BUYERS: u32 = 256 * 60;
const ROUNDS: usize = 5;
const ROUND_TIME: Duration = Duration::from_secs(3);

/// The variants. The driver's own retry has had a backoff since January 2026 (RUST-2268).
const VARIANT_NAMES: [&str; 4] =
    ["souk, HTTP", "transaction per order", "transaction, no backoff", "find_one_and_update"];

/// Checkouts per second, and the 99th percentile of their latency in milliseconds.
pub struct CheckoutRate {
    pub rate: f64,
    pub p99: f64,
}

impl CheckoutRate {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn from_durations(mut latencies: Vec<Duration>, time: Duration) -> anyhow::Result<Self> {
        latencies.sort_unstable();
        let p99 = latencies.get(latencies.len() * 99 / 100).context("no checkout completed")?;
        let p99 = p99.as_secs_f64() * 1000.0;
        let rate = latencies.len() as f64 / time.as_secs_f64();
        Ok(Self { rate, p99 })
    }
}

pub async fn run() -> anyhow::Result<()> {
    for product_count in [1, 1000] {
        compare_checkouts(product_count).await?;
    }
    Ok(())
}

async fn compare_checkouts(product_count: usize) -> anyhow::Result<()> {
    let uri = std::env::var("SOUK_TEST_MONGO_URI")
        .context("set SOUK_TEST_MONGO_URI to the connection string of a replica set")?;
    let name = format!("souk_bench_{}", EventId::new().as_uuid().simple());
    let shop = ShopProcess::start_with(&[
        ("STORE__KIND", "mongodb"),
        ("STORE__URI", &uri),
        ("STORE__DATABASE", &name),
    ])?;
    let client = connect(&uri).await?;
    let database = client.database(&name);
    let mut products = Vec::new();
    for number in 0..product_count {
        products.push(shop.create_numbered_product(number).await?);
    }
    create_plain_collections(&database, product_count).await?;
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let rates = [
            measure_checkouts(&shop, &products).await?.0,
            measure_in_parallel(&client, &database, product_count, order_in_transaction).await?,
            measure_in_parallel(
                &client,
                &database,
                product_count,
                order_in_transaction_without_backoff,
            )
            .await?,
            measure_in_parallel(&client, &database, product_count, decrement_stock_only).await?,
        ];
        if round > 0 {
            rounds.push(rates);
        }
    }
    database.drop().await?;
    println!(
        "checkouts on MongoDB, {product_count} products: souk with {CONNECTIONS} connections, \
         the others with {TASKS} tasks; {ROUNDS} rounds"
    );
    for (variant, name) in VARIANT_NAMES.iter().enumerate() {
        println!(
            "  {name:25} done/s   {}",
            Samples::new(rounds.iter().map(|rates| rates[variant].rate))
        );
        println!(
            "  {:25} p99 ms   {}",
            "",
            Samples::new(rounds.iter().map(|rates| rates[variant].p99))
        );
        if variant > 0 {
            println!(
                "  {:25} ratio    {}",
                "",
                Samples::new(rounds.iter().map(|rates| rates[0].rate / rates[variant].rate))
            );
        }
    }
    Ok(())
}

/// Creates new buyers, each with a cart of one line, and checks them all out. Returns the processor
/// time that the shop needed for one checkout, too.
pub async fn measure_checkouts(
    shop: &ShopProcess,
    products: &[String],
) -> anyhow::Result<(CheckoutRate, Duration)> {
    let tokens: Vec<String> =
        (0..BUYERS).map(|_| new_user_token(Role::Customer)).collect::<Result<_, _>>()?;
    let add = |(token, product): (&String, &String)| {
        Request::post(
            "/api/cart/add",
            token,
            &json!({"product_id": product, "quantity": 1}).to_string(),
        )
    };
    send_each_once(
        shop.address,
        tokens.iter().zip(products.iter().cycle()).map(add).collect(),
        CONNECTIONS,
    )
    .await?;
    let requests = tokens.iter().map(|token| Request::checkout(token)).collect();
    let (started, processor_time) = (Instant::now(), shop.processor_time()?);
    let took = send_each_once(shop.address, requests, CONNECTIONS).await?;
    let rate = CheckoutRate::from_durations(took, started.elapsed())?;
    let processor_time = shop.processor_time()?.saturating_sub(processor_time) / BUYERS;
    Ok((rate, processor_time))
}

async fn create_plain_collections(database: &Database, product_count: usize) -> anyhow::Result<()> {
    let stock = (0..product_count)
        .map(|number| doc! { "_id": product_key(number), "available": 1_000_000_000_i64 });
    database.collection::<Document>("plain_stock").insert_many(stock).await?;
    for collection in ["plain_orders", "plain_carts", "plain_events"] {
        database.create_collection(collection).await?;
    }
    Ok(())
}

fn product_key(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(0)
}

/// Runs `work` repeatedly in concurrent tasks.
async fn measure_in_parallel<W>(
    client: &Client,
    database: &Database,
    product_count: usize,
    work: impl Fn(ClientSession, Database, i64) -> W + Copy + Send + 'static,
) -> anyhow::Result<CheckoutRate>
where
    W: Future<Output = (ClientSession, mongodb::error::Result<()>)> + Send,
{
    let over = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let (database, over) = (database.clone(), Arc::clone(&over));
        let mut session = client.start_session().await?;
        tasks.push(tokio::spawn(async move {
            let mut took = Vec::new();
            let mut number = task as usize;
            while !over.load(Ordering::Relaxed) {
                let started = Instant::now();
                let done;
                (session, done) =
                    work(session, database.clone(), product_key(number % product_count)).await;
                done?;
                took.push(started.elapsed());
                number += TASKS as usize;
            }
            anyhow::Ok(took)
        }));
    }
    tokio::time::sleep(ROUND_TIME).await;
    over.store(true, Ordering::Relaxed);
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await??);
    }
    CheckoutRate::from_durations(took, started.elapsed())
}

async fn decrement_stock_only(
    session: ClientSession,
    database: Database,
    product: i64,
) -> (ClientSession, mongodb::error::Result<()>) {
    let stock = database.collection::<Document>("plain_stock");
    let taken = stock.find_one_and_update(in_stock_filter(product), decrement_update()).await;
    (session, taken.map(drop))
}

fn in_stock_filter(product: i64) -> Document {
    doc! { "_id": product, "available": { "$gte": 1 } }
}

fn decrement_update() -> Document {
    doc! { "$inc": { "available": -1_i64 } }
}

async fn order_in_transaction(
    mut session: ClientSession,
    database: Database,
    product: i64,
) -> (ClientSession, mongodb::error::Result<()>) {
    let user = UserId::new().to_string();
    let transaction =
        session.start_transaction().and_run((database, user), move |session, (database, user)| {
            Box::pin(async move { place_order(session, database, user, product).await })
        });
    let done = transaction.await;
    (session, done)
}

/// The same transaction, retried without a backoff.
async fn order_in_transaction_without_backoff(
    mut session: ClientSession,
    database: Database,
    product: i64,
) -> (ClientSession, mongodb::error::Result<()>) {
    let user = UserId::new().to_string();
    loop {
        let done = match session.start_transaction().await {
            Ok(()) => match place_order(&mut session, &database, &user, product).await {
                Ok(()) => session.commit_transaction().await,
                Err(error) => session.abort_transaction().await.and(Err(error)),
            },
            Err(error) => Err(error),
        };
        match done {
            Err(error) if error.contains_label(TRANSIENT_TRANSACTION_ERROR) => {}
            done => return (session, done),
        }
    }
}

async fn place_order(
    session: &mut ClientSession,
    database: &Database,
    user: &str,
    product: i64,
) -> mongodb::error::Result<()> {
    let collection = |name: &str| database.collection::<Document>(name);
    let order = OrderId::new().to_string();
    collection("plain_stock")
        .update_one(in_stock_filter(product), decrement_update())
        .session(&mut *session)
        .await?;
    let placed =
        doc! { "_id": &order, "user_id": user, "product_id": product, "quantity": 1, "price": 450 };
    collection("plain_orders").insert_one(placed).session(&mut *session).await?;
    let emptied = doc! { "$set": { "lines": [] }, "$inc": { "version": 1 } };
    collection("plain_carts")
        .update_one(doc! { "_id": user }, emptied)
        .upsert(true)
        .session(&mut *session)
        .await?;
    let event = doc! { "type": "order.placed", "order_id": &order, "user_id": user };
    collection("plain_events").insert_one(event).session(&mut *session).await?;
    Ok(())
}
