//! Memory of the process: idle, and with many active carts of one line.

use serde_json::json;
use souk::domain::account::Role;

use crate::{
    load::{Request, each},
    shop::{Shop, token},
};

pub async fn run(carts: usize) -> anyhow::Result<()> {
    let shop = Shop::open()?;
    let product = shop.product().await?;
    println!("idle: {:.1} MiB resident", shop.memory()?);
    let add = json!({"product_id": product, "quantity": 1}).to_string();
    let requests: Vec<Request> = (0..carts)
        .map(|_| token(Role::Customer).map(|token| Request::post("/api/cart/add", &token, &add)))
        .collect::<Result<_, _>>()?;
    each(shop.address, requests, 256).await?;
    println!("{carts} active carts: {:.1} MiB resident", shop.memory()?);
    Ok(())
}
