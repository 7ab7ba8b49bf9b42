//! Delivery of events with MongoDB and RabbitMQ: the time from the response to a change until its
//! event reaches a consumer, and the relay's throughput when events queue up.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use futures_util::StreamExt;
use lapin::{
    Connection, ConnectionProperties, Consumer,
    options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde::Deserialize;
use serde_json::json;
use souk::domain::{account::Role, ids::EventId};

use crate::{
    load_generator::{Request, collect_responses, measure_rate},
    mongo::connect,
    samples::Samples,
    shop_process::{ShopProcess, new_user_token},
};

const ROUNDS: usize = 5;
const ROUND_TIME: Duration = Duration::from_secs(4);
/// Numbers of concurrent clients.
const CLIENT_COUNTS: [usize; 2] = [1, 16];
const USERS: usize = 256;
/// A consumer that receives nothing for this long has received everything.
const IDLE_AFTER: Duration = Duration::from_secs(2);

/// The stock events that a consumer has received: time of arrival by subject and sequence.
#[derive(Default)]
struct ReceivedEvents {
    events: Mutex<HashMap<(String, String), Instant>>,
    count: AtomicUsize,
}

#[derive(Deserialize)]
struct EventHeader {
    subject: String,
    sequence: String,
}

#[derive(Deserialize)]
struct StockLevel {
    product_id: String,
    version: u64,
}

pub async fn run() -> anyhow::Result<()> {
    let uri = std::env::var("SOUK_TEST_MONGO_URI")
        .context("set SOUK_TEST_MONGO_URI to the connection string of a replica set")?;
    let broker = std::env::var("SOUK_TEST_AMQP_URI")
        .context("set SOUK_TEST_AMQP_URI to the connection string of a broker")?;
    let name = format!("souk_bench_{}", EventId::new().as_uuid().simple());
    let shop = ShopProcess::start_with(&[
        ("STORE__KIND", "mongodb"),
        ("STORE__URI", &uri),
        ("STORE__DATABASE", &name),
        ("BROKER__KIND", "rabbitmq"),
        ("BROKER__URI", &broker),
    ])?;
    let mut products = Vec::new();
    for number in 0..CLIENT_COUNTS.into_iter().max().unwrap_or(1) {
        products.push(shop.create_numbered_product(number).await?);
    }
    let received = Arc::new(ReceivedEvents::default());
    let connection = Connection::connect(&broker, ConnectionProperties::default()).await?;
    let messages = open_consumer(&connection).await?;
    let consumer = tokio::spawn(record_events(messages, Arc::clone(&received)));
    println!("events on MongoDB and RabbitMQ, {ROUNDS} rounds of {ROUND_TIME:?}");
    for clients in CLIENT_COUNTS {
        measure_latency(&shop, products.get(..clients).unwrap_or_default(), &received).await?;
    }
    measure_backlog(&shop, products.first().context("no product was created")?, &received).await?;
    consumer.abort();
    connection.close(200, "benchmark finished".into()).await?;
    drop(shop);
    connect(&uri).await?.database(&name).drop().await?;
    Ok(())
}

/// Consumes every event from now on, through a queue of its own.
async fn open_consumer(connection: &Connection) -> anyhow::Result<Consumer> {
    let channel = connection.create_channel().await?;
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let queue =
        channel.queue_declare("".into(), exclusive, FieldTable::default()).await?.name().clone();
    let no_arguments = FieldTable::default();
    channel
        .queue_bind(
            queue.clone(),
            "souk.events".into(),
            "#".into(),
            QueueBindOptions::default(),
            no_arguments.clone(),
        )
        .await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    Ok(channel.basic_consume(queue, "".into(), options, no_arguments).await?)
}

async fn record_events(
    mut messages: Consumer,
    received: Arc<ReceivedEvents>,
) -> anyhow::Result<()> {
    while let Some(delivery) = messages.next().await {
        let (delivery, now) = (delivery?, Instant::now());
        received.count.fetch_add(1, Ordering::Relaxed);
        if delivery.routing_key.as_str() == "inventory.stock.changed" {
            let EventHeader { subject, sequence } = serde_json::from_slice(&delivery.data)?;
            received
                .events
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert((subject, sequence), now);
        }
    }
    Ok(())
}

/// Changes stock repeatedly, with one client per product.
async fn measure_latency(
    shop: &ShopProcess,
    products: &[String],
    received: &ReceivedEvents,
) -> anyhow::Result<()> {
    let admin = shop.admin_token().await?;
    let change = json!({"delta": -1, "reason": "sold at the counter"}).to_string();
    let request = |id: &String| Request::post(&format!("/api/products/{id}/stock"), admin, &change);
    let requests: Vec<Request> = products.iter().map(request).collect();
    let (mut rates, mut medians, mut p99s) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let responses = collect_responses(shop.address, &requests, ROUND_TIME).await?;
        wait_until_idle(received).await;
        let received =
            std::mem::take(&mut *received.events.lock().unwrap_or_else(PoisonError::into_inner));
        let mut latencies = Vec::new();
        for (body, responded_at) in &responses {
            let level: StockLevel = serde_json::from_slice(body)?;
            let at = received
                .get(&(level.product_id, level.version.to_string()))
                .context("an event did not arrive")?;
            latencies.push(at.saturating_duration_since(*responded_at).as_secs_f64() * 1000.0);
        }
        latencies.sort_unstable_by(f64::total_cmp);
        let percentile = |percent: usize| {
            latencies.get(latencies.len() * percent / 100).copied().unwrap_or(f64::NAN)
        };
        if round > 0 {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            rates.push(latencies.len() as f64 / ROUND_TIME.as_secs_f64());
            medians.push(percentile(50));
            p99s.push(percentile(99));
        }
    }
    println!("  {} clients, changes/s                   {}", products.len(), Samples::new(rates));
    println!("    response to consumer, median ms     {}", Samples::new(medians));
    println!("    response to consumer, p99 ms        {}", Samples::new(p99s));
    Ok(())
}

/// Makes changes faster than the relay publishes them, then waits for the relay to catch up.
async fn measure_backlog(
    shop: &ShopProcess,
    product: &str,
    received: &ReceivedEvents,
) -> anyhow::Result<()> {
    let add = json!({"product_id": product, "quantity": 1}).to_string();
    let (mut during, mut after) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let tokens: Vec<String> =
            (0..USERS).map(|_| new_user_token(Role::Customer)).collect::<Result<_, _>>()?;
        let requests: Vec<Request> =
            tokens.iter().map(|token| Request::post("/api/cart/add", token, &add)).collect();
        let (before, started) = (received_count(received), Instant::now());
        measure_rate(shop.address, &requests, ROUND_TIME).await?;
        let (ended, middle) = (Instant::now(), received_count(received));
        let last = wait_until_idle(received).await;
        if round > 0 {
            during.push((middle - before) / (ended - started).as_secs_f64());
            after.push(
                (received_count(received) - middle)
                    / last.saturating_duration_since(ended).as_secs_f64(),
            );
        }
    }
    println!("  events/s while {USERS} users add          {}", Samples::new(during));
    println!("  events/s after the users stop          {}", Samples::new(after));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn received_count(received: &ReceivedEvents) -> f64 {
    received.count.load(Ordering::Relaxed) as f64
}

/// Waits until no more events arrive. Returns when the last one arrived, to within 10 ms.
async fn wait_until_idle(received: &ReceivedEvents) -> Instant {
    let (mut last, mut since) = (received_count(received), Instant::now());
    while since.elapsed() < IDLE_AFTER {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = received_count(received);
        if now > last {
            (last, since) = (now, Instant::now());
        }
    }
    since
}
