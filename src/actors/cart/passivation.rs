//! What nobody asks for: idle actors are stopped, and carts left lying are noted as abandoned.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::CartRegistry;
use crate::{
    actors::ask::guarded_tick,
    domain::{cart::CartCommand, cart::CartOwner},
    error::Error,
    messages::{cart::ChangeCart, change::CommandContext},
};

/// How long a cart stays in memory after its last use.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Most abandoned carts noted at a time.
const ABANDONED_PAGE_SIZE: u32 = 256;

impl CartRegistry {
    /// Stops idle actors and notes abandoned carts, for ever.
    pub async fn run_maintenance_loop(self: Arc<Self>, abandoned_after: Duration) {
        let pause =
            (abandoned_after / 4).clamp(Duration::from_millis(100), Duration::from_secs(30));
        loop {
            tokio::time::sleep(pause).await;
            let swept = guarded_tick("sweep of carts", async {
                self.passivate_idle(IDLE_TIMEOUT);
                self.mark_abandoned_carts(abandoned_after).await
            });
            if let Some(Err(error)) = swept.await {
                tracing::warn!(%error, "abandoned carts cannot be read; trying again");
            }
        }
    }

    /// Raises `cart.abandoned` for carts untouched for `after`; for how many. One that cannot be noted is logged and passed over.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn mark_abandoned_carts(&self, after: Duration) -> Result<usize, Error> {
        let untouched_since = self.deps.clock.now().saturating_sub(after);
        let mut noted = 0;
        let mut failed = HashSet::new();
        loop {
            // Those that failed are found again, in front of others.
            let limit =
                u32::try_from(failed.len()).unwrap_or(u32::MAX).saturating_add(ABANDONED_PAGE_SIZE);
            let owners = self.deps.store.list_idle_carts(untouched_since, limit).await?;
            let more = owners.len() == limit as usize;
            for owner in
                owners.into_iter().filter(|owner| !failed.contains(owner)).collect::<Vec<_>>()
            {
                match self
                    .abandon_cart(owner, CartCommand::Abandon { idle_before: untouched_since })
                    .await
                {
                    Ok(()) => noted += 1,
                    Err(error) => {
                        tracing::warn!(cart = %owner.id, %error, "a cart could not be noted as abandoned; trying again later");
                        failed.insert(owner);
                    }
                }
            }
            if !more {
                return Ok(noted);
            }
        }
    }

    async fn abandon_cart(&self, owner: CartOwner, command: CartCommand) -> Result<(), Error> {
        let change = CommandContext::internal(Duration::from_secs(5));
        self.change_cart(owner, ChangeCart { command, context: change }).await.map(|_| ())
    }
}
