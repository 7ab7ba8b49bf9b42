//! Reads: a cart and a product, each against a bare handler that returns the same bytes.

use std::{process::Command, time::Duration};

use serde_json::json;
use souk::domain::account::Role;

use crate::{
    load::{Request, measure_rate, send_each_once, send_once},
    shop::{ShopProcess, new_user_token, spawn_and_read_address},
    spread::Samples,
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

/// Measures both in turns, so that a machine that changes its speed changes it for both.
async fn compare_reads(shop: &ShopProcess, path: &str, tokens: &[String]) -> anyhow::Result<()> {
    let requests: Vec<Request> = tokens.iter().map(|token| Request::get(path, token)).collect();
    let first = requests.first().ok_or_else(|| anyhow::anyhow!("no requests"))?;
    let body = String::from_utf8(send_once(shop.address, first).await?)?;
    let (mut child, bare) =
        spawn_and_read_address(Command::new(std::env::current_exe()?).args(["bare", &body]))?;
    let mut pairs = Vec::new();
    for round in 0..=ROUNDS {
        let pair = (
            measure_rate(shop.address, &requests, ROUND_TIME).await?,
            measure_rate(bare, &requests, ROUND_TIME).await?,
        );
        // The first round warms both up.
        if round > 0 {
            pairs.push(pair);
        }
    }
    child.kill()?;
    child.wait()?;
    let path = path.rsplit_once('/').map_or(path, |(start, _)| start);
    println!(
        "GET {path}: {CONNECTIONS} connections, {} bytes, {ROUNDS} rounds of {ROUND_TIME:?}",
        body.len()
    );
    println!("  souk   requests/s  {}", Samples::new(pairs.iter().map(|pair| pair.0)));
    println!("  bare   requests/s  {}", Samples::new(pairs.iter().map(|pair| pair.1)));
    println!("  ratio              {}", Samples::new(pairs.iter().map(|pair| pair.0 / pair.1)));
    Ok(())
}
