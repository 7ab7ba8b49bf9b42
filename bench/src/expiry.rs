//! How long after its deadline an unpaid order still holds its stock on MongoDB. The store holds
//! 100,000 other unpaid orders, and 256 connections check out as fast as they can; each of their
//! orders is overdue a few seconds later.

use std::time::Duration;

use anyhow::Context;
use mongodb::{
    Collection,
    bson::{Bson, DateTime, Document, Uuid, doc},
};
use souk::domain::ids::EventId;
use tokio::{sync::watch, time::sleep};

use crate::{
    checkouts::measure_checkouts, mongo::connect, samples::Samples, shop_process::ShopProcess,
};

const PENDING_ORDERS: usize = 100_000;
const ROUNDS: usize = 5;
const POLL_INTERVAL: Duration = Duration::from_millis(10);

pub async fn run() -> anyhow::Result<()> {
    let uri = std::env::var("SOUK_TEST_MONGO_URI")
        .context("set SOUK_TEST_MONGO_URI to the connection string of a replica set")?;
    let name = format!("souk_bench_{}", EventId::new().as_uuid().simple());
    let shop = ShopProcess::start_with(&[
        ("STORE__KIND", "mongodb"),
        ("STORE__URI", &uri),
        ("STORE__DATABASE", &name),
        ("ORDERS__PAYMENT_TIMEOUT", "3s"),
    ])?;
    let products = [shop.create_product().await?];
    let database = connect(&uri).await?.database(&name);
    let orders = database.collection::<Document>("orders");
    let (mut delays, mut rates) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (stop, stopped) = watch::channel(false);
        let watcher = tokio::spawn(longest_overdue(orders.clone(), stopped));
        let (checkouts, _) = measure_checkouts(&shop, &products).await?;
        sleep(Duration::from_secs(3)).await;
        wait_until_none_overdue(&orders).await?;
        stop.send_replace(true);
        let delay = watcher.await??;
        if round == 0 {
            // Copies of a real order that expire in an hour.
            add_pending_orders(&orders).await?;
        } else {
            delays.push(delay.as_secs_f64());
            rates.push(checkouts.rate);
        }
    }
    println!("unpaid orders on MongoDB, {PENDING_ORDERS} others pending, {ROUNDS} rounds");
    println!("  checkouts/s while earlier orders expire  {}", Samples::new(rates));
    println!("  longest time after the deadline, s       {}", Samples::new(delays));
    drop(shop);
    database.drop().await?;
    Ok(())
}

/// Polls for orders that are overdue and still pending. Returns the longest time after a deadline.
async fn longest_overdue(
    orders: Collection<Document>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<Duration> {
    let mut longest = Duration::ZERO;
    while !*stopped.borrow() {
        let now = DateTime::now();
        let overdue = doc! { "status": "pending_payment", "expires_at": { "$lte": now } };
        if let Some(order) = orders.find_one(overdue).sort(doc! { "expires_at": 1 }).await? {
            longest =
                longest.max(now.saturating_duration_since(*order.get_datetime("expires_at")?));
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(longest)
}

async fn wait_until_none_overdue(orders: &Collection<Document>) -> anyhow::Result<()> {
    loop {
        let soon = DateTime::from_millis(DateTime::now().timestamp_millis() + 10_000);
        let overdue = doc! { "status": "pending_payment", "expires_at": { "$lte": soon } };
        if orders.find_one(overdue).await?.is_none() {
            return Ok(());
        }
        sleep(POLL_INTERVAL).await;
    }
}

async fn add_pending_orders(orders: &Collection<Document>) -> anyhow::Result<()> {
    let mut order = orders.find_one(doc! {}).await?.context("the store has no orders")?;
    order.insert("status", "pending_payment");
    order.insert(
        "expires_at",
        DateTime::from_millis(DateTime::now().timestamp_millis() + 3_600_000),
    );
    let copy = || {
        let mut copy = order.clone();
        copy.insert("_id", Bson::from(Uuid::new()));
        copy.insert("user_id", Bson::from(Uuid::new()));
        copy
    };
    for _ in 0..PENDING_ORDERS / 1000 {
        orders.insert_many((0..1000).map(|_| copy())).await?;
    }
    Ok(())
}
