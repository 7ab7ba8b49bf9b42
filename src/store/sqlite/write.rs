//! The writer applies each batch in one transaction.

mod transaction_failure;

use std::{fs::File, path::PathBuf, sync::Arc};

use rusqlite::{Connection, params};
use tokio::sync::oneshot;
use tracing::{Span, field::Empty};

use self::transaction_failure::TransactionFailure;
use super::{
    flush::flush,
    load::load,
    login_failures,
    open::{self, OpenedDatabase},
    outbox::{OutboxRetention, PARTITION},
    read,
    threads::Worker,
    update::Update,
};
use crate::{
    domain::{
        account::login_failures::{FailureWindow, LoginKey},
        clock::Timestamp,
    },
    events::OutboxPosition,
    store::{
        AppliedBatch, ApplyError, StoreUnavailable,
        commit::{Commit, CommittedChanges},
        plan::{self, ReadSet},
        retention::{IDEMPOTENCY_KEY_TTL, INBOX_RETENTION},
        write_health::WriteHealth,
    },
};

/// Expired keys and inbox ids are deleted after this many new ones. Each sweep deletes up to twice
/// as many as were added, so that a backlog shrinks.
const KEY_SWEEP_INTERVAL: usize = 256;

/// The write-ahead log is checkpointed when it has this many pages.
const CHECKPOINT_PAGES: i64 = 4_000;

/// The size of a probe after a failure. A disk that is nearly full may take a small change and fail
/// at the next larger one; that is not a recovery.
const RECOVERY_PROBE_BYTES: usize = 64 * 1024;

/// A batch, and the channel for its reply.
pub(super) struct QueuedBatch {
    /// The commits to apply.
    pub(super) commits: Arc<[Commit]>,
    /// Receives the result.
    pub(super) reply: oneshot::Sender<Result<AppliedBatch, ApplyError>>,
    /// The span of the batch.
    pub(super) span: Span,
}

/// A request to the writer.
pub(super) enum WriteJob {
    /// Applies a batch.
    Apply(QueuedBatch),
    /// Records how far the outbox was published.
    MarkPublished {
        /// Every event up to this offset was published.
        offset: u64,
        /// Receives the result.
        reply: oneshot::Sender<Result<(), StoreUnavailable>>,
    },
    /// Writes something, to find out whether that is possible.
    Probe {
        /// Receives the result.
        reply: oneshot::Sender<Result<(), StoreUnavailable>>,
    },
    /// Counts a failed login.
    CountLoginFailure {
        /// What it counts under.
        keys: Vec<LoginKey>,
        /// When it failed.
        now: Timestamp,
        /// Receives the counters after it.
        reply: oneshot::Sender<Result<Vec<FailureWindow>, StoreUnavailable>>,
    },
    /// Makes a small change outside of the commits.
    Update(Update),
    /// The same without waiting for the disk: a failure of the power may undo it.
    LazyUpdate(Update),
}

/// Writes to the database. The lock is the last field, so that it is released last.
pub(super) struct SqliteWriter {
    connection: Connection,
    database: PathBuf,
    low_stock: u64,
    /// The offset of the newest event.
    last_offset: u64,
    retention: OutboxRetention,
    /// Keys and inbox ids written since the last sweep.
    keys_since_sweep: usize,
    health: Arc<WriteHealth>,
    _lock: File,
}

impl Worker for SqliteWriter {
    type Job = WriteJob;

    fn run_job(&mut self, job: WriteJob) {
        // Sending fails when the caller has gone; the change stands all the same.
        match job {
            WriteJob::Apply(QueuedBatch { commits, reply, span }) => {
                drop(reply.send(span.in_scope(|| self.apply_batch(&commits))));
            }
            WriteJob::MarkPublished { offset, reply } => {
                let _ = reply.send(self.mark_published(offset));
            }
            // Nobody waits for the result any more, after a write that took long.
            WriteJob::Probe { reply } if reply.is_closed() => {}
            WriteJob::Probe { reply } => drop(reply.send(self.probe())),
            WriteJob::CountLoginFailure { keys, now, reply } => {
                let _ = reply.send(self.count_login_failure(&keys, now));
            }
            WriteJob::Update(change) => {
                self.roll_back_open_transaction();
                change(&mut self.connection);
            }
            WriteJob::LazyUpdate(change) => self.update_lazily(change),
        }
        if let Err(error) = self.checkpoint_if_due() {
            tracing::error!(
                %error,
                "failed to checkpoint the write-ahead log, which grows until a checkpoint succeeds"
            );
        }
    }

