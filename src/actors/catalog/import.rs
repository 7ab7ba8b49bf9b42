//! Imports. Each line independently creates or updates the product with its `sku`. Concurrent lines
//! share transactions.

mod dry_run;
mod known_products;

use std::{cell::RefCell, collections::HashSet, sync::Arc};

use futures_util::future::join_all;

use self::known_products::KnownProducts;
use super::{CatalogService, stock::set_stock_write};
use crate::{
    actors::{
        commit_error::map_commit_error,
        retry_on_conflict::{CommandRetry, Decision},
    },
    domain::{catalog::product::Product, ids::ProductId},
    error::{Error, ErrorCode, RefusedLines},
    events::DomainEvent,
    messages::{
        catalog::{
            ImportAction, ImportLine, ImportLineOutcome, ImportLines, ImportMode, ImportRow,
            RecordImportResponse,
        },
        command_context::{CommandContext, Reply, StoredReply},
    },
    panics::guarded_command,
    store::{Commit, CommitError, CommitReceipt, Condition, Write, commit::StoredReplyBody},
};

/// The `reason` of stock movements from an import.
const IMPORT_REASON: &str = "import";

type IntoAction = fn(CommitReceipt) -> ImportAction;
type ImportDecision = Result<Decision<ImportAction, IntoAction>, Error>;

impl CatalogService {
    pub(super) async fn import_lines(&self, message: ImportLines) -> Vec<ImportLineOutcome> {
        let ImportLines { lines, mode } = message;
        if let ImportMode::DryRun(currency) = mode {
            return self.check_lines(lines, currency).await;
        }
        let mut outcomes = Vec::with_capacity(lines.len());
        for round in split_by_repeated_sku(lines) {
            match self.load_known_products(&round).await {
                Ok(known) => {
                    let lines = round.into_iter().map(|line| self.import_line(line, &known));
                    outcomes.extend(join_all(lines).await);
                }
                Err(error) => outcomes.extend(reject_all(&round, &error.into())),
            }
        }
        outcomes
    }

    pub(super) async fn record_import_response(
        &self,
        message: RecordImportResponse,
    ) -> Result<Reply<()>, Error> {
        let RecordImportResponse { body, context } = message;
        context.ticket.mark_started()?;
        let body = StoredReplyBody::Ready(body);
        let commit = self.build_commit(Vec::new(), Vec::new(), &context, body);
        match self.commit_or_replay(&context, commit).await.map_err(map_commit_error)? {
            Reply::Completed(_) => Ok(Reply::Completed(())),
            Reply::Replayed(response) => Ok(Reply::Replayed(response)),
        }
    }

    async fn import_line(&self, line: ImportLine, known: &KnownProducts) -> ImportLineOutcome {
        let ImportLine { number, row, context, .. } = line;
        let result = match row {
            Ok(row) => guarded_command("catalog", self.import_row(row, known, context)).await,
            Err(error) => Err(error),
        };
        ImportLineOutcome { number, result }
    }

    async fn import_row(
        &self,
        row: ImportRow,
        known: &KnownProducts,
        context: CommandContext,
    ) -> Result<ImportAction, Error> {
        // After a conflict, what was known is outdated.
        let reloaded = RefCell::new(None);
        let decide = async || {
            let reloaded = reloaded.borrow();
            let product = self.find_known_product(&row, reloaded.as_ref().unwrap_or(known));
            match product {
                Some((product, _)) => self.decide_import_update(&product, &row, &context),
                None => self.decide_import_create(&row, &context),
            }
        };
        // A sku that was just taken is also a conflict: the next attempt updates its product.
        let is_conflict =
            |error: &CommitError| matches!(error, CommitError::Conflict | CommitError::SkuTaken);
        let retry = CommandRetry { is_conflict, ..self.command_retry() };
        let refresh = async || {
            if let Some(follower) = &self.follower {
                follower.catch_up().await?;
            }
            let products = self.load_products_of([&row].into_iter()).await?;
            reloaded.replace(Some(products));
            Ok(())
        };
        let reply = retry.retry_on_conflict(&context, decide, refresh).await;
        match reply.map_err(|error| explain_shortage(error, row.stock))? {
            Reply::Completed(action) => Ok(action),
            Reply::Replayed(reply) if reply.is_created_line() => Ok(ImportAction::Created),
            Reply::Replayed(_) => Ok(ImportAction::Updated),
        }
    }

