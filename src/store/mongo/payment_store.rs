//! The trait [`PaymentStore`]: payments that a provider is to be asked about.

use async_trait::async_trait;

use super::{MongoStore, read};
use crate::{
    domain::{clock::Timestamp, ids::OrderId, order::Order},
    store::{StoreUnavailable, payment_store::PaymentStore},
};

#[async_trait]
impl PaymentStore for MongoStore {
    async fn find_order_by_intent(
        &self,
        intent: String,
    ) -> Result<Option<Order>, StoreUnavailable> {
        self.run_read(move |database| read::find_order_by_intent(database, intent)).await
    }

    async fn list_due_payments(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable> {
        self.run_read(move |database| read::list_due_payments(database, now, limit)).await
    }

    async fn count_due_payments(&self, now: Timestamp) -> Result<u64, StoreUnavailable> {
        self.run_read(move |database| read::count_due_payments(database, now)).await
    }

    async fn move_payment_due(
        &self,
        order: OrderId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<bool, StoreUnavailable> {
        self.run_update(move |database| read::move_payment_due(database, order, from, to)).await
    }
}
