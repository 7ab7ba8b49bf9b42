//! The catalog's actor decides on changes to products and stock; [`shelf`] is the snapshot that reads go to.

mod import;
mod inbound;

use std::sync::Arc;

use actix::{Actor, Context, Handler, ResponseFuture};
use bytes::Bytes;

use super::{
    ask::survive,
    commit_error::{MAX_ATTEMPTS, failure, unless_repeated},
};
use crate::cache::catalog_snapshot::Shelf;
use crate::cache::follower::{Follower, SecondThought};
use crate::{
    domain::{
        catalog::product::{Product, ProductFacts, ProductLimits},
        clock::Clock,
        ids::ProductId,
        inventory::{StockChange, StockLevel},
    },
    error::Error,
    events::Fact,
    messages::{
        catalog::{
            CarriedOut, CarryOut, ChangeProduct, ChangeStock, CreateProduct, DeleteProduct,
            ImportLines, LineOutcome, ProductEdit, ProductView, RememberImport,
        },
        change::{Change, IfMatch, Reply},
    },
    store::{
        Commit, CommitError, Condition, Done, StockWrite, Store, Write,
        commit::{Remember, RememberedBody},
        writer::Writer,
    },
};

/// What the catalog's actor works with.
#[derive(Clone)]
pub struct CatalogDeps {
    /// The snapshot it publishes.
    pub shelf: Arc<Shelf>,
    /// Where truth lives.
    pub store: Arc<dyn Store>,
    /// The way there.
    pub writer: Writer,
    /// News of other nodes, when there are any.
    pub follower: Option<Arc<Follower>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Limits on prices.
    pub limits: ProductLimits,
}

/// Decides on changes to the catalog and its stock.
///
/// Commands on different products run side by side; those on one product are settled by its version in the store.
pub struct CatalogActor {
    deps: CatalogDeps,
}

impl CatalogActor {
    /// An actor that has not started yet.
    #[must_use]
    pub const fn new(deps: CatalogDeps) -> Self {
        Self { deps }
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
        let deps = self.deps.clone();
        Box::pin(async move { survive("catalog", deps.create(message)).await })
    }
}

impl Handler<ChangeProduct> for CatalogActor {
    type Result = ResponseFuture<Result<Reply<Arc<ProductView>>, Error>>;

    fn handle(&mut self, message: ChangeProduct, _: &mut Self::Context) -> Self::Result {
        let deps = self.deps.clone();
        Box::pin(async move { survive("catalog", deps.change(message)).await })
    }
}

impl Handler<DeleteProduct> for CatalogActor {
    type Result = ResponseFuture<Result<Reply<()>, Error>>;

    fn handle(&mut self, message: DeleteProduct, _: &mut Self::Context) -> Self::Result {
        let deps = self.deps.clone();
        Box::pin(async move { survive("catalog", deps.delete(message)).await })
    }
}

impl Handler<ChangeStock> for CatalogActor {
    type Result = ResponseFuture<Result<Reply<StockLevel>, Error>>;

    fn handle(&mut self, message: ChangeStock, _: &mut Self::Context) -> Self::Result {
        let deps = self.deps.clone();
        Box::pin(async move { survive("catalog", deps.change_stock(message)).await })
    }
}

impl Handler<CarryOut> for CatalogActor {
    type Result = ResponseFuture<Result<CarriedOut, Error>>;

    fn handle(&mut self, message: CarryOut, _: &mut Self::Context) -> Self::Result {
        let deps = self.deps.clone();
        Box::pin(async move { survive("catalog", deps.carry_out(message)).await })
    }
}

impl Handler<ImportLines> for CatalogActor {
    type Result = ResponseFuture<Vec<LineOutcome>>;

    fn handle(&mut self, message: ImportLines, _: &mut Self::Context) -> Self::Result {
        let deps = self.deps.clone();
        Box::pin(async move { deps.import(message.lines).await })
    }
}

impl Handler<RememberImport> for CatalogActor {
    type Result = ResponseFuture<Result<Reply<()>, Error>>;

    fn handle(&mut self, message: RememberImport, _: &mut Self::Context) -> Self::Result {
        let deps = self.deps.clone();
        Box::pin(async move { survive("catalog", deps.remember_import(message)).await })
    }
}

