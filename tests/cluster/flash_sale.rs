//! A flash sale on three nodes, one of which is killed: exactly the stock is sold, and every buyer
//! gets an answer.
//!
//! `SOUK_TEST_BUYERS` sets the number of buyers (300), `SOUK_TEST_SALES` the number of sales (2).

use std::{collections::BTreeSet, time::Instant};

use futures_util::{StreamExt, stream};
use jsonwebtoken::Algorithm;
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use souk::domain::ids::{SessionId, UserId};

use crate::{
    cluster::{Cluster, SECRET},
    forwarding::FORWARDING,
    members::Members,
    support::{
        Account, Call, Progress, Response, TestApp,
        tokens::{claims, signed},
    },
};

const UNITS: usize = 100;
/// Buyers served at the same time.
pub(crate) const CONCURRENCY: usize = 256;

pub(crate) fn env_or(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |number| number.parse().unwrap())
}

/// A buyer who wants one unit of each product and repeats requests until they are answered.
pub(crate) struct Buyer<'a> {
    cluster: &'a Cluster,
    token: String,
}

impl<'a> Buyer<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Self {
        let mut claims = claims();
        let (user, session) = (UserId::new().to_string(), SessionId::new().to_string());
        (claims["sub"], claims["sid"], claims["role"]) =
            (json!(user), json!(session), json!("customer"));
        Self { cluster, token: signed(Algorithm::HS256, &claims, SECRET) }
    }

    /// Repeats a request under its key on any node until its outcome is known.
    pub(crate) async fn retry_until_answered(
        &self,
        key: &str,
        call: impl Fn(&TestApp) -> Call,
    ) -> Response {
        loop {
            match call(self.cluster.any_node()).token(&self.token).key(key).attempt().await {
                Ok(response) if response.status != 503 => return response,
                // Unreachable, unknown or overloaded.
                Ok(_) | Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    }

    /// The order id, or `None` when the products are sold out.
    async fn buy(&self, product_ids: &[String]) -> Option<String> {
        for product in product_ids {
            let add = json!({"product_id": product, "quantity": 1});
            let response = self
                .retry_until_answered(&format!("add-{product}"), |node| {
                    node.post("/api/cart/add", &add)
                })
                .await;
            if response.status == 409 {
                response.problem(409, "insufficient_stock");
                return None;
            }
            response.is(200);
        }
        let response =
            self.retry_until_answered("buy", |node| node.post("/api/checkout", &json!({}))).await;
        if response.status == 409 {
            response.problem(409, "insufficient_stock");
            return None;
        }
        let order = response.is(201).json();
        assert_eq!(
            order["items"].as_array().unwrap().len(),
            product_ids.len(),
            "all or nothing: {order}"
        );
        self.fail_to_buy_again(product_ids).await;
        Some(order["id"].as_str().unwrap().to_owned())
    }

    /// Asserts that a second order is refused: one buyer gets one unit of each product.
    async fn fail_to_buy_again(&self, product_ids: &[String]) {
        let add = json!({"product_id": product_ids[0], "quantity": 1});
        let response =
            self.retry_until_answered("more", |node| node.post("/api/cart/add", &add)).await;
        if response.status == 409 {
            response.problem(409, "insufficient_stock");
            return;
        }
        let response =
            self.retry_until_answered("again", |node| node.post("/api/checkout", &json!({}))).await;
        let problem = response.is(409).json();
        match problem["code"].as_str().unwrap() {
            "purchase_limit_reached" => assert_eq!(problem["lines"][0]["left"], 0),
            code => assert_eq!(code, "insufficient_stock"),
        }
    }
}

/// A sale of `UNITS` of each product; kills node `victim` when half is sold.
async fn run_sale(
    cluster: &Cluster,
    admin: &Account,
    buyers: usize,
    products: usize,
    victim: usize,
) {
    let survivor = &cluster.nodes[(victim + 1) % cluster.nodes.len()];
    let mut product_ids = Vec::new();
    for _ in 0..products {
        let body = json!({"name": "Mint tea", "description": "", "price": 4.5, "stock": UNITS,
            "purchase_limit": 1});
        let product = survivor.create_product(admin, &body).await;
        product_ids.push(product["id"].as_str().unwrap().to_owned());
    }
    let (sold, began) = (Progress::new(), Instant::now());
    let buy = async |_| {
        let mut product_ids = product_ids.clone();
        product_ids.shuffle(&mut rand::rng());
        let order = Buyer::new(cluster).buy(&product_ids).await;
        if order.is_some() {
            sold.increment();
        }
        order
    };
    let all = stream::iter(0..buyers)
        .map(buy)
        .buffer_unordered(CONCURRENCY)
        .collect::<Vec<Option<String>>>();
    let kill = async {
        sold.wait_for(UNITS / 2).await;
        cluster.nodes[victim].signal("KILL");
    };
    let (orders, ()) = tokio::join!(all, kill);
    let acknowledged: BTreeSet<String> = orders.into_iter().flatten().collect();
    eprintln!(
        "{} of {buyers} buyers got one of each of {products} in {:?}",
        acknowledged.len(),
        began.elapsed()
    );
    assert_eq!(acknowledged.len(), UNITS);
    for product in &product_ids {
        assert_sold_out(survivor, admin, product, &acknowledged).await;
    }
    let listed = survivor.all_pages(admin, "/api/orders?all=true", 100).await;
    let of_this = |order: &&Value| {
        product_ids.iter().any(|product| order["items"][0]["product_id"] == **product)
    };
    let listed: BTreeSet<String> = listed
        .iter()
        .filter(of_this)
        .map(|order| order["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, acknowledged, "exactly the acknowledged orders exist");
    let audit = survivor.call("POST", "/api/admin/audit").token(admin).await.ok();
    assert_eq!(audit["clean"], true, "{audit}");
}

/// Asserts that a product's stock is reserved completely, by the acknowledged orders.
async fn assert_sold_out(
    node: &TestApp,
    admin: &Account,
    product: &str,
    acknowledged: &BTreeSet<String>,
) {
    let fresh = |path: &str| node.get(path).token(admin).header("cache-control", "no-cache");
    let stock = fresh(&format!("/api/products/{product}/stock")).await.ok();
    assert_eq!(
        [&stock["on_hand"], &stock["reserved"], &stock["available"]],
        [UNITS, UNITS, 0],
        "{stock}"
    );
    let movements =
        node.all_pages(admin, &format!("/api/products/{product}/stock/movements"), 100).await;
    let reserved = movements.iter().filter(|movement| movement["kind"] == "reserved");
    let of: BTreeSet<String> =
        reserved.map(|movement| movement["order_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((&of, movements.len()), (acknowledged, UNITS + 1));
}

async fn run_sales(products: usize, settings: &[(&str, &str)]) {
    let Some(members) = Members::start(1).await else { return };
    let mut cluster = Cluster::start_nodes(3, &Members::uri(members.hosts()), settings).await;
    cluster.expect_faults();
    let admin = cluster.nodes[0].admin().await;
    for round in 0..env_or("SOUK_TEST_SALES", 2) {
        let victim = round % cluster.nodes.len();
        run_sale(&cluster, &admin, env_or("SOUK_TEST_BUYERS", 300), products, victim).await;
        cluster.nodes[victim].reap().await;
        cluster.nodes[victim].restart().await;
    }
    cluster.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_product_sells_exactly_its_stock() {
    run_sales(1, &[FORWARDING]).await;
}

/// The nodes take turns, rather than forward to one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_product_sells_exactly_its_stock_in_turns() {
    run_sales(1, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carts_of_three_products_sell_all_or_nothing() {
    run_sales(3, &[FORWARDING]).await;
}
