//! The catalog's actor decides on changes to products and stock; [`shelf`] is the snapshot that reads go to.

mod import;
mod inbound;

use std::sync::Arc;

use actix::{Actor, Context, Handler, ResponseFuture};
use bytes::Bytes;

use super::{
    ask::catch_panic,
    commit_error::{MAX_ATTEMPTS, map_commit_error, replay_or_reply},
};
use crate::cache::catalog_snapshot::Shelf;
use crate::cache::follower::{Follower, SecondThought};
use crate::{
    domain::{
        catalog::product::{Product, ProductDetails},
        clock::Clock,
        ids::ProductId,
        inventory::{StockChange, StockLevel},
    },
    error::Error,
    events::DomainEvent,
    messages::{
        catalog::{
            ApplyStockCommand, ChangeProduct, ChangeStock, CreateProduct, DeleteProduct,
            ImportLineOutcome, ImportLines, ProductEdit, ProductView, RecordImportResponse,
            StockCommandOutcome,
        },
        change::{CommandContext, IfMatch, Reply},
    },
    store::{
        Commit, CommitError, CommitReceipt, Condition, StockWrite, Store, Write,
        commit::{IdempotencyRecord, StoredResponseBody},
        writer::CommitWriter,
    },
};

/// What the catalog's actor works with.
#[derive(Clone)]
pub struct CatalogService {
    /// The snapshot it publishes.
    pub catalog_snapshot: Arc<Shelf>,
    /// Where truth lives.
    pub store: Arc<dyn Store>,
    /// The way there.
    pub writer: CommitWriter,
    /// News of other nodes, when there are any.
    pub follower: Option<Arc<Follower>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Decides on changes to the catalog and its stock.
///
/// Commands on different products run side by side; those on one product are settled by its version in the store.
pub struct CatalogActor {
    service: CatalogService,
}

impl CatalogActor {
    /// An actor that has not started yet.
    #[must_use]
    pub const fn new(deps: CatalogService) -> Self {
        Self { service: deps }
    }
}

impl Actor for CatalogActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Commands only wait here until their future is started; the writer's queue is what bounds the work.
        ctx.set_mailbox_capacity(1024);
    }
}

impl Handler<CreateProduct> for CatalogActor {
    type Result = ResponseFuture<Result<Reply<Arc<ProductView>>, Error>>;

    fn handle(&mut self, message: CreateProduct, _: &mut Self::Context) -> Self::Result {
        let deps = self.service.clone();
        Box::pin(async move { catch_panic("catalog", deps.create_product(message)).await })
    }
}

impl Handler<ChangeProduct> for CatalogActor {
    type Result = ResponseFuture<Result<Reply<Arc<ProductView>>, Error>>;

    fn handle(&mut self, message: ChangeProduct, _: &mut Self::Context) -> Self::Result {
        let deps = self.service.clone();
        Box::pin(async move { catch_panic("catalog", deps.change_product(message)).await })
    }
}

impl Handler<DeleteProduct> for CatalogActor {
    type Result = ResponseFuture<Result<Reply<()>, Error>>;

    fn handle(&mut self, message: DeleteProduct, _: &mut Self::Context) -> Self::Result {
        let deps = self.service.clone();
        Box::pin(async move { catch_panic("catalog", deps.delete_product(message)).await })
    }
}

impl Handler<ChangeStock> for CatalogActor {
    type Result = ResponseFuture<Result<Reply<StockLevel>, Error>>;

    fn handle(&mut self, message: ChangeStock, _: &mut Self::Context) -> Self::Result {
        let deps = self.service.clone();
        Box::pin(async move { catch_panic("catalog", deps.change_stock(message)).await })
    }
}

impl Handler<ApplyStockCommand> for CatalogActor {
    type Result = ResponseFuture<Result<StockCommandOutcome, Error>>;

    fn handle(&mut self, message: ApplyStockCommand, _: &mut Self::Context) -> Self::Result {
        let deps = self.service.clone();
        Box::pin(async move { catch_panic("catalog", deps.apply_stock_command(message)).await })
    }
}

impl Handler<ImportLines> for CatalogActor {
    type Result = ResponseFuture<Vec<ImportLineOutcome>>;

    fn handle(&mut self, message: ImportLines, _: &mut Self::Context) -> Self::Result {
        let deps = self.service.clone();
        Box::pin(async move { deps.import_lines(message.lines).await })
    }
}

impl Handler<RecordImportResponse> for CatalogActor {
    type Result = ResponseFuture<Result<Reply<()>, Error>>;

    fn handle(&mut self, message: RecordImportResponse, _: &mut Self::Context) -> Self::Result {
        let deps = self.service.clone();
        Box::pin(async move { catch_panic("catalog", deps.remember_import(message)).await })
    }
}

