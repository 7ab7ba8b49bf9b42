//! Bounds what a user can make the shop store under idempotency keys. Each reply is kept for a day,
//! and a cart's can be large, so without a bound a few requests a second would fill the disk.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::service::CartService;
use crate::{
    domain::clock::Timestamp,
    error::{Error, ErrorCode},
    messages::command_context::CommandContext,
    store::StoredReplyUsage,
};

/// How long a count is used to refuse requests. Replies expire, and the count does not notice.
const RECOUNT_INTERVAL: Duration = Duration::from_secs(10);

/// When a refused client may try again, in seconds: some replies may have expired by then.
const RETRY_AFTER_SECS: u64 = 600;

/// What may be stored under the idempotency keys of one user. 0 disables a limit.
#[derive(Debug, Clone, Copy)]
pub struct ReplyQuota {
    /// The most keys.
    pub max_keys: u64,
    /// The most bytes of keys and replies, as stored.
    pub max_bytes: u64,
    /// The most bytes of a guest, which is somebody whom the shop knows nothing of.
    pub max_guest_bytes: u64,
}

impl ReplyQuota {
    fn is_used_up(&self, usage: StoredReplyUsage, is_guest: bool) -> bool {
        let max_bytes = if is_guest { self.max_guest_bytes } else { self.max_bytes };
        (self.max_keys > 0 && usage.keys >= self.max_keys)
            || (max_bytes > 0 && usage.bytes >= max_bytes)
    }
}

/// What is stored for the owner of a cart: a count from the store, plus what this node has added
/// since. Other nodes may have added more, and compressed replies take less.
#[derive(Default)]
pub(super) struct ReplyUsage(Mutex<Option<CountedUsage>>);

#[derive(Clone, Copy)]
struct CountedUsage {
    usage: StoredReplyUsage,
    counted_at: Timestamp,
}

impl ReplyUsage {
    fn get(&self) -> Option<CountedUsage> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, counted: CountedUsage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(counted);
    }

    fn add(&self, bytes: usize) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(CountedUsage { usage, .. }) = &mut *counted {
            usage.keys += 1;
            usage.bytes += bytes as u64;
        }
    }
}

impl CartService {
    /// Refuses a request whose reply would be stored if too much is stored for its user already.
    ///
    /// # Errors
    /// `rate_limited`, or the store is unavailable.
    pub(super) async fn check_reply_quota(&self, context: &CommandContext) -> Result<(), Error> {
        if context.idempotency_key.is_none() {
            return Ok(());
        }
        let quota = self.deps.reply_quota;
        let is_used_up =
            |counted: CountedUsage| quota.is_used_up(counted.usage, self.state.owner.is_guest);
        let now = self.deps.clock.now();
        let is_current =
            |counted: CountedUsage| now < counted.counted_at.saturating_add(RECOUNT_INTERVAL);
        let known = self.state.reply_usage.get();
        let counted = match known.filter(|known| !is_used_up(*known) || is_current(*known)) {
            Some(known) => known,
            None => {
                let usage = self.deps.store.stored_reply_usage(self.state.owner.id).await?;
                let counted = CountedUsage { usage, counted_at: now };
                self.state.reply_usage.set(counted);
                counted
            }
        };
        if is_used_up(counted) {
            return Err(Error::new(
                ErrorCode::RateLimited,
                "You sent too many requests with an Idempotency-Key in 24 hours. Nothing was \
                 changed. Wait, or send the request without the header.",
            )
            .with_retry_after(RETRY_AFTER_SECS));
        }
        Ok(())
    }

    /// Counts a reply of `bytes` that is about to be stored.
    pub(super) fn count_reply(&self, context: &CommandContext, bytes: usize) {
        if let Some(key) = &context.idempotency_key {
            self.state.reply_usage.add(key.key.len() + bytes);
        }
    }
}
