//! What other systems ask for by message.

use std::sync::Arc;

use super::CatalogService;
use crate::{
    actors::commit_error::map_commit_error,
    domain::catalog::product::Product,
    error::{Error, ErrorCode},
    messages::catalog::{ApplyStockCommand, ProductRef, StockCommandOutcome},
    store::{Commit, CommitError, Condition, StockWrite, Write},
};

impl CatalogService {
    pub(super) async fn apply_stock_command(
        &self,
        message: ApplyStockCommand,
    ) -> Result<StockCommandOutcome, Error> {
        // Nobody waits for the answer, so that a look at what other nodes have done can be taken before each.
        if let Some(follower) = &self.follower {
            follower.catch_up().await?;
        }
        let product = match self.find_product(&message.product) {
            Ok(product) => product,
            // It may have been there when the message was carried out.
            Err(_) if self.store.is_in_inbox(&message.id).await? => {
                return Ok(StockCommandOutcome::Duplicate);
            }
            Err(error) => return Err(error),
        };
        message.ticket.mark_started()?;
        let ApplyStockCommand { id, stock_change: stock, reason, reference, ticket, trace, .. } =
            message;
        let (expected_version, order_id, reason) = (None, None, Some(reason));
        let (product_id, unchanged) =
            (product.id, Condition::ProductUnchanged(product.id, product.version));
        let write =
            StockWrite { product_id, change: stock, expected_version, order_id, reference, reason };
        let commit = Commit {
            writes: vec![Write::Stock(write)],
            conditions: vec![unchanged],
            inbox_message_id: Some(id),
            trace,
            ..Commit::new(self.clock.now(), ticket.deadline())
        };
        match self.writer.commit(commit).await {
            Ok(_) => Ok(StockCommandOutcome::Applied),
            Err(CommitError::AlreadyApplied) => Ok(StockCommandOutcome::Duplicate),
            // A conflict: the product was changed, or deleted, since it was looked for. Another try tells.
            Err(error) => Err(map_commit_error(error)),
        }
    }

    fn find_product(&self, name: &ProductRef) -> Result<Arc<Product>, Error> {
        let view = match name {
            ProductRef::Id(id) => {
                self.catalog_snapshot.get(*id).ok_or_else(Error::product_not_found)
            }
            ProductRef::Sku(sku) => {
                let found = self.catalog_snapshot.by_sku(sku);
                found.ok_or_else(|| {
                    Error::new(ErrorCode::ProductNotFound, "There is no product with this sku.")
                })
            }
        };
        view.map(|view| Arc::clone(&view.product))
    }
}
