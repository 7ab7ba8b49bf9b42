//! Overload: what happens to requests, probes and memory when more is asked than can be served.
//!
//! On MongoDB if SOUK_TEST_MONGO_URI is set, or else on the embedded store. Two kinds of load:
//!
//! - Changes of carts. Each connection sends the next request when it has the answer. 256 of them
//!   are about what can be served; there are ten times as many, and then more than all queues hold.
//! - Logins, which cost so much that ten times what can be served can be sent at its exact rate,
//!   whether earlier ones were answered or not.
//!
//! The load comes from threads of the lowest priority. `/livez` is asked meanwhile, on the port of
//! `ops.bind`, by a thread that has the usual one.

mod load;
mod probe;

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use serde_json::json;
use souk::domain::{account::Role, ids::EventId};

use self::{
    load::{Responses, send_at_rate, send_in_turn},
    probe::Probes,
};
use crate::{
    load_generator::{Request, send_each_once},
    low_priority::low_priority_runtime,
    mongo::connect,
    shop_process::{ShopProcess, new_user_token},
};

/// The numbers of connections: a load within capacity, ten times as many, and more than the queues
/// hold. The last runs twice, since the first run also allocates the state of each user.
const CONNECTION_COUNTS: [usize; 4] = [256, 2560, 15_000, 15_000];

/// Clients that log in one after the other, to find out how many logins can be served.
const LOGIN_CLIENTS: usize = 8;

/// How many times the load that can be served is sent.
const OVERLOAD: f64 = 10.0;

/// The cost of passwords. The default is 12, of which two cores serve about seven a second.
const BCRYPT_COST: &str = "10";

const ROUND_TIME: Duration = Duration::from_secs(20);

/// What point 9 of issue 13 asks of `/livez`.
const PROBE_GOAL: Duration = Duration::from_millis(100);

const PASSWORD: &str = "a public password, for benchmarks only";

/// The shop, and the port that is probed.
struct Target {
    shop: ShopProcess,
    ops: SocketAddr,
}

pub async fn run() -> anyhow::Result<()> {
    let uri = std::env::var("SOUK_TEST_MONGO_URI").ok();
    let name = format!("souk_bench_{}", EventId::new().as_uuid().simple());
    let ops = free_address()?;
    let bind = ops.to_string();
    let mut settings =
        vec![("OPS__BIND", &*bind), ("AUTH__BCRYPT_COST", BCRYPT_COST), ("LIMITS__LOGIN", "0")];
    if let Some(uri) = &uri {
        settings.extend([
            ("STORE__KIND", "mongodb"),
            ("STORE__URI", uri.as_str()),
            ("STORE__DATABASE", name.as_str()),
        ]);
    }
    let target = Target { shop: ShopProcess::start_with(&settings)?, ops };
    println!("{}", if uri.is_some() { "MongoDB" } else { "embedded store" });
    let held = overload_carts(&target).await? & overload_logins(&target).await?;
    println!("/livez within {PROBE_GOAL:?} in every round: {}", if held { "yes" } else { "NO" });
    drop(target);
    if let Some(uri) = uri {
        connect(&uri).await?.database(&name).drop().await?;
    }
    Ok(())
}

/// An address that is free now.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Returns whether every probe was answered in time.
async fn overload_carts(target: &Target) -> anyhow::Result<bool> {
    let product = target.shop.create_product().await?;
    let add = json!({"product_id": product, "quantity": 1}).to_string();
    println!("POST /api/cart/add, one user per connection, rounds of {ROUND_TIME:?}");
    let most = CONNECTION_COUNTS.into_iter().max().unwrap_or(0);
    let requests = (0..most)
        .map(|_| {
            let token = new_user_token(Role::Customer)?;
            Ok(Request::post("/api/cart/add", &token, &add))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut held = true;
    for connections in CONNECTION_COUNTS {
        println!("  {connections} connections");
        let requests = requests.iter().take(connections).cloned().collect();
        let load = send_in_turn(target.shop.address, requests, ROUND_TIME);
        held &= measure(target, load).await?.1;
    }
    Ok(held)
}

/// Returns whether every probe was answered in time.
async fn overload_logins(target: &Target) -> anyhow::Result<bool> {
    let address = target.shop.address;
    let emails: Vec<_> = (0..100).map(|number| format!("{number}@bench.example")).collect();
    let registrations = emails.iter().map(|email| {
        let body = json!({"email": email, "password": PASSWORD, "name": "Ada"}).to_string();
        Request::post("/api/auth/register", "", &body)
    });
    send_each_once(address, registrations.collect(), 2).await?;
    let logins: Vec<_> = emails
        .iter()
        .map(|email| {
            let body = json!({"email": email, "password": PASSWORD}).to_string();
            Request::post("/api/auth/login", "", &body)
        })
        .collect();
    println!("POST /api/auth/login, passwords of cost {BCRYPT_COST}, rounds of {ROUND_TIME:?}");
    println!("  {LOGIN_CLIENTS} clients, one login after the other");
    let few = logins.iter().take(LOGIN_CLIENTS).cloned().collect();
    let (quiet, quiet_held) = measure(target, send_in_turn(address, few, ROUND_TIME)).await?;
    let served = quiet.per_second(200, ROUND_TIME);
    println!("  {:.0} logins/s, {OVERLOAD} times what was served", served * OVERLOAD);
    let load = send_at_rate(address, logins, served * OVERLOAD, ROUND_TIME);
    let (_, overload_held) = measure(target, load).await?;
    Ok(quiet_held & overload_held)
}

/// Runs a load on threads of the lowest priority. Prints and returns its responses, and whether
/// every probe was answered in time.
async fn measure(
    target: &Target,
    load: impl Future<Output = anyhow::Result<Responses>> + Send + 'static,
) -> anyhow::Result<(Responses, bool)> {
    let runtime = low_priority_runtime()?;
    let probes = Probes::start(target.ops);
    let (responses, memory) =
        tokio::join!(async { runtime.spawn(load).await? }, sample_memory(&target.shop));
    runtime.shutdown_background();
    let probes = probes.finish()?;
    let responses = responses?;
    responses.print(ROUND_TIME);
    let slowest = probes.last().copied().context("there were no probes")?;
    let p99 = percentile(&probes, 99);
    println!("    /livez: {} probes, p99 {p99:.2?}, max {slowest:.2?}", probes.len());
    println!("    resident MiB, every 2 s: {}", memory?.join(" "));
    Ok((responses, slowest <= PROBE_GOAL))
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}

async fn sample_memory(shop: &ShopProcess) -> anyhow::Result<Vec<String>> {
    let mut samples = Vec::new();
    for _ in 0..10 {
        tokio::time::sleep(ROUND_TIME / 10).await;
        samples.push(format!("{:.0}", shop.resident_mib()?));
    }
    Ok(samples)
}
