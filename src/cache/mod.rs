//! The caches of a node, and the follower that keeps them current.

pub mod catalog_cache;
pub mod follower;
pub mod revoked_sessions;
pub mod search_pool;
mod text_index;
