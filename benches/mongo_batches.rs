//! What it is worth to put many commits into one transaction on MongoDB. Needs a replica set:
//! `SOUK_TEST_MONGO_URI=... cargo bench --bench mongo_batches`
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, reason = "a measurement")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mongodb::{
    Client,
    bson::{Document, doc},
    options::{Acknowledgment, ClientOptions, WriteConcern},
};
use souk::{
    domain::{
        cart::{Cart, CartEvent, Line, Owner},
        clock::{Clock, SystemClock},
        ids::{EventId, ProductId, UserId},
        money::Money,
        product::{Product, ProductFacts},
        stock::StockChange,
    },
    messages::events::Fact,
    store::{
        Commit, StockWrite, Store, Write,
        mongo::{MongoOptions, MongoStore},
    },
};

const BATCH: usize = 256;
const ROUNDS: u64 = 40;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let uri = std::env::var("SOUK_TEST_MONGO_URI").expect("SOUK_TEST_MONGO_URI names a replica set");
    let database = format!("souk_bench_{}", EventId::new().as_uuid().simple());
    let open = async || {
        let (uri, database) = (uri.clone().into(), database.clone());
        let timeout = Duration::from_secs(5);
        let store = MongoStore::connect(MongoOptions { uri, database, currency: "EUR".parse().unwrap(), low_stock: 5, timeout });
        Arc::new(store.await.unwrap())
    };
    let stores = [open().await, open().await];
    warm_up(&stores[0]).await;
    report("one node, carts with events", carts(&stores[..1], true).await);
    report("one node, carts without events", carts(&stores[..1], false).await);
    report("two nodes, carts with events", carts(&stores, true).await);
    report("two nodes, carts without events", carts(&stores, false).await);
    report("one node, buyers of one product", buyers(&stores[..1]).await);
    report("two nodes, buyers of one product", buyers(&stores).await);
    let mut options = ClientOptions::parse(&uri).await.unwrap();
    options.min_pool_size = Some(64);
    options.max_pool_size = Some(64);
    options.write_concern = Some(WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build());
    let client = Client::with_options(options).unwrap();
    report("256 tasks, one update_one for each cart, no events", updates(&client.database(&database)).await);
    client.database(&database).drop().await.unwrap();
}

fn report(what: &str, (count, took): (u64, Duration)) {
    println!("{what}: {:.0}/s ({count} in {took:.2?})", f64::from(u32::try_from(count).unwrap()) / took.as_secs_f64());
}

async fn warm_up(store: &MongoStore) {
    let owners = owners();
    for version in 1..=5 {
        apply(store, owners.iter().map(|owner| put(*owner, version, true)).collect()).await;
    }
}

fn owners() -> Vec<Owner> {
    (0..BATCH).map(|_| Owner { id: UserId::new(), guest: false }).collect()
}

fn cart(owner: Owner, version: u64) -> Cart {
    let price = Money::from_minor(450, "EUR".parse().unwrap()).unwrap();
    let line = |n: u32| Line { product_id: ProductId::new(), name: format!("Mint tea {n}"), quantity: n, price };
    Cart { version, lines: (1..=3).map(line).collect(), updated_at: SystemClock.now(), ..Cart::untouched(owner) }
}

fn commit(writes: Vec<Write>) -> Commit {
    Commit { writes, ..Commit::new(SystemClock.now(), Instant::now() + Duration::from_secs(30)) }
}

fn put(owner: Owner, version: u64, told: bool) -> Commit {
    let cart = Arc::new(cart(owner, version));
    let event = CartEvent::ItemUpdated { product_id: ProductId::new(), quantity: 1 };
    let facts = if told { vec![Fact::Cart(Arc::clone(&cart), event)] } else { Vec::new() };
    Commit { facts, ..commit(vec![Write::Cart(cart)]) }
}

async fn apply(store: &MongoStore, batch: Vec<Commit>) -> u64 {
    let count = batch.len() as u64;
    let applied = store.apply(batch.into()).await.unwrap();
    assert!(applied.outcomes.iter().all(Result::is_ok), "{:?}", applied.outcomes.iter().find(|outcome| outcome.is_err()));
    count
}

/// Every node changes its own carts, a batch at a time.
async fn carts(stores: &[Arc<MongoStore>], told: bool) -> (u64, Duration) {
    let began = Instant::now();
    let nodes: Vec<_> = stores
        .iter()
        .map(|store| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let owners = owners();
                let mut count = 0;
                for version in 1..=ROUNDS {
                    count += apply(&store, owners.iter().map(|owner| put(*owner, version, told)).collect()).await;
                }
                count
            })
        })
        .collect();
    let mut count = 0;
    for node in nodes {
        count += node.await.unwrap();
    }
    (count, began.elapsed())
}

/// Every node sells the same product, together with a cart and its event.
async fn buyers(stores: &[Arc<MongoStore>]) -> (u64, Duration) {
    let facts = ProductFacts {
        sku: None,
        name: "Mint tea".into(),
        description: String::new(),
        price: Money::from_minor(450, "EUR".parse().unwrap()).unwrap(),
        category: None,
        tags: vec![],
        image_url: None,
        attributes: std::collections::BTreeMap::new(),
    };
    let product = Arc::new(Product::new(ProductId::new(), facts, SystemClock.now()));
    let id = product.id;
    let stock = move |change| {
        Write::Stock(StockWrite { product_id: id, change, expected_version: None, order_id: None, reference: None, reason: None })
    };
    apply(&stores[0], vec![commit(vec![Write::Product(product), stock(StockChange::Set(10_000_000))])]).await;
    let began = Instant::now();
    let nodes: Vec<_> = stores
        .iter()
        .map(|store| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut count = 0;
                for _ in 0..ROUNDS {
                    let buy = |owner: &Owner| {
                        let mut buy = put(*owner, 1, true);
                        buy.writes.push(stock(StockChange::Reserve(1)));
                        buy
                    };
                    count += apply(&store, owners().iter().map(buy).collect()).await;
                }
                count
            })
        })
        .collect();
    let mut count = 0;
    for node in nodes {
        count += node.await.unwrap();
    }
    (count, began.elapsed())
}

/// The same carts, without a batch and without events: 256 tasks, each with one durable update at a time.
async fn updates(database: &mongodb::Database) -> (u64, Duration) {
    let carts = database.collection::<Document>("plain_carts");
    let began = Instant::now();
    let tasks: Vec<_> = (0_u32..256)
        .map(|n| {
            let carts = carts.clone();
            tokio::spawn(async move {
                for version in 0..i64::try_from(ROUNDS).unwrap() {
                    let line = doc! { "product_id": 1, "name": "Mint tea", "quantity": 2, "price": 450_i64, "currency": "EUR" };
                    let set = doc! { "$set": { "version": version + 1, "lines": vec![line; 3] } };
                    carts.update_one(doc! { "_id": n, "version": version }, set).upsert(version == 0).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    (256 * ROUNDS, began.elapsed())
}
