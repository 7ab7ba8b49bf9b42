//! The attempts to deliver events to webhook endpoints, and what waits.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::register;

/// The bounds of the buckets of an attempt's duration, in seconds.
const DURATION_BOUNDS: [f64; 8] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];

/// What became of events for webhooks. Clones share their values.
#[derive(Clone, Debug)]
pub struct WebhookMetrics {
    attempts: Family<StatusLabel, Counter>,
    duration: Histogram,
    endpoints: Gauge,
    waiting: Gauge,
    oldest: Family<EndpointLabel, Gauge<f64, AtomicU64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabel {
    webhook: String,
}

impl Default for WebhookMetrics {
    fn default() -> Self {
        Self {
            attempts: Family::default(),
            duration: Histogram::new(DURATION_BOUNDS),
            endpoints: Gauge::default(),
            waiting: Gauge::default(),
            oldest: Family::default(),
        }
    }
}

impl WebhookMetrics {
    /// Counts an attempt by what it has led to: `delivered`, `retrying` or `failed`.
    pub(crate) fn record_attempt(&self, status: &'static str, duration: Duration) {
        self.attempts.get_or_create(&StatusLabel { status }).inc();
        self.duration.observe(duration.as_secs_f64());
    }

    /// Records the endpoints that this node delivers to, the events that wait at them, and the few
    /// that have had something undelivered for longest.
    pub(crate) fn set(&self, endpoints: usize, waiting: u64, oldest: &[(String, Duration)]) {
        self.endpoints.set(i64::try_from(endpoints).unwrap_or(i64::MAX));
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.oldest.clear();
        for (webhook, age) in oldest {
            let label = EndpointLabel { webhook: webhook.clone() };
            self.oldest.get_or_create(&label).set(age.as_secs_f64());
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Attempts to deliver an event to a webhook, by what they have led to";
        register(registry, "webhook_attempts", help, &self.attempts);
        let help = "Time that an attempt to deliver an event took";
        register(registry, "webhook_attempt_seconds", help, &self.duration);
        let help = "Webhooks that this node delivers to";
        register(registry, "webhook_endpoints", help, &self.endpoints);
        let help = "Events that wait for another attempt, at the webhooks of this node";
        register(registry, "webhook_waiting_events", help, &self.waiting);
        let help = "Time since something at a webhook is undelivered, for the ten longest";
        register(registry, "webhook_oldest_undelivered_seconds", help, &self.oldest);
    }
}
