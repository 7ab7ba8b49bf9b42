//! The writer: one batch, one transaction.

use std::{fs::File, path::PathBuf, sync::Arc};

use rusqlite::{Connection, ErrorCode, params};
use tokio::sync::oneshot;

use super::{
    flush::flush,
    load::load,
    open::{self, OpenedDatabase},
    outbox::OutboxRetention,
    read,
    threads::Worker,
};
use crate::{
    domain::clock::Timestamp,
    store::{
        AppliedBatch, ApplyError, StoreUnavailable,
        commit::{Commit, CommittedChanges},
        limits::{IDEMPOTENCY_KEY_TTL, INBOX_RETENTION},
        plan::{self, ReadSet},
    },
};

/// Old keys and messages are taken away each time so many have come; then twice as many, so that they never pile up.
const KEY_SWEEP_INTERVAL: usize = 256;

/// The write-ahead log is taken into the database when it has this many pages.
const CHECKPOINT_PAGES: i64 = 4_000;

/// A batch that waits for the writer.
pub(super) struct QueuedBatch {
    /// What to apply.
    pub(super) commits: Arc<[Commit]>,
    /// Who waits for it.
    pub(super) reply: oneshot::Sender<Result<AppliedBatch, ApplyError>>,
}

/// What the writer is asked for.
pub(super) enum WriteJob {
    /// Apply a batch.
    Apply(QueuedBatch),
    /// Note how far the outbox was published.
    NotePublished {
        /// Everything up to here.
        position: u64,
        /// Who waits for it.
        reply: oneshot::Sender<Result<(), StoreUnavailable>>,
    },
}

/// The one who writes. Its fields are dropped in this order: the lock goes last.
pub(super) struct SqliteWriter {
    connection: Connection,
    database: PathBuf,
    low_stock: u64,
    /// The position of the newest event.
    last_position: u64,
    retention: OutboxRetention,
    /// Keys and messages written since old ones were last taken away.
    keys_since_sweep: usize,
    _lock: File,
}

/// An attempt that came to nothing, perhaps.
struct TransactionFailure {
    error: rusqlite::Error,
    /// Whether it was the commit itself that failed.
    during_commit: bool,
}

impl From<rusqlite::Error> for TransactionFailure {
    fn from(error: rusqlite::Error) -> Self {
        Self { error, during_commit: false }
    }
}

impl Worker for SqliteWriter {
    type Job = WriteJob;

    fn run_job(&mut self, job: WriteJob) {
        // Whoever asked may have gone; the change stands all the same.
        match job {
            WriteJob::Apply(batch) => drop(batch.reply.send(self.apply_batch(&batch.commits))),
            WriteJob::NotePublished { position, reply } => {
                let _ = reply.send(self.mark_published(position));
            }
        }
        if let Err(error) = self.checkpoint_if_due() {
            tracing::error!(%error, "could not take the write-ahead log into the database; it grows until that is done");
        }
    }

    fn shut_down(self) {
        let checkpoint = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        match checkpoint {
            Ok(false) => {}
            Ok(true) => tracing::warn!(
                "the write-ahead log was in use at the end; it is kept and read at the next start"
            ),
            Err(error) => {
                tracing::warn!(%error, "the write-ahead log is kept and read at the next start")
            }
        }
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "the database was not closed in an orderly way");
        }
    }
}

impl SqliteWriter {
    /// A writer for a database whose folder is held by `lock`.
    pub(super) fn new(
        opened: OpenedDatabase,
        low_stock: u64,
        keep_unpublished: bool,
    ) -> rusqlite::Result<Self> {
        let OpenedDatabase { database, writer: connection, lock, .. } = opened;
        let last_position = read::last_event_position(&connection)?;
        let outbox = OutboxRetention::new(&connection, keep_unpublished)?;
        Ok(Self {
            connection,
            database,
            low_stock,
            last_position,
            retention: outbox,
            keys_since_sweep: 0,
            _lock: lock,
        })
    }