    fn shut_down(self) {
        let checkpoint = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        match checkpoint {
            Ok(false) => {}
            Ok(true) => tracing::warn!(
                "the write-ahead log was in use at shutdown; the next start reads it"
            ),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "failed to checkpoint the write-ahead log; the next start reads it"
                )
            }
        }
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "failed to close the database");
        }
    }
}

impl SqliteWriter {
    /// A writer for an opened database.
    pub(super) fn new(
        opened: OpenedDatabase,
        low_stock: u64,
        keep_unpublished: bool,
    ) -> rusqlite::Result<Self> {
        let OpenedDatabase { database, writer: connection, lock, .. } = opened;
        let last_offset = read::last_event_offset(&connection)?;
        let retention = OutboxRetention::new(&connection, keep_unpublished)?;
        Ok(Self {
            connection,
            database,
            low_stock,
            last_offset,
            retention,
            keys_since_sweep: 0,
            health: Arc::default(),
            _lock: lock,
        })
    }

    /// Whether the database takes changes.
    pub(super) fn health(&self) -> Arc<WriteHealth> {
        Arc::clone(&self.health)
    }

    /// Writes something durably.
    fn probe(&mut self) -> Result<(), StoreUnavailable> {
        self.roll_back_open_transaction();
        let has_failed = self.health.has_failed();
        let size = if has_failed { RECOVERY_PROBE_BYTES } else { 1 };
        let sql = "INSERT INTO meta (name, value) VALUES ('write_probe', ?1) \
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        let probed =
            self.connection.prepare_cached(sql).and_then(|mut put| put.execute(["-".repeat(size)]));
        self.health.record(probed.is_ok());
        match probed {
            Ok(_) => Ok(()),
            Err(error) => {
                if !has_failed {
                    tracing::error!(%error, "the store takes no changes");
                }
                Err(StoreUnavailable)
            }
        }
    }

    fn mark_published(&mut self, offset: u64) -> Result<(), StoreUnavailable> {
        self.roll_back_open_transaction();
        self.retention.mark_published(&mut self.connection, offset, self.last_offset).map_err(
            |error| {
                tracing::error!(%error, "failed to record the published position");
                StoreUnavailable
            },
        )
    }

    fn count_login_failure(
        &mut self,
        keys: &[LoginKey],
        now: Timestamp,
    ) -> Result<Vec<FailureWindow>, StoreUnavailable> {
        self.roll_back_open_transaction();
        let counted = login_failures::count_login_failure(&mut self.connection, keys, now);
        self.make_commits_durable();
        counted.map_err(|error| {
            tracing::error!(%error, "failed to count a failed login");
            StoreUnavailable
        })
    }

    fn update_lazily(&mut self, change: Update) {
        self.roll_back_open_transaction();
        if let Err(error) = self.connection.pragma_update(None, "synchronous", "NORMAL") {
            tracing::warn!(%error, "failed to write without waiting for the disk");
        }
        change(&mut self.connection);
        self.make_commits_durable();
    }

    /// Makes commits wait for the disk again.
    fn make_commits_durable(&mut self) {
        self.roll_back_open_transaction();
        if let Err(error) = open::set_durable_commits(&self.connection) {
            tracing::error!(%error, "failed to set the durability of commits; reconnecting");
            self.reconnect();
        }
    }

    fn apply_batch(&mut self, batch: &[Commit]) -> Result<AppliedBatch, ApplyError> {
        match self.try_transaction(batch) {
            Ok(applied) => Ok(applied),
            Err(failure) if batch.len() > 1 && failure.is_worth_retrying_alone() => {
                tracing::error!(
                    error = %failure.error,
                    commits = batch.len(),
                    "failed to apply a batch; applying each commit alone"
                );
                Ok(self.apply_each_alone(batch))
            }
            Err(failure) => {
                tracing::error!(
                    error = %failure.error,
                    commits = batch.len(),
                    "failed to apply a batch"
                );
                Err(failure.to_apply_error())
            }
        }
    }

    /// Applies each commit in a transaction of its own.
    fn apply_each_alone(&mut self, batch: &[Commit]) -> AppliedBatch {
        let mut batch_result = AppliedBatch {
            outcomes: Vec::with_capacity(batch.len()),
            changes: CommittedChanges::default(),
        };
        for commit in batch {
            match self.try_transaction(std::slice::from_ref(commit)) {
                Ok(applied) => {
                    batch_result.outcomes.extend(applied.outcomes);
                    batch_result.changes.append(applied.changes);
                }
                Err(failure) => {
                    tracing::error!(error = %failure.error, "failed to apply a commit");
                    batch_result.outcomes.push(Err(failure.to_apply_error().into()));
                }
            }
        }
        batch_result
    }

