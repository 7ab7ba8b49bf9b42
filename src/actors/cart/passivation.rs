//! Passivation stops the actors of idle carts. The store keeps the carts.

use std::{sync::Arc, time::Duration};

use super::{CartRegistry, registry::ActiveCart};
use crate::{domain::ids::UserId, panics::guarded_tick};

/// How long a cart stays in memory after its last use.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The most carts in memory. Above this, the least recently used carts are dropped.
pub(super) const MAX_ACTIVE_CARTS: usize = 250_000;

impl CartRegistry {
    /// Stops idle actors and marks abandoned carts periodically. Never returns.
    pub async fn run_maintenance_loop(self: Arc<Self>, abandoned_after: Duration) {
        let pause =
            (abandoned_after / 4).clamp(Duration::from_millis(100), Duration::from_secs(30));
        loop {
            tokio::time::sleep(pause).await;
            guarded_tick("cart passivation", async { self.passivate_idle(IDLE_TIMEOUT) }).await;
            self.run_abandonment(abandoned_after).await;
        }
    }

    /// Stops the actors unused for `idle`. They still process the messages in their mailboxes.
    pub fn passivate_idle(&self, idle: Duration) {
        let now = self.started_at.elapsed();
        let is_idle = |active: &ActiveCart| {
            let last_used = Duration::from_secs(u64::from(active.state.last_used()));
            now.saturating_sub(last_used) >= idle
        };
        let idle_ids: Vec<UserId> = self
            .carts
            .iter()
            .filter(|entry| is_idle(entry.value()))
            .map(|entry| *entry.key())
            .collect();
        for id in idle_ids {
            self.stop_actor(id, is_idle);
        }
    }

    pub(super) fn passivate_oldest(&self) {
        let mut ages: Vec<(u32, UserId)> = self
            .carts
            .iter()
            .map(|entry| (entry.value().state.last_used(), *entry.key()))
            .collect();
        let oldest = MAX_ACTIVE_CARTS / 10;
        if ages.len() > oldest {
            ages.select_nth_unstable(oldest);
        }
        for (_, id) in ages.into_iter().take(oldest) {
            self.stop_actor(id, |_| true);
        }
    }

    /// Drops the registry's address of an actor, which stops the actor once its mailbox is empty.
    fn stop_actor(&self, id: UserId, only_if: impl FnOnce(&ActiveCart) -> bool) {
        self.carts.remove_if(&id, |_, active| only_if(active));
    }
}
