//! Delivery of committed events to readers.

pub(crate) mod backlog;
pub mod feed;
