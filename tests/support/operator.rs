//! What an operator looks at.

use std::time::Duration;

use super::TestApp;

/// Nothing takes as long, on any machine.
const NEVER: Duration = Duration::from_secs(60);

/// How often to look at what cannot be waited for.
const PAUSE: Duration = Duration::from_millis(20);

impl TestApp {
    /// Waits until `/readyz` says `status`.
    pub(crate) async fn until_ready(&self, status: &str) {
        let said = async {
            while self.get("/readyz").await.json()["status"] != status {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(NEVER, said)
            .await
            .unwrap_or_else(|_| panic!("it does not become {status}"));
    }

    /// A figure of `/metrics`.
    pub(crate) async fn figure(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.is(200).text();
        let value =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Waits until all events were published, and that was noted.
    pub(crate) async fn published(&self) {
        self.until_zero("souk_events_unpublished").await;
    }

    /// Waits until it has noticed that the broker does not deliver news any more. Its other connections may be noticed to be gone before.
    pub(crate) async fn cut_off(&self) {
        self.until_zero("souk_news_delivered").await;
    }

    async fn until_zero(&self, name: &str) {
        let zero = async {
            while self.figure(name).await > 0.0 {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(NEVER, zero)
            .await
            .unwrap_or_else(|_| panic!("{name} does not become 0"));
    }
}
