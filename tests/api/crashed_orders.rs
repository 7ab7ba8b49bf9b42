//! The process is killed during checkouts: no acknowledged order is lost, none is duplicated, and
//! stock matches the orders.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    Account, Event, Progress, TestApp, assert_gap_free, kill_rounds, unique_number,
};

/// The initial stock of each of the two products.
const STOCK: u64 = 100_000;
/// The number of responses in each round before the process is killed.
const RESPONSES_BEFORE_KILL: [usize; 3] = [120, 35, 260];

/// The newest orders of each buyer, whose events the feed still has after many kills.
const NEWEST_ORDERS: usize = 100;

/// A customer with the orders that the server has acknowledged.
struct Buyer {
    account: Account,
    /// The orders as last seen.
    orders: Vec<Value>,
    /// A request without a response: whether the admin sent it, its path and its key.
    unanswered: Option<(bool, String, String)>,
}

#[tokio::test]
async fn orders_survive_kill_9() {
    let mut app = TestApp::with_settings(&[("orders.max_pending", "100000")]).await;
    let admin = app.admin().await;
    let product_ids = [
        app.new_product(&admin, &json!(4.5), STOCK).await,
        app.new_product(&admin, &json!(7), STOCK).await,
    ];
    let customers = app.customers(6).await;
    let mut buyers: Vec<Buyer> = customers
        .into_iter()
        .map(|account| Buyer { account, orders: Vec::new(), unanswered: None })
        .collect();
    for wanted in kill_rounds(&RESPONSES_BEFORE_KILL) {
        let counter = Progress::new();
        let kill = async {
            counter.wait_for(wanted).await;
            app.signal("KILL");
        };
        tokio::join!(
            join_all(buyers.iter_mut().map(|buyer| buyer.buy(
                &app,
                &admin,
                &product_ids,
                &counter
            ))),
            kill
        );
        app.reap().await;
        app.restart().await;
        for buyer in &mut buyers {
            buyer.repeat(&app, &admin).await;
            buyer.assert_orders_kept(&app).await;
        }
        assert_stock_matches_orders(&app, &admin, &product_ids).await;
    }
    let sentinel = app.new_product(&admin, &json!(1), 0).await;
    for buyer in &buyers {
        let mut feed = app.open_whole_feed(Some(&buyer.account)).await;
        let last =
            assert_gap_free(&feed.read_until(|event: &Event| event.subject() == sentinel).await);
        for order in buyer.orders.iter().rev().take(NEWEST_ORDERS) {
            let id = order["id"].as_str().unwrap().to_owned();
            assert_eq!(
                last[&(id, "order".into())],
                order["version"],
                "each order version has an event"
            );
        }
    }
}

impl Buyer {
    /// Places orders and pays, fulfills or cancels them until the process dies.
    async fn buy(
        &mut self,
        app: &TestApp,
        admin: &Account,
        product_ids: &[String],
        counter: &Progress,
    ) {
        for n in 0.. {
            for product in product_ids {
                if app.add_to_cart(&self.account, product, 1).attempt().await.is_err() {
                    return;
                }
            }
            let Some(order) = self.send(app, admin, false, "/api/checkout".into()).await else {
                return;
            };
            counter.increment();
            let id = order["id"].as_str().unwrap().to_owned();
            let steps: &[(bool, &str)] = match n % 4 {
                0 => &[],
                1 => &[(false, "cancel")],
                2 => &[(true, "pay")],
                _ => &[(true, "pay"), (true, "fulfil")],
            };
            for (by_admin, action) in steps {
                if self
                    .send(app, admin, *by_admin, format!("/api/orders/{id}/{action}"))
                    .await
                    .is_none()
                {
                    return;
                }
                counter.increment();
            }
        }
    }

    /// Sends a request with its own key; `None` without a response.
    async fn send(
        &mut self,
        app: &TestApp,
        admin: &Account,
        by_admin: bool,
        path: String,
    ) -> Option<Value> {
        let key = format!("request-{}", unique_number());
        self.unanswered = Some((by_admin, path.clone(), key.clone()));
        let account = if by_admin { admin } else { &self.account };
        let response = app.call("POST", &path).token(account).key(key).attempt().await.ok()?;
        assert!(matches!(response.status, 200 | 201), "{response}");
        self.unanswered = None;
        Some(self.record(response.json()))
    }

    /// Repeats the request that had no response.
    async fn repeat(&mut self, app: &TestApp, admin: &Account) {
        let Some((by_admin, path, key)) = self.unanswered.take() else { return };
        let account = if by_admin { admin.clone() } else { self.account.clone() };
        for round in 0..2 {
            let response = app.call("POST", &path).token(&account).key(&key).await;
            assert!(matches!(response.status, 200 | 201), "{response}");
            assert!(round == 0 || response.is_replayed());
            self.record(response.json());
        }
    }

    fn record(&mut self, order: Value) -> Value {
        self.orders.retain(|known| known["id"] != order["id"]);
        self.orders.push(order.clone());
        order
    }

    async fn assert_orders_kept(&self, app: &TestApp) {
        let mut known = self.orders.clone();
        known.sort_by_key(|order| std::cmp::Reverse(order["id"].as_str().unwrap().to_owned()));
        assert_eq!(
            app.all_pages(&self.account, "/api/orders", 100).await,
            known,
            "exactly the acknowledged orders exist"
        );
    }
}

async fn assert_stock_matches_orders(app: &TestApp, admin: &Account, product_ids: &[String]) {
    let orders = app.all_pages(admin, "/api/orders?all=true", 100).await;
    for product in product_ids {
        let units_in = |order: &&Value| -> u64 {
            let items = order["items"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|item| item["product_id"] == **product);
            items.map(|item| item["quantity"].as_u64().unwrap()).sum()
        };
        let sum = |statuses: &[&str]| -> u64 {
            orders
                .iter()
                .filter(|order| statuses.contains(&order["status"].as_str().unwrap()))
                .map(|order| units_in(&order))
                .sum()
        };
        let (reserved, shipped) = (sum(&["pending_payment", "paid"]), sum(&["fulfilled"]));
        assert_eq!(
            app.stock_counts(admin, product).await,
            [STOCK - shipped, reserved, STOCK - shipped - reserved]
        );
        let movements =
            app.all_pages(admin, &format!("/api/products/{product}/stock/movements"), 100).await;
        let total = |name: &str| {
            movements.iter().map(|movement| movement[name].as_i64().unwrap()).sum::<i64>() as u64
        };
        assert_eq!((total("on_hand_delta"), total("reserved_delta")), (STOCK - shipped, reserved));
    }
}
