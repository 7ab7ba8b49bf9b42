//! What a node takes to serve honest buyers, for the resource requests of an orchestrator.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use souk::domain::ids::EventId;

use super::{buyers::Buyers, measure, setup::Scene};
use crate::{mongo::connect, shop_process::ShopProcess};

/// Measures the processor time and memory of a node while buyers log in, browse, buy and pay; on
/// MongoDB if SOUK_TEST_MONGO_URI is set, or else on the embedded store. Passwords have the default
/// cost.
#[derive(Parser)]
#[command(name = "souk-bench node")]
struct NodeOptions {
    /// The number of buyers; each sends the next request 100 ms after an answer.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=200))]
    buyers: u8,
    /// Seconds of the measurement.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

pub async fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let program = ["souk-bench node"];
    let options = NodeOptions::parse_from(program.iter().chain(arguments).copied());
    let uri = std::env::var("SOUK_TEST_MONGO_URI").ok();
    let name = format!("souk_bench_{}", EventId::new().as_uuid().simple());
    let mut settings = vec![("AUTH__BCRYPT_COST", "12")];
    if let Some(uri) = &uri {
        settings.extend([
            ("STORE__KIND", "mongodb"),
            ("STORE__URI", uri.as_str()),
            ("STORE__DATABASE", name.as_str()),
        ]);
    }
    let shop = ShopProcess::start_with(&settings)?;
    println!("{}", if uri.is_some() { "MongoDB" } else { "embedded store" });
    println!("idle: {:.0} MiB resident", shop.resident_mib()?);
    let scene = Arc::new(Scene::prepare(&shop, options.buyers).await?);
    let buyers = Buyers::new(&shop, &scene);
    let (began, before) = (Instant::now(), shop.processor_time()?);
    let time = Duration::from_secs(options.seconds);
    let (outcomes, footprint) = measure(&shop, &buyers, time).await?;
    let (took, used) = (began.elapsed(), shop.processor_time()? - before);
    let requests = f64::from(u32::try_from(outcomes.count()).unwrap_or(u32::MAX));
    println!(
        "{} buyers for {time:?}: {:.0} requests/s, {} refused, {:.2} cores, {:.2} ms of processor \
         time a request",
        options.buyers,
        requests / took.as_secs_f64(),
        outcomes.refused(),
        used.as_secs_f64() / took.as_secs_f64(),
        used.as_secs_f64() * 1000.0 / requests,
    );
    outcomes.print();
    footprint.print("buyers");
    drop(shop);
    if let Some(uri) = uri {
        connect(&uri).await?.database(&name).drop().await?;
    }
    Ok(())
}
