//! The honest buyers: each logs in, browses, buys and pays, one request after the other.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    client::{Client, NO_RESPONSE, next_number},
    report::Outcomes,
    setup::{PASSWORD, Scene, text},
};
use crate::{load_generator::Request, shop_process::ShopProcess};

/// A buyer's pause between two requests.
const PAUSE: Duration = Duration::from_millis(100);

/// Purchases before a buyer logs in again.
const PURCHASES_PER_LOGIN: u32 = 25;

/// The buyers do not all begin at once.
const FIRST_LOGINS: Duration = Duration::from_secs(15);

pub struct Buyers {
    server: SocketAddr,
    scene: Arc<Scene>,
    purchases: Arc<AtomicU64>,
}

impl Buyers {
    pub fn new(shop: &ShopProcess, scene: &Arc<Scene>) -> Self {
        Self { server: shop.address, scene: Arc::clone(scene), purchases: Arc::default() }
    }

    /// The purchases that were paid so far.
    pub fn purchases(&self) -> u64 {
        self.purchases.load(Ordering::Relaxed)
    }

    /// Buys for `time`. Returns the outcome of every request.
    pub async fn buy_for(&self, time: Duration) -> Outcomes {
        let end = Instant::now() + time;
        let count = u32::try_from(self.scene.buyers.len()).unwrap_or(1);
        let tasks: Vec<_> = (0..count)
            .map(|number| {
                let scene = Arc::clone(&self.scene);
                let (server, paid) = (self.server, Arc::clone(&self.purchases));
                let delay = FIRST_LOGINS.min(time / 2) * number / count;
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let mut outcomes = Outcomes::default();
                    let number = number as usize;
                    buy_until(end, number, server, &scene, &paid, &mut outcomes).await;
                    outcomes
                })
            })
            .collect();
        let mut all = Outcomes::default();
        for task in tasks {
            if let Ok(outcomes) = task.await {
                all.extend(outcomes);
            }
        }
        all
    }
}

async fn buy_until(
    end: Instant,
    number: usize,
    server: SocketAddr,
    scene: &Scene,
    paid: &AtomicU64,
    outcomes: &mut Outcomes,
) {
    let Some(account) = scene.buyers.get(number) else { return };
    let mut client = Client::new(account.address, server);
    let mut token = String::new();
    let mut purchases = 0;
    while Instant::now() < end {
        if purchases % PURCHASES_PER_LOGIN == 0 || token.is_empty() {
            let body = json!({"email": account.email, "password": PASSWORD}).to_string();
            let login = Request::post("/api/auth/login", "", &body);
            token = text(&send(&mut client, "log in", &login, outcomes).await, "token")
                .unwrap_or_default();
        }
        let product = scene.products.get((number + purchases as usize) % scene.products.len());
        let product = product.map(String::as_str).unwrap_or_default();
        let line = json!({"product_id": product, "quantity": 1}).to_string();
        for (kind, request) in [
            ("browse", Request::get("/api/products?limit=20", "")),
            ("browse", Request::get(&format!("/api/products/{product}"), "")),
            ("browse", Request::get("/api/products?q=tea+leaves", "")),
            ("add", Request::post("/api/cart/add", &token, &line)),
        ] {
            send(&mut client, kind, &request, outcomes).await;
        }
        let key = next_number().to_string();
        let headers = [("content-type", "application/json"), ("idempotency-key", &*key)];
        let checkout = Request::with_body("POST", "/api/checkout", &token, &headers, b"{}");
        let order = send(&mut client, "check out", &checkout, outcomes).await;
        if let Ok(id) = text(&order, "id") {
            let pay = Request::post(&format!("/api/orders/{id}/pay"), &account.cashier, "{}");
            if text(&send(&mut client, "pay", &pay, outcomes).await, "id").is_ok() {
                paid.fetch_add(1, Ordering::Relaxed);
            }
            let show = Request::get(&format!("/api/orders/{id}"), &token);
            send(&mut client, "browse", &show, outcomes).await;
        }
        purchases += 1;
    }
}

async fn send(
    client: &mut Client,
    kind: &'static str,
    request: &Request,
    outcomes: &mut Outcomes,
) -> Value {
    let began = Instant::now();
    let sent = tokio::time::timeout(Duration::from_secs(30), client.send_for_json(request)).await;
    let (status, body) = sent.unwrap_or((NO_RESPONSE, Value::Null));
    outcomes.record(kind, status, began.elapsed());
    tokio::time::sleep(PAUSE).await;
    body
}
