//! Clients that record every request and response for the checker.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use crate::{
    checker::{
        Outcome, Span,
        carts::{self, Change},
        stock,
    },
    cluster::Cluster,
    support::{Account, Call, Progress, Response, TestApp, unique_number},
};

/// The number of changes that each client makes.
pub(crate) const CHANGES: usize = 24;
/// The number of clients of one cart or one product's stock.
pub(crate) const CLIENTS: usize = 3;
/// More than is ever added to one line.
const STEP: usize = 25;

/// Records the requests and responses of clients on all nodes.
pub(crate) struct Recorder<'a> {
    cluster: &'a Cluster,
    /// A logical clock shared by all clients.
    ticks: AtomicU64,
    pub(crate) acknowledged: Progress,
}

enum Reply {
    Done(Response),
    /// Certainly not applied.
    Refused,
    /// The outcome is unknown.
    Unknown,
}

async fn send(call: Call) -> Reply {
    let Ok(response) = call.attempt().await else { return Reply::Unknown };
    if response.status == 200 {
        return Reply::Done(response);
    }
    assert_eq!(response.status, 503, "{response}");
    match response.json()["code"].as_str() {
        Some("store_unavailable" | "overloaded") => Reply::Refused,
        Some("outcome_unknown") => Reply::Unknown,
        _ => panic!("{response}"),
    }
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, ticks: AtomicU64::new(0), acknowledged: Progress::new() }
    }

    fn now(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    /// Requests a change. With `retry_unknown`, an unknown outcome is repeated on any node until it
    /// is known.
    async fn change(
        &self,
        retry_unknown: bool,
        call: impl Fn(&TestApp) -> Call,
    ) -> (Span, Outcome<Response>) {
        let key = format!("change-{}", unique_number());
        let begun = self.now();
        let mut in_doubt = false;
        let outcome = loop {
            match send(call(self.cluster.any_node()).key(&key)).await {
                Reply::Done(response) => break Outcome::Done(response),
                Reply::Refused if !in_doubt => break Outcome::Refused,
                Reply::Unknown if !retry_unknown => break Outcome::Unknown,
                // A refused repeat says nothing about the earlier attempt.
                Reply::Unknown | Reply::Refused => in_doubt = true,
            }
        };
        if matches!(outcome, Outcome::Done(_)) {
            self.acknowledged.increment();
        }
        (Span { begun, ended: self.now() }, outcome)
    }

    /// Reads the current state from one node; `None` without a response.
    async fn read(
        &self,
        node: &TestApp,
        path: &str,
        account: &Account,
    ) -> Option<(Span, Response)> {
        let begun = self.now();
        match send(node.get(path).token(account).header("cache-control", "no-cache")).await {
            Reply::Done(response) => Some((Span { begun, ended: self.now() }, response)),
            Reply::Refused | Reply::Unknown => None,
        }
    }

    /// Adds one unit of each product to the cart.
    pub(crate) async fn begin_cart(
        &self,
        account: &Account,
        product_ids: &[String],
    ) -> carts::History {
        let mut history = carts::History::default();
        for product in product_ids {
            self.change_cart(account, Change::Add(product.clone(), 1), true, &mut history).await;
        }
        history
    }

    /// One client of a cart: adds and sets quantities, and reads the cart after each change.
    pub(crate) async fn run_cart_client(
        &self,
        account: &Account,
        product_ids: &[String],
        client: usize,
    ) -> carts::History {
        let mut history = carts::History::default();
        for n in 0..CHANGES {
            let product = product_ids[(n + client) % product_ids.len()].clone();
            // A `Set` always changes the quantity: each number is used once and adds do not reach
            // the next one.
            let change = match n % 5 {
                4 => Change::Set(product, (STEP * (1 + client + CLIENTS * (n / 5))) as u64),
                _ => Change::Add(product, 1),
            };
            while !self
                .change_cart(account, change.clone(), client.is_multiple_of(2), &mut history)
                .await
            {}
            self.read_cart(self.cluster.any_node(), account, &mut history).await;
        }
        history
    }

    /// Returns whether the change may have applied.
    async fn change_cart(
        &self,
        account: &Account,
        change: Change,
        retry_unknown: bool,
        history: &mut carts::History,
    ) -> bool {
        let (span, outcome) = self
            .change(retry_unknown, |node| match &change {
                Change::Add(product, quantity) => node.add_to_cart(account, product, *quantity),
                Change::Set(product, quantity) => node.update_cart(account, product, *quantity),
            })
            .await;
        let outcome = outcome.map(|response| cart_view(&response));
        let applied = outcome != Outcome::Refused;
        history.changes.push(carts::ChangeRequest { span, change, outcome });
        applied
    }

    /// Reads a cart; returns whether a response arrived.
    pub(crate) async fn read_cart(
        &self,
        node: &TestApp,
        account: &Account,
        history: &mut carts::History,
    ) -> bool {
        let seen = self.read(node, "/api/cart", account).await;
        let seen = seen.map(|(span, response)| carts::Read { span, view: cart_view(&response) });
        history.reads.extend(seen.clone());
        seen.is_some()
    }

    /// One client of a product's stock: changes it and reads it after each change.
    pub(crate) async fn run_stock_client(
        &self,
        admin: &Account,
        product: &str,
        client: usize,
    ) -> stock::History {
        let mut history = stock::History::default();
        for _ in 0..CHANGES {
            // Random enough that no two sums of deltas are equal.
            let delta = rand::random_range(1..1_000_000) * if rand::random() { 1 } else { -1 };
            while !self
                .change_stock(admin, product, delta, client.is_multiple_of(2), &mut history)
                .await
            {}
            self.read_stock(self.cluster.any_node(), admin, product, &mut history).await;
        }
        history
    }

    async fn change_stock(
        &self,
        admin: &Account,
        product: &str,
        delta: i64,
        retry_unknown: bool,
        into: &mut stock::History,
    ) -> bool {
        let reference = format!("delivery-{}", unique_number());
        let body = json!({"delta": delta, "reason": "a delivery", "reference": reference});
        let (span, outcome) =
            self.change(retry_unknown, |node| node.change_stock(admin, product, &body)).await;
        let outcome = outcome.map(|response| stock_level(&response));
        let applied = outcome != Outcome::Refused;
        into.changes.push(stock::ChangeRequest { span, reference, delta, outcome });
        applied
    }

    /// Reads a product's stock; returns whether a response arrived.
    pub(crate) async fn read_stock(
        &self,
        node: &TestApp,
        admin: &Account,
        product: &str,
        into: &mut stock::History,
    ) -> bool {
        let seen = self.read(node, &format!("/api/products/{product}/stock"), admin).await;
        let seen = seen.map(|(span, response)| stock::Read { span, view: stock_level(&response) });
        into.reads.extend(seen.clone());
        seen.is_some()
    }
}

impl<T> Outcome<T> {
    fn map<U>(self, view: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Done(response) => Outcome::Done(view(response)),
            Self::Refused => Outcome::Refused,
            Self::Unknown => Outcome::Unknown,
        }
    }
}

fn cart_view(response: &Response) -> carts::View {
    carts::View {
        version: response.json()["version"].as_u64().unwrap(),
        lines: response.lines().into_iter().collect(),
    }
}

fn stock_level(response: &Response) -> stock::View {
    let stock_level = response.json();
    assert_eq!(
        (&stock_level["reserved"], &stock_level["available"]),
        (&json!(0), &stock_level["on_hand"]),
        "{response}"
    );
    stock::View {
        version: stock_level["version"].as_u64().unwrap(),
        on_hand: stock_level["on_hand"].as_i64().unwrap(),
    }
}
