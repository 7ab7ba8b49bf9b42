//! The limits that every engine keeps, so that a shop behaves the same on each of them.

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
