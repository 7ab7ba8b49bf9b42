//! The messages and replies of each actor, one file per actor.

pub mod accounts;
pub mod cart;
pub mod catalog;
pub mod command_context;
pub mod orders;
pub mod pricing;
pub mod trace_parent;
pub mod webhooks;