    fn mark_published(&mut self, position: u64) -> Result<(), StoreUnavailable> {
        self.roll_back_open_transaction();
        self.retention.mark_published(&mut self.connection, position, self.last_position).map_err(
            |error| {
                tracing::error!(%error, "it could not be noted how far events were published");
                StoreUnavailable
            },
        )
    }

    fn apply_batch(&mut self, batch: &[Commit]) -> Result<AppliedBatch, ApplyError> {
        match self.try_transaction(batch) {
            Ok(applied) => Ok(applied),
            Err(failure) if batch.len() > 1 && failure.is_worth_retrying_alone() => {
                tracing::error!(error = %failure.error, commits = batch.len(), "a batch failed; trying each commit alone");
                Ok(self.apply_each_alone(batch))
            }
            Err(failure) => {
                tracing::error!(error = %failure.error, commits = batch.len(), "a batch failed");
                Err(failure.to_apply_error())
            }
        }
    }

    /// Applies what can be applied, each commit in a transaction of its own.
    fn apply_each_alone(&mut self, batch: &[Commit]) -> AppliedBatch {
        let mut all = AppliedBatch {
            outcomes: Vec::with_capacity(batch.len()),
            changes: CommittedChanges::default(),
        };
        for commit in batch {
            match self.try_transaction(std::slice::from_ref(commit)) {
                Ok(applied) => {
                    all.outcomes.extend(applied.outcomes);
                    all.changes.append(applied.changes);
                }
                Err(failure) => {
                    tracing::error!(error = %failure.error, "a commit failed");
                    all.outcomes.push(Err(failure.to_apply_error().into()));
                }
            }
        }
        all
    }

    /// One transaction. When it fails, nothing of it is left open.
    fn try_transaction(&mut self, batch: &[Commit]) -> Result<AppliedBatch, TransactionFailure> {
        self.roll_back_open_transaction();
        let result = self.run_transaction(batch);
        self.roll_back_open_transaction();
        result
    }

    fn run_transaction(&mut self, batch: &[Commit]) -> Result<AppliedBatch, TransactionFailure> {
        let newest = batch.iter().map(|commit| commit.decided_at).max().unwrap_or_default();
        let forgotten = newest.saturating_sub(IDEMPOTENCY_KEY_TTL);
        self.execute_sql("BEGIN IMMEDIATE")?;
        let loaded = load(&self.connection, &ReadSet::for_batch(batch), forgotten)?;
        let plan = plan::plan_batch(batch, loaded, self.low_stock);
        if plan.writes.is_empty() {
            return Ok(AppliedBatch {
                outcomes: plan.outcomes,
                changes: CommittedChanges::default(),
            });
        }
        let published = plan.writes.to_outbox_events(self.last_position + 1);
        flush(&self.connection, &plan.writes, &published)?;
        let last_position = published.last().map_or(self.last_position, |event| event.position);
        let new_keys =
            self.keys_since_sweep + plan.writes.stored_responses.len() + plan.writes.inbox.len();
        self.retention.trim_if_due(&self.connection, self.last_position, last_position)?;
        let swept = self.delete_expired_keys(new_keys, newest)?;
        self.execute_sql("COMMIT")
            .map_err(|error| TransactionFailure { error, during_commit: true })?;
        self.last_position = last_position;
        self.keys_since_sweep = if swept { 0 } else { new_keys };
        Ok(AppliedBatch { outcomes: plan.outcomes, changes: plan.writes.into_changes(published) })
    }

    /// Takes a long log into the database. It may take some time, so that it is not done while a caller waits for its answer.
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

    /// Rolls back what may be open: SQLite itself ends a transaction on some errors, and on others leaves it open.
    fn roll_back_open_transaction(&mut self) {
        if self.connection.is_autocommit() {
            return;
        }
        let Err(error) = self.execute_sql("ROLLBACK") else { return };
        tracing::error!(%error, "could not roll back; connecting anew");
        match open::open_write_connection(&self.database) {
            Ok(connection) => self.connection = connection,
            Err(error) => tracing::error!(%error, "could not connect anew"),
        }
    }

