//! How long the store takes, how large batches are, and what comes of commits.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use super::register;

/// Upper bounds in seconds, from 0.1 ms to 10 s.
const DURATION_BOUNDS: [f64; 11] =
    [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0];

/// Upper bounds of the commits of a batch.
const BATCH_BOUNDS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics of a store and its writer. Clones share their values.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    operation_seconds: Histograms<OperationLabel>,
    operation_failures: Family<OperationLabel, Counter>,
    transaction_seconds: Histograms<LaneLabel>,
    transaction_aborts: Family<AbortLabels, Counter>,
    batch_commits: Histogram,
    commits: Family<OutcomeLabel, Counter>,
    stock_conflicts: Family<ReasonLabel, Counter>,
    forwarded_commits: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabel {
    lane: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AbortLabels {
    lane: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Why stock could not be changed as decided.
#[derive(Debug, Clone, Copy, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum StockConflict {
    /// Too few units were available.
    InsufficientStock,
    /// The stock or the product had another version than the decision was based on.
    Version,
    /// Another node's transaction wrote the same record.
    Transaction,
}

impl StoreMetrics {
    /// Records a read, or a write outside of batches.
    pub(crate) fn record_operation(
        &self,
        operation: &'static str,
        has_succeeded: bool,
        took: Duration,
    ) {
        let label = OperationLabel { operation };
        self.operation_seconds.get_or_create(&label).observe(took.as_secs_f64());
        if !has_succeeded {
            self.operation_failures.get_or_create(&label).inc();
        }
    }

    /// Records a transaction that was tried, and why it was aborted, if it was. The lane is `stock`
    /// or `other`, or `all` for an engine with a single one.
    pub(crate) fn record_transaction(
        &self,
        lane: &'static str,
        took: Duration,
        abort_reason: Option<&'static str>,
    ) {
        self.transaction_seconds.get_or_create(&LaneLabel { lane }).observe(took.as_secs_f64());
        if let Some(reason) = abort_reason {
            self.transaction_aborts.get_or_create(&AbortLabels { lane, reason }).inc();
        }
    }

    /// Records the number of commits in a batch.
    pub(crate) fn record_batch(&self, commits: usize) {
        self.batch_commits.observe(commits as f64);
    }

    /// Counts a commit by its outcome.
    pub(crate) fn record_outcome(&self, outcome: &'static str) {
        self.commits.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts a commit that another node applied for this one, or refused, or maybe applied.
    pub(crate) fn record_forwarded_commit(&self) {
        self.forwarded_commits.inc();
    }

    /// Counts a conflict over stock.
    pub(crate) fn record_stock_conflict(&self, conflict: StockConflict) {
        self.stock_conflicts.get_or_create(&ReasonLabel { reason: conflict.into() }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Time of a store operation, except the transactions of batches";
        register(registry, "store_operation_seconds", help, &self.operation_seconds);
        let help = "Store operations that failed";
        register(registry, "store_operation_failures", help, &self.operation_failures);
        let help = "Time of a transaction, committed or aborted";
        register(registry, "store_transaction_seconds", help, &self.transaction_seconds);
        let help = "Transactions that were not committed, or maybe not";
        register(registry, "store_transaction_aborts", help, &self.transaction_aborts);
        let help = "Commits in a batch";
        register(registry, "writer_batch_size", help, &self.batch_commits);
        let help = "Commits by outcome";
        register(registry, "commits", help, &self.commits);
        let help = "Changes of stock that were refused or decided again, since too few units were \
            available (insufficient_stock), a version had changed (version), or another node wrote \
            the same record (transaction)";
        register(registry, "stock_conflicts", help, &self.stock_conflicts);
        let help = "Commits forwarded to the node that sells a hot product for all";
        register(registry, "forwarded_commits", help, &self.forwarded_commits);
    }
}

impl Default for StoreMetrics {
    fn default() -> Self {
        Self {
            operation_seconds: Family::new_with_constructor(|| Histogram::new(DURATION_BOUNDS)),
            operation_failures: Family::default(),
            transaction_seconds: Family::new_with_constructor(|| Histogram::new(DURATION_BOUNDS)),
            transaction_aborts: Family::default(),
            batch_commits: Histogram::new(BATCH_BOUNDS),
            commits: Family::default(),
            stock_conflicts: Family::default(),
            forwarded_commits: Counter::default(),
        }
    }
}
