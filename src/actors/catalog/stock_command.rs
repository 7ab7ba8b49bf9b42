//! Stock commands that other systems send through the broker.

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
        // No client is waiting, so catch up with other nodes before each message.
        if let Some(follower) = &self.follower {
            follower.catch_up().await?;
        }
        let product = match self.find_product(&message.product) {
            Ok(product) => product,
            // The product may have been deleted after the message was first applied.
            Err(_) if self.store.is_in_inbox(&message.id).await? => {
                return Ok(StockCommandOutcome::Duplicate);
            }
            Err(error) => return Err(error),
        };
        message.ticket.mark_started()?;
        let write = StockWrite {
            product_id: product.id,
            change: message.stock_change,
            expected_version: None,
            order_id: None,
            reference: message.reference,
            reason: Some(message.reason),
        };
        let commit = Commit {
            writes: vec![Write::Stock(write)],
            conditions: vec![Condition::ProductUnchanged(product.id, product.version)],
            inbox_message_id: Some(message.id),
            trace: message.trace,
            ..Commit::new(self.clock.now(), message.ticket.deadline())
        };
        match self.writer.commit(commit).await {
            Ok(_) => Ok(StockCommandOutcome::Applied),
            Err(CommitError::AlreadyApplied) => Ok(StockCommandOutcome::Duplicate),
            // A conflict means that the product was changed or deleted. The broker redelivers the
            // message, which is then decided again.
            Err(error) => Err(map_commit_error(error)),
        }
    }

    fn find_product(&self, product: &ProductRef) -> Result<Arc<Product>, Error> {
        let view = match product {
            ProductRef::Id(id) => self.catalog_cache.get(*id).ok_or_else(Error::product_not_found),
            ProductRef::Sku(sku) => {
                let found = self.catalog_cache.by_sku(sku);
                found.ok_or_else(|| {
                    Error::new(ErrorCode::ProductNotFound, "No product has this sku.")
                })
            }
        };
        view.map(|view| Arc::clone(&view.product))
    }
}
