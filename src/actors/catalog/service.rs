//! The commands that create, change and delete products.

use std::sync::Arc;

use bytes::Bytes;

use super::stock::set_stock_write;
use crate::{
    actors::{
        commit_error::map_commit_error,
        retry_on_conflict::{CommandRetry, Decision, idempotency_record, is_conflict},
    },
    cache::{catalog_cache::CatalogCache, follower::Follower},
    domain::{
        catalog::product::{Product, ProductDetails},
        clock::Clock,
        ids::ProductId,
        inventory::{StockChange, StockLevel},
    },
    error::Error,
    events::DomainEvent,
    messages::{
        catalog::{ChangeProduct, CreateProduct, DeleteProduct, ProductEdit, ProductView},
        command_context::{CommandContext, Reply},
    },
    store::{
        Commit, CommitError, CommitReceipt, Store, Write, commit::StoredReplyBody,
        writer::CommitWriter,
    },
};

/// Runs the commands on products and stock.
#[derive(Clone)]
pub struct CatalogService {
    /// The cached products and stock, which serve all catalog reads.
    pub catalog_cache: Arc<CatalogCache>,
    /// Read when the catalog cache may be outdated.
    pub store: Arc<dyn Store>,
    /// Batches commits into store transactions.
    pub writer: CommitWriter,
    /// Follows the changes of other nodes. `None` if the store is not shared.
    pub follower: Option<Arc<Follower>>,
    /// The source of all timestamps.
    pub clock: Arc<dyn Clock>,
    /// Where imports find the products that they update.
    pub import_lookup: ImportLookup,
}

/// Where imports find the products that they update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportLookup {
    /// In the catalog cache.
    Cache,
    /// In the store: the node has no catalog in memory, and does nothing but import.
    Store,
}

impl CatalogService {
    pub(super) async fn create_product(
        &self,
        message: CreateProduct,
    ) -> Result<Reply<Arc<ProductView>>, Error> {
        let CreateProduct { details, initial_stock, context } = message;
        details.validate()?;
        context.ticket.mark_started()?;
        let product = Arc::new(Product::new(ProductId::new(), details, self.clock.now()));
        let empty = StockLevel::empty(product.id);
        let opening = empty
            .apply(StockChange::Set(initial_stock))
            .map_err(|_| map_commit_error(CommitError::StockOverflow))?;
        let level = opening.map_or(empty, |(level, _)| StockLevel { version: 1, ..level });
        let body = self.catalog_cache.render(&product, &level);
        let stock_write = opening.map(|_| set_stock_write(product.id, initial_stock, None));
        let commit = self.product_commit(&product, stock_write, &context, body);
        match self.commit_or_replay(&context, commit).await.map_err(map_commit_error)? {
            Reply::Completed(_) => self
                .catalog_cache
                .get(product.id)
                .map(Reply::Completed)
                .ok_or_else(Error::product_not_found),
            Reply::Replayed(response) => Ok(Reply::Replayed(response)),
        }
    }

    pub(super) async fn change_product(
        &self,
        message: ChangeProduct,
    ) -> Result<Reply<Arc<ProductView>>, Error> {
        let ChangeProduct { product_id, edit, context } = message;
        let decide = async || {
            let (view, details) = self.apply_edit(product_id, &edit, &context)?;
            let changed = view.product.with_details(details, self.clock.now()).map(Arc::new);
            let Some(product) = changed else {
                return Ok(Decision::NoChange { body: view.body(), reply: view });
            };
            let body = self.catalog_cache.render(&product, &view.stock);
            let commit = self.product_commit(&product, None, &context, body);
            Ok(Decision::Commit(Box::new(commit), move |_| {
                self.catalog_cache.view(product, view.stock)
            }))
        };
        self.decide_and_commit(product_id, &context, decide).await
    }

