//! What a store knows of the payments that a provider is to be asked about.

use async_trait::async_trait;

use super::StoreUnavailable;
use crate::domain::{clock::Timestamp, ids::OrderId, order::Order};

/// The reads of payments, and their claims. Commits write everything else of them, with the order.
#[async_trait]
pub trait PaymentStore: Send + Sync {
    /// The order whose payment has this id at the provider.
    async fn find_order_by_intent(&self, intent: String)
    -> Result<Option<Order>, StoreUnavailable>;

    /// Up to `limit` orders about whose payments the provider is to be asked at `now` or earlier,
    /// the longest due first.
    async fn list_due_payments(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable>;

    /// The number of these orders.
    async fn count_due_payments(&self, now: Timestamp) -> Result<u64, StoreUnavailable>;

    /// Moves the time at which the provider is to be asked about an order's payment, if it is still
    /// `from`. Returns whether it was: so one node takes the task, and the others leave it until
    /// then. It is no change of the order.
    async fn move_payment_due(
        &self,
        order: OrderId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<bool, StoreUnavailable>;
}
