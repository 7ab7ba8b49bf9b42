//! Abandonment emits `cart.abandoned` for idle carts, whether or not they are in memory.

use std::{collections::HashSet, time::Duration};

use super::CartRegistry;
use crate::{
    domain::cart::{CartCommand, CartOwner},
    error::Error,
    messages::{cart::ChangeCart, command_context::CommandContext},
    panics::guarded_tick,
};

/// The number of idle carts to read at a time.
const PAGE_SIZE: u32 = 256;

/// The timeout for marking one cart. The next pass retries it.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

impl CartRegistry {
    /// Marks carts idle for `after` as abandoned, and logs a failure.
    pub(super) async fn run_abandonment(&self, after: Duration) {
        let marked = guarded_tick("cart abandonment", self.mark_abandoned_carts(after)).await;
        if let Some(Err(error)) = marked {
            tracing::warn!(%error, "failed to read abandoned carts; trying again");
        }
    }

    /// Marks carts idle for `after` as abandoned, and returns their number. Logs and skips carts
    /// that fail.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn mark_abandoned_carts(&self, after: Duration) -> Result<usize, Error> {
        let idle_before = self.deps.clock.now().saturating_sub(after);
        let mut marked = 0;
        let mut failed: HashSet<CartOwner> = HashSet::new();
        loop {
            // Failed carts are listed again, before all others.
            let limit = u32::try_from(failed.len()).unwrap_or(u32::MAX).saturating_add(PAGE_SIZE);
            let owners = self.deps.store.list_idle_carts(idle_before, limit).await?;
            let more = owners.len() == limit as usize;
            for owner in owners {
                if failed.contains(&owner) {
                    continue;
                }
                match self.abandon_cart(owner, CartCommand::Abandon { idle_before }).await {
                    Ok(()) => marked += 1,
                    Err(error) => {
                        tracing::warn!(
                            cart = %owner.id, %error,
                            "failed to mark a cart as abandoned; trying again later"
                        );
                        failed.insert(owner);
                    }
                }
            }
            if !more {
                return Ok(marked);
            }
        }
    }

    async fn abandon_cart(&self, owner: CartOwner, command: CartCommand) -> Result<(), Error> {
        let context = CommandContext::internal(COMMAND_TIMEOUT);
        self.change_cart(owner, ChangeCart { command, context }).await.map(|_| ())
    }
}
