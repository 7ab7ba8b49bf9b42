//! Shared helpers for tests against a real server: the server, clients, events, and the command
//! line.

mod app;
mod buying;
mod cli;
mod feed;
mod http;
mod operator;
mod people;
mod progress;
mod raw;
pub(crate) mod tokens;
mod wares;

use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use self::{
    app::TestApp,
    cli::Cli,
    feed::{Event, Feed, gap_free},
    http::{Answer, Call, one_change, statuses},
    people::{ADMIN_EMAIL, ADMIN_PASSWORD, Account, PASSWORD},
    progress::Progress,
};

/// A number that is unique in this process.
pub(crate) fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A temporary directory, inside the one that the test script removes if that is set.
pub(crate) fn folder() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("souk-api-");
    match std::env::var_os("SOUK_TEST_DIR") {
        Some(dir) => builder.tempdir_in(dir),
        None => builder.tempdir(),
    }
    .unwrap()
}
