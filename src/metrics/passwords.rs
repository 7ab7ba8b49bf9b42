//! The queue of passwords to hash, which is the most expensive thing that a stranger can ask for.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::register;

/// Upper bounds in seconds. A hash takes 0.3 s at the default cost.
const DURATION_BOUNDS: [f64; 9] = [0.005, 0.02, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics of bcrypt. Clones share their values.
#[derive(Clone, Debug)]
pub struct PasswordMetrics {
    waiting: Family<ClassLabel, Gauge>,
    running: Family<ClassLabel, Gauge>,
    wait_seconds: Histograms<ClassLabel>,
    run_seconds: Histograms<ClassLabel>,
    refused: Family<ClassLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: &'static str,
}

impl PasswordMetrics {
    /// Records how many requests of a class wait and run.
    pub(crate) fn set_queue(&self, class: &'static str, waiting: usize, running: usize) {
        let to_i64 = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let label = ClassLabel { class };
        self.waiting.get_or_create(&label).set(to_i64(waiting));
        self.running.get_or_create(&label).set(to_i64(running));
        // So that there is a rate of refusals before the first one.
        drop(self.refused.get_or_create(&label));
    }

    /// Records that a request has waited and run.
    pub(crate) fn record_run(&self, class: &'static str, waited: Duration, ran: Duration) {
        let label = ClassLabel { class };
        self.wait_seconds.get_or_create(&label).observe(waited.as_secs_f64());
        self.run_seconds.get_or_create(&label).observe(ran.as_secs_f64());
    }

    /// Counts a request that was refused, since too many wait or its deadline is too near.
    pub(crate) fn record_refusal(&self, class: &'static str) {
        self.refused.get_or_create(&ClassLabel { class }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        register(registry, "bcrypt_waiting", "Passwords that wait for a thread", &self.waiting);
        register(registry, "bcrypt_running", "Passwords that are hashed now", &self.running);
        let help = "Time that a password waits for a thread";
        register(registry, "bcrypt_wait_seconds", help, &self.wait_seconds);
        let help = "Time that a password is hashed or compared";
        register(registry, "bcrypt_run_seconds", help, &self.run_seconds);
        let help = "Passwords that were refused, since too many wait or the deadline was too near";
        register(registry, "bcrypt_refused", help, &self.refused);
    }
}

impl Default for PasswordMetrics {
    fn default() -> Self {
        Self {
            waiting: Family::default(),
            running: Family::default(),
            wait_seconds: Family::new_with_constructor(|| Histogram::new(DURATION_BOUNDS)),
            run_seconds: Family::new_with_constructor(|| Histogram::new(DURATION_BOUNDS)),
            refused: Family::default(),
        }
    }
}
