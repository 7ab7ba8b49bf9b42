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
    load::{Request, answers, rate},
    mongo::connect,
    shop::{Shop, token},
    spread::Spread,
};

const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(4);
/// Changes at the same time: one after the other, and side by side.
const CLIENTS: [usize; 2] = [1, 16];
const USERS: usize = 256;
/// A consumer that hears nothing for so long has heard everything.
const SILENCE: Duration = Duration::from_secs(2);

/// What a consumer has heard: when, by subject and sequence.
#[derive(Default)]
struct Heard {
    events: Mutex<HashMap<(String, String), Instant>>,
    count: AtomicUsize,
}

#[derive(Deserialize)]
struct Heading {
    subject: String,
    sequence: String,
}

#[derive(Deserialize)]
struct Level {
    product_id: String,
    version: u64,
}

pub async fn run() -> anyhow::Result<()> {
    let uri =
        std::env::var("SOUK_TEST_MONGO_URI").context("SOUK_TEST_MONGO_URI names no replica set")?;
    let broker =
        std::env::var("SOUK_TEST_AMQP_URI").context("SOUK_TEST_AMQP_URI names no broker")?;
    let name = format!("souk_bench_{}", EventId::new().as_uuid().simple());
    let shop = Shop::with(&[
        ("STORE__KIND", "mongodb"),
        ("STORE__URI", &uri),
        ("STORE__DATABASE", &name),
        ("BROKER__KIND", "rabbitmq"),
        ("BROKER__URI", &broker),
    ])?;
    let mut products = Vec::new();
    for number in 0..CLIENTS.into_iter().max().unwrap_or(1) {
        products.push(shop.numbered_product(number).await?);
    }
    let heard = Arc::new(Heard::default());
    let connection = Connection::connect(&broker, ConnectionProperties::default()).await?;
    let messages = consumer(&connection).await?;
    let hearing = tokio::spawn(hear(messages, Arc::clone(&heard)));
    println!("events on MongoDB and RabbitMQ, {ROUNDS} rounds of {TIME:?}");
    for clients in CLIENTS {
        latency(&shop, products.get(..clients).unwrap_or_default(), &heard).await?;
    }
    backlog(&shop, products.first().context("no product")?, &heard).await?;
    hearing.abort();
    connection.close(200, "measured".into()).await?;
    drop(shop);
    connect(&uri).await?.database(&name).drop().await?;
    Ok(())
}

/// A queue with everything from here on.
async fn consumer(connection: &Connection) -> anyhow::Result<Consumer> {
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

async fn hear(mut messages: Consumer, heard: Arc<Heard>) -> anyhow::Result<()> {
    while let Some(delivery) = messages.next().await {
        let (delivery, now) = (delivery?, Instant::now());
        heard.count.fetch_add(1, Ordering::Relaxed);
        if delivery.routing_key.as_str() == "inventory.stock.changed" {
            let Heading { subject, sequence } = serde_json::from_slice(&delivery.data)?;
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
async fn latency(shop: &Shop, products: &[String], heard: &Heard) -> anyhow::Result<()> {
    let admin = token(Role::Admin)?;
    let change = json!({"delta": -1, "reason": "sold at the counter"}).to_string();
    let request =
        |id: &String| Request::post(&format!("/api/products/{id}/stock"), &admin, &change);
    let requests: Vec<Request> = products.iter().map(request).collect();
    let (mut rates, mut medians, mut slow) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let answers = answers(shop.address, &requests, TIME).await?;
        until_silent(heard).await;
        let heard =
            std::mem::take(&mut *heard.events.lock().unwrap_or_else(PoisonError::into_inner));
        let mut took = Vec::new();
        for (body, answered) in &answers {
            let level: Level = serde_json::from_slice(body)?;
            let at = heard
                .get(&(level.product_id, level.version.to_string()))
                .context("an event has not come")?;
            took.push(at.saturating_duration_since(*answered).as_secs_f64() * 1000.0);
        }
        took.sort_unstable_by(f64::total_cmp);
        let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or(f64::NAN);
        if round > 0 {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            rates.push(took.len() as f64 / TIME.as_secs_f64());
            medians.push(at(50));
            slow.push(at(99));
        }
    }
    println!("  {} at once: changes/s                  {}", products.len(), Spread::of(rates));
    println!("    answer to consumer, median ms       {}", Spread::of(medians));
    println!("    answer to consumer, p99 ms          {}", Spread::of(slow));
    Ok(())
}

/// More changes than are published meanwhile; then nothing but the relay.
async fn backlog(shop: &Shop, product: &str, heard: &Heard) -> anyhow::Result<()> {
    let add = json!({"product_id": product, "quantity": 1}).to_string();
    let (mut during, mut after) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let tokens: Vec<String> =
            (0..USERS).map(|_| token(Role::Customer)).collect::<Result<_, _>>()?;
        let requests: Vec<Request> =
            tokens.iter().map(|token| Request::post("/api/cart/add", token, &add)).collect();
        let (before, began) = (count(heard), Instant::now());
        rate(shop.address, &requests, TIME).await?;
        let (ended, middle) = (Instant::now(), count(heard));
        let last = until_silent(heard).await;
        if round > 0 {
            during.push((middle - before) / (ended - began).as_secs_f64());
            after.push(
                (count(heard) - middle) / last.saturating_duration_since(ended).as_secs_f64(),
            );
        }
    }
    println!("  events/s at a consumer while {USERS} users add {}", Spread::of(during));
    println!("  events/s when the users have stopped   {}", Spread::of(after));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn count(heard: &Heard) -> f64 {
    heard.count.load(Ordering::Relaxed) as f64
}

/// Waits until nothing more comes; when the last event came, to ten milliseconds.
async fn until_silent(heard: &Heard) -> Instant {
    let (mut last, mut since) = (count(heard), Instant::now());
    while since.elapsed() < SILENCE {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = count(heard);
        if now > last {
            (last, since) = (now, Instant::now());
        }
    }
    since
}