/// What an attempt came to, when it need not be repeated.
type Attempt<T> = Result<Reply<T>, CommitError>;

impl CatalogDeps {
    async fn create(&self, message: CreateProduct) -> Result<Reply<Arc<ProductView>>, Error> {
        let CreateProduct { facts, stock, change } = message;
        facts.check(self.limits)?;
        change.ticket.begin()?;
        let product = Arc::new(Product::new(ProductId::new(), facts, self.clock.now()));
        let opening = StockLevel::none(product.id).apply(StockChange::Set(stock));
        let opening = opening.map_err(|_| failure(CommitError::TooMuchStock))?;
        let level = opening
            .map_or(StockLevel::none(product.id), |(level, _)| StockLevel { version: 1, ..level });
        let body = self.shelf.render(&product, &level);
        let writes = opening.map(|_| counted_stock(product.id, stock, None));
        match self.put_product(&product, writes, &change, body).await {
            Ok(Reply::Done(_)) => {
                self.shelf.get(product.id).map(Reply::Done).ok_or_else(Error::product_not_found)
            }
            Ok(Reply::Replayed(answer)) => Ok(Reply::Replayed(answer)),
            Err(error) => Err(failure(error)),
        }
    }

    async fn change(&self, message: ChangeProduct) -> Result<Reply<Arc<ProductView>>, Error> {
        let ChangeProduct { product_id, edit, change } = message;
        let mut second = SecondThought::of(self.follower.as_deref());
        for _ in 0..MAX_ATTEMPTS {
            let (view, facts) = match self.edited(product_id, &edit, &change) {
                Ok(edited) => edited,
                Err(_) if second.is_due().await? => continue,
                Err(error) => return unless_repeated(&*self.store, &change, Err(error)).await,
            };
            let Some(product) = view.product.replaced(facts, self.clock.now()).map(Arc::new) else {
                if second.is_due().await? {
                    continue;
                }
                return unless_repeated(&*self.store, &change, Ok(view)).await;
            };
            change.ticket.begin()?;
            let body = self.shelf.render(&product, &view.stock);
            match self.put_product(&product, None, &change, body).await {
                Err(CommitError::Conflict) => self.reload(product_id).await?,
                Ok(Reply::Replayed(answer)) => return Ok(Reply::Replayed(answer)),
                Ok(Reply::Done(_)) => return Ok(Reply::Done(self.shelf.view(product, view.stock))),
                Err(error) => return Err(failure(error)),
            }
        }
        Err(failure(CommitError::Conflict))
    }

    /// The product as it is, and the facts that `edit` leads to from there. One look at the shelf: with two, somebody else's change
    /// in between would be undone.
    fn edited(
        &self,
        id: ProductId,
        edit: &ProductEdit,
        change: &Change,
    ) -> Result<(Arc<ProductView>, ProductFacts), Error> {
        let view = self.shelf.get(id).ok_or_else(Error::product_not_found)?;
        check_version(&view, change)?;
        let facts = match edit.clone() {
            ProductEdit::Replace(facts) => facts,
            ProductEdit::Patch(patch) => view.product.patched(patch)?,
        };
        facts.check(self.limits)?;
        Ok((view, facts))
    }

    async fn delete(&self, message: DeleteProduct) -> Result<Reply<()>, Error> {
        let DeleteProduct { product_id, change } = message;
        let mut second = SecondThought::of(self.follower.as_deref());
        for _ in 0..MAX_ATTEMPTS {
            let view = self.shelf.get(product_id).ok_or_else(Error::product_not_found);
            let view = match view.and_then(|view| check_version(&view, &change).map(|()| view)) {
                Ok(view) => view,
                Err(_) if second.is_due().await? => continue,
                Err(error) => return unless_repeated(&*self.store, &change, Err(error)).await,
            };
            change.ticket.begin()?;
            let product = Arc::new(view.product.deleted(self.clock.now()));
            match self.put_product(&product, None, &change, Bytes::new()).await {
                Err(CommitError::Conflict) => self.reload(product_id).await?,
                Ok(Reply::Replayed(answer)) => return Ok(Reply::Replayed(answer)),
                Ok(Reply::Done(_)) => return Ok(Reply::Done(())),
                Err(error) => return Err(failure(error)),
            }
        }
        Err(failure(CommitError::Conflict))
    }

