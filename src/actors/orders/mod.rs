//! Orders after checkout: payment, cancellation, fulfillment and expiry.
//!
//! No order is kept in memory. Each command reads its order, decides, and commits on condition that
//! the order's version is unchanged. If payment and expiry race, the first to commit wins, on
//! whichever node it runs.

mod actor;
mod expiry;
mod payment_work;
mod provider_updates;
mod service;
#[cfg(test)]
mod tests;

pub(crate) use self::service::add_transition;
pub use self::{actor::OrderActor, service::OrderService};
