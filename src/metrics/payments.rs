//! The tasks for payment providers: how many are due, and how many attempts failed.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use super::register;

/// What payment providers are to be asked. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct PaymentMetrics {
    waiting: Gauge<u64, AtomicU64>,
    failures: Counter,
}

impl PaymentMetrics {
    /// Sets how many tasks are due, on all nodes together.
    pub(crate) fn set_waiting(&self, tasks: u64) {
        self.waiting.set(tasks);
    }

    /// Counts a task that the provider did not answer or refuses, and that is repeated.
    pub(crate) fn record_failure(&self) {
        self.failures.inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Orders about whose payments the provider is to be asked, of all nodes";
        register(registry, "payment_tasks_waiting", help, &self.waiting);
        let help = "Requests to the payment provider that failed and are repeated";
        register(registry, "payment_provider_failures", help, &self.failures);
    }
}
