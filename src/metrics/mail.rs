//! How many mails were sent, postponed and given up.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

use super::register;

/// What became of mails. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct MailMetrics {
    sent: Counter,
    postponed: Counter,
    failed: Counter,
}

impl MailMetrics {
    /// Counts a mail that the server took.
    pub(crate) fn record_sent(&self) {
        self.sent.inc();
    }

    /// Counts an attempt that failed and is repeated later.
    pub(crate) fn record_postponed(&self) {
        self.postponed.inc();
    }

    /// Counts a mail that was given up.
    pub(crate) fn record_failed(&self) {
        self.failed.inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        register(registry, "mail_sent", "Mails that the server took", &self.sent);
        let help = "Attempts to send a mail that failed and are repeated";
        register(registry, "mail_postponed", help, &self.postponed);
        let help = "Mails that were given up: refused, or failed too often";
        register(registry, "mail_failed", help, &self.failed);
    }
}
