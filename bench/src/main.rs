//! Measures Souk against a baseline made of the libraries it is built on. Both run alternately on
//! one machine, and the result is a ratio.
//!
//! ```sh
//! cargo build --release && cargo run --release -p souk-bench -- reads
//! ```
//!
//! The server under test is the `souk` binary of the same build. `mongo`, `checkouts`, `expiry`,
//! `relay` and `scale` need the connection string of a replica set in SOUK_TEST_MONGO_URI, and
//! `compare`, `node` and `overload` use one if it is set; `relay` also needs that of a RabbitMQ
//! broker in SOUK_TEST_AMQP_URI.

mod adds;
mod baseline_server;
mod checkouts;
mod compare;
mod delay_proxy;
mod expiry;
mod import;
mod load_generator;
mod low_priority;
mod memory;
mod mongo;
mod overload;
mod promotions;
mod reads;
mod relay;
mod samples;
mod scale;
mod search;
mod shop_process;
mod siege;
mod timing;
mod webhooks;

use std::{num::ParseIntError, str::FromStr};

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match arguments.as_slice() {
        ["reads"] => runtime.block_on(reads::run()),
        ["adds"] => runtime.block_on(adds::run()),
        ["mongo"] => runtime.block_on(mongo::run()),
        ["checkouts"] => runtime.block_on(checkouts::run()),
        ["compare", options @ ..] => runtime.block_on(compare::run(options)),
        ["expiry"] => runtime.block_on(expiry::run()),
        ["overload"] => runtime.block_on(overload::run()),
        ["promotions"] => runtime.block_on(promotions::run()),
        ["relay"] => runtime.block_on(relay::run()),
        ["scale", options @ ..] => runtime.block_on(scale::run(options)),
        ["siege", options @ ..] => runtime.block_on(siege::run(options)),
        ["node", options @ ..] => runtime.block_on(siege::node::run(options)),
        ["import"] => import::run(500_000),
        ["import", lines] => import::run(parse_count(lines)?),
        ["search"] => runtime.block_on(search::run(500_000)),
        ["search", products] => runtime.block_on(search::run(parse_count(products)?)),
        ["timing"] => runtime.block_on(timing::run()),
        ["memory"] => runtime.block_on(memory::run(100_000)),
        ["memory", carts] => runtime.block_on(memory::run(parse_count(carts)?)),
        ["webhooks"] => runtime.block_on(webhooks::run(1_000)),
        ["webhooks", endpoints] => runtime.block_on(webhooks::run(parse_count(endpoints)?)),
        // `reads` starts this as a child process.
        ["baseline", body] => baseline_server::run(body),
        _ => anyhow::bail!(
            "usage: souk-bench \
             reads | adds | mongo | checkouts | expiry | overload | promotions | relay | timing \
             | compare OTHER_SOUK [OPTIONS] | scale [OPTIONS] | siege [OPTIONS] | node [OPTIONS] \
             | memory [CARTS] | import [LINES] | search [PRODUCTS] | webhooks [ENDPOINTS]"
        ),
    }
}

fn parse_count<T: FromStr<Err = ParseIntError>>(text: &str) -> anyhow::Result<T> {
    text.parse().with_context(|| format!("{text} is not a number"))
}
