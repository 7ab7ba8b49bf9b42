//! The floods: each is repeated from every flooding address until the siege is over.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::ValueEnum;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    SiegeOptions,
    client::{Client, NO_RESPONSE, next_number},
    report::Statuses,
    setup::{FLOOD_ADDRESSES, PASSWORD, Scene, flood_address, text},
};
use crate::{
    load_generator::{Connection, Request},
    low_priority::low_priority_runtime,
    shop_process::ShopProcess,
};

/// What a stranger does to the shop.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FloodKind {
    /// Opens feeds and never reads.
    Feeds,
    /// Sends request heads one byte a second.
    SlowHeads,
    /// Sends what is not HTTP.
    MalformedHeads,
    /// Registers accounts.
    Registrations,
    /// Tries wrong passwords on the account of a buyer, who goes on to log in.
    WrongLogins,
    /// Updates a cart of 200 lines with long names, each time under a new key.
    KeyedUpdates,
    /// Reserves as many units as possible with new accounts and pays for none.
    Reservations,
    /// Sends bodies of the largest size, and above.
    BigBodies,
    /// Searches for changing words.
    Searches,
}

impl FloodKind {
    pub const ALL: [Self; 9] = [
        Self::Feeds,
        Self::SlowHeads,
        Self::MalformedHeads,
        Self::Registrations,
        Self::WrongLogins,
        Self::KeyedUpdates,
        Self::Reservations,
        Self::BigBodies,
        Self::Searches,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Feeds => "feeds",
            Self::SlowHeads => "slow heads",
            Self::MalformedHeads => "malformed heads",
            Self::Registrations => "registrations",
            Self::WrongLogins => "wrong logins",
            Self::KeyedUpdates => "keyed updates",
            Self::Reservations => "reservations",
            Self::BigBodies => "big bodies",
            Self::Searches => "searches",
        }
    }
}

/// The running floods.
pub struct Floods {
    runtime: Runtime,
    tasks: Vec<JoinHandle<()>>,
    answered: Arc<Mutex<BTreeMap<&'static str, Statuses>>>,
}

/// One flood from one address.
#[derive(Clone)]
struct Flood {
    kind: FloodKind,
    number: u8,
    address: Ipv4Addr,
    server: SocketAddr,
    scene: Arc<Scene>,
    rate: u32,
    over: Arc<AtomicBool>,
    answered: Arc<Mutex<BTreeMap<&'static str, Statuses>>>,
}

pub fn start(
    shop: &ShopProcess,
    scene: &Arc<Scene>,
    options: &SiegeOptions,
    over: &Arc<AtomicBool>,
) -> anyhow::Result<Floods> {
    let runtime = low_priority_runtime()?;
    let answered = Arc::default();
    let mut tasks = Vec::new();
    for number in 0..FLOOD_ADDRESSES {
        for kind in options.floods.iter().copied() {
            let flood = Flood {
                kind,
                number,
                address: flood_address(number),
                server: shop.address,
                scene: Arc::clone(scene),
                rate: options.rate.max(1),
                over: Arc::clone(over),
                answered: Arc::clone(&answered),
            };
            let connections = match kind {
                FloodKind::Feeds => options.feeds,
                FloodKind::SlowHeads => options.slow_heads,
                _ => 1,
            };
            tasks.extend((0..connections).map(|_| runtime.spawn(flood.clone().run())));
        }
    }
    Ok(Floods { runtime, tasks, answered })
}

