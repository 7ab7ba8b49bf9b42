//! The process is killed during checkouts: no acknowledged order is lost, none is duplicated, and
//! stock matches the orders.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Account, Event, Progress, TestApp, gap_free, unique};

/// The initial stock of each of the two products.
const STOCK: u64 = 100_000;
/// The number of responses in each round before the process is killed.
const ROUNDS: [usize; 3] = [120, 35, 260];

/// A customer with the orders that the server has acknowledged.
struct Buyer {
    who: Account,
    /// The orders as last seen.
    orders: Vec<Value>,
    /// A request without a response: whether the admin sent it, its path and its key.
    open: Option<(bool, String, String)>,
}

#[tokio::test]
async fn orders_survive_kill_9() {
    let mut app = TestApp::with(&[("orders.max_pending", "100000")]).await;
    let admin = app.admin().await;
    let wares = [
        app.product(&admin, &json!(4.5), STOCK).await,
        app.product(&admin, &json!(7), STOCK).await,
    ];
    let customers = app.customers(6).await;
    let mut buyers: Vec<Buyer> =
        customers.into_iter().map(|who| Buyer { who, orders: Vec::new(), open: None }).collect();
    for wanted in ROUNDS {
        let counter = Progress::new();
        let strike = async {
            counter.reaches(wanted).await;
            app.signal("KILL");
        };
        tokio::join!(
            join_all(buyers.iter_mut().map(|buyer| buyer.buy(&app, &admin, &wares, &counter))),
            strike
        );
        app.reap().await;
        app.restart().await;
        for buyer in &mut buyers {
            buyer.repeat(&app, &admin).await;
            buyer.has_what_was_acknowledged(&app).await;
        }
        stock_says_what_orders_say(&app, &admin, &wares).await;
    }
    let sentinel = app.product(&admin, &json!(1), 0).await;
    for buyer in &buyers {
        let mut feed = app.listen(Some(&buyer.who), Some("none")).await;
        let last = gap_free(&feed.until(|event: &Event| event.subject() == sentinel).await);
        for order in &buyer.orders {
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
    async fn buy(&mut self, app: &TestApp, admin: &Account, wares: &[String], counter: &Progress) {
        for n in 0.. {
            for product in wares {
                if app.add(&self.who, product, 1).attempt().await.is_err() {
                    return;
                }
            }
            let Some(order) = self.send(app, admin, false, "/api/checkout".into()).await else {
                return;
            };
            counter.one();
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
                counter.one();
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
        let key = format!("request-{}", unique());
        self.open = Some((by_admin, path.clone(), key.clone()));
        let who = if by_admin { admin } else { &self.who };
        let answer = app.call("POST", &path).token(who).key(key).attempt().await.ok()?;
        assert!(matches!(answer.status, 200 | 201), "{answer}");
        self.open = None;
        Some(self.note(answer.json()))
    }

    /// Repeats the request that had no response.
    async fn repeat(&mut self, app: &TestApp, admin: &Account) {
        let Some((by_admin, path, key)) = self.open.take() else { return };
        let who = if by_admin { admin.clone() } else { self.who.clone() };
        for round in 0..2 {
            let answer = app.call("POST", &path).token(&who).key(&key).await;
            assert!(matches!(answer.status, 200 | 201), "{answer}");
            assert!(round == 0 || answer.is_replayed());
            self.note(answer.json());
        }
    }

    fn note(&mut self, order: Value) -> Value {
        self.orders.retain(|known| known["id"] != order["id"]);
        self.orders.push(order.clone());
        order
    }

    async fn has_what_was_acknowledged(&self, app: &TestApp) {
        let mut known = self.orders.clone();
        known.sort_by_key(|order| std::cmp::Reverse(order["id"].as_str().unwrap().to_owned()));
        assert_eq!(
            app.pages(&self.who, "/api/orders", 100).await,
            known,
            "exactly the acknowledged orders exist"
        );
    }
}

async fn stock_says_what_orders_say(app: &TestApp, admin: &Account, wares: &[String]) {
    let orders = app.pages(admin, "/api/orders?all=true", 100).await;
    for product in wares {
        let pieces = |order: &&Value| -> u64 {
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
                .map(|order| pieces(&order))
                .sum()
        };
        let (reserved, shipped) = (sum(&["pending_payment", "paid"]), sum(&["fulfilled"]));
        assert_eq!(
            app.pieces(admin, product).await,
            [STOCK - shipped, reserved, STOCK - shipped - reserved]
        );
        let movements =
            app.pages(admin, &format!("/api/products/{product}/stock/movements"), 100).await;
        let total = |name: &str| {
            movements.iter().map(|movement| movement[name].as_i64().unwrap()).sum::<i64>() as u64
        };
        assert_eq!((total("on_hand_delta"), total("reserved_delta")), (STOCK - shipped, reserved));
    }
}
