//! The ids of the orders that this node places.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    domain::{clock::Clock, ids::OrderId, order::OrderIdGenerator},
    store::{Store, StoreUnavailable},
};

/// Makes order ids, and takes leases for them when it needs one.
#[derive(Default)]
pub struct OrderIds {
    generator: Mutex<OrderIdGenerator>,
    /// Held while a lease is taken, so that carts that wait for one take it together.
    renewal: tokio::sync::Mutex<()>,
}

impl OrderIds {
    /// The next id, greater than all before.
    pub(super) async fn next_id(
        &self,
        store: &dyn Store,
        clock: &dyn Clock,
    ) -> Result<OrderId, StoreUnavailable> {
        if let Some(id) = self.try_next_id(clock) {
            return Ok(id);
        }
        let _renewal = self.renewal.lock().await;
        // Another cart may have taken a lease meanwhile.
        if let Some(id) = self.try_next_id(clock) {
            return Ok(id);
        }
        let from = self.lock().lease_start(clock.now());
        let lease = store.lease_order_ids(from).await?;
        self.lock().renew(lease);
        self.try_next_id(clock).ok_or(StoreUnavailable)
    }

    fn try_next_id(&self, clock: &dyn Clock) -> Option<OrderId> {
        self.lock().next_id(clock.now(), rand::random())
    }

    fn lock(&self) -> MutexGuard<'_, OrderIdGenerator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
