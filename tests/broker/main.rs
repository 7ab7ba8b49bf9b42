//! A shop with RabbitMQ: published events, peer events and commands, also while brokers and nodes
//! fail.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

#[path = "../support/amqp_client.rs"]
mod amqp_client;
#[path = "../support/audit_queue.rs"]
mod audit_queue;
#[path = "../support/broker.rs"]
mod broker;
#[path = "../support/cluster.rs"]
#[expect(dead_code, reason = "other test crates use the rest")]
mod cluster;
#[path = "../support/collector.rs"]
#[expect(dead_code, reason = "other test crates use the rest")]
mod collector;
#[path = "../support/members.rs"]
#[expect(dead_code, reason = "other test crates use the rest")]
mod members;
#[path = "../support/outbox.rs"]
mod outbox;
#[path = "../support/proxy.rs"]
#[expect(dead_code, reason = "other test crates use the rest")]
mod proxy;
#[path = "../support/replica_set.rs"]
mod replica_set;
#[path = "../support/shared_replica_set.rs"]
mod shared_replica_set;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "other test crates use the rest")]
mod support;

mod asyncapi;
mod audit;
mod broker_outages;
mod command_outages;
mod commands;
mod example;
mod invalid_commands;
mod prometheus;
mod propagation;
mod publishing;
mod refusals;
mod retention;
mod servers;
mod subscriptions;
mod takeover;
mod traces;
