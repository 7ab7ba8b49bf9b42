//! Actors receive commands, apply the rules of `domain`, and reply once the store has made the
//! decision durable. Each actor is thin and delegates to the service next to it.

pub mod accounts;
pub mod ask;
pub mod cart;
pub mod catalog;
pub(crate) mod commit_error;
pub mod mailbox;
pub mod orders;
pub mod pricing;
pub(crate) mod retry_on_conflict;
pub mod webhooks;
