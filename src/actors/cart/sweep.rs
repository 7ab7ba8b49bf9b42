//! What nobody asks for: idle actors are stopped, and carts left lying are noted as abandoned.

use std::{sync::Arc, time::Duration};

use super::CartRegistry;
use crate::{
    domain::{cart::CartCommand, cart::Owner},
    error::Error,
    messages::{cart::ChangeCart, change::Change},
};

/// How long a cart stays in memory after its last use.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// Most abandoned carts noted at a time.
const SWEEP: u32 = 256;

impl CartRegistry {
    /// Stops idle actors and notes abandoned carts, for ever.
    pub async fn sweep(self: Arc<Self>, abandoned_after: Duration) {
        let pause = (abandoned_after / 4).clamp(Duration::from_millis(100), Duration::from_secs(30));
        loop {
            tokio::time::sleep(pause).await;
            self.passivate(IDLE);
            if let Err(error) = self.note_abandoned(abandoned_after).await {
                tracing::warn!(%error, "abandoned carts could not be noted; trying again");
            }
        }
    }

    /// Raises `cart.abandoned` for carts untouched for `after`; how many there were.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn note_abandoned(&self, after: Duration) -> Result<usize, Error> {
        let untouched_since = self.deps.clock.now().minus(after);
        let mut noted = 0;
        loop {
            let owners = self.deps.store.carts_untouched_since(untouched_since, SWEEP).await?;
            for owner in &owners {
                self.note(*owner, CartCommand::Abandon { untouched_since }).await?;
            }
            noted += owners.len();
            if owners.len() < SWEEP as usize {
                return Ok(noted);
            }
        }
    }

    async fn note(&self, owner: Owner, command: CartCommand) -> Result<(), Error> {
        let change = Change::internal(Duration::from_secs(5));
        self.change(owner, ChangeCart { command, change }).await.map(|_| ())
    }
}
