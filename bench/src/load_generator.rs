//! A load generator with little overhead: keep-alive connections, requests that are serialized in
//! advance, and responses that are not parsed beyond status and length.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// A serialized HTTP request.
#[derive(Clone)]
pub struct Request(Vec<u8>);

impl Request {
    pub fn get(path: &str, token: &str) -> Self {
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n");
        Self(match token {
            "" => format!("{head}\r\n").into_bytes(),
            token => format!("{head}authorization: Bearer {token}\r\n\r\n").into_bytes(),
        })
    }

    pub fn delete(path: &str, token: &str) -> Self {
        Self(
            format!("DELETE {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")
                .into_bytes(),
        )
    }

    /// A checkout of the whole cart, with an idempotency key.
    pub fn checkout(token: &str) -> Self {
        let head = "POST /api/checkout HTTP/1.1\r\nhost: x\r\nidempotency-key: once\r\n\
                    content-type: application/json";
        Self(
            format!("{head}\r\nauthorization: Bearer {token}\r\ncontent-length: 2\r\n\r\n{{}}")
                .into_bytes(),
        )
    }

    pub fn post(path: &str, token: &str, body: &str) -> Self {
        let headers = [("content-type", "application/json")];
        Self::with_body("POST", path, token, &headers, body.as_bytes())
    }

    /// A request with a body. An empty token sends none.
    pub fn with_body(
        method: &str,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Self {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n");
        if !token.is_empty() {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        Self([head.as_bytes(), body].concat())
    }
}

/// A keep-alive connection and the bytes of its last response.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        Self::new(TcpStream::connect(address).await?)
    }

    /// Connects from a chosen address of this machine.
    pub async fn open_from(local: Ipv4Addr, address: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((local, 0).into())?;
        Self::new(socket.connect(address).await?)
    }

    fn new(stream: TcpStream) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// The connection as bytes.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// The last response from `start` on.
    pub fn body_from(&self, start: usize) -> Vec<u8> {
        self.buffer.get(start..).unwrap_or_default().to_vec()
    }

    /// Sends a request and reads the response, which must be 2xx. Returns where the body starts in
    /// the buffer.
    async fn request_ok(&mut self, request: &Request) -> anyhow::Result<usize> {
        let (status, start) = self.exchange(request).await?;
        if !(200..300).contains(&status) {
            bail!("the server responded: {}", String::from_utf8_lossy(&self.buffer));
        }
        Ok(start)
    }

    /// Sends a request and reads the response. Returns its status and where the body starts.
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
                .context("the response has no status")?
                .parse()?;
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .context("the response has no content-length")?;
            let total = end + 4 + length.parse::<usize>()?;
            if self.buffer.len() >= total {
                return Ok((status, end + 4));
            }
        }
    }
}

/// Sends one request over a new connection and returns the response's body.
pub async fn send_once(address: SocketAddr, request: &Request) -> anyhow::Result<Vec<u8>> {
    let mut connection = Connection::open(address).await?;
    let start = connection.request_ok(request).await?;
    Ok(connection.buffer.split_off(start))
}

/// Sends each request once, over `connections` connections. Returns the latency of each.
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
                let mut latencies = Vec::with_capacity(requests.len());
                for request in &requests {
                    let started = Instant::now();
                    connection.request_ok(request).await?;
                    latencies.push(started.elapsed());
                }
                anyhow::Ok(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(latencies)
}

/// Repeats each request over a connection of its own for `time`. Returns responses per second.
pub async fn measure_rate(
    address: SocketAddr,
    requests: &[Request],
    time: Duration,
) -> anyhow::Result<f64> {
    let started = Instant::now();
    let counts = repeat_requests(address, requests, time, |count: &mut u32, _| *count += 1).await?;
    let count: f64 = counts.into_iter().map(f64::from).sum();
    Ok(count / started.elapsed().as_secs_f64())
}

/// Repeats each request over a connection of its own for `time`. Returns every response's body and
/// its time of arrival.
pub async fn collect_responses(
    address: SocketAddr,
    requests: &[Request],
    time: Duration,
) -> anyhow::Result<Vec<(Vec<u8>, Instant)>> {
    let record =
        |responses: &mut Vec<_>, body: &[u8]| responses.push((body.to_vec(), Instant::now()));
    Ok(repeat_requests(address, requests, time, record).await?.into_iter().flatten().collect())
}

/// Repeats each request over a connection of its own for `time`. `record` adds each response's body
/// to the result of its connection.
async fn repeat_requests<T: Default + Send + 'static>(
    address: SocketAddr,
    requests: &[Request],
    time: Duration,
    record: impl Fn(&mut T, &[u8]) + Copy + Send + 'static,
) -> anyhow::Result<Vec<T>> {
    let over = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = requests
        .iter()
        .cloned()
        .map(|request| {
            let over = Arc::clone(&over);
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await?;
                let mut recorded = T::default();
                while !over.load(Ordering::Relaxed) {
                    let start = connection.request_ok(&request).await?;
                    record(&mut recorded, connection.buffer.get(start..).unwrap_or_default());
                }
                anyhow::Ok(recorded)
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let mut recorded = Vec::new();
    for task in tasks {
        recorded.push(task.await??);
    }
    Ok(recorded)
}
