//! Reads of a cart and a product, each against a baseline server that returns the same bytes.

use std::{process::Command, time::Duration};

use serde_json::json;
use souk::domain::account::Role;

use crate::{
    load_generator::{Request, measure_rate, send_each_once, send_once},
    samples::Samples,
    shop_process::{ShopProcess, new_user_token, spawn_and_read_address},
};

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 7;
const ROUND_TIME: Duration = Duration::from_secs(3);

pub async fn run() -> anyhow::Result<()> {
    let shop = ShopProcess::start_embedded()?;
    let product = shop.create_product().await?;
    let tokens: Vec<String> =
        (0..CONNECTIONS).map(|_| new_user_token(Role::Customer)).collect::<Result<_, _>>()?;
    let add = json!({"product_id": product, "quantity": 2}).to_string();
    send_each_once(
        shop.address,
        tokens.iter().map(|token| Request::post("/api/cart/add", token, &add)).collect(),
        8,
    )
    .await?;
    compare_reads(&shop, "/api/cart", &tokens).await?;
    compare_reads(&shop, &format!("/api/products/{product}"), &tokens).await
}

/// Alternates between both servers, so that a change in the machine's speed affects both.
async fn compare_reads(shop: &ShopProcess, path: &str, tokens: &[String]) -> anyhow::Result<()> {
    let requests: Vec<Request> = tokens.iter().map(|token| Request::get(path, token)).collect();
    let first = requests.first().ok_or_else(|| anyhow::anyhow!("no requests"))?;
    let body = String::from_utf8(send_once(shop.address, first).await?)?;
    let (mut baseline_process, baseline) =
        spawn_and_read_address(Command::new(std::env::current_exe()?).args(["baseline", &body]))?;
    let mut pairs = Vec::new();
    for round in 0..=ROUNDS {
        let pair = (
            measure_rate(shop.address, &requests, ROUND_TIME).await?,
            measure_rate(baseline, &requests, ROUND_TIME).await?,
        );
        // The first round warms both up.
        if round > 0 {
            pairs.push(pair);
        }
    }
    baseline_process.kill()?;
    baseline_process.wait()?;
    let path = if path.starts_with("/api/products/") { "/api/products/{id}" } else { path };
    println!(
        "GET {path}: {CONNECTIONS} connections, {} bytes, {ROUNDS} rounds of {ROUND_TIME:?}",
        body.len()
    );
    println!("  souk, HTTP      requests/s  {}", Samples::new(pairs.iter().map(|pair| pair.0)));
    println!("  bare actix-web  requests/s  {}", Samples::new(pairs.iter().map(|pair| pair.1)));
    let ratios = Samples::new(pairs.iter().map(|pair| pair.0 / pair.1));
    println!("  ratio                       {ratios}");
    Ok(())
}
