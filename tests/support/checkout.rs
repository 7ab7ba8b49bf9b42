//! Short helpers for checkout and orders.

use serde_json::Value;

use super::{Account, Call, TestApp, unique_number};

impl TestApp {
    /// A checkout with an idempotency key and no body.
    pub(crate) fn check_out(&self, account: &Account, key: impl AsRef<str>) -> Call {
        self.call("POST", "/api/checkout").token(account).key(key)
    }

    /// Puts a product into the cart and checks out; returns the order.
    pub(crate) async fn buy(&self, account: &Account, product: &str, quantity: u64) -> Value {
        self.add_to_cart(account, product, quantity).await.ok();
        self.check_out(account, format!("buy-{}", unique_number())).await.is(201).json()
    }

    /// The actions are `pay`, `fulfil` and `cancel`.
    pub(crate) fn order_action(&self, account: &Account, order: &Value, action: &str) -> Call {
        self.call("POST", &format!("/api/orders/{}/{action}", order["id"].as_str().unwrap()))
            .token(account)
    }

    pub(crate) async fn order(&self, account: &Account, order: &Value) -> Value {
        self.get(&format!("/api/orders/{}", order["id"].as_str().unwrap()))
            .token(account)
            .await
            .ok()
    }

    /// Polls an order until its status is `wanted`.
    pub(crate) async fn wait_for_order_status(
        &self,
        account: &Account,
        order: &Value,
        wanted: &str,
    ) -> Value {
        let reached = async {
            loop {
                let order = self.order(account, order).await;
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
    pub(crate) async fn stock_counts(&self, admin: &Account, product: &str) -> [u64; 3] {
        let stock = self.stock(admin, product).await;
        ["on_hand", "reserved", "available"].map(|name| stock[name].as_u64().unwrap())
    }
}
