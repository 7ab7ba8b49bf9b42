//! All nodes are restarted one after the other while clients use the shop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    grpc::call_until,
    shop::Shop,
    support::{Account, grpc::GrpcClient, temp_dir},
};

/// Clients that send one request after the other.
const CLIENTS: usize = 24;

/// The most units in a cart's line, less some.
const MAX_UNITS: u64 = 900;

/// The least number of requests: `SOUK_TEST_REQUESTS`, which scripts/rolling-restart sets.
fn least_requests() -> u64 {
    std::env::var("SOUK_TEST_REQUESTS").map_or(3_000, |count| count.parse().unwrap())
}

/// What all clients share.
struct Load {
    url: String,
    product: String,
    sent: AtomicU64,
    ended: AtomicBool,
}

/// A client that checks every answer.
struct Shopper {
    load: Arc<Load>,
    http: reqwest::Client,
    token: String,
    units: u64,
}

impl Shopper {
    fn new(load: &Arc<Load>, account: &Account) -> Self {
        Self {
            load: Arc::clone(load),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            token: account.token.clone(),
            units: 0,
        }
    }

    /// Shops until the load ends; returns what went wrong.
    async fn shop(mut self) -> Vec<String> {
        let mut failures = Vec::new();
        while !self.load.ended.load(Ordering::Relaxed) {
            if let Err(failure) = self.shop_once().await {
                failures.push(failure);
            }
        }
        failures
    }

    /// Adds to the cart, and reads what a page shows. No request has an `Idempotency-Key`: one that
    /// is carried out twice, or not at all, shows in the cart.
    async fn shop_once(&mut self) -> Result<(), String> {
        let product = format!("/api/products/{}", self.load.product);
        if self.units < MAX_UNITS {
            self.units += 1;
            let body = json!({"product_id": self.load.product, "quantity": 1});
            self.expect_units(Method::POST, "/api/cart/add", Some(&body)).await?;
        } else {
            self.units = 0;
            self.expect_units(Method::DELETE, "/api/cart", None).await?;
        }
        self.expect_units(Method::GET, "/api/cart", None).await?;
        self.send(Method::GET, &product, None).await?;
        self.send(Method::HEAD, &product, None).await?;
        self.send(Method::GET, "/api/products?q=tea", None).await.map(drop)
    }

    async fn expect_units(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(), String> {
        let expected = self.units;
        let cart = self.send(method.clone(), path, body).await?;
        let cart: Value = serde_json::from_slice(&cart).map_err(|error| error.to_string())?;
        let units = cart["item_count"].as_u64().unwrap_or_default();
        self.units = units;
        let failure = format!("{method} {path}: {units} units instead of {expected}");
        (units == expected).then_some(()).ok_or(failure)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Vec<u8>, String> {
        self.load.sent.fetch_add(1, Ordering::Relaxed);
        let url = format!("{}{path}", self.load.url);
        let mut request = self.http.request(method.clone(), url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let name = format!("{method} {path}");
        let response = request.send().await.map_err(|error| format!("{name}: {error:?}"))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| format!("{name}: {error:?}"))?;
        if status.is_success() {
            return Ok(body.to_vec());
        }
        Err(format!("{name}: {status}: {}", String::from_utf8_lossy(&body)))
    }
}

/// Restarts one node after the other, each at least once, until enough requests were sent.
async fn restart_all(shop: &mut Shop, load: &Load) {
    let (least, began) = (least_requests(), Instant::now());
    for restart in 0.. {
        let sent = load.sent.load(Ordering::Relaxed);
        if restart >= shop.nodes.len() && sent >= least {
            eprintln!("{sent} requests in {:.0?}, {restart} restarts", began.elapsed());
            return;
        }
        let (node, stopping) = (restart % shop.nodes.len(), Instant::now());
        shop.nodes[node].stop().await;
        eprintln!("node {} stopped in {:.1?}; {sent} requests", node + 1, stopping.elapsed());
        shop.nodes[node].restart().await;
        shop.balancer.wait_until(|servers| servers == [true; 3]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restart_fails_no_request() {
    let Some(grpc) = GrpcClient::find("gRPC while nodes restart") else { return };
    let Some(mut shop) = Shop::start().await else { return };
    let admin = shop.nodes[0].admin().await;
    let load = Arc::new(Load {
        url: shop.balancer.http.clone(),
        product: shop.nodes[0].new_product(&admin, &json!(4.5), 1_000_000).await,
        sent: AtomicU64::new(0),
        ended: AtomicBool::new(false),
    });
    let mut accounts = shop.nodes[1].customers(CLIENTS / 2).await;
    while accounts.len() < CLIENTS {
        accounts.push(shop.nodes[2].guest().await);
    }
    let shoppers: Vec<_> =
        accounts.iter().map(|account| tokio::spawn(Shopper::new(&load, account).shop())).collect();
    let delivered = shop.nodes[0].new_product(&admin, &json!(4.5), 0).await;
    let dir = temp_dir();
    let done = dir.path().join("done");
    let caller = call_until(&grpc, &shop, &delivered, &done).await;
    restart_all(&mut shop, &load).await;
    std::fs::write(done, "").unwrap();
    let calls: u32 = caller.await.unwrap().trim().parse().unwrap();
    eprintln!("{calls} calls over gRPC");
    assert!(calls > 0, "nobody has called");
    load.ended.store(true, Ordering::Relaxed);
    let failures: Vec<String> =
        join_all(shoppers).await.into_iter().flat_map(Result::unwrap).collect();
    let sent = load.sent.load(Ordering::Relaxed);
    assert!(failures.is_empty(), "{} of {sent} requests: {failures:#?}", failures.len());
    shop.shut_down().await;
}
