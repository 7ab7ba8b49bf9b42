//! Closed-loop clients, and the figures of a window of time in their work.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    cluster::{Cluster, Usage},
    workload::Requests,
};
use crate::load_generator::Connection;

/// A client's pause after an error, so that refusals do not become the load.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

/// The figures of one measurement.
pub struct Window {
    pub length: Duration,
    /// Successful responses a second.
    pub rate: f64,
    /// Milliseconds, of the successful requests that were sent in the window.
    pub p50: f64,
    pub p99: f64,
    /// The successful responses of the slowest node, divided by an even share of all.
    pub slowest_share: f64,
    /// Of all transactions that ended, the percentage that aborted.
    pub aborted_percent: f64,
    pub aborted_rate: f64,
    /// Microseconds of mongod's processor time for each successful response.
    pub mongod_time: f64,
    /// The same of all nodes.
    pub nodes_time: f64,
    /// Failed requests by status, `connection` for a lost connection.
    pub errors: BTreeMap<String, usize>,
}

/// One request and its response.
struct Exchange {
    sent: Instant,
    received: Instant,
    /// `None` if the connection failed.
    status: Option<u16>,
}

impl Exchange {
    fn is_success(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// Tells the clients to stop, and the caller that a client has nothing left to send.
#[derive(Default)]
struct Signals {
    stop: AtomicBool,
    exhausted: Notify,
}

/// Runs the clients through the warm-up and the window. The window ends early when a node's
/// clients have nothing left to send.
pub async fn measure_window(
    cluster: &Cluster,
    requests: Vec<Vec<Requests>>,
    warm_up: Duration,
    length: Duration,
) -> anyhow::Result<Window> {
    let signals = Arc::new(Signals::default());
    let clients: Vec<Vec<JoinHandle<Vec<Exchange>>>> = cluster
        .nodes()
        .iter()
        .zip(requests)
        .map(|(node, requests)| {
            let client =
                |requests| tokio::spawn(run_client(node.address, requests, Arc::clone(&signals)));
            requests.into_iter().map(client).collect()
        })
        .collect();
    sleep(warm_up).await;
    let (before, start) = (cluster.usage().await, Instant::now());
    // The timeout is the normal end.
    drop(timeout(length, signals.exhausted.notified()).await);
    let (end, after) = (Instant::now(), cluster.usage().await);
    signals.stop.store(true, Ordering::Relaxed);
    let mut exchanges = Vec::new();
    for clients in clients {
        let mut of_node = Vec::new();
        for client in clients {
            of_node.extend(client.await?);
        }
        exchanges.push(of_node);
    }
    Ok(summarize(&exchanges, (start, end), (before?, after?)))
}

async fn run_client(
    address: SocketAddr,
    requests: Requests,
    signals: Arc<Signals>,
) -> Vec<Exchange> {
    let (mut exchanges, mut connection) = (Vec::new(), None);
    while !signals.stop.load(Ordering::Relaxed) {
        let Some(request) = requests.next() else {
            signals.exhausted.notify_one();
            break;
        };
        let sent = Instant::now();
        if connection.is_none() {
            connection = Connection::open(address).await.ok();
        }
        let status = match &mut connection {
            Some(open) => open.exchange(request).await.ok().map(|(status, _)| status),
            None => None,
        };
        if status.is_none() {
            connection = None;
        }
        let exchange = Exchange { sent, received: Instant::now(), status };
        let failed = !exchange.is_success();
        exchanges.push(exchange);
        if failed {
            sleep(PAUSE_AFTER_ERROR).await;
        }
    }
    exchanges
}

fn summarize(
    exchanges: &[Vec<Exchange>],
    (start, end): (Instant, Instant),
    (before, after): (Usage, Usage),
) -> Window {
    let within = |instant: Instant| (start..end).contains(&instant);
    let successes = |of_node: &Vec<Exchange>| {
        of_node.iter().filter(|one| one.is_success() && within(one.received)).count() as f64
    };
    let shares: Vec<f64> = exchanges.iter().map(successes).collect();
    let (count, seconds) = (shares.iter().sum::<f64>(), (end - start).as_secs_f64());
    let mut took = Vec::new();
    let mut errors = BTreeMap::new();
    for one in exchanges.iter().flatten() {
        if one.is_success() {
            if within(one.sent) {
                took.push((one.received - one.sent).as_secs_f64() * 1000.0);
            }
        } else if within(one.received) {
            let status = one.status.map_or("connection".to_owned(), |status| status.to_string());
            *errors.entry(status).or_default() += 1;
        }
    }
    took.sort_by(f64::total_cmp);
    let percentile = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or(f64::NAN);
    let aborted = after.aborted_transactions - before.aborted_transactions;
    let committed = after.committed_transactions - before.committed_transactions;
    Window {
        length: end - start,
        rate: count / seconds,
        p50: percentile(50),
        p99: percentile(99),
        slowest_share: shares.iter().copied().fold(f64::INFINITY, f64::min) * shares.len() as f64
            / count,
        aborted_percent: 100.0 * aborted / (aborted + committed),
        aborted_rate: aborted / seconds,
        mongod_time: (after.mongod_time - before.mongod_time) / count,
        nodes_time: (after.nodes_time - before.nodes_time) / count,
        errors,
    }
}
