//! The limits that every engine keeps, so that a shop behaves the same on each of them.

use std::time::Duration;

use crate::domain::{account::ENDED_SESSION_RETENTION, cart::GUEST_LIFETIME};

/// How long an idempotency key replays the first response.
pub(super) const IDEMPOTENCY_KEY_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The minimum time that an inbox id is kept. A redelivery after that is applied again.
pub const INBOX_RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// At least this many of the newest events are kept. Unpublished events are kept however many.
pub(super) const MIN_RETAINED_EVENTS: u32 = 20_000;

/// Batches that can wait for a lane of an engine. The commit writer sends one at a time.
pub(super) const MAX_QUEUED_BATCHES: usize = 4;

/// Commits in one transaction. Larger batches gain little and delay the first commit's reply.
pub(super) const MAX_BATCH_COMMITS: usize = 1024;

/// Records that a transaction of several commits writes. It keeps the transaction well within the
/// lifetime that a database server allows.
pub(super) const MAX_BATCH_WRITES: usize = 4000;

/// Sums of movements, by order and product, on one page of an audit of orders.
pub(super) const MAX_MOVEMENT_SUMS: u32 = 50_000;

/// Ranges of event positions in an audit's result.
pub(super) const MAX_POSITION_RANGES: u32 = 1000;

/// Ended sessions, or ended guest carts, that are deleted at a time: few, since commits wait.
pub(super) const MAX_DELETED_RECORDS: u32 = 200;

/// The age at which a guest's cart may be deleted: some time after its token has expired.
pub(super) const GUEST_CART_RETENTION: Duration =
    GUEST_LIFETIME.saturating_add(ENDED_SESSION_RETENTION);

/// The least time that events are kept for an endpoint of webhooks that has not heard of them.
pub(super) const WEBHOOK_RETENTION: Duration = Duration::from_secs(72 * 60 * 60);
