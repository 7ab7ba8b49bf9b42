//! Short helpers for checkout and orders.

use serde_json::Value;

use super::{Account, Call, TestApp, unique};

impl TestApp {
    /// A checkout with an idempotency key and no body.
    pub(crate) fn check_out(&self, who: &Account, key: impl AsRef<str>) -> Call {
        self.call("POST", "/api/checkout").token(who).key(key)
    }

    /// Puts a product into the cart and checks out; returns the order.
    pub(crate) async fn buy(&self, who: &Account, product: &str, quantity: u64) -> Value {
        self.add(who, product, quantity).await.ok();
        self.check_out(who, format!("buy-{}", unique())).await.is(201).json()
    }

    /// The actions are `pay`, `fulfil` and `cancel`.
    pub(crate) fn act(&self, who: &Account, order: &Value, action: &str) -> Call {
        self.call("POST", &format!("/api/orders/{}/{action}", order["id"].as_str().unwrap()))
            .token(who)
    }

    pub(crate) async fn order(&self, who: &Account, order: &Value) -> Value {
        self.get(&format!("/api/orders/{}", order["id"].as_str().unwrap())).token(who).await.ok()
    }

    /// Polls an order until its status is `wanted`.
    pub(crate) async fn order_becomes(&self, who: &Account, order: &Value, wanted: &str) -> Value {
        let reached = async {
            loop {
                let order = self.order(who, order).await;
                if order["status"] == wanted {
                    return order;
                }
                // Orders have no notification to wait for.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), reached).await.expect(wanted)
    }

    /// A product's `on_hand`, `reserved` and `available`.
    pub(crate) async fn pieces(&self, admin: &Account, product: &str) -> [u64; 3] {
        let stock = self.stock(admin, product).await;
        ["on_hand", "reserved", "available"].map(|name| stock[name].as_u64().unwrap())
    }
}
