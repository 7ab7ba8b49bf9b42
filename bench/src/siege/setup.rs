//! The products, accounts and carts that a siege begins with.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::client::Client;
use crate::{load_generator::Request, shop_process::ShopProcess};

/// The number of addresses that the floods come from.
pub const FLOOD_ADDRESSES: u8 = 20;

/// Products with the longest names; a cart can have a line of each.
const LONG_PRODUCTS: usize = 200;

/// Members of staff who confirm payments. One alone would be over the limit of a user.
const CASHIERS: usize = 10;

/// Products that buyers and floods buy.
const PRODUCTS: usize = 20;

/// What the shop is filled with before the siege.
pub struct Scene {
    /// Products that buyers browse and buy.
    pub products: Vec<String>,
    /// The product whose units the floods reserve.
    pub target: String,
    pub buyers: Vec<Account>,
    /// A guest for each flooding address, whose cart has 200 lines with long names, and a product
    /// in that cart.
    pub guests: Vec<(String, String)>,
}

/// An honest buyer, with the token of the member of staff who confirms the buyer's payments.
pub struct Account {
    pub email: String,
    pub address: Ipv4Addr,
    pub cashier: String,
}

pub const PASSWORD: &str = "a horse, correct, with a battery";

/// The address of the flood with this number.
pub const fn flood_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 2 + number)
}

impl Scene {
    pub async fn prepare(shop: &ShopProcess, buyers: u8) -> anyhow::Result<Self> {
        let long = create_products(shop, "long", LONG_PRODUCTS).await?;
        let mut products = create_products(shop, "tea", PRODUCTS + 1).await?;
        let target = products.pop().context("there are no products")?;
        let cashiers = create_cashiers(shop).await?;
        let mut accounts = Vec::new();
        for number in 0..buyers {
            let address = Ipv4Addr::new(127, 0, 1, 1 + number);
            let email = format!("buyer-{number}@siege.example");
            let body = json!({"email": email, "password": PASSWORD, "name": "Buyer"});
            let request = Request::post("/api/auth/register", "", &body.to_string());
            accept(&mut Client::new(address, shop.address), &request).await?;
            let cashier = cashiers.get(usize::from(number) % CASHIERS).cloned();
            let cashier = cashier.context("there are no cashiers")?;
            accounts.push(Account { email, address, cashier });
        }
        let mut guests = Vec::new();
        for number in 0..FLOOD_ADDRESSES {
            let mut client = Client::new(flood_address(number), shop.address);
            let guest = accept(&mut client, &Request::post("/api/cart/guest", "", "{}")).await?;
            let token = text(&guest, "token")?;
            for product in &long {
                let line = json!({"product_id": product, "quantity": 1}).to_string();
                accept(&mut client, &Request::post("/api/cart/add", &token, &line)).await?;
            }
            guests.push((token, long.first().cloned().unwrap_or_default()));
        }
        Ok(Self { products, target, buyers: accounts, guests })
    }
}

/// Registers staff who may change orders. Returns their tokens.
async fn create_cashiers(shop: &ShopProcess) -> anyhow::Result<Vec<String>> {
    let admin = shop.admin_token().await?;
    let mut client = Client::new(Ipv4Addr::new(127, 0, 1, 250), shop.address);
    let mut tokens = Vec::new();
    for number in 0..CASHIERS {
        let email = format!("cashier-{number}@siege.example");
        let body = json!({"email": email, "password": PASSWORD, "name": "Cashier"}).to_string();
        let session = accept(&mut client, &Request::post("/api/auth/register", "", &body)).await?;
        let user = text(session.get("user").unwrap_or(&Value::Null), "id")?;
        let headers = [("content-type", "application/merge-patch+json")];
        let rights = json!({"role": "staff", "scopes": ["orders"]}).to_string();
        let path = format!("/api/users/{user}");
        let change = Request::with_body("PATCH", &path, admin, &headers, rights.as_bytes());
        accept(&mut client, &change).await?;
        tokens.push(text(&session, "token")?);
    }
    Ok(tokens)
}

/// Imports products of a category, and returns their ids.
async fn create_products(
    shop: &ShopProcess,
    category: &str,
    count: usize,
) -> anyhow::Result<Vec<String>> {
    let admin = shop.admin_token().await?;
    let mut client = Client::new(Ipv4Addr::new(127, 0, 1, 250), shop.address);
    let rows = (0..count).map(|number| {
        let name = if category == "long" {
            format!("{number} {}", "茶".repeat(190))
        } else {
            format!("Tea number {number}")
        };
        let row = json!({
            "sku": format!("{category}-{number}"), "name": name, "price": 4.5,
            "stock": 100_000_000, "category": category, "description": "Green, loose leaves",
        });
        format!("{row}\n")
    });
    let headers = [("content-type", "application/x-ndjson")];
    let import = Request::with_body(
        "POST",
        "/api/products/import",
        admin,
        &headers,
        rows.collect::<String>().as_bytes(),
    );
    let report = accept(&mut client, &import).await?;
    ensure!(report.get("failed") == Some(&json!(0)), "the import failed: {report}");
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/products?category={category}&limit=100{cursor}");
        let page = accept(&mut client, &Request::get(&path, admin)).await?;
        for item in page.get("items").and_then(Value::as_array).into_iter().flatten() {
            ids.push(text(item, "id")?);
        }
        match page.get("next_cursor").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(ids),
        }
    }
}

/// Sends a request until it is not over a limit; another refusal is an error.
async fn accept(client: &mut Client, request: &Request) -> anyhow::Result<Value> {
    loop {
        let (status, body) = client.send_for_json(request).await;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        ensure!(matches!(status, 429 | 503), "the preparation failed with {status}: {body}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A member that is a string.
pub fn text(value: &Value, name: &str) -> anyhow::Result<String> {
    let text = value.get(name).and_then(Value::as_str);
    Ok(text.with_context(|| format!("no {name} in {value}"))?.to_owned())
}
