//! The API as clients meet it: a real server, started for each test on a fresh store, asked over HTTP.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the tests of several nodes need the rest")]
mod support;

mod accounts;
mod audit;
mod bad_bodies;
mod bad_values;
mod command_line;
mod conditional;
mod crashed_orders;
mod crashes;
mod events;
mod hardening;
mod idempotency;
mod imports;
mod lifecycle;
mod limits;
mod lost_answers;
mod money;
mod openapi_clients;
mod openapi_document;
mod operations;
mod order_repeats;
mod orders;
mod parallel;
mod products;
mod queues;
mod search;
mod sessions;
mod signatures;
mod stock;
mod tokens;
mod transport;