    async fn change_stock(&self, message: ChangeStock) -> Result<Reply<StockLevel>, Error> {
        let ChangeStock { product_id, stock, reason, reference, change } = message;
        let mut second = SecondThought::of(self.follower.as_deref());
        for _ in 0..MAX_ATTEMPTS {
            let view = match self.stock_to_change(product_id, &change) {
                Ok(view) => view,
                Err(_) if second.is_due().await? => continue,
                Err(error) => return unless_repeated(&*self.store, &change, Err(error)).await,
            };
            change.ticket.begin()?;
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
            let mut commit = self.commit(
                vec![Write::Stock(write)],
                Vec::new(),
                &change,
                RememberedBody::StockOf(product_id),
            );
            commit.conditions = vec![Condition::Unchanged(product_id, view.product.version)];
            match self.send(commit).await {
                Ok(Reply::Done(done)) => {
                    return Ok(Reply::Done(done.stock.first().copied().unwrap_or(view.stock)));
                }
                Ok(Reply::Replayed(answer)) => return Ok(Reply::Replayed(answer)),
                // Either has changed, or the product is gone.
                Err(CommitError::Conflict) => self.reload(product_id).await?,
                Err(error) => return Err(failure(error)),
            }
        }
        Err(failure(CommitError::Conflict))
    }

    /// The stock as known, when the product is there and the caller has seen this version of it.
    fn stock_to_change(&self, id: ProductId, change: &Change) -> Result<Arc<ProductView>, Error> {
        let view = self.shelf.get(id).ok_or_else(Error::product_not_found)?;
        match &change.if_match {
            Some(wanted) if !wanted.allows(&view.stock.version.to_string()) => {
                Err(Error::version_mismatch(&format!("\"{}\"", view.stock.version)))
            }
            _ => Ok(view),
        }
    }

    async fn put_product(
        &self,
        product: &Arc<Product>,
        stock: Option<Write>,
        change: &Change,
        body: Bytes,
    ) -> Attempt<Done> {
        let writes = std::iter::once(Write::Product(Arc::clone(product))).chain(stock).collect();
        let facts = vec![Fact::Product(Arc::clone(product))];
        self.send(self.commit(writes, facts, change, RememberedBody::Ready(body))).await
    }

    fn commit(
        &self,
        writes: Vec<Write>,
        facts: Vec<Fact>,
        change: &Change,
        body: RememberedBody,
    ) -> Commit {
        Commit {
            writes,
            facts,
            remember: change.key.clone().map(|key| Remember { key, body }),
            trace: change.trace.clone(),
            ..Commit::new(self.clock.now(), change.ticket.deadline())
        }
    }

    async fn send(&self, commit: Commit) -> Attempt<Done> {
        match self.writer.commit(commit).await {
            Ok(done) => Ok(Reply::Done(done)),
            Err(CommitError::Replayed(answer)) => Ok(Reply::Replayed(answer)),
            Err(error) => Err(error),
        }
    }

    /// Takes what the store has, when it turned out to be newer than what is known here.
    async fn reload(&self, id: ProductId) -> Result<(), Error> {
        if let Some(follower) = &self.follower {
            return Ok(follower.catch_up().await?);
        }
        if let Some((product, stock)) = self.store.product(id).await? {
            self.shelf.refresh(Arc::new(product), stock);
        }
        Ok(())
    }
}

fn counted_stock(product_id: ProductId, stock: u64, reason: Option<&str>) -> Write {
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
fn check_version(view: &ProductView, change: &Change) -> Result<(), Error> {
    let version = view.product.version.to_string();
    let accepts = |tag: &str| tag.split('.').next() == Some(&version);
    match &change.if_match {
        Some(wanted) if !wanted.allows_where(accepts) => {
            Err(Error::version_mismatch(&format!("\"{}\"", view.etag)))
        }
        _ => Ok(()),
    }
}
