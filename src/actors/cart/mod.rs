//! Carts: one actor for each user with an active cart, found or started by the [`registry`].

mod abandonment;
mod actor;
mod checkout;
mod passivation;
pub mod registry;
mod service;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use self::{actor::CartActor, registry::CartRegistry};
use crate::{
    cache::{catalog_snapshot::CatalogSnapshot, follower::Follower},
    domain::{cart::CartLimits, clock::Clock, money::Currency, order::OrderRules},
    messages::cart::RenderCart,
    store::{Store, writer::CommitWriter},
};

/// What all cart actors share.
pub struct CartDeps {
    /// Read when a cart is not in memory.
    pub store: Arc<dyn Store>,
    /// Applies commits.
    pub writer: CommitWriter,
    /// Products, prices and stock as last known.
    pub catalog_snapshot: Arc<CatalogSnapshot>,
    /// Follows other nodes, when the store is shared.
    pub follower: Option<Arc<Follower>>,
    /// Dates every change.
    pub clock: Arc<dyn Clock>,
    /// The bounds of quantities and lines.
    pub limits: CartLimits,
    /// The rules that a checkout follows.
    pub order_rules: OrderRules,
    /// The currency of all prices.
    pub currency: Currency,
    /// Renders a cart as clients get it.
    pub render: RenderCart,
}