impl Floods {
    /// Ends the floods. Returns how many responses of each status they received.
    pub async fn finish(self) -> BTreeMap<&'static str, Statuses> {
        for task in self.tasks {
            // Most wait for a response that may never come.
            task.abort();
            drop(task.await);
        }
        self.runtime.shutdown_background();
        std::mem::take(&mut *self.answered.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Flood {
    async fn run(self) {
        match self.kind {
            FloodKind::Feeds => self.hold_feeds().await,
            FloodKind::SlowHeads => self.send_heads_slowly().await,
            FloodKind::MalformedHeads => self.send_malformed_heads().await,
            FloodKind::Reservations => self.reserve().await,
            _ => self.repeat_requests().await,
        }
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn record(&self, status: u16) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered.entry(self.kind.name()).or_default().entry(status).or_default() += 1;
    }

    async fn connect(&self) -> Option<TcpStream> {
        Some(Connection::open_from(self.address, self.server).await.ok()?.into_stream())
    }

    /// Opens a feed, reads its status, and then nothing until the server closes it.
    async fn hold_feeds(&self) {
        while self.goes_on() {
            let mut head = [0; 12];
            let Some(mut stream) = self.connect().await else {
                self.record(NO_RESPONSE);
                sleep(Duration::from_millis(200)).await;
                continue;
            };
            let request = b"GET /api/events HTTP/1.1\r\nhost: x\r\n\r\n";
            let opened = stream.write_all(request).await.is_ok()
                && stream.read_exact(&mut head).await.is_ok();
            let status =
                std::str::from_utf8(&head).ok().and_then(|head| head.get(9..)?.parse().ok());
            let status = status.filter(|_| opened).unwrap_or(NO_RESPONSE);
            self.record(status);
            if status != 200 {
                sleep(Duration::from_millis(200)).await;
                continue;
            }
            while self.goes_on() && stream.writable().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
                // A closed connection refuses what the feed would ignore.
                if stream.write_all(b"\r\n").await.is_err() {
                    break;
                }
            }
        }
    }

    async fn send_heads_slowly(&self) {
        while self.goes_on() {
            let Some(mut stream) = self.connect().await else {
                self.record(NO_RESPONSE);
                sleep(Duration::from_millis(200)).await;
                continue;
            };
            let head = format!("GET / HTTP/1.1\r\nx-slow: {}\r\n\r\n", "x".repeat(4096));
            let mut sent = 0_u64;
            for byte in head.bytes() {
                if !self.goes_on() || stream.write_all(&[byte]).await.is_err() {
                    break;
                }
                sent += 1;
                sleep(Duration::from_secs(1)).await;
            }
            if sent < head.len() as u64 {
                self.record(NO_RESPONSE);
            }
        }
    }

    async fn send_malformed_heads(&self) {
        let mut ticks = self.ticks();
        while self.goes_on() {
            ticks.tick().await;
            let Some(mut stream) = self.connect().await else {
                self.record(NO_RESPONSE);
                continue;
            };
            let mut head = [0; 12];
            let answered = stream.write_all(b"NONSENSE \0 / HTTP/9\r\n: :\r\n\r\n").await.is_ok()
                && stream.read_exact(&mut head).await.is_ok();
            let status =
                std::str::from_utf8(&head).ok().and_then(|head| head.get(9..)?.parse().ok());
            self.record(status.filter(|_| answered).unwrap_or(NO_RESPONSE));
        }
    }

    fn ticks(&self) -> tokio::time::Interval {
        let mut ticks = interval(Duration::from_secs(1) / self.rate);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    async fn repeat_requests(&self) {
        let mut client = Client::new(self.address, self.server);
        let mut ticks = self.ticks();
        while self.goes_on() {
            ticks.tick().await;
            let (status, _) = client.send(&self.next_request()).await;
            self.record(status);
        }
    }

    fn next_request(&self) -> Request {
        let unique = next_number();
        match self.kind {
            FloodKind::Registrations => register(unique),
            FloodKind::WrongLogins => {
                let victim = self.scene.buyers.first().map(|buyer| buyer.email.as_str());
                let body = json!({"email": victim, "password": format!("wrong {unique}")});
                Request::post("/api/auth/login", "", &body.to_string())
            }
            FloodKind::KeyedUpdates => {
                let number = usize::from(self.number);
                let (token, product) = self.scene.guests.get(number).cloned().unwrap_or_default();
                let body = json!({"product_id": product, "quantity": 1 + unique % 900}).to_string();
                let key = unique.to_string();
                let headers = [("content-type", "application/json"), ("idempotency-key", &*key)];
                Request::with_body("PUT", "/api/cart/update", &token, &headers, body.as_bytes())
            }
            FloodKind::BigBodies => {
                // Every second one is above the limit of 64 KiB.
                let size = if unique.is_multiple_of(2) { 60 * 1024 } else { 200 * 1024 };
                let body = format!("{{\"{}\": 1}}", "x".repeat(size));
                Request::post("/api/auth/login", "", &body)
            }
            _ => Request::get(&format!("/api/products?q=tea+leaves+w{unique}&limit=100"), ""),
        }
    }

    /// Registers an account, reserves as many units as it may, and begins again with another one.
    async fn reserve(&self) {
        let mut client = Client::new(self.address, self.server);
        let mut ticks = self.ticks();
        let line = json!({"product_id": self.scene.target, "quantity": 999}).to_string();
        while self.goes_on() {
            ticks.tick().await;
            let (status, account) = client.send_for_json(&register(next_number())).await;
            self.record(status);
            let Ok(token) = text(&account, "token") else { continue };
            let mut accepted = true;
            while accepted && self.goes_on() {
                let key = next_number().to_string();
                let headers = [("content-type", "application/json"), ("idempotency-key", &*key)];
                for request in [
                    Request::post("/api/cart/add", &token, &line),
                    Request::with_body("POST", "/api/checkout", &token, &headers, b"{}"),
                ] {
                    ticks.tick().await;
                    let (status, _) = client.send(&request).await;
                    self.record(status);
                    accepted &= (200..300).contains(&status);
                }
            }
        }
    }
}

fn register(unique: u64) -> Request {
    let email = format!("stranger-{unique}@siege.example");
    let body = json!({"email": email, "password": PASSWORD, "name": "Stranger"});
    Request::post("/api/auth/register", "", &body.to_string())
}
