//! What 50 active promotions cost: reads of a cart, changes of a cart, which is priced, and
//! checkouts, each against a shop without promotions. Once each promotion is on products of its
//! own, so that one of them applies; once all are on everything, and an order has 17 of them.

use std::time::{Duration, Instant};

use serde_json::json;
use souk::domain::account::Role;

use crate::{
    load_generator::{Request, measure_rate, send_each_once, send_once},
    samples::Samples,
    shop_process::{ShopProcess, new_user_token},
};

const PROMOTIONS: usize = 50;
const CONNECTIONS: usize = 64;
const ROUNDS: usize = 7;
const ROUND_TIME: Duration = Duration::from_secs(3);
/// Buyers of one round of checkouts.
const BUYERS: usize = 2048;

/// A shop with one product, and the carts that are read.
struct Shop {
    process: ShopProcess,
    product: String,
    readers: Vec<String>,
}

pub async fn run() -> anyhow::Result<()> {
    for (scope, what) in [
        (Scope::OwnProducts, "each on products of its own, one applies"),
        (Scope::Everything, "all on everything, 17 apply"),
    ] {
        println!("{PROMOTIONS} active promotions against none, {what}; {CONNECTIONS} connections");
        compare(scope).await?;
    }
    Ok(())
}

/// The products that a promotion is on.
#[derive(Clone, Copy)]
enum Scope {
    OwnProducts,
    Everything,
}

async fn compare(scope: Scope) -> anyhow::Result<()> {
    let (plain, promoted) = (Shop::open().await?, Shop::open().await?);
    promoted.promote(scope).await?;
    let (mut reads, mut adds, mut checkouts) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let read = (plain.read_carts().await?, promoted.read_carts().await?);
        let add = (plain.change_carts().await?, promoted.change_carts().await?);
        let checkout = (plain.check_out().await?, promoted.check_out().await?);
        // The first round warms both up.
        if round > 0 {
            reads.push(read);
            adds.push(add);
            checkouts.push(checkout);
        }
    }
    report("GET /api/cart", &reads);
    report("POST /api/cart/add", &adds);
    report("POST /api/checkout", &checkouts);
    Ok(())
}

fn report(name: &str, pairs: &[(f64, f64)]) {
    println!("{name}");
    println!("  without           requests/s  {}", Samples::new(pairs.iter().map(|pair| pair.0)));
    println!("  with              requests/s  {}", Samples::new(pairs.iter().map(|pair| pair.1)));
    let costs = pairs.iter().map(|(without, with)| without / with);
    println!("  times the cost                {}", Samples::new(costs));
}

impl Shop {
    async fn open() -> anyhow::Result<Self> {
        let process = ShopProcess::start_embedded()?;
        let product = process.create_product().await?;
        let readers = new_tokens(CONNECTIONS)?;
        let shop = Self { process, product, readers };
        shop.fill_carts(&shop.readers).await?;
        Ok(shop)
    }

    /// Creates promotions of all kinds. Half of them are combinable.
    async fn promote(&self, scope: Scope) -> anyhow::Result<()> {
        let admin = self.process.admin_token().await?;
        for number in 0..PROMOTIONS {
            let effect = match number % 3 {
                0 => json!({"percent_off": 1 + number % 7}),
                1 => json!({"amount_off": 0.01}),
                _ => json!({"buy": 2, "get": 1, "percent_off": 50}),
            };
            let applies_to = match scope {
                Scope::Everything => json!({}),
                Scope::OwnProducts if number == 0 => json!({"product_ids": [self.product]}),
                Scope::OwnProducts => json!({"categories": [format!("Category {number}")]}),
            };
            let body = json!({"name": format!("Promotion {number}"), "effect": effect,
                "applies_to": applies_to, "combinable": number % 2 == 0,
                "usage_limit": 1_000_000});
            let create = Request::post("/api/promotions", admin, &body.to_string());
            send_once(self.process.address, &create).await?;
        }
        Ok(())
    }

    fn add_requests(&self, tokens: &[String]) -> Vec<Request> {
        let add = json!({"product_id": self.product, "quantity": 1}).to_string();
        tokens.iter().map(|token| Request::post("/api/cart/add", token, &add)).collect()
    }

    async fn fill_carts(&self, tokens: &[String]) -> anyhow::Result<()> {
        send_each_once(self.process.address, self.add_requests(tokens), 8).await.map(drop)
    }

    /// Reads of carts that are in memory, per second.
    async fn read_carts(&self) -> anyhow::Result<f64> {
        let requests: Vec<Request> =
            self.readers.iter().map(|token| Request::get("/api/cart", token)).collect();
        measure_rate(self.process.address, &requests, ROUND_TIME).await
    }

    /// Changes of new carts, each of which is priced, per second.
    async fn change_carts(&self) -> anyhow::Result<f64> {
        let buyers = new_tokens(BUYERS)?;
        self.rate_of(self.add_requests(&buyers)).await
    }

    /// Checkouts, per second.
    async fn check_out(&self) -> anyhow::Result<f64> {
        let buyers = new_tokens(BUYERS)?;
        self.fill_carts(&buyers).await?;
        self.rate_of(buyers.iter().map(|token| Request::checkout(token)).collect()).await
    }

    async fn rate_of(&self, requests: Vec<Request>) -> anyhow::Result<f64> {
        let (count, began) = (requests.len(), Instant::now());
        send_each_once(self.process.address, requests, CONNECTIONS).await?;
        Ok(f64::from(u32::try_from(count)?) / began.elapsed().as_secs_f64())
    }
}

fn new_tokens(count: usize) -> anyhow::Result<Vec<String>> {
    (0..count).map(|_| new_user_token(Role::Customer)).collect()
}
