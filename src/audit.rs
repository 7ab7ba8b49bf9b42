//! The audit of a shop that may be open: reads page by page, each page from one moment, has the domain judge, and corrects by guarded
//! commits like any other change.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    domain::{
        audit::{AuditOutcome, Correction, Finding, IdRange},
        clock::Clock,
        inventory::StockChange,
    },
    error::Error,
    store::{
        Commit, CommitError, StockWrite, Store, StoreUnavailable, Write, writer::CommitWriter,
    },
};

/// Products looked at together. All their movements are summed up at one moment, and all open orders are read for each such page.
const PRODUCTS: u32 = 2000;

/// Orders looked at together.
const ORDERS: u32 = 500;

/// How often a correction is decided anew because its stock has moved meanwhile.
const ATTEMPTS: usize = 64;

/// How long a correction may wait in the queue.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two attempts when there is too much to do.
const WHEN_BUSY: Duration = Duration::from_millis(50);

/// What an audit came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Products looked at.
    pub products: u64,
    /// Orders looked at.
    pub orders: u64,
    /// Movements looked at.
    pub movements: u64,
    /// What was off.
    pub found: u64,
    /// What of that is corrected now.
    pub repaired: u64,
}

/// Audits a shop.
pub struct Auditor {
    store: Arc<dyn Store>,
    writer: CommitWriter,
    clock: Arc<dyn Clock>,
}

/// One thing to look at again when it is to be corrected.
#[derive(Clone, Copy)]
enum Subject {
    Order(IdRange),
    Product(IdRange),
}

impl Auditor {
    /// An auditor of what is in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, writer: CommitWriter, clock: Arc<dyn Clock>) -> Self {
        Self { store, writer, clock }
    }

    /// Looks at everything, and has `tell` hear of what is off; with `repair`, corrects what can be corrected.
    ///
    /// Orders come first: what is missing of their movements is written in their name, and what is still off then belongs to the
    /// product. Nothing is locked, and of a shop that is open each page shows one moment.
    ///
    /// # Errors
    /// The store does not answer. What was corrected until then stays.
    pub async fn run(
        &self,
        repair: bool,
        mut tell: impl FnMut(&Finding),
    ) -> Result<Summary, Error> {
        let mut summary = Summary::default();
        let mut tell = |findings: Vec<Finding>, summary: &mut Summary| {
            for finding in findings {
                summary.found += 1;
                summary.repaired += u64::from(finding.repaired);
                tell(&finding);
            }
        };
        let mut rest = Some(IdRange::ALL);
        while let Some(span) = rest {
            let page = self.store.audit_orders(span, ORDERS).await?;
            for order in &page.items {
                summary.orders += u64::from(order.status.is_some());
                let subject = Subject::Order(IdRange::single(order.order_id.as_uuid()));
                tell(self.settle(order.evaluate(), subject, repair).await?, &mut summary);
            }
            rest = page.remaining;
        }
        rest = Some(IdRange::ALL);
        while let Some(span) = rest {
            let page = self.store.audit_products(span, PRODUCTS).await?;
            for product in &page.items {
                summary.products += u64::from(product.known);
                summary.movements += product.ledger.count;
                let subject = Subject::Product(IdRange::single(product.product_id.as_uuid()));
                tell(self.settle(product.evaluate(), subject, repair).await?, &mut summary);
            }
            rest = page.remaining;
        }
        tell(self.store.audit_events().await?.evaluate().findings, &mut summary);
        Ok(summary)
    }

    /// The findings, corrected where that is wanted and possible.
    async fn settle(
        &self,
        judgement: AuditOutcome,
        subject: Subject,
        repair: bool,
    ) -> Result<Vec<Finding>, StoreUnavailable> {
        let mut findings = judgement.findings;
        if repair && !judgement.corrections.is_empty() {
            let failed = self.correct(subject).await?;
            for finding in findings.iter_mut().filter(|finding| finding.advice.is_none()) {
                finding.repaired = failed.is_none();
                finding.advice = failed.map(ToOwned::to_owned);
            }
        }
        Ok(findings)
    }

    /// Corrects what is off now, which may be something else than when it was found. When it cannot: what to do.
    async fn correct(&self, subject: Subject) -> Result<Option<&'static str>, StoreUnavailable> {
        for _ in 0..ATTEMPTS {
            let now = self.judge_again(subject).await?;
            if now.corrections.is_empty() {
                // Nothing left to correct, unless somebody has made it worse.
                let worse = now.findings.iter().any(|finding| finding.advice.is_some());
                return Ok(worse.then_some("it has changed meanwhile; run the audit again"));
            }
            match self.writer.commit(self.commit(&now.corrections)).await {
                Ok(_) => return Ok(None),
                // Sold or given back meanwhile. Of an outcome that is not known the next look tells.
                Err(
                    CommitError::StockVersionMismatch(_)
                    | CommitError::Conflict
                    | CommitError::OutcomeUnknown,
                ) => {}
                Err(CommitError::Overloaded) => tokio::time::sleep(WHEN_BUSY).await,
                // When the store is away altogether, the next page tells. One thing that cannot be written keeps nothing else from it.
                Err(error) => {
                    tracing::error!(?error, "the correction of an audit was refused");
                    return Ok(Some(
                        "the store did not take it; the log says why, and what is said of the product what to do",
                    ));
                }
            }
        }
        Ok(Some("its stock changes too fast; repair again when less is sold"))
    }

    async fn judge_again(&self, subject: Subject) -> Result<AuditOutcome, StoreUnavailable> {
        Ok(match subject {
            Subject::Order(span) => {
                self.store.audit_orders(span, 1).await?.items.first().map(|order| order.evaluate())
            }
            Subject::Product(span) => self
                .store
                .audit_products(span, 1)
                .await?
                .items
                .first()
                .map(|product| product.evaluate()),
        }
        .unwrap_or_default())
    }

    fn commit(&self, corrections: &[Correction]) -> Commit {
        let writes = corrections.iter().flat_map(|correction| {
            let Correction { product_id, expected_version, reserved, order_id, .. } = *correction;
            let moves = correction.movements.iter().enumerate();
            moves.map(move |(place, delta)| {
                let change = StockChange::Correct { delta: *delta, reserved };
                // Those after the first follow it in the same commit.
                let expected_version = (place == 0).then_some(expected_version);
                let reason = Some("audit".to_owned());
                Write::Stock(StockWrite {
                    product_id,
                    change,
                    expected_version,
                    order_id,
                    reference: None,
                    reason,
                })
            })
        });
        Commit {
            writes: writes.collect(),
            ..Commit::new(self.clock.now(), Instant::now() + PATIENCE)
        }
    }
}
