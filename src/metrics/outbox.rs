//! The outbox: how many events it has taken, and how far behind its publication is.

use std::{sync::atomic::Ordering, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::register;

/// The metrics of the outbox. Clones share their values.
///
/// There are no more partitions than writers that ever ran at once.
#[derive(Clone, Debug, Default)]
pub struct OutboxMetrics {
    events: Family<PartitionLabel, Counter>,
    unpublished: Family<PartitionLabel, Gauge>,
    age: Family<PartitionLabel, Gauge<f64, std::sync::atomic::AtomicU64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabel {
    partition: u32,
}

/// A partition of the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStats {
    /// Its number.
    pub partition: u32,
    /// The events that it has taken.
    pub events: u64,
    /// What is not published yet; `None` without a broker.
    pub backlog: Option<PartitionBacklog>,
}

/// The events of a partition that are not published yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionBacklog {
    /// How many there are.
    pub events: u64,
    /// How long the oldest has waited. Zero without any.
    pub age: Duration,
}

impl OutboxMetrics {
    /// Records the state of all partitions.
    pub(super) fn set(&self, partitions: &[PartitionStats]) {
        for stats in partitions {
            let label = PartitionLabel { partition: stats.partition };
            let events = self.events.get_or_create(&label);
            // A counter must not decrease if two scrapes overlap.
            events.inner().fetch_max(stats.events, Ordering::Relaxed);
            drop(events);
            if let Some(backlog) = stats.backlog {
                let waiting = i64::try_from(backlog.events).unwrap_or(i64::MAX);
                self.unpublished.get_or_create(&label).set(waiting);
                self.age.get_or_create(&label).set(backlog.age.as_secs_f64());
            }
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Events that a partition of the outbox has taken, on all nodes together";
        register(registry, "outbox_events", help, &self.events);
        let help = "Events of a partition that wait to be published";
        register(registry, "outbox_unpublished_events", help, &self.unpublished);
        let help = "Time that the oldest unpublished event of a partition has waited";
        register(registry, "outbox_oldest_unpublished_seconds", help, &self.age);
    }
}
