//! Which process may make which order ids.

use async_trait::async_trait;

use super::StoreUnavailable;
use crate::domain::{clock::Timestamp, order::OrderIdLease};

/// Gives out the periods and worker numbers that order ids are made of.
#[async_trait]
pub trait OrderIdStore: Send + Sync {
    /// A lease that begins at `from`, or later if an order is newer. It has no millisecond in
    /// common with an earlier lease of its worker number that may have led to an order.
    async fn lease_order_ids(&self, from: Timestamp) -> Result<OrderIdLease, StoreUnavailable>;
}
