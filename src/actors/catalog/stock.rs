//! The command that changes a product's stock.

use std::sync::Arc;

use super::CatalogService;
use crate::{
    actors::retry_on_conflict::Decision,
    domain::{
        ids::ProductId,
        inventory::{StockChange, StockLevel},
    },
    error::Error,
    messages::{
        catalog::{ChangeStock, ProductView},
        command_context::{CommandContext, IfMatch, Reply},
    },
    store::{CommitReceipt, Condition, StockWrite, Write, commit::StoredReplyBody},
};

impl CatalogService {
    pub(super) async fn change_stock(
        &self,
        message: ChangeStock,
    ) -> Result<Reply<StockLevel>, Error> {
        let ChangeStock { product_id, stock_change, reason, reference, context } = message;
        let decide = async || {
            let view = self.view_for_stock_change(product_id, &context)?;
            let write = Write::Stock(StockWrite {
                product_id,
                change: stock_change,
                expected_version: matches!(context.if_match, Some(IfMatch::Tags(_)))
                    .then_some(view.stock.version),
                order_id: None,
                reference: reference.clone(),
                reason: reason.clone(),
            });
            let body = StoredReplyBody::StockLevelOf(product_id);
            let mut commit = self.build_commit(vec![write], Vec::new(), &context, body);
            commit.conditions = vec![Condition::ProductUnchanged(product_id, view.product.version)];
            Ok(Decision::Commit(Box::new(commit), move |receipt: CommitReceipt| {
                receipt.stock.first().copied().unwrap_or(view.stock)
            }))
        };
        self.decide_and_commit(product_id, &context, decide).await
    }

    /// Returns the product if it exists and its stock version satisfies `If-Match`.
    fn view_for_stock_change(
        &self,
        id: ProductId,
        context: &CommandContext,
    ) -> Result<Arc<ProductView>, Error> {
        let view = self.catalog_cache.get(id).ok_or_else(Error::product_not_found)?;
        match &context.if_match {
            Some(if_match) if !if_match.matches_tag(&view.stock.version.to_string()) => {
                Err(Error::version_mismatch(&format!("\"{}\"", view.stock.version)))
            }
            _ => Ok(view),
        }
    }
}

pub(super) fn set_stock_write(product_id: ProductId, on_hand: u64, reason: Option<&str>) -> Write {
    Write::Stock(StockWrite {
        product_id,
        change: StockChange::Set(on_hand),
        expected_version: None,
        order_id: None,
        reference: None,
        reason: reason.map(str::to_owned),
    })
}
