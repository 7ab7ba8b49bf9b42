//! How long every engine keeps records before it deletes them.

use std::time::Duration;

use crate::domain::{account::ENDED_SESSION_RETENTION, cart::GUEST_LIFETIME};

/// How long an idempotency key replays the first response.
pub(super) const IDEMPOTENCY_KEY_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The minimum time that an inbox id is kept. A redelivery after that is applied again.
pub const INBOX_RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// At least this many of the newest events are kept. Unpublished events are kept however many.
pub(super) const MIN_RETAINED_EVENTS: u32 = 20_000;

/// The age at which a guest's cart may be deleted: some time after its token has expired.
pub(super) const GUEST_CART_RETENTION: Duration =
    GUEST_LIFETIME.saturating_add(ENDED_SESSION_RETENTION);

/// The least time that events are kept for a webhook endpoint that has not read them.
pub(super) const WEBHOOK_RETENTION: Duration = Duration::from_secs(72 * 60 * 60);
