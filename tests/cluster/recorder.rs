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
    support::{Account, Answer, Call, Progress, TestApp, unique},
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

enum Heard {
    Done(Answer),
    /// Certainly not applied.
    Refused,
    /// The outcome is unknown.
    Unknown,
}

async fn ask(call: Call) -> Heard {
    let Ok(answer) = call.attempt().await else { return Heard::Unknown };
    if answer.status == 200 {
        return Heard::Done(answer);
    }
    assert_eq!(answer.status, 503, "{answer}");
    match answer.json()["code"].as_str() {
        Some("store_unavailable" | "overloaded") => Heard::Refused,
        Some("outcome_unknown") => Heard::Unknown,
        _ => panic!("{answer}"),
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
        stubborn: bool,
        call: impl Fn(&TestApp) -> Call,
    ) -> (Span, Outcome<Answer>) {
        let key = format!("change-{}", unique());
        let begun = self.now();
        let mut in_doubt = false;
        let outcome = loop {
            match ask(call(self.cluster.any()).key(&key)).await {
                Heard::Done(answer) => break Outcome::Done(answer),
                Heard::Refused if !in_doubt => break Outcome::Refused,
                Heard::Unknown if !stubborn => break Outcome::Unknown,
                // A refused repeat says nothing about the earlier attempt.
                Heard::Unknown | Heard::Refused => in_doubt = true,
            }
        };
        if matches!(outcome, Outcome::Done(_)) {
            self.acknowledged.one();
        }
        (Span { begun, ended: self.now() }, outcome)
    }

    /// Reads the current state from one node; `None` without a response.
    async fn read(&self, node: &TestApp, path: &str, who: &Account) -> Option<(Span, Answer)> {
        let begun = self.now();
        match ask(node.get(path).token(who).header("cache-control", "no-cache")).await {
            Heard::Done(answer) => Some((Span { begun, ended: self.now() }, answer)),
            Heard::Refused | Heard::Unknown => None,
        }
    }

    /// Adds one unit of each product to the cart.
    pub(crate) async fn begin_cart(&self, who: &Account, wares: &[String]) -> carts::History {
        let mut history = carts::History::default();
        for product in wares {
            self.change_cart(who, Change::Add(product.clone(), 1), true, &mut history).await;
        }
        history
    }

    /// One client of a cart: adds and sets quantities, and reads the cart after each change.
    pub(crate) async fn shop(
        &self,
        who: &Account,
        wares: &[String],
        client: usize,
    ) -> carts::History {
        let mut history = carts::History::default();
        for n in 0..CHANGES {
            let product = wares[(n + client) % wares.len()].clone();
            // A `Set` always changes the quantity: each number is used once and adds do not reach
            // the next one.
            let change = match n % 5 {
                4 => Change::Set(product, (STEP * (1 + client + CLIENTS * (n / 5))) as u64),
                _ => Change::Add(product, 1),
            };
            while !self
                .change_cart(who, change.clone(), client.is_multiple_of(2), &mut history)
                .await
            {}
            self.look_into_cart(self.cluster.any(), who, &mut history).await;
        }
        history
    }

    /// Returns whether the change may have applied.
    async fn change_cart(
        &self,
        who: &Account,
        change: Change,
        stubborn: bool,
        history: &mut carts::History,
    ) -> bool {
        let (span, outcome) = self
            .change(stubborn, |node| match &change {
                Change::Add(product, quantity) => node.add(who, product, *quantity),
                Change::Set(product, quantity) => node.update(who, product, *quantity),
            })
            .await;
        let outcome = outcome.map(|answer| cart(&answer));
        let made = outcome != Outcome::Refused;
        history.changes.push(carts::Asked { span, change, outcome });
        made
    }

    /// Reads a cart; returns whether a response arrived.
    pub(crate) async fn look_into_cart(
        &self,
        node: &TestApp,
        who: &Account,
        history: &mut carts::History,
    ) -> bool {
        let seen = self.read(node, "/api/cart", who).await;
        let seen = seen.map(|(span, answer)| carts::Read { span, shown: cart(&answer) });
        history.reads.extend(seen.clone());
        seen.is_some()
    }

    /// One client of a product's stock: changes it and reads it after each change.
    pub(crate) async fn restock(
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
            self.look_at_stock(self.cluster.any(), admin, product, &mut history).await;
        }
        history
    }

    async fn change_stock(
        &self,
        admin: &Account,
        product: &str,
        delta: i64,
        stubborn: bool,
        into: &mut stock::History,
    ) -> bool {
        let reference = format!("delivery-{}", unique());
        let body = json!({"delta": delta, "reason": "a delivery", "reference": reference});
        let (span, outcome) =
            self.change(stubborn, |node| node.change_stock(admin, product, &body)).await;
        let outcome = outcome.map(|answer| level(&answer));
        let made = outcome != Outcome::Refused;
        into.changes.push(stock::Asked { span, reference, delta, outcome });
        made
    }

    /// Reads a product's stock; returns whether a response arrived.
    pub(crate) async fn look_at_stock(
        &self,
        node: &TestApp,
        admin: &Account,
        product: &str,
        into: &mut stock::History,
    ) -> bool {
        let seen = self.read(node, &format!("/api/products/{product}/stock"), admin).await;
        let seen = seen.map(|(span, answer)| stock::Read { span, shown: level(&answer) });
        into.reads.extend(seen.clone());
        seen.is_some()
    }
}

impl<T> Outcome<T> {
    fn map<U>(self, shown: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Done(answer) => Outcome::Done(shown(answer)),
            Self::Refused => Outcome::Refused,
            Self::Unknown => Outcome::Unknown,
        }
    }
}

fn cart(answer: &Answer) -> carts::Shown {
    carts::Shown {
        version: answer.json()["version"].as_u64().unwrap(),
        lines: answer.lines().into_iter().collect(),
    }
}

fn level(answer: &Answer) -> stock::Shown {
    let level = answer.json();
    assert_eq!(
        (&level["reserved"], &level["available"]),
        (&json!(0), &level["on_hand"]),
        "{answer}"
    );
    stock::Shown {
        version: level["version"].as_u64().unwrap(),
        on_hand: level["on_hand"].as_i64().unwrap(),
    }
}
