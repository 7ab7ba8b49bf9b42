//! What is shipped to run Souk: the load balancer's configuration in front of real nodes, the
//! container and Kubernetes files.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

#[path = "../support/broker.rs"]
#[expect(dead_code, reason = "other test crates use the rest")]
mod broker;
#[path = "../support/ports.rs"]
mod ports;
#[path = "../support/replica_set.rs"]
mod replica_set;
#[path = "../support/shared_replica_set.rs"]
mod shared_replica_set;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "other test crates use the rest")]
mod support;

mod balancer;
mod files;
mod grpc;
mod package;
mod retries;
mod rolling_restart;
mod routing;
mod shop;