    /// Whether it was time to take keys and messages away that are too old at `now`, which is then done.
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
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM inbox WHERE id IN (SELECT id FROM inbox WHERE at <= ?1 ORDER BY at LIMIT ?2)")?;
        delete.execute(params![now.saturating_sub(INBOX_RETENTION).as_millis(), new_keys * 2])?;
        Ok(true)
    }
}

impl TransactionFailure {
    /// Whether the commits of a batch may do better each alone. When the machine is at fault, they will not.
    fn is_worth_retrying_alone(&self) -> bool {
        !self.during_commit
            && !matches!(
                self.error.sqlite_error_code(),
                Some(
                    ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::CannotOpen
                        | ErrorCode::FileLockingProtocolFailed
                        | ErrorCode::OutOfMemory
                        | ErrorCode::PermissionDenied
                        | ErrorCode::ReadOnly
                )
            )
    }

    /// What the caller may believe.
    ///
    /// A commit that fails is rolled back, but if what failed was making the log durable, then its frames stand in the log until the
    /// next commit writes over them: should the machine go down just then, they would be found, whole, and taken for committed.
    fn to_apply_error(&self) -> ApplyError {
        let unsure = self.during_commit
            && self.error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
        if unsure { ApplyError::OutcomeUnknown } else { ApplyError::Unavailable }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{
        domain::{
            cart::{Cart, CartEvent, CartOwner},
            ids::UserId,
        },
        events::DomainEvent,
        messages::change::IdempotencyKey,
        store::{
            Write,
            commit::{CommitError, IdempotencyRecord, StoredResponseBody},
        },
    };

    fn open_writer(dir: &tempfile::TempDir) -> SqliteWriter {
        let opened = open::open_database(dir.path(), "EUR".parse().unwrap(), 0).unwrap();
        SqliteWriter::new(opened, 5, false).unwrap()
    }

    fn put_cart(owner: CartOwner, version: u64) -> Commit {
        let cart = Arc::new(Cart { version, ..Cart::empty(owner) });
        let fact = DomainEvent::Cart(Arc::clone(&cart), CartEvent::Cleared);
        let commit = Commit::new(Timestamp::from_millis(1), Instant::now());
        Commit { writes: vec![Write::Cart(cart)], events: vec![fact], ..commit }
    }

    fn new_owner() -> CartOwner {
        CartOwner { id: UserId::new(), is_guest: false }
    }

    /// Applies a batch that must be done, and gives the positions of its events.
    fn apply_for_positions(writer: &mut SqliteWriter, batch: &[Commit]) -> Vec<u64> {
        let applied = writer.apply_batch(batch).unwrap();
        assert!(applied.outcomes.iter().all(Result::is_ok), "{:?}", applied.outcomes);
        applied.changes.events.iter().map(|event| event.position).collect()
    }

    fn limit_database_pages(writer: &SqliteWriter, pages: i64) {
        writer.connection.pragma_update(None, "max_page_count", pages).unwrap();
    }

    #[test]
    fn full_disk_applies_nothing_and_writer_recovers() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = open_writer(&dir);
        let first = new_owner();
        assert_eq!(apply_for_positions(&mut writer, &[put_cart(first, 1)]), [1]);
        limit_database_pages(&writer, 1);
        let large: Vec<Commit> =
            (0..500).map(|_| put_cart(new_owner(), 1)).chain([put_cart(first, 2)]).collect();
        assert_eq!(writer.apply_batch(&large).unwrap_err(), ApplyError::Unavailable);
        limit_database_pages(&writer, 1_000_000);
        assert_eq!(
            apply_for_positions(&mut writer, &[put_cart(first, 2)]),
            [2],
            "no version and no position was used up"
        );
        assert_eq!(apply_for_positions(&mut writer, &large[..500]).len(), 500);
    }

