//! Reads: a cart and a product, each against a bare handler that returns the same bytes.

use std::{process::Command, time::Duration};

use serde_json::json;
use souk::domain::account::Role;

use crate::{
    load::{Request, each, once, rate},
    shop::{Shop, start, token},
    spread::Spread,
};

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 7;
const TIME: Duration = Duration::from_secs(3);

pub async fn run() -> anyhow::Result<()> {
    let shop = Shop::open()?;
    let product = shop.product().await?;
    let tokens: Vec<String> =
        (0..CONNECTIONS).map(|_| token(Role::Customer)).collect::<Result<_, _>>()?;
    let add = json!({"product_id": product, "quantity": 2}).to_string();
    each(
        shop.address,
        tokens.iter().map(|token| Request::post("/api/cart/add", token, &add)).collect(),
        8,
    )
    .await?;
    compare(&shop, "/api/cart", &tokens).await?;
    compare(&shop, &format!("/api/products/{product}"), &tokens).await
}

/// Measures both in turns, so that a machine that changes its speed changes it for both.
async fn compare(shop: &Shop, path: &str, tokens: &[String]) -> anyhow::Result<()> {
    let requests: Vec<Request> = tokens.iter().map(|token| Request::get(path, token)).collect();
    let first = requests.first().ok_or_else(|| anyhow::anyhow!("no requests"))?;
    let body = String::from_utf8(once(shop.address, first).await?)?;
    let (mut child, bare) = start(Command::new(std::env::current_exe()?).args(["bare", &body]))?;
    let mut pairs = Vec::new();
    for round in 0..=ROUNDS {
        let pair = (rate(shop.address, &requests, TIME).await?, rate(bare, &requests, TIME).await?);
        // The first round warms both up.
        if round > 0 {
            pairs.push(pair);
        }
    }
    child.kill()?;
    child.wait()?;
    let path = path.rsplit_once('/').map_or(path, |(start, _)| start);
    println!(
        "GET {path}: {CONNECTIONS} connections, {} bytes, {ROUNDS} rounds of {TIME:?}",
        body.len()
    );
    println!("  souk   requests/s  {}", Spread::of(pairs.iter().map(|pair| pair.0)));
    println!("  bare   requests/s  {}", Spread::of(pairs.iter().map(|pair| pair.1)));
    println!("  ratio              {}", Spread::of(pairs.iter().map(|pair| pair.0 / pair.1)));
    Ok(())
}