/// What an attempt came to, when it need not be repeated.
type CommitReply<T> = Result<Reply<T>, CommitError>;

impl CatalogService {
    async fn create_product(
        &self,
        message: CreateProduct,
    ) -> Result<Reply<Arc<ProductView>>, Error> {
        let CreateProduct { details: facts, initial_stock: stock, context: change } = message;
        facts.validate()?;
        change.ticket.mark_started()?;
        let product = Arc::new(Product::new(ProductId::new(), facts, self.clock.now()));
        let opening = StockLevel::empty(product.id).apply(StockChange::Set(stock));
        let opening = opening.map_err(|_| map_commit_error(CommitError::StockOverflow))?;
        let level = opening
            .map_or(StockLevel::empty(product.id), |(level, _)| StockLevel { version: 1, ..level });
        let body = self.catalog_snapshot.render(&product, &level);
        let writes = opening.map(|_| set_stock_write(product.id, stock, None));
        match self.commit_product(&product, writes, &change, body).await {
            Ok(Reply::Completed(_)) => self
                .catalog_snapshot
                .get(product.id)
                .map(Reply::Completed)
                .ok_or_else(Error::product_not_found),
            Ok(Reply::Replayed(answer)) => Ok(Reply::Replayed(answer)),
            Err(error) => Err(map_commit_error(error)),
        }
    }

    async fn change_product(
        &self,
        message: ChangeProduct,
    ) -> Result<Reply<Arc<ProductView>>, Error> {
        let ChangeProduct { product_id, edit, context: change } = message;
        let mut second = SecondThought::of(self.follower.as_deref());
        for _ in 0..MAX_ATTEMPTS {
            let (view, facts) = match self.apply_edit(product_id, &edit, &change) {
                Ok(edited) => edited,
                Err(_) if second.is_due().await? => continue,
                Err(error) => return replay_or_reply(&*self.store, &change, Err(error)).await,
            };
            let Some(product) = view.product.with_details(facts, self.clock.now()).map(Arc::new)
            else {
                if second.is_due().await? {
                    continue;
                }
                return replay_or_reply(&*self.store, &change, Ok(view)).await;
            };
            change.ticket.mark_started()?;
            let body = self.catalog_snapshot.render(&product, &view.stock);
            match self.commit_product(&product, None, &change, body).await {
                Err(CommitError::Conflict) => self.reload_product(product_id).await?,
                Ok(Reply::Replayed(answer)) => return Ok(Reply::Replayed(answer)),
                Ok(Reply::Completed(_)) => {
                    return Ok(Reply::Completed(self.catalog_snapshot.view(product, view.stock)));
                }
                Err(error) => return Err(map_commit_error(error)),
            }
        }
        Err(map_commit_error(CommitError::Conflict))
    }

    /// The product as it is, and the facts that `edit` leads to from there. One look at the shelf: with two, somebody else's change
    /// in between would be undone.
    fn apply_edit(
        &self,
        id: ProductId,
        edit: &ProductEdit,
        change: &CommandContext,
    ) -> Result<(Arc<ProductView>, ProductDetails), Error> {
        let view = self.catalog_snapshot.get(id).ok_or_else(Error::product_not_found)?;
        check_product_version(&view, change)?;
        let facts = match edit.clone() {
            ProductEdit::Replace(facts) => facts,
            ProductEdit::Patch(patch) => view.product.apply_patch(patch)?,
        };
        facts.validate()?;
        Ok((view, facts))
    }

    async fn delete_product(&self, message: DeleteProduct) -> Result<Reply<()>, Error> {
        let DeleteProduct { product_id, context: change } = message;
        let mut second = SecondThought::of(self.follower.as_deref());
        for _ in 0..MAX_ATTEMPTS {
            let view = self.catalog_snapshot.get(product_id).ok_or_else(Error::product_not_found);
            let view =
                match view.and_then(|view| check_product_version(&view, &change).map(|()| view)) {
                    Ok(view) => view,
                    Err(_) if second.is_due().await? => continue,
                    Err(error) => return replay_or_reply(&*self.store, &change, Err(error)).await,
                };
            change.ticket.mark_started()?;
            let product = Arc::new(view.product.to_deleted(self.clock.now()));
            match self.commit_product(&product, None, &change, Bytes::new()).await {
                Err(CommitError::Conflict) => self.reload_product(product_id).await?,
                Ok(Reply::Replayed(answer)) => return Ok(Reply::Replayed(answer)),
                Ok(Reply::Completed(_)) => return Ok(Reply::Completed(())),
                Err(error) => return Err(map_commit_error(error)),
            }
        }
        Err(map_commit_error(CommitError::Conflict))
    }

