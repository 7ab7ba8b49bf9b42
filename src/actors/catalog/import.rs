//! Imports: each line creates or updates a product by its `sku`, on its own; lines of one batch share transactions.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;

use super::{CatalogDeps, MAX_ATTEMPTS, counted_stock, failure, survive};
use crate::{
    domain::{
        catalog::product::{Product, ProductFacts},
        ids::ProductId,
    },
    error::Error,
    events::Fact,
    messages::{
        catalog::{ImportLine, ImportRow, Imported, LineOutcome, ProductView, RememberImport},
        change::{Change, Reply},
    },
    store::{CommitError, Write, commit::RememberedBody},
};

/// Statuses under which a line's outcome is remembered: they tell a repeat what the first attempt did.
const CREATED: u16 = 201;

/// The reason that movements of stock have which come of an import.
const REASON: &str = "import";

impl CatalogDeps {
    pub(super) async fn import(&self, lines: Vec<ImportLine>) -> Vec<LineOutcome> {
        let mut outcomes = Vec::with_capacity(lines.len());
        for round in rounds(lines) {
            outcomes.extend(join_all(round.into_iter().map(|line| self.import_line(line))).await);
        }
        outcomes
    }

    pub(super) async fn remember_import(
        &self,
        message: RememberImport,
    ) -> Result<Reply<()>, Error> {
        let RememberImport { body, change } = message;
        change.ticket.begin()?;
        let commit = self.commit(Vec::new(), Vec::new(), &change, RememberedBody::Ready(body));
        match self.send(commit).await {
            Ok(Reply::Done(_)) => Ok(Reply::Done(())),
            Ok(Reply::Replayed(answer)) => Ok(Reply::Replayed(answer)),
            Err(error) => Err(failure(error)),
        }
    }

    async fn import_line(&self, line: ImportLine) -> LineOutcome {
        let ImportLine { number, row, change } = line;
        let result = match row {
            Ok(row) => survive("catalog", self.import_row(row, change)).await,
            Err(error) => Err(error),
        };
        LineOutcome { number, result }
    }

    async fn import_row(&self, row: ImportRow, change: Change) -> Result<Imported, Error> {
        for _ in 0..MAX_ATTEMPTS {
            let known = row.sku().and_then(|sku| self.shelf.by_sku(sku));
            let facts = match &known {
                Some(view) => view.product.patched(row.patch.clone())?,
                None => row.patch.clone().into_new()?,
            };
            facts.check(self.limits)?;
            change.ticket.begin()?;
            let (imported, outcome) = match known {
                Some(view) => {
                    (Imported::Updated, self.import_over(&view, facts, row.stock, &change).await)
                }
                None => (Imported::Created, self.import_new(facts, row.stock, &change).await),
            };
            match outcome {
                Ok(Reply::Done(())) => return Ok(imported),
                Ok(Reply::Replayed(answer)) if answer.status == CREATED => {
                    return Ok(Imported::Created);
                }
                Ok(Reply::Replayed(_)) => return Ok(Imported::Updated),
                // Somebody else changed or created it meanwhile: look again.
                Err(CommitError::Conflict | CommitError::SkuTaken) => {
                    if let Some(follower) = &self.follower {
                        follower.catch_up().await?;
                    }
                }
                Err(error) => return Err(failure(error)),
            }
        }
        Err(failure(CommitError::Conflict))
    }

    async fn import_new(
        &self,
        facts: ProductFacts,
        stock: Option<u64>,
        change: &Change,
    ) -> Result<Reply<()>, CommitError> {
        let product = Arc::new(Product::new(ProductId::new(), facts, self.clock.now()));
        let stock = stock.filter(|n| *n > 0).map(|n| counted_stock(product.id, n, Some(REASON)));
        let mut change = change.clone();
        if let Some(key) = &mut change.key {
            key.status = CREATED;
        }
        self.import_commit(Some(product), stock, &change).await
    }

    async fn import_over(
        &self,
        view: &ProductView,
        facts: ProductFacts,
        stock: Option<u64>,
        change: &Change,
    ) -> Result<Reply<()>, CommitError> {
        let product = view.product.replaced(facts, self.clock.now()).map(Arc::new);
        let stock = stock.map(|n| counted_stock(view.product.id, n, Some(REASON)));
        if product.is_none() && stock.is_none() {
            return Ok(Reply::Done(()));
        }
        self.import_commit(product, stock, change).await
    }

    async fn import_commit(
        &self,
        product: Option<Arc<Product>>,
        stock: Option<Write>,
        change: &Change,
    ) -> Result<Reply<()>, CommitError> {
        let facts = product.iter().map(|product| Fact::Product(Arc::clone(product))).collect();
        let writes = product.map(Write::Product).into_iter().chain(stock).collect();
        let commit = self.commit(writes, facts, change, RememberedBody::Ready(Bytes::new()));
        Ok(match self.send(commit).await? {
            Reply::Done(_) => Reply::Done(()),
            Reply::Replayed(answer) => Reply::Replayed(answer),
        })
    }
}

/// Splits lines so that those with the same sku come one after the other, in the file's order.
fn rounds(lines: Vec<ImportLine>) -> Vec<Vec<ImportLine>> {
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
