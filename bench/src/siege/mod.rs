//! A siege: all floods at once from 20 addresses, while 50 honest buyers log in, browse and buy.
//!
//! The addresses are of the loopback network: floods come from 127.0.0.2 to 127.0.0.21, buyers from
//! 127.0.1.1 on. The buyers run alone first, which gives the quiet figures. The shop has its
//! default limits. The floods' clients run at the lowest priority, so that they do not take the
//! processor from the shop and the buyers on the same machine.

mod buyers;
mod client;
mod floods;
mod footprint;
pub mod node;
mod report;
mod setup;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use clap::Parser;

use self::{buyers::Buyers, footprint::Footprint, report::Outcomes, setup::Scene};
use crate::shop_process::ShopProcess;

/// Besieges a shop on the embedded store. Exits with 1 if an honest request was refused.
#[derive(Parser)]
#[command(name = "souk-bench siege")]
pub struct SiegeOptions {
    /// Seconds of the siege.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seconds in which the buyers are alone.
    #[arg(long, default_value_t = 30)]
    quiet_seconds: u64,
    /// The number of honest buyers, each with an address of its own; at most 200.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=200))]
    buyers: u8,
    /// Requests per second of each flood from each address. 7 of the floods send requests, so 15
    /// are about the limit of an address.
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Feeds that each address holds open without reading.
    #[arg(long, default_value_t = 60)]
    feeds: usize,
    /// Connections of each address that send their head one byte a second.
    #[arg(long, default_value_t = 40)]
    slow_heads: usize,
    /// Only these floods.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = floods::FloodKind::ALL)]
    floods: Vec<floods::FloodKind>,
}

pub async fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let program = ["souk-bench siege"];
    let options = SiegeOptions::parse_from(program.iter().chain(arguments).copied());
    // The defaults of `ShopProcess` are without limits, and with cheap passwords.
    let shop = ShopProcess::start_with(&[
        ("LIMITS__PER_ADDRESS", "100"),
        ("LIMITS__PER_USER", "50"),
        ("LIMITS__CONNECTIONS_PER_ADDRESS", "256"),
        ("LIMITS__GUESTS", "60"),
        ("LIMITS__REGISTRATIONS", "60"),
        ("LIMITS__IDEMPOTENCY_KEYS", "2000"),
        ("LIMITS__IDEMPOTENCY_BYTES", "2MiB"),
        ("LIMITS__GUEST_IDEMPOTENCY_BYTES", "256KiB"),
        ("AUTH__BCRYPT_COST", "12"),
    ])?;
    println!("preparing {} accounts, and the floods' carts", options.buyers);
    let scene = Arc::new(Scene::prepare(&shop, options.buyers).await?);
    let buyers = Buyers::new(&shop, &scene);

    println!("quiet: {} s", options.quiet_seconds);
    let quiet = measure(&shop, &buyers, Duration::from_secs(options.quiet_seconds)).await?;
    println!("siege: {} s", options.seconds);
    let over = Arc::new(AtomicBool::new(false));
    let floods = floods::start(&shop, &scene, &options, &over)?;
    let siege = measure(&shop, &buyers, Duration::from_secs(options.seconds)).await?;
    over.store(true, Ordering::Relaxed);
    let answered = floods.finish().await;

    report::print_floods(&answered);
    report::print_buyers(&quiet.0, &siege.0);
    quiet.1.print("quiet");
    siege.1.print("siege");
    footprint::print_growth(&quiet.1, &siege.1);
    let refused = siege.0.refused();
    if refused > 0 {
        bail!("{refused} honest requests were refused");
    }
    Ok(())
}

/// Lets the buyers buy for `time`. Returns what they experienced, and memory and disk meanwhile.
async fn measure(
    shop: &ShopProcess,
    buyers: &Buyers,
    time: Duration,
) -> anyhow::Result<(Outcomes, Footprint)> {
    let sample = Footprint::sample(shop, buyers, time);
    let (outcomes, footprint) = tokio::join!(buyers.buy_for(time), sample);
    Ok((outcomes, footprint?))
}
