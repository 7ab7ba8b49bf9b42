//! Two nodes on one replica set act as one shop, also while a server or a node fails.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/members.rs"]
mod members;
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

mod audit;
mod carts;
mod checker;
mod failover;
mod flash_sale;
mod forwarding;
mod grpc;
mod guest_orders;
mod logins;
mod lost_node;
mod mail;
mod orders;
mod payments;
mod privacy;
mod promotions;
mod propagation;
mod recorder;
mod refused_repeats;
mod rights;
mod servers;
mod webhooks;
