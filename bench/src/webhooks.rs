//! Deliveries to many webhooks: how long an event takes from its commit to its arrival, and what
//! the shop needs for it, also while some endpoints hang.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::{Value, json};
use souk::domain::clock::{Clock, SystemClock, Timestamp};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    load_generator::{Request, send_once},
    shop_process::ShopProcess,
};

/// The events that each endpoint gets in a second.
const EVENTS_PER_SECOND: u32 = 10;
const ROUND_TIME: Duration = Duration::from_secs(30);
/// Of the endpoints, these hang in the second round.
const HANGING_PERCENT: usize = 10;
/// When nothing has come for this long, everything has come.
const IDLE_AFTER: Duration = Duration::from_secs(2);

/// What has arrived: the delay of each event, in milliseconds.
#[derive(Default)]
struct Arrivals {
    delays: Mutex<Vec<i64>>,
    /// Whether the endpoints whose number ends in a certain way hang.
    hang: AtomicBool,
}

impl Arrivals {
    fn count(&self) -> usize {
        self.delays.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn take(&self) -> Vec<i64> {
        std::mem::take(&mut *self.delays.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub async fn run(endpoints: usize) -> anyhow::Result<()> {
    let shop = ShopProcess::start_with(&[("WEBHOOKS__ALLOW_PRIVATE", "true")])?;
    let arrivals = Arc::new(Arrivals::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let receiver = listener.local_addr()?;
    tokio::spawn(receive(listener, Arc::clone(&arrivals)));
    let product = shop.create_product().await?;
    let admin = shop.admin_token().await?;
    let idle = shop.resident_mib()?;
    for number in 0..endpoints {
        let url = format!("http://{receiver}/{number}");
        let body = json!({"url": url, "types": ["inventory.stock.changed"]}).to_string();
        send_once(shop.address, &Request::post("/api/webhooks", admin, &body)).await?;
    }
    println!("{endpoints} webhooks, {EVENTS_PER_SECOND} events a second to each");
    println!("  memory: {idle:.1} MiB without, {:.1} MiB with them", shop.resident_mib()?);
    for hangs in [false, true] {
        arrivals.hang.store(hangs, Ordering::Relaxed);
        measure(&shop, admin, &product, &arrivals, hangs).await?;
    }
    Ok(())
}

async fn measure(
    shop: &ShopProcess,
    admin: &str,
    product: &str,
    arrivals: &Arrivals,
    hangs: bool,
) -> anyhow::Result<()> {
    let change = json!({"delta": -1, "reason": "sold at the counter"}).to_string();
    let request = Request::post(&format!("/api/products/{product}/stock"), admin, &change);
    let mut timer = tokio::time::interval(Duration::from_secs(1) / EVENTS_PER_SECOND);
    let (began, processor) = (Instant::now(), shop.processor_time()?);
    while began.elapsed() < ROUND_TIME {
        timer.tick().await;
        send_once(shop.address, &request).await?;
    }
    wait_until_idle(arrivals).await;
    let used = shop.processor_time()?.saturating_sub(processor);
    let mut delays = arrivals.take();
    delays.sort_unstable();
    let at = |percent: usize| delays.get(delays.len() * percent / 100).copied().unwrap_or(-1);
    let title =
        if hangs { format!("with {HANGING_PERCENT} % that hang") } else { "all answer".to_owned() };
    println!("  {title}: {} deliveries", delays.len());
    println!("    commit to arrival: median {} ms, p99 {} ms", at(50), at(99));
    let micros = used.as_micros() / delays.len().max(1) as u128;
    println!("    processor: {:.1} s, {micros} µs a delivery", used.as_secs_f64());
    println!("    memory: {:.1} MiB", shop.resident_mib()?);
    Ok(())
}

async fn wait_until_idle(arrivals: &Arrivals) {
    let (mut last, mut since) = (arrivals.count(), Instant::now());
    while since.elapsed() < IDLE_AFTER {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = arrivals.count();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

async fn receive(listener: TcpListener, arrivals: Arc<Arrivals>) -> anyhow::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        let arrivals = Arc::clone(&arrivals);
        tokio::spawn(async move { answer(socket, &arrivals).await });
    }
}

/// Answers the requests of a connection. It ends with an error when the shop closes it.
async fn answer(socket: TcpStream, arrivals: &Arrivals) -> anyhow::Result<()> {
    let mut stream = BufReader::new(socket);
    loop {
        let (mut path, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            anyhow::ensure!(stream.read_line(&mut line).await? > 0, "the connection is closed");
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("POST /") {
                path = rest.split(' ').next().unwrap_or_default().to_owned();
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let number: usize = path.parse()?;
        if arrivals.hang.load(Ordering::Relaxed) && number % 100 < HANGING_PERCENT {
            std::future::pending::<()>().await;
        }
        let event: Value = serde_json::from_slice(&body)?;
        let time = event.get("time").and_then(Value::as_str).context("an event has no time")?;
        let time = Timestamp::parse(time).context("an event has another time")?;
        let delay = SystemClock.now().as_millis() - time.as_millis();
        arrivals.delays.lock().unwrap_or_else(PoisonError::into_inner).push(delay);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
    }
}
