//! Searches, suggestions and lists of a large catalog of real texts, and cart reads beside them;
//! the same documents in a full-text table of SQLite as the baseline.

mod baseline;
mod catalog;

use std::{
    net::SocketAddr,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::json;
use souk::domain::account::Role;
use tempfile::TempDir;

use crate::{
    load_generator::{Connection, Request, send_once},
    low_priority::low_priority_runtime,
    shop_process::{ShopProcess, new_user_token},
};

const CONNECTIONS: usize = 32;
const TIME: Duration = Duration::from_secs(10);
const QUERIES: usize = 5000;
/// Those that a single shopper asks.
const SINGLE_QUERIES: usize = 1000;

pub async fn run(products: usize) -> anyhow::Result<()> {
    let items = catalog::read_items()?;
    let queries = catalog::queries(&items, QUERIES + SINGLE_QUERIES);
    println!("{products} products, {CONNECTIONS} connections, {TIME:?} each");
    let empty = ShopProcess::start_embedded()?.resident_mib()?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("products.ndjson");
    catalog::write_products(&items, products, &file)?;
    let mut import = Command::new(std::env::current_exe()?.with_file_name("souk"));
    let import = import.current_dir(dir.path()).env("RUST_LOG", "error").arg("import").arg(&file);
    ensure!(import.output()?.status.success(), "the import failed");
    std::fs::remove_file(&file)?;
    let first = start("first start, without index", dir).await?;
    let shop = start("start", first.stop()?).await?;
    print_memory("memory at the start", &shop, empty, products)?;
    let searches = compare(&shop, &queries).await?;
    compare_cart_reads(&shop, &searches).await?;
    print_memory("memory after reads", &shop, empty, products)?;
    compare_changes(&shop, &searches).await?;
    print_memory("memory after changes", &shop, empty, products)?;
    drop(shop);
    measure_baseline(&items, products, &queries)
}

async fn start(name: &str, dir: TempDir) -> anyhow::Result<ShopProcess> {
    let started = Instant::now();
    let shop = ShopProcess::start_in(dir, &[])?;
    let ready = send_once(shop.address, &Request::get("/readyz", "")).await;
    ready.context("the shop is not ready when it says so")?;
    let (time, processor) = (started.elapsed(), shop.processor_time()?);
    println!("  {name:<26} {time:.2?}, {processor:.2?} of processor time");
    Ok(shop)
}

fn print_memory(when: &str, shop: &ShopProcess, empty: f64, products: usize) -> anyhow::Result<()> {
    let resident = (shop.resident_mib()? - empty) * 1_048_576.0;
    println!("  {when:<26} {:.0} bytes a product", resident / products as f64);
    Ok(())
}

/// Measures each kind of read. Returns the searches.
async fn compare(shop: &ShopProcess, queries: &[String]) -> anyhow::Result<Arc<[Request]>> {
    let encode =
        |text: &String| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let get = |path: String| Request::get(&path, "");
    let search = |text: &String| get(format!("/api/products?q={}", encode(text)));
    let suggest = |text: &String| {
        let typed = text.chars().take(1 + text.len() % 8).collect();
        get(format!("/api/products/suggest?limit=10&q={}", encode(&typed)))
    };
    let (single, queries) = queries.split_at(SINGLE_QUERIES);
    let single_searches: Arc<[Request]> = single.iter().map(search).collect();
    let single_suggestions: Arc<[Request]> = single.iter().map(suggest).collect();
    let searches: Arc<[Request]> = queries.iter().map(search).collect();
    let suggestions: Arc<[Request]> = queries.iter().map(suggest).collect();
    let lists: Arc<[Request]> =
        ["", "?sort=price", "?sort=-price", "?sort=newest", "?in_stock=true"]
            .map(|query| get(format!("/api/products{query}")))
            .into();
    let filters: Arc<[Request]> = [
        "category=libdevel",
        "category=games&sort=price",
        "min_price=5&max_price=50",
        "attr.color=blue&in_stock=true",
        "tag=role::program&sort=newest",
    ]
    .map(|query| get(format!("/api/products?{query}")))
    .into();
    // The text of a search repeats in a shop. Here it does so by chance only, at first.
    measure_kind(shop, "search, one at a time", &single_searches, 1, None).await?;
    measure_kind(shop, "suggest, one at a time", &single_suggestions, 1, None).await?;
    measure_kind(shop, "search, each once", &searches, CONNECTIONS, None).await?;
    measure_kind(shop, "suggest, each once", &suggestions, CONNECTIONS, None).await?;
    for (name, requests) in
        [("search", &searches), ("suggest", &suggestions), ("list", &lists), ("filter", &filters)]
    {
        measure_kind(shop, name, requests, CONNECTIONS, Some(TIME)).await?;
    }
    Ok(searches)
}

/// Reads of a cart, alone and while searches saturate the shop.
async fn compare_cart_reads(shop: &ShopProcess, searches: &Arc<[Request]>) -> anyhow::Result<()> {
    let token = new_user_token(Role::Customer)?;
    let product = shop.create_product().await?;
    let add = json!({"product_id": product, "quantity": 2}).to_string();
    send_once(shop.address, &Request::post("/api/cart/add", &token, &add)).await?;
    let cart: Arc<[Request]> = [Request::get("/api/cart", &token)].into();
    compare_beside_searches(shop, searches, "cart reads", &cart, 4).await
}

/// Changes of a product, which wait for searches under way.
async fn compare_changes(shop: &ShopProcess, searches: &Arc<[Request]>) -> anyhow::Result<()> {
    let product = shop.create_numbered_product(2).await?;
    let (admin, path) = (shop.admin_token().await?, format!("/api/products/{product}"));
    let change = |price: u32| {
        let body = json!({"price": price}).to_string();
        let headers = [("content-type", "application/json")];
        Request::with_body("PATCH", &path, admin, &headers, body.as_bytes())
    };
    compare_beside_searches(shop, searches, "price changes", &[change(1), change(2)].into(), 1)
        .await
}

/// Measures `requests` alone, and while searches saturate the shop.
async fn compare_beside_searches(
    shop: &ShopProcess,
    searches: &Arc<[Request]>,
    name: &str,
    requests: &Arc<[Request]>,
    connections: usize,
) -> anyhow::Result<()> {
    let measure_it = || measure(shop.address, requests, connections, Some(TIME));
    let quiet = measure_it().await?;
    println!("  {:<26} {}", format!("{name} alone"), summary(quiet, TIME));
    let searches = measure_low_priority(shop.address, searches, CONNECTIONS, Some(TIME));
    let (beside, busy) = tokio::join!(measure_it(), searches);
    println!("  {:<26} {}", format!("{name} beside searches"), summary(beside?, TIME));
    println!("  those searches             {}", summary(busy?, TIME));
    Ok(())
}

/// Measures latencies and the shop's processor time for each request.
async fn measure_kind(
    shop: &ShopProcess,
    name: &str,
    requests: &Arc<[Request]>,
    connections: usize,
    time: Option<Duration>,
) -> anyhow::Result<()> {
    let (started, before) = (Instant::now(), shop.processor_time()?);
    let latencies = measure_low_priority(shop.address, requests, connections, time).await?;
    let processor = (shop.processor_time()? - before) / u32::try_from(latencies.len())?.max(1);
    let summary = summary(latencies, started.elapsed());
    println!("  {name:<26} {summary}, {processor:.2?} of processor time each");
    Ok(())
}

/// As [`measure`], by clients of the lowest priority: they stand for other machines, and must not
/// take the processor from the shop.
async fn measure_low_priority(
    address: SocketAddr,
    requests: &Arc<[Request]>,
    connections: usize,
    time: Option<Duration>,
) -> anyhow::Result<Vec<Duration>> {
    let runtime = low_priority_runtime()?;
    let requests = Arc::clone(requests);
    let measuring = async move { measure(address, &requests, connections, time).await };
    let latencies = runtime.spawn(measuring).await;
    runtime.shutdown_background();
    latencies?
}

/// Repeats the requests over `connections` for `time`, or sends each of them once. Returns the
/// latency of each.
async fn measure(
    address: SocketAddr,
    requests: &Arc<[Request]>,
    connections: usize,
    time: Option<Duration>,
) -> anyhow::Result<Vec<Duration>> {
    let end = time.map(|time| Instant::now() + time);
    let tasks: Vec<_> = (0..connections)
        .map(|number| {
            let requests = Arc::clone(requests);
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await?;
                let mut latencies = Vec::new();
                let place = |number: usize| number * requests.len() / connections;
                let count = match end {
                    Some(_) => usize::MAX,
                    None => place(number + 1) - place(number),
                };
                for request in requests.iter().cycle().skip(place(number)).take(count) {
                    let started = Instant::now();
                    if end.is_some_and(|end| started > end) {
                        break;
                    }
                    let (status, _) = connection.exchange(request).await?;
                    ensure!(status == 200, "a request was answered with {status}");
                    latencies.push(started.elapsed());
                }
                Ok(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(latencies)
}

fn summary(mut latencies: Vec<Duration>, time: Duration) -> String {
    latencies.sort_unstable();
    let at = |share: usize| {
        let index = latencies.len().saturating_sub(1) * share / 100;
        latencies.get(index).copied().unwrap_or_default()
    };
    let rate = latencies.len() as f64 / time.as_secs_f64();
    format!("p50 {:.2?}, p99 {:.2?}, max {:.2?}, {rate:.0}/s", at(50), at(99), at(100))
}

fn measure_baseline(
    items: &[catalog::Item],
    products: usize,
    queries: &[String],
) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("baseline.db");
    let (time, size) = baseline::build(items, products, &path)?;
    println!("  SQLite FTS5, built         {time:.2?}, {} bytes a product", size / products as u64);
    let latencies = baseline::measure(&path, queries, 2, TIME)?;
    println!("  SQLite FTS5, search        {} (2 threads, in process)", summary(latencies, TIME));
    Ok(())
}
