//! The trait [`OrderIdStore`]. One process uses the folder at a time, so it needs no record: the
//! next process only has to begin after the newest order.

use async_trait::async_trait;

use super::{SqliteStore, read};
use crate::{
    domain::{clock::Timestamp, order::OrderIdLease},
    store::{OrderIdStore, StoreUnavailable},
};

#[async_trait]
impl OrderIdStore for SqliteStore {
    async fn lease_order_ids(&self, from: Timestamp) -> Result<OrderIdLease, StoreUnavailable> {
        let newest = self.run_read(read::newest_order_id).await?;
        Ok(OrderIdLease::starting_at(0, newest.map_or(from, |id| from.max(id.next_millisecond()))))
    }
}
