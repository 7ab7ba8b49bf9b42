//! Carts. Each active cart has one actor, which the [`registry`] finds or starts.

mod abandonment;
mod actor;
mod checkout;
mod guest_orders;
mod idempotency_quota;
mod memory;
mod merge;
mod order_ids;
mod passivation;
pub mod registry;
mod service;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use self::{
    actor::CartActor, idempotency_quota::IdempotencyQuota, memory::MAX_RENDERED_BYTES,
    order_ids::OrderIds, registry::CartRegistry,
};
use crate::{
    cache::{catalog_cache::CatalogCache, follower::Follower, pricing_rules::PricingRulesCache},
    domain::{cart::CartLimits, clock::Clock, money::Currency, order::OrderRules},
    messages::cart::RenderCart,
    metrics::{actors::MailboxMetrics, caches::CacheReads},
    store::{Store, account_emails::AccountEmails, writer::CommitWriter},
};

/// The dependencies that all cart actors share.
pub struct CartDeps {
    /// Holds the carts that are not in memory.
    pub store: Arc<dyn Store>,
    /// The e-mail addresses of the owners' accounts.
    pub account_emails: AccountEmails,
    /// Batches commits into store transactions.
    pub writer: CommitWriter,
    /// The cached products, prices and stock.
    pub catalog_cache: Arc<CatalogCache>,
    /// Follows the changes of other nodes. `None` if the store is not shared.
    pub follower: Option<Arc<Follower>>,
    /// The source of all timestamps.
    pub clock: Arc<dyn Clock>,
    /// The limits on quantities and lines.
    pub limits: CartLimits,
    /// The rules for checkout: payment timeout and pending orders.
    pub order_rules: OrderRules,
    /// Makes the ids of orders.
    pub order_ids: OrderIds,
    /// Whether buyers are told by mail that they placed an order.
    pub sends_mail: bool,
    /// The limits on what is stored under idempotency keys.
    pub idempotency_quota: IdempotencyQuota,
    /// The most bytes of rendered carts in memory.
    pub max_rendered_bytes: usize,
    /// The rules for discounts, shipping and tax.
    pub pricing_rules: Arc<PricingRulesCache>,
    /// The currency of all prices.
    pub currency: Currency,
    /// Renders the response body of a cart.
    pub render: RenderCart,
    /// The metrics of all carts' mailboxes.
    pub mailbox: MailboxMetrics,
    /// Counts the reads that memory answers.
    pub cache_reads: CacheReads,
}
