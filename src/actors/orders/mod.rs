//! Orders after checkout: payment, cancellation, fulfillment and expiry.
//!
//! No order is kept in memory. Each command reads its order, lets the domain decide, and commits on
//! condition that the order still has the version that was read. Of payment and expiry, the one
//! that reaches the store first wins, whichever node it comes from.

mod actor;
mod expiry;
mod service;
#[cfg(test)]
mod tests;

pub use self::{actor::OrderActor, service::OrderService};
