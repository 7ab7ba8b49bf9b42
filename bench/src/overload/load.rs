//! Two kinds of load, and what comes back.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::MissedTickBehavior};

use super::percentile;
use crate::load_generator::{Connection, Request};

/// A status that stands for a connection that was refused or closed.
const NO_RESPONSE: u16 = 0;

/// Requests that have no answer by then count as such.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The latencies of all responses, by status.
#[derive(Default)]
pub struct Responses(BTreeMap<u16, Vec<Duration>>);

impl Responses {
    fn record(&mut self, status: u16, latency: Duration) {
        self.0.entry(status).or_default().push(latency);
    }

    fn extend(&mut self, other: Self) {
        for (status, latencies) in other.0 {
            self.0.entry(status).or_default().extend(latencies);
        }
    }

    fn sorted(mut self) -> Self {
        self.0.values_mut().for_each(|latencies| latencies.sort_unstable());
        self
    }

    /// How many responses of a status there were in a second.
    pub fn per_second(&self, status: u16, time: Duration) -> f64 {
        let count = self.0.get(&status).map_or(0, Vec::len);
        f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / time.as_secs_f64()
    }

    pub fn print(&self, time: Duration) {
        for (status, latencies) in &self.0 {
            let slowest = latencies.last().copied().unwrap_or_default();
            let [median, p99] = [50, 99].map(|percent| percentile(latencies, percent));
            let name = if *status == NO_RESPONSE { "none".to_owned() } else { status.to_string() };
            println!(
                "    {name}: {:.0}/s, median {median:.2?}, p99 {p99:.2?}, max {slowest:.2?}",
                self.per_second(*status, time)
            );
        }
    }
}

/// Sends each request over a connection of its own, again and again, each time when the answer is
/// there.
pub async fn send_in_turn(
    address: SocketAddr,
    requests: Vec<Request>,
    time: Duration,
) -> anyhow::Result<Responses> {
    let end = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for request in requests {
        tasks.spawn(async move {
            let mut responses = Responses::default();
            let mut connection = None;
            while Instant::now() < end {
                let began = Instant::now();
                let status = send(&mut connection, address, &request).await;
                responses.record(status, began.elapsed());
            }
            responses
        });
    }
    collect(tasks).await
}

/// Sends the requests in turn, `rate` a second, each over a new connection.
pub async fn send_at_rate(
    address: SocketAddr,
    requests: Vec<Request>,
    rate: f64,
    time: Duration,
) -> anyhow::Result<Responses> {
    let end = Instant::now() + time;
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate.max(1.0)));
    // What was missed is sent late, so that the rate holds.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut tasks = JoinSet::new();
    for request in requests.iter().cycle() {
        ticks.tick().await;
        if Instant::now() >= end {
            break;
        }
        let request = request.clone();
        tasks.spawn(async move {
            let mut responses = Responses::default();
            let began = Instant::now();
            let status = send(&mut None, address, &request).await;
            responses.record(status, began.elapsed());
            responses
        });
    }
    collect(tasks).await
}

async fn collect(mut tasks: JoinSet<Responses>) -> anyhow::Result<Responses> {
    let mut all = Responses::default();
    while let Some(responses) = tasks.join_next().await {
        all.extend(responses?);
    }
    Ok(all.sorted())
}

/// Sends a request over the connection, or a new one. Returns the status.
async fn send(connection: &mut Option<Connection>, address: SocketAddr, request: &Request) -> u16 {
    let exchange = async {
        let mut open = match connection.take() {
            Some(open) => open,
            None => Connection::open(address).await?,
        };
        let (status, _) = open.exchange(request).await?;
        *connection = Some(open);
        anyhow::Ok(status)
    };
    match tokio::time::timeout(TIMEOUT, exchange).await {
        Ok(Ok(status)) => status,
        _ => NO_RESPONSE,
    }
}
