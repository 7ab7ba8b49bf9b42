//! Delivery of committed events to readers.

pub mod feed;
