//! Several nodes on one MongoDB replica set: whether a node that is added makes the cluster faster.
//!
//! Each round starts clusters of 1, 2, 4 and 8 `souk` processes in turn, each on a new database,
//! and runs every load on each of them. The connections are spread evenly over the nodes, and each
//! one sends its next request when the previous response has arrived. A user stays on one node.
//! Figures of a round are compared with those of the first node count in the same round.

mod cluster;
mod driver;
mod options;
mod report;
mod workload;

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use mongodb::{Client, bson::doc};

use self::{
    cluster::Cluster,
    driver::measure_window,
    options::ScaleOptions,
    report::{Measurement, print_report},
    workload::prepare_requests,
};
use crate::{delay_proxy::DelayProxy, mongo::connect};

const ROUND_TRIPS: usize = 20;

pub async fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let program = ["souk-bench scale".to_owned()];
    let options = ScaleOptions::parse_from(
        program.iter().map(String::as_str).chain(arguments.iter().copied()),
    );
    options.check()?;
    let uri =
        std::env::var("SOUK_TEST_MONGO_URI").context("SOUK_TEST_MONGO_URI names no replica set")?;
    let client = connect(&uri).await?;
    print_conditions(&options);
    let proxy = match options.delay() {
        Some(delay) => Some(start_proxy(&client, &uri, delay).await?),
        None => None,
    };
    let node_uri = proxy.as_ref().map_or(uri.as_str(), |(_, uri)| uri);
    let mut measurements = Vec::new();
    for round in 0..options.rounds {
        for &nodes in &options.nodes {
            let cluster = Cluster::start(&client, node_uri, nodes, &options).await?;
            let done = measure_cluster(&cluster, round, &options, &mut measurements).await;
            cluster.stop().await?;
            done.with_context(|| format!("round {}, {nodes} nodes", round + 1))?;
        }
        eprintln!("round {} of {} is done", round + 1, options.rounds);
    }
    print_report(&options, &measurements);
    Ok(())
}

fn print_conditions(options: &ScaleOptions) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    println!(
        "{} rounds of {} s after {} s of warm-up; {cores} cores, load average at the start {load}",
        options.rounds, options.seconds, options.warm_up
    );
    println!("each figure: median (min to max); \"times\" compares with the same round");
}

async fn measure_cluster(
    cluster: &Cluster,
    round: usize,
    options: &ScaleOptions,
    measurements: &mut Vec<Measurement>,
) -> anyhow::Result<()> {
    for &load in &options.loads {
        for &connections in &options.connections {
            let time = options.warm_up() + options.window();
            let requests = prepare_requests(cluster, load, connections, time).await?;
            let window =
                measure_window(cluster, requests, options.warm_up(), options.window()).await?;
            let nodes = cluster.nodes().len();
            measurements.push(Measurement { round, nodes, load, connections, window });
        }
    }
    Ok(())
}

/// Starts a proxy in front of the only member, and measures the round trip through it.
async fn start_proxy(
    client: &Client,
    uri: &str,
    delay: Duration,
) -> anyhow::Result<(DelayProxy, String)> {
    let hello = client.database("admin").run_command(doc! { "hello": 1 }).await?;
    let member = hello.get_str("me").context("the server is in no replica set")?;
    anyhow::ensure!(
        hello.get_array("hosts")?.len() == 1,
        "--delay-ms needs a replica set with one member"
    );
    anyhow::ensure!(
        uri.contains(member),
        "--delay-ms needs {member} in SOUK_TEST_MONGO_URI, as the replica set names it"
    );
    let proxy = DelayProxy::start(member, delay).await?;
    let host = proxy.host();
    let direct = Client::with_uri_str(format!("mongodb://{host}/?directConnection=true")).await?;
    println!(
        "a proxy adds {delay:?} each way: a hello takes {:.2?}, {:.2?} without the proxy",
        median_round_trip(&direct).await?,
        median_round_trip(client).await?
    );
    let uri = uri.replace(member, host);
    Ok((proxy, uri))
}

async fn median_round_trip(client: &Client) -> anyhow::Result<Duration> {
    let mut took = Vec::new();
    for _ in 0..ROUND_TRIPS {
        let began = Instant::now();
        client.database("admin").run_command(doc! { "hello": 1 }).await?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    Ok(took[ROUND_TRIPS / 2])
}
