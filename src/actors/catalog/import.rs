//! Imports: each line creates or updates a product by its `sku`, on its own; lines of one batch share transactions.

use std::{collections::HashSet, sync::Arc};

use futures_util::future::join_all;

use super::{CatalogService, MAX_ATTEMPTS, catch_panic, map_commit_error, set_stock_write};
use crate::{
    domain::{
        catalog::product::{Product, ProductDetails},
        ids::ProductId,
    },
    error::Error,
    events::DomainEvent,
    messages::{
        catalog::{
            ImportAction, ImportLine, ImportLineOutcome, ImportRow, ProductView,
            RecordImportResponse,
        },
        change::{CommandContext, Reply, StoredReply},
    },
    store::{CommitError, Write, commit::StoredResponseBody},
};

/// The reason that movements of stock have which come of an import.
const IMPORT_REASON: &str = "import";

impl CatalogService {
    pub(super) async fn import_lines(&self, lines: Vec<ImportLine>) -> Vec<ImportLineOutcome> {
        let mut outcomes = Vec::with_capacity(lines.len());
        for round in split_by_repeated_sku(lines) {
            outcomes.extend(join_all(round.into_iter().map(|line| self.import_line(line))).await);
        }
        outcomes
    }

    pub(super) async fn remember_import(
        &self,
        message: RecordImportResponse,
    ) -> Result<Reply<()>, Error> {
        let RecordImportResponse { body, context: change } = message;
        change.ticket.mark_started()?;
        let commit =
            self.build_commit(Vec::new(), Vec::new(), &change, StoredResponseBody::Ready(body));
        match self.commit_or_replay(commit).await {
            Ok(Reply::Completed(_)) => Ok(Reply::Completed(())),
            Ok(Reply::Replayed(answer)) => Ok(Reply::Replayed(answer)),
            Err(error) => Err(map_commit_error(error)),
        }
    }

    async fn import_line(&self, line: ImportLine) -> ImportLineOutcome {
        let ImportLine { number, row, context: change } = line;
        let result = match row {
            Ok(row) => catch_panic("catalog", self.import_row(row, change)).await,
            Err(error) => Err(error),
        };
        ImportLineOutcome { number, result }
    }

    async fn import_row(
        &self,
        row: ImportRow,
        change: CommandContext,
    ) -> Result<ImportAction, Error> {
        for _ in 0..MAX_ATTEMPTS {
            let known = row.sku().and_then(|sku| self.catalog_snapshot.by_sku(sku));
            let facts = match &known {
                Some(view) => view.product.apply_patch(row.patch.clone())?,
                None => row.patch.clone().into_details()?,
            };
            facts.validate(self.limits)?;
            change.ticket.mark_started()?;
            let (imported, outcome) = match known {
                Some(view) => (
                    ImportAction::Updated,
                    self.import_product_update(&view, facts, row.stock, &change).await,
                ),
                None => (
                    ImportAction::Created,
                    self.import_new_product(facts, row.stock, &change).await,
                ),
            };
            match outcome {
                Ok(Reply::Completed(())) => return Ok(imported),
                Ok(Reply::Replayed(reply)) if reply.is_created_line() => {
                    return Ok(ImportAction::Created);
                }
                Ok(Reply::Replayed(_)) => return Ok(ImportAction::Updated),
                // Somebody else changed or created it meanwhile: look again.
                Err(CommitError::Conflict | CommitError::SkuTaken) => {
                    if let Some(follower) = &self.follower {
                        follower.catch_up().await?;
                    }
                }
                Err(error) => return Err(map_commit_error(error)),
            }
        }
        Err(map_commit_error(CommitError::Conflict))
    }

    async fn import_new_product(
        &self,
        facts: ProductDetails,
        stock: Option<u64>,
        change: &CommandContext,
    ) -> Result<Reply<()>, CommitError> {
        let product = Arc::new(Product::new(ProductId::new(), facts, self.clock.now()));
        let stock =
            stock.filter(|n| *n > 0).map(|n| set_stock_write(product.id, n, Some(IMPORT_REASON)));
        self.commit_import(Some(product), stock, change, true).await
    }

    async fn import_product_update(
        &self,
        view: &ProductView,
        facts: ProductDetails,
        stock: Option<u64>,
        change: &CommandContext,
    ) -> Result<Reply<()>, CommitError> {
        let product = view.product.with_details(facts, self.clock.now()).map(Arc::new);
        let stock = stock.map(|n| set_stock_write(view.product.id, n, Some(IMPORT_REASON)));
        if product.is_none() && stock.is_none() {
            return Ok(Reply::Completed(()));
        }
        self.commit_import(product, stock, change, false).await
    }

    async fn commit_import(
        &self,
        product: Option<Arc<Product>>,
        stock: Option<Write>,
        change: &CommandContext,
        is_new: bool,
    ) -> Result<Reply<()>, CommitError> {
        let facts =
            product.iter().map(|product| DomainEvent::Product(Arc::clone(product))).collect();
        let writes = product.map(Write::Product).into_iter().chain(stock).collect();
        let commit = self.build_commit(
            writes,
            facts,
            change,
            StoredResponseBody::Ready(StoredReply::of_import_line(is_new).body),
        );
        Ok(match self.commit_or_replay(commit).await? {
            Reply::Completed(_) => Reply::Completed(()),
            Reply::Replayed(answer) => Reply::Replayed(answer),
        })
    }
}

/// Splits lines so that those with the same sku come one after the other, in the file's order.
fn split_by_repeated_sku(lines: Vec<ImportLine>) -> Vec<Vec<ImportLine>> {
    let mut rounds = vec![Vec::new()];
    let mut seen: HashSet<String> = HashSet::new();
    for line in lines {
        let sku = line.row.as_ref().ok().and_then(|row| row.sku().map(str::to_owned));
        if sku.is_some_and(|sku| !seen.insert(sku)) {
            seen.clear();
            seen.extend(line.row.as_ref().ok().and_then(|row| row.sku().map(str::to_owned)));
            rounds.push(Vec::new());
        }
        if let Some(round) = rounds.last_mut() {
            round.push(line);
        }
    }
    rounds
}
