//! The API over HTTP: each test starts a real server on a fresh store.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

#[path = "../support/collector.rs"]
#[expect(dead_code, reason = "other test crates use the rest")]
mod collector;
#[path = "../support/proxy.rs"]
#[expect(dead_code, reason = "other test crates use the rest")]
mod proxy;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "other test crates use the rest")]
mod support;

mod accounts;
mod action_steps;
mod actions;
mod api_keys;
mod audit;
mod backup;
mod bad_bodies;
mod bad_values;
mod cart_items;
mod checkout;
mod command_line;
mod compression;
mod concurrent_orders;
mod conditional;
mod connections;
mod crashed_orders;
mod crashes;
mod docs_pages;
mod documents;
mod event_access;
mod events;
mod grpc;
mod guest_checkout;
mod guest_orders;
mod hardening;
mod health;
mod idempotency;
mod import_files;
mod imports;
mod interrupted_imports;
mod key_rotation;
mod lifecycle;
mod limits;
mod login;
mod logs;
mod lost_responses;
mod mail;
mod mail_security;
mod mistakes;
mod money;
mod openapi_clients;
mod openapi_document;
mod operations;
mod order_lists;
mod order_mails;
mod orders;
mod parallel;
mod payment_outages;
mod payment_page;
mod payments;
mod pricing_rules;
mod privacy;
mod private_responses;
mod product_shipping;
mod products;
mod profile;
mod promotion_limits;
mod promotions;
mod provider_refunds;
mod purchase_limits;
mod query_parameters;
mod queues;
mod refunds;
mod resumed_imports;
mod rights;
mod search;
mod search_catalog;
mod search_quality;
mod search_text;
mod security_headers;
mod sessions;
mod shipments;
mod signatures;
mod stock;
mod stripe;
mod tokens;
mod totals;
mod traces;
mod transport;
mod upgrade;
mod users;
mod version;
mod webhook_deliveries;
mod webhook_receivers;
mod webhooks;
