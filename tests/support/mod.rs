//! Shared helpers for tests against a real server: the server, clients, events, and the command
//! line.

mod accounts;
mod app;
pub(crate) mod browser;
mod checkout;
mod cli;
mod feed;
pub(crate) mod grpc;
mod http;
pub(crate) mod mail;
mod monitoring;
pub(crate) mod payments;
pub(crate) mod person;
mod products;
mod progress;
pub(crate) mod python_packages;
mod raw_http;
pub(crate) mod rules;
pub(crate) mod tokens;
pub(crate) mod webhooks;

use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use self::{
    accounts::{ADMIN_EMAIL, ADMIN_PASSWORD, Account, PASSWORD, unique_email},
    app::TestApp,
    cli::Cli,
    feed::{Event, Feed, assert_gap_free},
    http::{Call, Response, assert_one_change, sorted_statuses},
    progress::{Progress, kill_rounds},
    raw_http::RawConnection,
};

/// A number that is unique in this process.
pub(crate) fn unique_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A temporary directory, inside the one that the test script removes if that is set.
pub(crate) fn temp_dir() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("souk-api-");
    match std::env::var_os("SOUK_TEST_DIR") {
        Some(dir) => builder.tempdir_in(dir),
        None => builder.tempdir(),
    }
    .unwrap()
}