    /// Applies the batch in one transaction, and leaves no transaction open.
    fn try_transaction(&mut self, batch: &[Commit]) -> Result<AppliedBatch, TransactionFailure> {
        self.roll_back_open_transaction();
        let span = tracing::info_span!(
            "transaction",
            otel.kind = "client",
            otel.status_code = Empty,
            db.system.name = "sqlite",
            db.operation.batch.size = batch.len(),
        );
        let result = span.in_scope(|| self.run_transaction(batch));
        if result.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        if result.as_ref().is_err_and(|failure| !failure.is_worth_retrying_alone()) {
            self.health.record(false);
        }
        self.roll_back_open_transaction();
        result
    }

    fn run_transaction(&mut self, batch: &[Commit]) -> Result<AppliedBatch, TransactionFailure> {
        let newest = batch.iter().map(|commit| commit.decided_at).max().unwrap_or_default();
        let keys_stored_after = newest.saturating_sub(IDEMPOTENCY_KEY_TTL);
        self.execute_sql("BEGIN IMMEDIATE")?;
        let loaded = load(&self.connection, &ReadSet::for_batch(batch), keys_stored_after)?;
        let plan = plan::plan_batch(batch, loaded, self.low_stock);
        if plan.writes.is_empty() {
            return Ok(AppliedBatch {
                outcomes: plan.outcomes,
                changes: CommittedChanges::default(),
            });
        }
        let first = OutboxPosition { partition: PARTITION, offset: self.last_offset + 1 };
        let outbox_events = plan.writes.to_outbox_events(first);
        flush(&self.connection, &plan.writes, &outbox_events)?;
        let last_offset =
            outbox_events.last().map_or(self.last_offset, |event| event.position.offset);
        let new_keys =
            self.keys_since_sweep + plan.writes.stored_replies.len() + plan.writes.inbox.len();
        self.retention.trim_if_due(&self.connection, self.last_offset, last_offset)?;
        let swept = self.delete_expired_keys(new_keys, newest)?;
        self.execute_sql("COMMIT")
            .map_err(|error| TransactionFailure { error, during_commit: true })?;
        self.health.record(true);
        self.last_offset = last_offset;
        self.keys_since_sweep = if swept { 0 } else { new_keys };
        Ok(AppliedBatch {
            outcomes: plan.outcomes,
            changes: plan.writes.into_changes(outbox_events),
        })
    }

    /// Checkpoints the write-ahead log when it is long. That can take some time, so it runs after
    /// the reply.
    fn checkpoint_if_due(&self) -> rusqlite::Result<()> {
        let pages: i64 = self
            .connection
            .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
            .query_row([], |row| row.get(1))?;
        if pages >= CHECKPOINT_PAGES {
            self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        }
        Ok(())
    }

    fn execute_sql(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// Rolls back a transaction that is still open. SQLite ends the transaction on some errors, and
    /// leaves it open on others.
    fn roll_back_open_transaction(&mut self) {
        if self.connection.is_autocommit() {
            return;
        }
        let Err(error) = self.execute_sql("ROLLBACK") else { return };
        tracing::error!(%error, "failed to roll back a transaction; reconnecting");
        self.reconnect();
    }

    fn reconnect(&mut self) {
        match open::open_write_connection(&self.database) {
            Ok(connection) => self.connection = connection,
            Err(error) => tracing::error!(%error, "failed to reconnect to the database"),
        }
    }

    /// Deletes keys and inbox ids that are expired at `now`, if a sweep is due. Returns whether it
    /// was.
    fn delete_expired_keys(&self, new_keys: usize, now: Timestamp) -> rusqlite::Result<bool> {
        if new_keys < KEY_SWEEP_INTERVAL {
            return Ok(false);
        }
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM idempotency_keys WHERE (owner_id, key) IN \
             (SELECT owner_id, key FROM idempotency_keys WHERE at <= ?1 ORDER BY at LIMIT ?2)",
        )?;
        delete
            .execute(params![now.saturating_sub(IDEMPOTENCY_KEY_TTL).as_millis(), new_keys * 2])?;
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM inbox WHERE id IN \
                 (SELECT id FROM inbox WHERE at <= ?1 ORDER BY at LIMIT ?2)",
        )?;
        delete.execute(params![now.saturating_sub(INBOX_RETENTION).as_millis(), new_keys * 2])?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
