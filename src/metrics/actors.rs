//! How long messages wait for their actor.

use std::time::Instant;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, histogram::Histogram},
    registry::Registry,
};

use super::register;

/// Upper bounds in seconds.
const WAIT_BOUNDS: [f64; 9] = [0.00005, 0.0002, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 5.0];

/// The metrics of actors. Clones share their values.
#[derive(Clone, Debug)]
pub struct ActorMetrics {
    mailbox_wait: Family<ActorLabel, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActorLabel {
    actor: &'static str,
}

/// The mailbox of one kind of actor.
#[derive(Clone, Debug)]
pub struct MailboxMetrics(Histogram);

impl ActorMetrics {
    /// The mailboxes of the actors with this name.
    #[must_use]
    pub fn mailbox(&self, actor: &'static str) -> MailboxMetrics {
        MailboxMetrics(self.mailbox_wait.get_or_create(&ActorLabel { actor }).clone())
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Time that a message waits in the mailbox of its actor";
        register(registry, "actor_mailbox_wait_seconds", help, &self.mailbox_wait);
    }
}

impl Default for ActorMetrics {
    fn default() -> Self {
        Self { mailbox_wait: Family::new_with_constructor(|| Histogram::new(WAIT_BOUNDS)) }
    }
}

impl MailboxMetrics {
    /// Records that a message that was sent at `sent_at` is handled now.
    pub(crate) fn record_wait(&self, sent_at: Instant) {
        self.0.observe(sent_at.elapsed().as_secs_f64());
    }
}

impl Default for MailboxMetrics {
    fn default() -> Self {
        Self(Histogram::new(WAIT_BOUNDS))
    }
}
