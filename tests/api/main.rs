//! The API as clients meet it: a real server, started for each test on a fresh store, asked over HTTP.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by a panic")]

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the tests that need the rest follow")]
mod support;

mod crashes;
mod lost_answers;
mod money;
mod parallel;
