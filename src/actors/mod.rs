//! Actors order the commands sent to them, have the rules of `domain` decide, and reply once the
//! store has made the decision durable. They are thin: the work is in a service beside each.

pub mod accounts;
pub mod ask;
pub mod cart;
pub mod catalog;
pub(crate) mod commit_error;
pub mod orders;
pub(crate) mod retry;
