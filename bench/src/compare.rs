//! Reads, adds and checkouts of this build against another build of `souk`, round by round in one
//! run. It shows whether a change made the shop slower.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use serde_json::json;
use souk::domain::{account::Role, ids::EventId};

use crate::{
    checkouts::measure_checkouts,
    load_generator::{Request, measure_rate, send_each_once},
    samples::Samples,
    shop_process::{ShopProcess, new_user_token},
};

const READERS: usize = 64;
const USERS: usize = 256;
const ROUND_TIME: Duration = Duration::from_secs(2);
/// Carts are emptied before a round in parts, so that no line reaches its limit.
const CLEAR_CONNECTIONS: usize = 16;

/// What `souk-bench compare` takes.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct CompareOptions {
    /// The other build's `souk` binary.
    other: PathBuf,
    /// Rounds of each measurement, without the first, which warms both up.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Only these measurements.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Measurement::ALL)]
    only: Vec<Measurement>,
    /// Log level of both, as in `RUST_LOG`.
    #[arg(long, default_value = "error")]
    log: String,
    /// A setting of the other alone, such as `TELEMETRY__REQUESTS=off`; this build's own binary as
    /// the other then tells what the setting costs.
    #[arg(long = "other-setting", value_name = "NAME=VALUE", value_parser = parse_setting)]
    other_settings: Vec<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measurement {
    Cart,
    Product,
    Adds,
    Checkouts,
    /// Checkouts on MongoDB.
    Mongodb,
}

impl Measurement {
    const ALL: [Self; 5] = [Self::Cart, Self::Product, Self::Adds, Self::Checkouts, Self::Mongodb];
}