    fn decide_import_create(&self, row: &ImportRow, context: &CommandContext) -> ImportDecision {
        let details = row.patch.clone().into_details()?;
        details.validate()?;
        let product = Arc::new(Product::new(ProductId::new(), details, self.clock.now()));
        let stock_write = row
            .stock
            .filter(|on_hand| *on_hand > 0)
            .map(|on_hand| set_stock_write(product.id, on_hand, Some(IMPORT_REASON)));
        let commit = self.import_commit(Some(product), stock_write, context, ImportAction::Created);
        Ok(into_decision(commit, ImportAction::Created))
    }

    fn decide_import_update(
        &self,
        known: &Product,
        row: &ImportRow,
        context: &CommandContext,
    ) -> ImportDecision {
        let details = known.apply_patch(row.patch.clone())?;
        details.validate()?;
        let product = known.with_details(details, self.clock.now()).map(Arc::new);
        let stock_write =
            row.stock.map(|on_hand| set_stock_write(known.id, on_hand, Some(IMPORT_REASON)));
        if product.is_none() && stock_write.is_none() {
            return Ok(Decision::NoChange {
                reply: ImportAction::Updated,
                body: StoredReply::of_import_line(false).body,
            });
        }
        // A change of stock alone does not write the product, which may have changed or be gone.
        let unchanged = Condition::ProductUnchanged(known.id, known.version);
        let conditions = if product.is_none() { vec![unchanged] } else { Vec::new() };
        let commit = self.import_commit(product, stock_write, context, ImportAction::Updated);
        Ok(into_decision(Commit { conditions, ..commit }, ImportAction::Updated))
    }

    fn import_commit(
        &self,
        product: Option<Arc<Product>>,
        stock_write: Option<Write>,
        context: &CommandContext,
        action: ImportAction,
    ) -> Commit {
        let events =
            product.iter().map(|product| DomainEvent::Product(Arc::clone(product))).collect();
        let writes = product.map(Write::Product).into_iter().chain(stock_write).collect();
        let is_new = action == ImportAction::Created;
        let body = StoredReplyBody::Ready(StoredReply::of_import_line(is_new).body);
        self.build_commit(writes, events, context, body)
    }
}

fn reject_all<'a>(
    lines: &'a [ImportLine],
    error: &'a Error,
) -> impl Iterator<Item = ImportLineOutcome> + 'a {
    lines.iter().map(|line| ImportLineOutcome { number: line.number, result: Err(error.clone()) })
}

/// Says why the units on hand cannot be set to `on_hand`, since a line of a report has no room for
/// the details that other refusals of this kind have.
fn explain_shortage(error: Error, on_hand: Option<u64>) -> Error {
    let RefusedLines::Short(lines) = &error.refused_lines else { return error };
    let (Some(on_hand), Some(line)) = (on_hand, lines.first()) else { return error };
    reserved_units_error(on_hand, (on_hand + line.requested).saturating_sub(line.available))
}

fn reserved_units_error(on_hand: u64, reserved: u64) -> Error {
    let detail = format!("stock cannot be {on_hand}, since {reserved} units are reserved");
    Error::new(ErrorCode::InsufficientStock, detail)
}

fn into_decision(commit: Commit, action: ImportAction) -> Decision<ImportAction, IntoAction> {
    let into_action: IntoAction = match action {
        ImportAction::Created => |_| ImportAction::Created,
        ImportAction::Updated => |_| ImportAction::Updated,
    };
    Decision::Commit(Box::new(commit), into_action)
}

/// Splits lines into rounds without a repeated sku, so that lines with the same sku are imported
/// in file order.
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
