//! The deletion of sessions and guest carts that have ended, in the background.

use std::{sync::Arc, time::Duration};

use super::Store;
use crate::panics::guarded_tick;

/// The longest pause between two looks for ended records.
const INTERVAL: Duration = Duration::from_secs(10);

/// The pause between two deletions while there are more. Commits come in between.
const PAUSE: Duration = Duration::from_millis(100);

/// Deletes ended records, a few at a time. Never returns.
pub async fn run_cleanup_loop(store: Arc<dyn Store>) {
    let mut failed = false;
    loop {
        // Random, so that nodes do not look at the same time.
        tokio::time::sleep(INTERVAL.mul_f64(rand::random_range(0.5..=1.0))).await;
        let Some(deleted) = guarded_tick("cleanup", delete_all(&*store)).await else { continue };
        if deleted.is_err() && !failed {
            tracing::warn!("failed to delete ended sessions and guest carts; trying again");
        }
        failed = deleted.is_err();
    }
}

async fn delete_all(store: &dyn Store) -> Result<(), super::StoreUnavailable> {
    let mut total = 0;
    loop {
        match store.delete_ended_records().await? {
            0 => break,
            deleted => total += deleted,
        }
        tokio::time::sleep(PAUSE).await;
    }
    if total > 0 {
        tracing::debug!(total, "deleted ended sessions and guest carts");
    }
    Ok(())
}
