//! Measures Souk against the plain things it is built on: in turns, on one machine, as ratios.
//!
//! `cargo run --release -p souk-bench -- reads | adds | mongo | checkouts | expiry | overload | relay | scale | memory`. `mongo`,
//! `checkouts`, `expiry`, `overload`, `relay` and `scale` need SOUK_TEST_MONGO_URI, a replica set, and `relay` SOUK_TEST_AMQP_URI, a broker (amqp://). The server under test is the `souk` binary of the same build (`cargo build --release` first).

mod adds;
mod bare;
mod checkouts;
mod delay_proxy;
mod expiry;
mod load;
mod memory;
mod mongo;
mod overload;
mod reads;
mod relay;
mod scale;
mod shop;
mod spread;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match words.as_slice() {
        ["reads"] => runtime.block_on(reads::run()),
        ["adds"] => runtime.block_on(adds::run()),
        ["mongo"] => runtime.block_on(mongo::run()),
        ["checkouts"] => runtime.block_on(checkouts::run()),
        ["expiry"] => runtime.block_on(expiry::run()),
        ["overload"] => runtime.block_on(overload::run()),
        ["relay"] => runtime.block_on(relay::run()),
        ["scale", ..] => runtime.block_on(scale::run(arguments.get(1..).unwrap_or_default())),
        ["memory"] => runtime.block_on(memory::run(100_000)),
        ["memory", carts] => runtime.block_on(memory::run(carts.parse()?)),
        // The other side of `reads`, which starts it.
        ["bare", body] => bare::run(body),
        _ => anyhow::bail!(
            "usage: souk-bench reads | adds | mongo | checkouts | expiry | overload | relay | scale [OPTIONS] | memory [CARTS]"
        ),
    }
}
