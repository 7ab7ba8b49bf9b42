//! Who decides: actors order commands, make decisions durable through the writer, and answer.

pub mod ask;
pub mod cart;
pub mod catalog;
pub mod failure;
pub mod feed;