    /// Returns the current product and its details after `edit`. Reads the cache once: a second
    /// read could miss a change in between, and the commit would undo it.
    fn apply_edit(
        &self,
        id: ProductId,
        edit: &ProductEdit,
        context: &CommandContext,
    ) -> Result<(Arc<ProductView>, ProductDetails), Error> {
        let view = self.catalog_cache.get(id).ok_or_else(Error::product_not_found)?;
        check_product_version(&view, context)?;
        let details = match edit.clone() {
            ProductEdit::Replace(details) => details,
            ProductEdit::Patch(patch) => view.product.apply_patch(patch)?,
        };
        details.validate()?;
        Ok((view, details))
    }

    pub(super) async fn delete_product(&self, message: DeleteProduct) -> Result<Reply<()>, Error> {
        let DeleteProduct { product_id, context } = message;
        let decide = async || {
            let view = self.catalog_cache.get(product_id).ok_or_else(Error::product_not_found)?;
            check_product_version(&view, &context)?;
            let product = Arc::new(view.product.to_deleted(self.clock.now()));
            let commit = self.product_commit(&product, None, &context, Bytes::new());
            Ok(Decision::Commit(Box::new(commit), |_| ()))
        };
        self.decide_and_commit(product_id, &context, decide).await
    }

    /// Decides on a product in the catalog cache, and again after each conflict.
    pub(super) async fn decide_and_commit<T, F: FnOnce(CommitReceipt) -> T>(
        &self,
        id: ProductId,
        context: &CommandContext,
        decide: impl AsyncFnMut() -> Result<Decision<T, F>, Error>,
    ) -> Result<Reply<T>, Error> {
        self.command_retry()
            .retry_on_conflict(context, decide, async || self.reload_product(id).await)
            .await
    }

    pub(super) fn command_retry(&self) -> CommandRetry<'_> {
        CommandRetry {
            store: &*self.store,
            writer: &self.writer,
            clock: &*self.clock,
            follower: self.follower.as_deref(),
            is_conflict,
        }
    }

    fn product_commit(
        &self,
        product: &Arc<Product>,
        stock_write: Option<Write>,
        context: &CommandContext,
        body: Bytes,
    ) -> Commit {
        let writes =
            std::iter::once(Write::Product(Arc::clone(product))).chain(stock_write).collect();
        let events = vec![DomainEvent::Product(Arc::clone(product))];
        self.build_commit(writes, events, context, StoredReplyBody::Ready(body))
    }

    pub(super) fn build_commit(
        &self,
        writes: Vec<Write>,
        events: Vec<DomainEvent>,
        context: &CommandContext,
        body: StoredReplyBody,
    ) -> Commit {
        Commit {
            writes,
            events,
            idempotency_record: idempotency_record(context, body),
            trace: context.trace.clone(),
            ..Commit::new(self.clock.now(), context.ticket.deadline())
        }
    }

    pub(super) async fn commit_or_replay(
        &self,
        context: &CommandContext,
        mut commit: Commit,
    ) -> Result<Reply<CommitReceipt>, CommitError> {
        commit.action.clone_from(&context.action);
        match self.writer.commit(commit).await {
            Ok(receipt) => Ok(Reply::Completed(receipt)),
            Err(CommitError::Replayed(response)) => {
                // See `retry_on_conflict`.
                if let Some(follower) = &self.follower {
                    let _ = follower.catch_up().await;
                }
                Ok(Reply::Replayed(response))
            }
            Err(error) => Err(error),
        }
    }

    /// Reloads a product after a conflict, which shows that the catalog cache is outdated.
    async fn reload_product(&self, id: ProductId) -> Result<(), Error> {
        if let Some(follower) = &self.follower {
            return Ok(follower.catch_up().await?);
        }
        if let Some((product, stock)) = self.store.find_product(id).await? {
            self.catalog_cache.refresh(Arc::new(product), stock);
        }
        Ok(())
    }
}

/// Checks `If-Match` against the product's version. Ignores the stock version, which is the second
/// part of a full ETag.
fn check_product_version(view: &ProductView, context: &CommandContext) -> Result<(), Error> {
    let version = view.product.version.to_string();
    let accepts = |tag: &str| tag.split('.').next() == Some(&version);
    match &context.if_match {
        Some(if_match) if !if_match.matches_where(accepts) => {
            Err(Error::version_mismatch(&format!("\"{}\"", view.etag())))
        }
        _ => Ok(()),
    }
}
