//! Committed events on their way to readers.

pub mod feed;
