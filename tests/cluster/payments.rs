//! Payments of a cluster, while nodes and the provider are killed and messages are lost: in the end
//! every order is paid once, or has expired or was cancelled with nothing charged, or was refunded,
//! and the provider's book agrees with the shop's.
//!
//! `SOUK_TEST_ORDERS` sets the number of orders (90), `SOUK_TEST_KILLS` that of killed nodes (5).

use std::time::Duration;

use futures_util::{StreamExt, stream};
use jsonwebtoken::Algorithm;
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use souk::domain::ids::{SessionId, UserId};
use tokio::sync::RwLock;

use crate::{
    cluster::{Cluster, SECRET},
    shared_replica_set,
    support::{
        Account, Call, Response, TestApp,
        payments::Provider,
        tokens::{claims, signed},
    },
};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Buyers at the same time.
const CONCURRENCY: usize = 24;

/// What buyers pay for a tea, in cents.
const PRICE: u64 = 450;

fn env_or(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |number| number.parse().unwrap())
}

/// Nodes that are killed while others use them.
struct Shop {
    nodes: Vec<RwLock<TestApp>>,
    provider: RwLock<Provider>,
    admin: Account,
    tea: String,
}

impl Shop {
    /// Repeats a request on any node until its outcome is known.
    async fn retry(&self, call: impl Fn(&TestApp) -> Call) -> Response {
        loop {
            let node = rand::random_range(0..self.nodes.len());
            // A node is locked while it restarts.
            let request = match self.nodes[node].try_read() {
                Ok(node) => call(&node),
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            match request.attempt().await {
                Ok(response) if response.status != 503 => return response,
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Whatever the buyer does, checkout works.
    async fn buy(&self, number: usize) {
        let mut claims = claims();
        let (user, session) = (UserId::new().to_string(), SessionId::new().to_string());
        (claims["sub"], claims["sid"], claims["role"]) =
            (json!(user), json!(session), json!("customer"));
        let token = signed(Algorithm::HS256, &claims, SECRET);
        let add = json!({"product_id": self.tea, "quantity": 1 + number % 3});
        let call = |node: &TestApp| node.post("/api/cart/add", &add).token(&token).key("add");
        self.retry(call).await.is(200);
        let call = |node: &TestApp| node.call("POST", "/api/checkout").token(&token).key("buy");
        let order = self.retry(call).await.is(201).json();
        let order = order["id"].as_str().unwrap();
        let act = async |action: &str, token: &str| {
            let path = format!("/api/orders/{order}/{action}");
            self.retry(|node: &TestApp| node.call("POST", &path).token(token)).await
        };
        let payment = act("payment", &token).await;
        let intent = match payment.status {
            200 => payment.json()["reference"].as_str().unwrap().to_owned(),
            // It has expired meanwhile.
            _ => return drop(payment.problem(409, "invalid_transition")),
        };
        match number % 9 {
            0 => {}
            1 => {
                self.decline(&intent).await;
                self.pay(&intent).await;
            }
            2 => {
                // Both are on their way at the same time.
                let cancel = act("cancel", &token);
                tokio::join!(cancel, self.pay(&intent));
            }
            3 => {
                let confirm = act("pay", &self.admin.token);
                tokio::join!(confirm, self.pay(&intent));
            }
            4 => {
                self.pay(&intent).await;
                act("cancel", &self.admin.token).await;
            }
            5 => {
                self.pay(&intent).await;
                let path = format!("/api/orders/{order}/refund");
                let part = json!({"amount": 1.25});
                let refund =
                    |node: &TestApp| node.post(&path, &part).token(&self.admin).key("refund");
                for _ in 0..20 {
                    if self.retry(refund).await.status == 202 {
                        break;
                    }
                    // Not paid yet.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            _ => self.pay(&intent).await,
        }
    }

    async fn pay(&self, intent: &str) {
        self.provider.read().await.pay(intent).await;
    }

    async fn decline(&self, intent: &str) {
        let provider = self.provider.read().await;
        provider.try_decline(intent).await;
    }

    async fn send_webhooks(&self) {
        let mut nodes = Vec::new();
        for node in &self.nodes {
            nodes.push(node.read().await);
        }
        let nodes: Vec<&TestApp> = nodes.iter().map(|node| &**node).collect();
        self.provider.read().await.send_webhooks_to(&nodes).await;
    }

    /// Kills nodes, and the provider too.
    async fn disturb(&self, kills: usize) {
        for kill in 0..kills {
            tokio::time::sleep(Duration::from_millis(700)).await;
            {
                let mut node = self.nodes[kill % self.nodes.len()].write().await;
                node.kill_9().await;
                node.restart().await;
            }
            if kill % 3 == 1 {
                let mut provider = self.provider.write().await;
                provider.kill();
                tokio::time::sleep(Duration::from_millis(500)).await;
                provider.restart().await;
            }
            let faults = json!({"away": 10, "error": 10, "cut": 15, "late": 10, "late_ms": 1500,
                "lose": 20, "twice": 30});
            self.provider.read().await.set_faults(&faults).await;
            self.send_webhooks().await;
        }
    }
}

/// Waits until no payment of the cluster needs anything of the provider.
async fn wait_until_settled(cluster: &Cluster) {
    let orders = cluster.database.collection::<Document>("orders");
    let settled = async {
        loop {
            let open = doc! { "$or": [
                { "payment.provider.due_at": { "$exists": true } }, { "status": "pending_payment" },
            ] };
            if orders.count_documents(open).await.unwrap() == 0 {
                return;
            }
            // Nothing tells when the last one is.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if tokio::time::timeout(TIMEOUT, settled).await.is_err() {
        let open = doc! { "payment.provider.due_at": { "$exists": true } };
        panic!("a payment is not settled: {:?}", orders.find_one(open).await.unwrap());
    }
}

/// The orders of all buyers.
async fn all_orders(node: &TestApp, admin: &Account) -> Vec<Value> {
    let exported = node.get("/api/orders/export").token(admin);
    let exported = exported.header("accept", "application/x-ndjson").await.is(200).text();
    exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn cents(amount: &Value) -> u64 {
    let cents = amount.as_f64().unwrap() * 100.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small amounts")]
    let cents = cents.round() as u64;
    cents
}

/// Both books agree on an order. Returns what became of it.
fn check(order: &Value, book: &Value) -> &'static str {
    let of_order = |intent: &&Value| intent["metadata"]["order_id"] == order["id"];
    let intents: Vec<&Value> =
        book["intents"].as_array().unwrap().iter().filter(of_order).collect();
    let [intent] = &*intents else { panic!("{} intents of {order}", intents.len()) };
    let refunds: Vec<&Value> = book["refunds"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|refund| refund["payment_intent"] == intent["id"])
        .collect();
    let (received, returned) =
        (intent["amount_received"].as_u64().unwrap(), intent["refunded"].as_u64().unwrap());
    let both = || format!("{order} {intent} {refunds:?}");
    let payment = &order["payment"];
    assert_ne!(intent["status"], "requires_payment_method", "it can still be paid: {}", both());
    let kept = received - returned;
    if payment["method"] == "manual" {
        assert_eq!((&order["status"], kept), (&json!("paid"), 0), "{}", both());
        return "confirmed by staff";
    }
    if received > 0 {
        assert_eq!(received, cents(&payment["amount"]), "{}", both());
        assert_eq!(returned, cents(&payment["refunded"]), "{}", both());
        let booked = payment["refunds"].as_array().unwrap();
        assert!(booked.iter().all(|refund| refund["status"] == "succeeded"), "{}", both());
        assert_eq!(booked.len(), refunds.len(), "{}", both());
    }
    match order["status"].as_str().unwrap() {
        "paid" => {
            assert!(received > 0 && (returned == 0 || returned == 125), "{}", both());
            "paid"
        }
        "expired" | "cancelled" => {
            assert_eq!(kept, 0, "charged for nothing: {}", both());
            if received == 0 { "not charged" } else { "refunded" }
        }
        status => panic!("{status}: {}", both()),
    }
}

#[tokio::test]
async fn books_agree_after_nodes_and_provider_were_killed() {
    let Some(uri) = shared_replica_set::uri().await else { return };
    let (orders, kills) = (env_or("SOUK_TEST_ORDERS", 90), env_or("SOUK_TEST_KILLS", 5));
    let provider = Provider::start().await;
    let own = provider.settings();
    let own: Vec<(&str, &str)> = own.iter().map(|(key, value)| (*key, &**value)).collect();
    let others = [("orders.payment_timeout", "5s"), ("http.request_timeout", "10s")];
    let mut cluster = Cluster::start_nodes(3, &uri, &[&own, &others[..]].concat()).await;
    cluster.expect_faults();
    let admin = cluster.nodes[0].admin().await;
    let price = json!(4.5);
    assert_eq!(cents(&price), PRICE);
    let tea = cluster.nodes[0].new_product(&admin, &price, 1_000_000).await;
    let nodes = std::mem::take(&mut cluster.nodes).into_iter().map(RwLock::new).collect();
    let shop = Shop { nodes, provider: RwLock::new(provider), admin, tea };
    shop.send_webhooks().await;
    let buyers = stream::iter(0..orders)
        .map(|number| shop.buy(number))
        .buffer_unordered(CONCURRENCY)
        .for_each(|()| std::future::ready(()));
    let work = async { tokio::join!(buyers, shop.disturb(kills)) };
    tokio::time::timeout(TIMEOUT, work).await.expect("buyers wait");
    shop.provider.read().await.set_faults(&json!({})).await;
    wait_until_settled(&cluster).await;
    let Shop { nodes, provider, admin, .. } = shop;
    cluster.nodes = nodes.into_iter().map(RwLock::into_inner).collect();
    let placed = all_orders(&cluster.nodes[0], &admin).await;
    assert_eq!(placed.len(), orders);
    let book = provider.read().await.book().await;
    let mut outcomes = std::collections::BTreeMap::<&str, usize>::new();
    for order in &placed {
        *outcomes.entry(check(order, &book)).or_default() += 1;
    }
    println!("{orders} orders, {kills} killed nodes: {outcomes:?}");
    assert_eq!(book["intents"].as_array().unwrap().len(), orders, "each order was begun once");
    let audit = cluster.nodes[1].call("POST", "/api/admin/audit").token(&admin).await.ok();
    assert_eq!(audit["clean"], true, "{audit}");
    cluster.shut_down().await;
}
