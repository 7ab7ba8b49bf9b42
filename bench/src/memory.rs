//! Resident memory of the process when idle, and with many active carts of one line.

use serde_json::json;
use souk::domain::account::Role;

use crate::{
    load_generator::{Request, send_each_once},
    shop_process::{ShopProcess, new_user_token},
};

pub async fn run(carts: usize) -> anyhow::Result<()> {
    let shop = ShopProcess::start_embedded()?;
    let product = shop.create_product().await?;
    println!("idle: {:.1} MiB resident", shop.resident_mib()?);
    let add = json!({"product_id": product, "quantity": 1}).to_string();
    let requests: Vec<Request> = (0..carts)
        .map(|_| {
            new_user_token(Role::Customer).map(|token| Request::post("/api/cart/add", &token, &add))
        })
        .collect::<Result<_, _>>()?;
    send_each_once(shop.address, requests, 256).await?;
    println!("{carts} active carts: {:.1} MiB resident", shop.resident_mib()?);
    Ok(())
}
