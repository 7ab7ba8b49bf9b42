//! Readiness and metrics, as an operator reads them.

use std::time::Duration;

use super::TestApp;

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The interval between polls.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

impl TestApp {
    /// Waits until `/readyz` reports `status`.
    pub(crate) async fn wait_for_readiness(&self, status: &str) {
        let reached = async {
            while self.get("/readyz").await.json()["status"] != status {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(TIMEOUT, reached)
            .await
            .unwrap_or_else(|_| panic!("the status does not become {status}"));
    }

    /// The value of a metric in `/metrics`.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.is(200).text();
        let value =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Waits until a line of `/metrics` is this one. The metric may come later.
    pub(crate) async fn wait_for_metric_line(&self, line: &str) {
        let reached = async {
            while !self.get("/metrics").await.is(200).text().lines().any(|found| found == line) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(TIMEOUT, reached)
            .await
            .unwrap_or_else(|_| panic!("{line} is not in the metrics"));
    }

    /// Waits until all events are published and the position is stored.
    pub(crate) async fn wait_until_published(&self) {
        self.wait_for_zero("souk_events_unpublished").await;
    }

    /// Waits until the node notices that peer events are no longer delivered. It may notice the
    /// loss of its other connections earlier.
    pub(crate) async fn wait_until_disconnected(&self) {
        self.wait_for_zero("souk_peer_events_connected").await;
    }

    /// Waits until a metric has a value.
    pub(crate) async fn wait_for_metric(&self, name: &str, value: f64) {
        let reached = async {
            while self.metric(name).await != value {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(TIMEOUT, reached)
            .await
            .unwrap_or_else(|_| panic!("{name} does not become {value}"));
    }

    async fn wait_for_zero(&self, name: &str) {
        let reached = async {
            while self.metric(name).await > 0.0 {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(TIMEOUT, reached)
            .await
            .unwrap_or_else(|_| panic!("{name} does not become 0"));
    }
}
