//! Events on their way to another system, on MongoDB and RabbitMQ: how long after the answer to a change its event is at a consumer, and
//! how many events a second the relay publishes when more wait than it can.

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
    load::{Request, collect_responses, measure_rate},
    mongo::connect,
    shop::{ShopProcess, new_user_token},
    spread::Samples,
};

const ROUNDS: usize = 5;
const ROUND_TIME: Duration = Duration::from_secs(4);
/// Changes at the same time: one after the other, and side by side.
const CLIENT_COUNTS: [usize; 2] = [1, 16];
const USERS: usize = 256;
/// A consumer that hears nothing for so long has heard everything.
const IDLE_AFTER: Duration = Duration::from_secs(2);

/// What a consumer has heard: when, by subject and sequence.
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
    let uri =
        std::env::var("SOUK_TEST_MONGO_URI").context("SOUK_TEST_MONGO_URI names no replica set")?;
    let broker =
        std::env::var("SOUK_TEST_AMQP_URI").context("SOUK_TEST_AMQP_URI names no broker")?;
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
    let heard = Arc::new(ReceivedEvents::default());
    let connection = Connection::connect(&broker, ConnectionProperties::default()).await?;
    let messages = open_consumer(&connection).await?;
    let hearing = tokio::spawn(record_events(messages, Arc::clone(&heard)));
    println!("events on MongoDB and RabbitMQ, {ROUNDS} rounds of {ROUND_TIME:?}");
    for clients in CLIENT_COUNTS {
        measure_latency(&shop, products.get(..clients).unwrap_or_default(), &heard).await?;
    }
    measure_backlog(&shop, products.first().context("no product")?, &heard).await?;
    hearing.abort();
    connection.close(200, "measured".into()).await?;
    drop(shop);
    connect(&uri).await?.database(&name).drop().await?;
    Ok(())
}

/// A queue with everything from here on.
async fn open_consumer(connection: &Connection) -> anyhow::Result<Consumer> {
    let channel = connection.create_channel().await?;
    let own = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel.queue_declare("".into(), own, FieldTable::default()).await?.name().clone();
    let none = FieldTable::default();
    channel
        .queue_bind(
            queue.clone(),
            "souk.events".into(),
            "#".into(),
            QueueBindOptions::default(),
            none.clone(),
        )
        .await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    Ok(channel.basic_consume(queue, "".into(), options, none).await?)
}

async fn record_events(mut messages: Consumer, heard: Arc<ReceivedEvents>) -> anyhow::Result<()> {
    while let Some(delivery) = messages.next().await {
        let (delivery, now) = (delivery?, Instant::now());
        heard.count.fetch_add(1, Ordering::Relaxed);
        if delivery.routing_key.as_str() == "inventory.stock.changed" {
            let EventHeader { subject, sequence } = serde_json::from_slice(&delivery.data)?;
            heard
                .events
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert((subject, sequence), now);
        }
    }
    Ok(())
}

/// Stock changed again and again, one client for each product.
async fn measure_latency(
    shop: &ShopProcess,
    products: &[String],
    heard: &ReceivedEvents,
) -> anyhow::Result<()> {
    let admin = new_user_token(Role::Admin)?;
    let change = json!({"delta": -1, "reason": "sold at the counter"}).to_string();
    let request =
        |id: &String| Request::post(&format!("/api/products/{id}/stock"), &admin, &change);
    let requests: Vec<Request> = products.iter().map(request).collect();
    let (mut rates, mut medians, mut slow) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let answers = collect_responses(shop.address, &requests, ROUND_TIME).await?;
        wait_until_idle(heard).await;
        let heard =
            std::mem::take(&mut *heard.events.lock().unwrap_or_else(PoisonError::into_inner));
        let mut took = Vec::new();
        for (body, answered) in &answers {
            let level: StockLevel = serde_json::from_slice(body)?;
            let at = heard
                .get(&(level.product_id, level.version.to_string()))
                .context("an event has not come")?;
            took.push(at.saturating_duration_since(*answered).as_secs_f64() * 1000.0);
        }
        took.sort_unstable_by(f64::total_cmp);
        let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or(f64::NAN);
        if round > 0 {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            rates.push(took.len() as f64 / ROUND_TIME.as_secs_f64());
            medians.push(at(50));
            slow.push(at(99));
        }
    }
    println!("  {} at once: changes/s                  {}", products.len(), Samples::new(rates));
    println!("    answer to consumer, median ms       {}", Samples::new(medians));
    println!("    answer to consumer, p99 ms          {}", Samples::new(slow));
    Ok(())
}

/// More changes than are published meanwhile; then nothing but the relay.
async fn measure_backlog(
    shop: &ShopProcess,
    product: &str,
    heard: &ReceivedEvents,
) -> anyhow::Result<()> {
    let add = json!({"product_id": product, "quantity": 1}).to_string();
    let (mut during, mut after) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let tokens: Vec<String> =
            (0..USERS).map(|_| new_user_token(Role::Customer)).collect::<Result<_, _>>()?;
        let requests: Vec<Request> =
            tokens.iter().map(|token| Request::post("/api/cart/add", token, &add)).collect();
        let (before, began) = (received_count(heard), Instant::now());
        measure_rate(shop.address, &requests, ROUND_TIME).await?;
        let (ended, middle) = (Instant::now(), received_count(heard));
        let last = wait_until_idle(heard).await;
        if round > 0 {
            during.push((middle - before) / (ended - began).as_secs_f64());
            after.push(
                (received_count(heard) - middle)
                    / last.saturating_duration_since(ended).as_secs_f64(),
            );
        }
    }
    println!("  events/s at a consumer while {USERS} users add {}", Samples::new(during));
    println!("  events/s when the users have stopped   {}", Samples::new(after));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn received_count(heard: &ReceivedEvents) -> f64 {
    heard.count.load(Ordering::Relaxed) as f64
}

/// Waits until nothing more comes; when the last event came, to ten milliseconds.
async fn wait_until_idle(heard: &ReceivedEvents) -> Instant {
    let (mut last, mut since) = (received_count(heard), Instant::now());
    while since.elapsed() < IDLE_AFTER {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = received_count(heard);
        if now > last {
            (last, since) = (now, Instant::now());
        }
    }
    since
}
