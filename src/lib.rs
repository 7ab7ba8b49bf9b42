//! Souk: a commerce backend with accounts, catalog, stock, carts and checkout, for shops that
//! cannot afford to oversell, to lose an order or to be slow.
//!
//! `ARCHITECTURE.md` follows one request through these modules.

pub mod actors;
pub mod admission;
pub mod app;
pub mod audit;
pub mod auth;
pub mod broker;
pub mod cache;
pub mod cli;
pub mod config;
pub mod domain;
pub mod error;
pub mod events;
pub mod grpc;
pub mod http;
pub mod input;
pub mod mail;
pub mod messages;
pub mod metrics;
pub mod outbox;
mod panics;
pub mod payments;
mod private_file;
pub mod store;
pub mod telemetry;
pub mod webhooks;
