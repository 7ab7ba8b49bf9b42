//! Audits the stock while the shop is open.
//!
//! The auditor reads one consistent page at a time, lets the domain evaluate it, and applies
//! corrections as conditional commits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    domain::{
        action::ActionOrigin,
        audit::{AuditOutcome, Correction, Finding, IdRange},
        clock::Clock,
        inventory::StockChange,
    },
    error::Error,
    store::{
        Commit, CommitError, StockWrite, Store, StoreUnavailable, Write, writer::CommitWriter,
    },
};

/// The number of products per page. Each page sums all movements of its products and reads all open
/// orders.
const PRODUCTS: u32 = 2000;

/// The number of orders per page.
const ORDERS: u32 = 500;

/// How many times a correction is retried when its stock changes at the same time.
const ATTEMPTS: usize = 64;

/// How long a correction may wait in the writer's queue.
const PATIENCE: Duration = Duration::from_secs(5);

/// The delay before a retry when the writer is overloaded.
const WHEN_BUSY: Duration = Duration::from_millis(50);

/// The counts of an audit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditSummary {
    /// The number of products checked.
    pub products: u64,
    /// The number of orders checked.
    pub orders: u64,
    /// The number of stock movements checked.
    pub movements: u64,
    /// The number of findings.
    pub found: u64,
    /// The number of findings that were repaired.
    pub repaired: u64,
}

/// Audits the orders, products, and events in a store.
pub struct Auditor {
    store: Arc<dyn Store>,
    writer: CommitWriter,
    clock: Arc<dyn Clock>,
    /// Who asked for the audit, for the actions of its corrections.
    origin: Arc<ActionOrigin>,
}

/// The order or product that is checked again before a correction.
#[derive(Clone, Copy)]
enum Subject {
    Order(IdRange),
    Product(IdRange),
}

impl Auditor {
    /// Creates an auditor for `store`. Each correction is an action of `origin`.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        writer: CommitWriter,
        clock: Arc<dyn Clock>,
        origin: Arc<ActionOrigin>,
    ) -> Self {
        Self { store, writer, clock, origin }
    }

    /// Checks the database itself; see [`Store::find_damage`].
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn find_damage(&self) -> Result<Vec<String>, Error> {
        Ok(self.store.find_damage().await?)
    }

    /// Checks everything and calls `report` for each finding. With `repair`, also corrects the
    /// findings that can be corrected.
    ///
    /// Orders come first: their missing movements are added under their order id, and any
    /// remaining difference belongs to the product. Nothing is locked; each page is a consistent
    /// snapshot.
    ///
    /// # Errors
    /// The store is unavailable. Corrections made so far stay.
    pub async fn run(
        &self,
        repair: bool,
        mut report: impl FnMut(&Finding),
    ) -> Result<AuditSummary, Error> {
        let mut summary = AuditSummary::default();
        let mut record = |findings: Vec<Finding>, summary: &mut AuditSummary| {
            for finding in findings {
                summary.found += 1;
                summary.repaired += u64::from(finding.repaired);
                report(&finding);
            }
        };
        let mut rest = Some(IdRange::ALL);
        while let Some(range) = rest {
            let page = self.store.audit_orders(range, ORDERS).await?;
            for order in &page.items {
                summary.orders += u64::from(order.status.is_some());
                let subject = Subject::Order(IdRange::single(order.order_id.as_uuid()));
                record(
                    self.repair_if_asked(order.evaluate(), subject, repair).await?,
                    &mut summary,
                );
            }
            rest = page.remaining;
        }
        rest = Some(IdRange::ALL);
        while let Some(range) = rest {
            let page = self.store.audit_products(range, PRODUCTS).await?;
            for product in &page.items {
                summary.products += u64::from(product.known);
                summary.movements += product.ledger.count;
                let subject = Subject::Product(IdRange::single(product.product_id.as_uuid()));
                record(
                    self.repair_if_asked(product.evaluate(), subject, repair).await?,
                    &mut summary,
                );
            }
            rest = page.remaining;
        }
        for partition in self.store.audit_events().await? {
            record(partition.evaluate().findings, &mut summary);
        }
        Ok(summary)
    }

    /// Returns the findings of `outcome`, corrected if `repair` is set and a correction exists.
    async fn repair_if_asked(
        &self,
        outcome: AuditOutcome,
        subject: Subject,
        repair: bool,
    ) -> Result<Vec<Finding>, StoreUnavailable> {
        let mut findings = outcome.findings;
        if repair && !outcome.corrections.is_empty() {
            let failed = self.correct(subject).await?;
            for finding in findings.iter_mut().filter(|finding| finding.advice.is_none()) {
                finding.repaired = failed.is_none();
                finding.advice = failed.map(ToOwned::to_owned);
            }
        }
        Ok(findings)
    }

    /// Checks `subject` again and corrects it. Returns advice for the operator if that fails.
    async fn correct(&self, subject: Subject) -> Result<Option<&'static str>, StoreUnavailable> {
        for _ in 0..ATTEMPTS {
            let now = self.evaluate_again(subject).await?;
            if now.corrections.is_empty() {
                // Nothing is left to correct unless a later change needs manual work.
                let worse = now.findings.iter().any(|finding| finding.advice.is_some());
                return Ok(worse.then_some("it changed during the audit; run the audit again"));
            }
            match self.writer.commit(self.build_commit(&now.corrections)).await {
                Ok(_) => return Ok(None),
                // The stock changed, or the outcome is unknown: the next attempt reads it again.
                Err(
                    CommitError::StockVersionMismatch(_)
                    | CommitError::Conflict
                    | CommitError::OutcomeUnknown,
                ) => {}
                Err(CommitError::Overloaded) => tokio::time::sleep(WHEN_BUSY).await,
                // One failed correction must not stop the others. If the store is down, the next
                // read fails and ends the audit.
                Err(error) => {
                    tracing::error!(?error, "failed to commit an audit correction");
                    return Ok(Some(
                        "the correction failed; see the log for the cause and the product's \
                         findings for what to do",
                    ));
                }
            }
        }
        Ok(Some("its stock changes too fast; run the repair again when there is less traffic"))
    }

    async fn evaluate_again(&self, subject: Subject) -> Result<AuditOutcome, StoreUnavailable> {
        Ok(match subject {
            Subject::Order(range) => {
                self.store.audit_orders(range, 1).await?.items.first().map(|order| order.evaluate())
            }
            Subject::Product(range) => self
                .store
                .audit_products(range, 1)
                .await?
                .items
                .first()
                .map(|product| product.evaluate()),
        }
        .unwrap_or_default())
    }

    fn build_commit(&self, corrections: &[Correction]) -> Commit {
        let writes = corrections.iter().flat_map(|correction| {
            let Correction { product_id, expected_version, reserved, order_id, .. } = *correction;
            let moves = correction.movements.iter().enumerate();
            moves.map(move |(place, delta)| {
                let change = StockChange::Correct { delta: *delta, reserved };
                // Only the first write checks the version; the others follow it in this commit.
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
            action: Some(Arc::clone(&self.origin)),
            ..Commit::new(self.clock.now(), Instant::now() + PATIENCE)
        }
    }
}
