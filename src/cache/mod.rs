//! What a node caches of the store, and the follower that keeps it current.

pub mod catalog_snapshot;
pub mod follower;
pub mod revoked_sessions;
