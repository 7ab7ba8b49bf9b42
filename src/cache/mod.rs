//! The caches of a node, and the follower that keeps them current.

pub mod account_rights;
pub mod api_keys;
pub mod catalog_cache;
pub mod current_caches;
pub mod follower;
pub mod pricing_rules;
pub mod revoked_sessions;
pub mod search_pool;
mod text_index;