    async fn change_stock(&self, message: ChangeStock) -> Result<Reply<StockLevel>, Error> {
        let ChangeStock { product_id, stock_change: stock, reason, reference, context: change } =
            message;
        let mut second = SecondThought::of(self.follower.as_deref());
        for _ in 0..MAX_ATTEMPTS {
            let view = match self.view_for_stock_change(product_id, &change) {
                Ok(view) => view,
                Err(_) if second.is_due().await? => continue,
                Err(error) => return replay_or_reply(&*self.store, &change, Err(error)).await,
            };
            change.ticket.mark_started()?;
            let expected_version =
                matches!(change.if_match, Some(IfMatch::Tags(_))).then_some(view.stock.version);
            let (reason, reference) = (reason.clone(), reference.clone());
            let write = StockWrite {
                product_id,
                change: stock,
                expected_version,
                order_id: None,
                reference,
                reason,
            };
            let mut commit = self.build_commit(
                vec![Write::Stock(write)],
                Vec::new(),
                &change,
                StoredResponseBody::StockLevelOf(product_id),
            );
            commit.conditions = vec![Condition::ProductUnchanged(product_id, view.product.version)];
            match self.commit_or_replay(commit).await {
                Ok(Reply::Completed(done)) => {
                    return Ok(Reply::Completed(done.stock.first().copied().unwrap_or(view.stock)));
                }
                Ok(Reply::Replayed(answer)) => return Ok(Reply::Replayed(answer)),
                // Either has changed, or the product is gone.
                Err(CommitError::Conflict) => self.reload_product(product_id).await?,
                Err(error) => return Err(map_commit_error(error)),
            }
        }
        Err(map_commit_error(CommitError::Conflict))
    }

    /// The stock as known, when the product is there and the caller has seen this version of it.
    fn view_for_stock_change(
        &self,
        id: ProductId,
        change: &CommandContext,
    ) -> Result<Arc<ProductView>, Error> {
        let view = self.catalog_snapshot.get(id).ok_or_else(Error::product_not_found)?;
        match &change.if_match {
            Some(wanted) if !wanted.matches_tag(&view.stock.version.to_string()) => {
                Err(Error::version_mismatch(&format!("\"{}\"", view.stock.version)))
            }
            _ => Ok(view),
        }
    }

    async fn commit_product(
        &self,
        product: &Arc<Product>,
        stock: Option<Write>,
        change: &CommandContext,
        body: Bytes,
    ) -> CommitReply<CommitReceipt> {
        let writes = std::iter::once(Write::Product(Arc::clone(product))).chain(stock).collect();
        let facts = vec![DomainEvent::Product(Arc::clone(product))];
        self.commit_or_replay(self.build_commit(
            writes,
            facts,
            change,
            StoredResponseBody::Ready(body),
        ))
        .await
    }

    fn build_commit(
        &self,
        writes: Vec<Write>,
        facts: Vec<DomainEvent>,
        change: &CommandContext,
        body: StoredResponseBody,
    ) -> Commit {
        Commit {
            writes,
            events: facts,
            idempotency_record: change
                .idempotency_key
                .clone()
                .map(|key| IdempotencyRecord { key, body }),
            trace: change.trace.clone(),
            ..Commit::new(self.clock.now(), change.ticket.deadline())
        }
    }

    async fn commit_or_replay(&self, commit: Commit) -> CommitReply<CommitReceipt> {
        match self.writer.commit(commit).await {
            Ok(done) => Ok(Reply::Completed(done)),
            Err(CommitError::Replayed(answer)) => Ok(Reply::Replayed(answer)),
            Err(error) => Err(error),
        }
    }

    /// Takes what the store has, when it turned out to be newer than what is known here.
    async fn reload_product(&self, id: ProductId) -> Result<(), Error> {
        if let Some(follower) = &self.follower {
            return Ok(follower.catch_up().await?);
        }
        if let Some((product, stock)) = self.store.find_product(id).await? {
            self.catalog_snapshot.refresh(Arc::new(product), stock);
        }
        Ok(())
    }
}

fn set_stock_write(product_id: ProductId, stock: u64, reason: Option<&str>) -> Write {
    let (change, reason) = (StockChange::Set(stock), reason.map(str::to_owned));
    Write::Stock(StockWrite {
        product_id,
        change,
        expected_version: None,
        order_id: None,
        reference: None,
        reason,
    })
}

/// `If-Match` on a product speaks of its own version, with or without the stock's behind it.
fn check_product_version(view: &ProductView, change: &CommandContext) -> Result<(), Error> {
    let version = view.product.version.to_string();
    let accepts = |tag: &str| tag.split('.').next() == Some(&version);
    match &change.if_match {
        Some(wanted) if !wanted.matches_where(accepts) => {
            Err(Error::version_mismatch(&format!("\"{}\"", view.etag)))
        }
        _ => Ok(()),
    }
}
