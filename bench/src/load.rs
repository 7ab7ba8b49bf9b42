//! A load generator that costs little itself: keep-alive connections, requests made up beforehand, answers only skipped over.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A request as it goes over the wire.
#[derive(Clone)]
pub struct Request(Vec<u8>);

impl Request {
    pub fn get(path: &str, token: &str) -> Self {
        Self(
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")
                .into_bytes(),
        )
    }

    pub fn delete(path: &str, token: &str) -> Self {
        Self(
            format!("DELETE {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")
                .into_bytes(),
        )
    }

    /// A checkout of whatever is in the cart, under a key.
    pub fn checkout(token: &str) -> Self {
        let head = "POST /api/checkout HTTP/1.1\r\nhost: x\r\nidempotency-key: once\r\ncontent-type: application/json";
        Self(
            format!("{head}\r\nauthorization: Bearer {token}\r\ncontent-length: 2\r\n\r\n{{}}")
                .into_bytes(),
        )
    }

    pub fn post(path: &str, token: &str, body: &str) -> Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json"
        );
        Self(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
    }
}

/// One connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// Sends a request and reads its answer, which must be a success; the body stands at the buffer's end.
    async fn request_ok(&mut self, request: &Request) -> anyhow::Result<usize> {
        let (status, start) = self.exchange(request).await?;
        if !(200..300).contains(&status) {
            bail!("the server answered: {}", String::from_utf8_lossy(&self.buffer));
        }
        Ok(start)
    }

    /// The same, whatever the answer is; its status too.
    pub async fn exchange(&mut self, request: &Request) -> anyhow::Result<(u16, usize)> {
        self.stream.write_all(&request.0).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed the connection");
            }
            let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
                continue;
            };
            let head = std::str::from_utf8(self.buffer.get(..end).unwrap_or_default())?;
            let status = head
                .strip_prefix("HTTP/1.1 ")
                .and_then(|rest| rest.get(..3))
                .context("no status")?
                .parse()?;
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .context("no length")?;
            let total = end + 4 + length.parse::<usize>()?;
            if self.buffer.len() >= total {
                return Ok((status, end + 4));
            }
        }
    }
}

/// Sends one request and gives its answer's body.
pub async fn send_once(address: SocketAddr, request: &Request) -> anyhow::Result<Vec<u8>> {
    let mut connection = Connection::open(address).await?;
    let start = connection.request_ok(request).await?;
    Ok(connection.buffer.split_off(start))
}

/// Sends each request once, over `connections` connections; how long each answer took.
pub async fn send_each_once(
    address: SocketAddr,
    requests: Vec<Request>,
    connections: usize,
) -> anyhow::Result<Vec<Duration>> {
    let share = requests.len().div_ceil(connections.max(1)).max(1);
    let tasks: Vec<_> = requests
        .chunks(share)
        .map(<[Request]>::to_vec)
        .map(|requests| {
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await?;
                let mut took = Vec::with_capacity(requests.len());
                for request in &requests {
                    let began = Instant::now();
                    connection.request_ok(request).await?;
                    took.push(began.elapsed());
                }
                anyhow::Ok(took)
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await??);
    }
    Ok(took)
}

/// Sends each request again and again over a connection of its own for `time`; answers a second.
pub async fn measure_rate(
    address: SocketAddr,
    requests: &[Request],
    time: Duration,
) -> anyhow::Result<f64> {
    let began = Instant::now();
    let counts = repeat_requests(address, requests, time, |count: &mut u32, _| *count += 1).await?;
    let count: f64 = counts.into_iter().map(f64::from).sum();
    Ok(count / began.elapsed().as_secs_f64())
}

/// The same; all answers' bodies, and when they came.
pub async fn collect_responses(
    address: SocketAddr,
    requests: &[Request],
    time: Duration,
) -> anyhow::Result<Vec<(Vec<u8>, Instant)>> {
    let note = |answers: &mut Vec<_>, body: &[u8]| answers.push((body.to_vec(), Instant::now()));
    Ok(repeat_requests(address, requests, time, note).await?.into_iter().flatten().collect())
}

/// The same; for each connection, what `note` makes of its answers' bodies.
async fn repeat_requests<T: Default + Send + 'static>(
    address: SocketAddr,
    requests: &[Request],
    time: Duration,
    note: impl Fn(&mut T, &[u8]) + Copy + Send + 'static,
) -> anyhow::Result<Vec<T>> {
    let over = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = requests
        .iter()
        .cloned()
        .map(|request| {
            let over = Arc::clone(&over);
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await?;
                let mut noted = T::default();
                while !over.load(Ordering::Relaxed) {
                    let start = connection.request_ok(&request).await?;
                    note(&mut noted, connection.buffer.get(start..).unwrap_or_default());
                }
                anyhow::Ok(noted)
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let mut noted = Vec::new();
    for task in tasks {
        noted.push(task.await??);
    }
    Ok(noted)
}