    #[test]
    fn locked_database_applies_nothing_and_writer_recovers() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = open_writer(&dir);
        writer.connection.busy_timeout(Duration::ZERO).unwrap();
        let intruder = open::open_write_connection(&writer.database).unwrap();
        intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
        let batch = [put_cart(new_owner(), 1), put_cart(new_owner(), 1)];
        assert_eq!(writer.apply_batch(&batch).unwrap_err(), ApplyError::Unavailable);
        intruder.execute_batch("ROLLBACK").unwrap();
        assert_eq!(apply_for_positions(&mut writer, &batch), [1, 2]);
    }

    #[test]
    fn open_transaction_is_rolled_back_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = open_writer(&dir);
        writer.connection.execute_batch("BEGIN IMMEDIATE; DELETE FROM meta").unwrap();
        assert_eq!(apply_for_positions(&mut writer, &[put_cart(new_owner(), 1)]), [1]);
        assert_eq!(
            writer.connection.query_row("SELECT count(*) FROM meta", [], |row| row.get(0)),
            Ok(1)
        );
    }

    #[test]
    fn failed_batch_is_retried_commit_by_commit() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = open_writer(&dir);
        let trigger = "CREATE TRIGGER t BEFORE INSERT ON carts WHEN NEW.guest BEGIN SELECT raise(ABORT, 'no guests'); END";
        writer.connection.execute_batch(trigger).unwrap();
        let guest = put_cart(CartOwner { id: UserId::new(), is_guest: true }, 1);
        let applied = writer
            .apply_batch(&[put_cart(new_owner(), 1), guest.clone(), put_cart(new_owner(), 1)])
            .unwrap();
        let done: Vec<bool> = applied.outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(
            (done, &applied.outcomes[1]),
            (vec![true, false, true], &Err(CommitError::Unavailable))
        );
        assert_eq!(
            applied.changes.events.iter().map(|event| event.position).collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(writer.apply_batch(&[guest]).unwrap_err(), ApplyError::Unavailable);
    }

    #[test]
    fn write_ahead_log_stays_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = open_writer(&dir);
        let body = StoredResponseBody::Ready(vec![b'x'; 1 << 20].into());
        for number in 0..60 {
            let key =
                IdempotencyKey { owner: UserId::new(), key: "key".into(), fingerprint: [0; 32] };
            let remember = Some(IdempotencyRecord { key, body: body.clone() });
            let (reply, applied) = oneshot::channel();
            writer.run_job(WriteJob::Apply(QueuedBatch {
                commits: vec![Commit { idempotency_record: remember, ..put_cart(new_owner(), 1) }]
                    .into(),
                reply,
            }));
            assert!(applied.blocking_recv().unwrap().unwrap().outcomes[0].is_ok(), "{number}");
        }
        let log = std::fs::metadata(dir.path().join("souk.db-wal")).unwrap().len();
        assert!(log < 20 << 20, "60 MiB were written, and the log has {log} bytes");
    }

    #[test]
    fn only_io_error_during_commit_is_outcome_unknown() {
        let failure = |code, committing| {
            let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            TransactionFailure { error, during_commit: committing }.to_apply_error()
        };
        use rusqlite::ffi::{SQLITE_BUSY, SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_IOERR_WRITE};
        assert_eq!(failure(SQLITE_IOERR_FSYNC, true), ApplyError::OutcomeUnknown);
        assert_eq!(failure(SQLITE_IOERR_WRITE, true), ApplyError::OutcomeUnknown);
        assert_eq!(failure(SQLITE_FULL, true), ApplyError::Unavailable);
        assert_eq!(failure(SQLITE_BUSY, true), ApplyError::Unavailable);
        assert_eq!(failure(SQLITE_IOERR_WRITE, false), ApplyError::Unavailable);
    }
}