fn parse_setting(text: &str) -> anyhow::Result<(String, String)> {
    let (name, value) = text.split_once('=').context("a setting is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The shop of the other build and that of this build.
struct Pair([ShopProcess; 2]);

pub async fn run(options: &[&str]) -> anyhow::Result<()> {
    let options = CompareOptions::try_parse_from(options)?;
    let this = std::env::current_exe()?.with_file_name("souk");
    let programs = [options.other.clone(), this];
    println!("rates in 1/s of {} and of this build; ratio", options.other.display());
    if options.only != [Measurement::Mongodb] {
        compare_embedded(&programs, &options).await?;
    }
    if !options.only.contains(&Measurement::Mongodb) {
        return Ok(());
    }
    match std::env::var("SOUK_TEST_MONGO_URI") {
        Ok(uri) => compare_checkouts_on_mongodb(&programs, &options, &uri).await,
        Err(_) => {
            println!("checkouts on MongoDB: left out, since SOUK_TEST_MONGO_URI is not set");
            Ok(())
        }
    }
}

impl Pair {
    fn start(
        programs: &[PathBuf; 2],
        options: &CompareOptions,
        settings: [&[(&str, &str)]; 2],
    ) -> anyhow::Result<Self> {
        let ([other, this], log) = (programs, options.log.as_str());
        let [other_settings, this_settings] = settings;
        let own =
            options.other_settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let other_settings: Vec<_> = other_settings.iter().copied().chain(own).collect();
        Ok(Self([
            ShopProcess::start_program(other, log, &other_settings)?,
            ShopProcess::start_program(this, log, this_settings)?,
        ]))
    }
}

async fn compare_embedded(programs: &[PathBuf; 2], options: &CompareOptions) -> anyhow::Result<()> {
    let pair = Pair::start(programs, options, [&[], &[]])?;
    let [other, this] = &pair.0;
    let products = [vec![other.create_product().await?], vec![this.create_product().await?]];
    let tokens: Vec<String> =
        (0..USERS).map(|_| new_user_token(Role::Customer)).collect::<Result<_, _>>()?;
    let adds = products.each_ref().map(|products| {
        let body = json!({"product_id": products.first(), "quantity": 1}).to_string();
        tokens.iter().map(|token| Request::post("/api/cart/add", token, &body)).collect::<Vec<_>>()
    });
    for (shop, adds) in pair.0.iter().zip(&adds) {
        send_each_once(shop.address, adds.clone(), USERS).await?;
    }
    let readers = tokens.get(..READERS).context("fewer users than readers")?;
    let cart: Vec<Request> = readers.iter().map(|token| Request::get("/api/cart", token)).collect();
    let only = |measurement| options.only.contains(&measurement);
    if only(Measurement::Cart) {
        compare_rates(&pair, "GET /api/cart", &[cart.clone(), cart], None, options).await?;
    }
    let reads = products.each_ref().map(|products| {
        let path = format!("/api/products/{}", products.first().map_or("", String::as_str));
        readers.iter().map(|token| Request::get(&path, token)).collect::<Vec<_>>()
    });
    if only(Measurement::Product) {
        compare_rates(&pair, "GET /api/products/{id}", &reads, None, options).await?;
    }
    if only(Measurement::Adds) {
        compare_rates(&pair, "POST /api/cart/add", &adds, Some(&tokens), options).await?;
    }
    if only(Measurement::Checkouts) {
        compare_checkouts(&pair, "POST /api/checkout, embedded store", &products, options).await?;
    }
    Ok(())
}

/// Repeats `requests` of each shop. Empties the carts of `tokens` before each round.
async fn compare_rates(
    pair: &Pair,
    heading: &str,
    requests: &[Vec<Request>; 2],
    tokens: Option<&[String]>,
    options: &CompareOptions,
) -> anyhow::Result<()> {
    let mut rounds = Vec::new();
    for round in 0..=options.rounds {
        let mut measured = [Measured::default(); 2];
        for place in order(round) {
            let (shop, requests) = (&pair.0[place], &requests[place]);
            if let Some(tokens) = tokens {
                let clear = tokens.iter().map(|token| Request::delete("/api/cart", token));
                send_each_once(shop.address, clear.collect(), CLEAR_CONNECTIONS).await?;
            }
            let before = shop.processor_time()?;
            let rate = measure_rate(shop.address, requests, ROUND_TIME).await?;
            let used = shop.processor_time()?.saturating_sub(before).as_secs_f64();
            let processor_time = used * 1e6 / (rate * ROUND_TIME.as_secs_f64());
            measured[place] = Measured { rate, processor_time };
        }
        if round > 0 {
            rounds.push(measured);
        }
    }
    print_rounds(heading, &rounds);
    Ok(())
}

async fn compare_checkouts_on_mongodb(
    programs: &[PathBuf; 2],
    options: &CompareOptions,
    uri: &str,
) -> anyhow::Result<()> {
    for product_count in [1, 1000] {
        let run = EventId::new().as_uuid().simple().to_string();
        let names = [format!("souk_bench_a{run}"), format!("souk_bench_b{run}")];
        let settings = names.each_ref().map(|name| {
            [("STORE__KIND", "mongodb"), ("STORE__URI", uri), ("STORE__DATABASE", name.as_str())]
        });
        let [other, this] = &settings;
        let pair = Pair::start(programs, options, [other, this])?;
        let mut products = [Vec::new(), Vec::new()];
        for (shop, products) in pair.0.iter().zip(&mut products) {
            for number in 0..product_count {
                products.push(shop.create_numbered_product(number).await?);
            }
        }
        let heading = format!("POST /api/checkout, MongoDB, {product_count} products");
        compare_checkouts(&pair, &heading, &products, options).await?;
        drop(pair);
        let client = crate::mongo::connect(uri).await?;
        for name in &names {
            client.database(name).drop().await?;
        }
    }
    Ok(())
}

async fn compare_checkouts(
    pair: &Pair,
    heading: &str,
    products: &[Vec<String>; 2],
    options: &CompareOptions,
) -> anyhow::Result<()> {
    let mut rounds = Vec::new();
    for round in 0..=options.rounds {
        let mut measured = [Measured::default(); 2];
        for place in order(round) {
            let (checkouts, time) = measure_checkouts(&pair.0[place], &products[place]).await?;
            measured[place] =
                Measured { rate: checkouts.rate, processor_time: time.as_secs_f64() * 1e6 };
        }
        if round > 0 {
            rounds.push(measured);
        }
    }
    print_rounds(heading, &rounds);
    Ok(())
}

/// Which shop is measured first changes from round to round: the second finds a warmer machine, and
/// a disk that is still busy with what the first wrote.
const fn order(round: usize) -> [usize; 2] {
    if round.is_multiple_of(2) { [0, 1] } else { [1, 0] }
}

/// Requests per second, and the processor time that the shop needed for one, in microseconds.
#[derive(Clone, Copy, Default)]
struct Measured {
    rate: f64,
    processor_time: f64,
}

fn print_rounds(heading: &str, rounds: &[[Measured; 2]]) {
    println!("{heading}, {} rounds", rounds.len());
    for (name, value) in [
        ("requests/s", (|measured| measured.rate) as fn(&Measured) -> f64),
        ("processor time of a request, us", |measured| measured.processor_time),
    ] {
        println!("  {name}");
        println!("    other  {}", Samples::new(rounds.iter().map(|[other, _]| value(other))));
        println!("    this   {}", Samples::new(rounds.iter().map(|[_, this]| value(this))));
        let ratios = rounds.iter().map(|[other, this]| value(this) / value(other));
        println!("    ratio  {}", Samples::new(ratios));
    }
}
