//! Bounds what a user can make the shop store under idempotency keys. Each reply is kept for a day,
//! and a cart's can be large, so without a bound a few requests a second would fill the disk.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
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

/// The part of a quota that an active cart may use before the store is asked what was used before.
/// So the usual buyer, who sends a few requests, costs no read.
const UNCOUNTED_SHARE: u64 = 16;

/// When a refused client may try again, in seconds: some replies may have expired by then.
const RETRY_AFTER_SECS: u64 = 600;

/// What may be stored under the idempotency keys of one user. 0 disables a limit.
#[derive(Debug, Clone, Copy)]
pub struct IdempotencyQuota {
    /// The most keys.
    pub max_keys: u64,
    /// The most bytes of keys and replies, as stored.
    pub max_bytes: u64,
    /// The most bytes of a guest. Fewer, since anybody can have any number of guest carts.
    pub max_guest_bytes: u64,
}

impl IdempotencyQuota {
    /// Whether `usage` has reached one part in `share` of a limit.
    fn is_used_up(&self, usage: StoredReplyUsage, is_guest: bool, share: u64) -> bool {
        let max_bytes = if is_guest { self.max_guest_bytes } else { self.max_bytes };
        (self.max_keys > 0 && usage.keys >= self.max_keys / share)
            || (max_bytes > 0 && usage.bytes >= max_bytes / share)
    }
}

/// What is stored for the owner of a cart: a count from the store, plus what this node has added
/// since. Other nodes may have added more, and compressed replies take less.
#[derive(Default)]
pub(super) struct ReplyUsage(Mutex<CountedUsage>);

#[derive(Clone, Copy, Default)]
struct CountedUsage {
    usage: StoredReplyUsage,
    /// `None` before the first count.
    counted_at: Option<Timestamp>,
}

impl ReplyUsage {
    fn lock(&self) -> MutexGuard<'_, CountedUsage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, bytes: usize) {
        let CountedUsage { usage, .. } = &mut *self.lock();
        usage.keys += 1;
        usage.bytes += bytes as u64;
    }
}

impl CartService {
    /// Refuses a request whose reply would be stored if too much is stored for its user already.
    ///
    /// # Errors
    /// `rate_limited`, or the store is unavailable.
    pub(super) async fn check_idempotency_quota(
        &self,
        context: &CommandContext,
    ) -> Result<(), Error> {
        if context.idempotency_key.is_none() {
            return Ok(());
        }
        let (owner, now) = (self.state.owner, self.deps.clock.now());
        let is_used_up =
            |usage, share| self.deps.idempotency_quota.is_used_up(usage, owner.is_guest, share);
        let known = *self.state.reply_usage.lock();
        let must_count = match known.counted_at {
            None => is_used_up(known.usage, UNCOUNTED_SHARE),
            Some(at) => is_used_up(known.usage, 1) && now >= at.saturating_add(RECOUNT_INTERVAL),
        };
        let mut usage = known.usage;
        if must_count {
            usage = self.deps.store.stored_reply_usage(owner.id).await?;
            *self.state.reply_usage.lock() = CountedUsage { usage, counted_at: Some(now) };
        }
        if is_used_up(usage, 1) {
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
