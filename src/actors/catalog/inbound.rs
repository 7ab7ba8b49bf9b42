//! What other systems ask for by message.

use std::sync::Arc;

use super::CatalogDeps;
use crate::{
    actors::commit_error::failure,
    domain::catalog::product::Product,
    error::{Error, ErrorCode},
    messages::catalog::{CarriedOut, CarryOut, ProductName},
    store::{Commit, CommitError, Condition, StockWrite, Write},
};

impl CatalogDeps {
    pub(super) async fn carry_out(&self, message: CarryOut) -> Result<CarriedOut, Error> {
        // Nobody waits for the answer, so that a look at what other nodes have done can be taken before each.
        if let Some(follower) = &self.follower {
            follower.catch_up().await?;
        }
        let product = match self.product_named(&message.product) {
            Ok(product) => product,
            // It may have been there when the message was carried out.
            Err(_) if self.store.is_in_inbox(&message.id).await? => return Ok(CarriedOut::Before),
            Err(error) => return Err(error),
        };
        message.ticket.begin()?;
        let CarryOut { id, stock, reason, reference, ticket, trace, .. } = message;
        let (expected_version, order_id, reason) = (None, None, Some(reason));
        let (product_id, unchanged) =
            (product.id, Condition::Unchanged(product.id, product.version));
        let write =
            StockWrite { product_id, change: stock, expected_version, order_id, reference, reason };
        let commit = Commit {
            writes: vec![Write::Stock(write)],
            conditions: vec![unchanged],
            inbox: Some(id),
            trace,
            ..Commit::new(self.clock.now(), ticket.deadline())
        };
        match self.writer.commit(commit).await {
            Ok(_) => Ok(CarriedOut::Now),
            Err(CommitError::AlreadyApplied) => Ok(CarriedOut::Before),
            // A conflict: the product was changed, or deleted, since it was looked for. Another try tells.
            Err(error) => Err(failure(error)),
        }
    }

    fn product_named(&self, name: &ProductName) -> Result<Arc<Product>, Error> {
        let view = match name {
            ProductName::Id(id) => self.shelf.get(*id).ok_or_else(Error::product_not_found),
            ProductName::Sku(sku) => {
                let found = self.shelf.by_sku(sku);
                found.ok_or_else(|| {
                    Error::new(ErrorCode::ProductNotFound, "There is no product with this sku.")
                })
            }
        };
        view.map(|view| Arc::clone(&view.product))
    }
}
