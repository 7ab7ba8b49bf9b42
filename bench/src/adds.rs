//! Durable adds to carts: 256 concurrent users through HTTP, against the same commits as one SQLite
//! transaction each.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use souk::{
    domain::{
        account::Role,
        cart::{Cart, CartCommand, CartLimits, CartOwner, Offer},
        clock::{Clock, SystemClock},
        ids::{ProductId, UserId},
        money::Money,
    },
    events::DomainEvent,
    store::{
        Commit, Store, Write,
        sqlite::{SqliteOptions, SqliteStore},
    },
};

use crate::{
    load_generator::{Request, measure_rate},
    samples::Samples,
    shop_process::{ShopProcess, new_user_token},
};

const USERS: usize = 256;
const ROUNDS: usize = 5;
const ROUND_TIME: Duration = Duration::from_secs(4);

pub async fn run() -> anyhow::Result<()> {
    let shop = ShopProcess::start_embedded()?;
    let product = shop.create_product().await?;
    let tokens: Vec<String> =
        (0..USERS).map(|_| new_user_token(Role::Customer)).collect::<Result<_, _>>()?;
    let add = json!({"product_id": product, "quantity": 1}).to_string();
    let requests: Vec<Request> =
        tokens.iter().map(|token| Request::post("/api/cart/add", token, &add)).collect();
    let mut pairs = Vec::new();
    for round in 0..=ROUNDS {
        // Empty the carts between rounds, so that no line reaches its limit.
        for token in &tokens {
            crate::load_generator::send_once(shop.address, &Request::delete("/api/cart", token))
                .await?;
        }
        let pair = (
            measure_rate(shop.address, &requests, ROUND_TIME).await?,
            commit_rate_one_transaction_each().await?,
        );
        if round > 0 {
            pairs.push(pair);
        }
    }
    println!(
        "durable POST /api/cart/add: {USERS} concurrent users, {ROUNDS} rounds of {ROUND_TIME:?}, \
         store in {}",
        shop.dir().display()
    );
    println!(
        "  souk, HTTP                   adds/s  {}",
        Samples::new(pairs.iter().map(|pair| pair.0))
    );
    println!(
        "  one transaction per add      adds/s  {}",
        Samples::new(pairs.iter().map(|pair| pair.1))
    );
    println!(
        "  ratio                                {}",
        Samples::new(pairs.iter().map(|pair| pair.0 / pair.1))
    );
    Ok(())
}

/// Commits per second of the same carts and events to the same tables, without HTTP, and with each
/// commit in a transaction of its own.
async fn commit_rate_one_transaction_each() -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let currency = "USD".parse()?;
    let options = SqliteOptions {
        dir: dir.path().to_owned(),
        currency,
        low_stock: 0,
        keep_unpublished: false,
        check_at_start: false,
    };
    let store = SqliteStore::open(options, Arc::new(SystemClock))?;
    let product_id = ProductId::new();
    let offer = |_| {
        Some(Offer {
            name: "Mint tea".into(),
            price: Money::parse("4.5", currency).ok()?,
            available: 1_000_000,
            product: None,
        })
    };
    let limits = CartLimits { max_quantity: 1_000_000, max_lines: 200 };
    let mut carts: Vec<Cart> =
        (0..USERS).map(|_| Cart::empty(CartOwner { id: UserId::new(), is_guest: false })).collect();
    let (started, mut count) = (Instant::now(), 0_u32);
    'time: loop {
        for cart in &mut carts {
            let command = CartCommand::AddItem { product_id, quantity: 1 };
            let decision = cart.decide(command, offer, limits, SystemClock.now());
            let Ok(Some((next, event))) = decision else {
                anyhow::bail!("the cart rejected the add")
            };
            let next = Arc::new(next);
            let mut commit = Commit::new(SystemClock.now(), Instant::now() + ROUND_TIME);
            commit.writes.push(Write::Cart(Arc::clone(&next)));
            commit.events.push(DomainEvent::Cart(Arc::clone(&next), event));
            let applied = store.apply(vec![commit].into()).await;
            anyhow::ensure!(
                applied.is_ok_and(|applied| applied.outcomes.iter().all(Result::is_ok)),
                "the store rejected the commit"
            );
            *cart = Arc::unwrap_or_clone(next);
            count += 1;
            if started.elapsed() >= ROUND_TIME {
                break 'time;
            }
        }
    }
    let rate = f64::from(count) / started.elapsed().as_secs_f64();
    store.close().await;
    Ok(rate)
}
