//! The writer: one batch, one transaction.

use std::{fs::File, path::PathBuf, sync::Arc, time::Duration};

use rusqlite::{Connection, ErrorCode, params};
use tokio::sync::oneshot;

use super::{
    flush::flush,
    load::load,
    open::{self, Opened},
    outbox::Upkeep,
    read,
    threads::Worker,
};
use crate::{
    domain::clock::Timestamp,
    store::{
        Applied, ApplyError, INBOX_KEPT, Unavailable,
        commit::{Commit, News},
        plan::{self, Touched},
    },
};

/// For how long an idempotency key is honoured.
pub(super) const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Old keys and messages are taken away each time so many have come; then twice as many, so that they never pile up.
const KEYS_BETWEEN_SWEEPS: usize = 256;

/// The write-ahead log is taken into the database when it has this many pages.
const CHECKPOINT_PAGES: i64 = 4_000;

/// A batch that waits for the writer.
pub(super) struct Batch {
    /// What to apply.
    pub(super) commits: Arc<[Commit]>,
    /// Who waits for it.
    pub(super) reply: oneshot::Sender<Result<Applied, ApplyError>>,
}

/// What the writer is asked for.
pub(super) enum Job {
    /// Apply a batch.
    Apply(Batch),
    /// Note how far the outbox was published.
    NotePublished {
        /// Everything up to here.
        position: u64,
        /// Who waits for it.
        reply: oneshot::Sender<Result<(), Unavailable>>,
    },
}

/// The one who writes. Its fields are dropped in this order: the lock goes last.
pub(super) struct Writer {
    connection: Connection,
    database: PathBuf,
    low_stock: u64,
    /// The position of the newest event.
    last_position: u64,
    outbox: Upkeep,
    /// Keys and messages written since old ones were last taken away.
    new_keys: usize,
    _lock: File,
}

/// An attempt that came to nothing, perhaps.
struct Failure {
    error: rusqlite::Error,
    /// Whether it was the commit itself that failed.
    committing: bool,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self { error, committing: false }
    }
}

impl Worker for Writer {
    type Job = Job;

    fn work(&mut self, job: Job) {
        // Whoever asked may have gone; the change stands all the same.
        match job {
            Job::Apply(batch) => drop(batch.reply.send(self.apply(&batch.commits))),
            Job::NotePublished { position, reply } => {
                drop(reply.send(self.note_published(position)))
            }
        }
        if let Err(error) = self.checkpoint() {
            tracing::error!(%error, "could not take the write-ahead log into the database; it grows until that is done");
        }
    }

    fn finish(self) {
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

impl Writer {
    /// A writer for a database whose folder is held by `lock`.
    pub(super) fn new(
        opened: Opened,
        low_stock: u64,
        keep_unpublished: bool,
    ) -> rusqlite::Result<Self> {
        let Opened { database, writer: connection, lock, .. } = opened;
        let last_position = read::last_position(&connection)?;
        let outbox = Upkeep::new(&connection, keep_unpublished)?;
        Ok(Self {
            connection,
            database,
            low_stock,
            last_position,
            outbox,
            new_keys: 0,
            _lock: lock,
        })
    }

    fn note_published(&mut self, position: u64) -> Result<(), Unavailable> {
        self.leave_transaction();
        self.outbox.note_published(&mut self.connection, position, self.last_position).map_err(
            |error| {
                tracing::error!(%error, "it could not be noted how far events were published");
                Unavailable
            },
        )
    }

    fn apply(&mut self, batch: &[Commit]) -> Result<Applied, ApplyError> {
        match self.attempt(batch) {
            Ok(applied) => Ok(applied),
            Err(failure) if batch.len() > 1 && failure.is_one_commits_fault() => {
                tracing::error!(error = %failure.error, commits = batch.len(), "a batch failed; trying each commit alone");
                Ok(self.each_alone(batch))
            }
            Err(failure) => {
                tracing::error!(error = %failure.error, commits = batch.len(), "a batch failed");
                Err(failure.meaning())
            }
        }
    }

    /// Applies what can be applied, each commit in a transaction of its own.
    fn each_alone(&mut self, batch: &[Commit]) -> Applied {
        let mut all = Applied { outcomes: Vec::with_capacity(batch.len()), news: News::default() };
        for commit in batch {
            match self.attempt(std::slice::from_ref(commit)) {
                Ok(applied) => {
                    all.outcomes.extend(applied.outcomes);
                    all.news.append(applied.news);
                }
                Err(failure) => {
                    tracing::error!(error = %failure.error, "a commit failed");
                    all.outcomes.push(Err(failure.meaning().into()));
                }
            }
        }
        all
    }

    /// One transaction. When it fails, nothing of it is left open.
    fn attempt(&mut self, batch: &[Commit]) -> Result<Applied, Failure> {
        self.leave_transaction();
        let result = self.transaction(batch);
        self.leave_transaction();
        result
    }

    fn transaction(&mut self, batch: &[Commit]) -> Result<Applied, Failure> {
        let newest = batch.iter().map(|commit| commit.at).max().unwrap_or_default();
        let forgotten = newest.minus(REMEMBERED_FOR);
        self.run("BEGIN IMMEDIATE")?;
        let loaded = load(&self.connection, &Touched::by(batch), forgotten)?;
        let plan = plan::plan(batch, loaded, self.low_stock);
        if plan.writes.is_empty() {
            return Ok(Applied { outcomes: plan.outcomes, news: News::default() });
        }
        let published = plan.writes.published(self.last_position + 1);
        flush(&self.connection, &plan.writes, &published)?;
        let last_position = published.last().map_or(self.last_position, |event| event.position);
        let new_keys = self.new_keys + plan.writes.remembered.len() + plan.writes.inbox.len();
        self.outbox.trim(&self.connection, self.last_position, last_position)?;
        let swept = self.sweep_keys(new_keys, newest)?;
        self.run("COMMIT").map_err(|error| Failure { error, committing: true })?;
        self.last_position = last_position;
        self.new_keys = if swept { 0 } else { new_keys };
        Ok(Applied { outcomes: plan.outcomes, news: plan.writes.news(published) })
    }

    /// Takes a long log into the database. It may take some time, so that it is not done while a caller waits for its answer.
    fn checkpoint(&self) -> rusqlite::Result<()> {
        let pages: i64 = self
            .connection
            .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
            .query_row([], |row| row.get(1))?;
        if pages >= CHECKPOINT_PAGES {
            self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        }
        Ok(())
    }

    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// Rolls back what may be open: SQLite itself ends a transaction on some errors, and on others leaves it open.
    fn leave_transaction(&mut self) {
        if self.connection.is_autocommit() {
            return;
        }
        let Err(error) = self.run("ROLLBACK") else { return };
        tracing::error!(%error, "could not roll back; connecting anew");
        match open::connect_to_write(&self.database) {
            Ok(connection) => self.connection = connection,
            Err(error) => tracing::error!(%error, "could not connect anew"),
        }
    }

    /// Whether it was time to take keys and messages away that are too old at `now`, which is then done.
    fn sweep_keys(&self, new_keys: usize, now: Timestamp) -> rusqlite::Result<bool> {
        if new_keys < KEYS_BETWEEN_SWEEPS {
            return Ok(false);
        }
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM idempotency_keys WHERE (owner_id, key) IN \
             (SELECT owner_id, key FROM idempotency_keys WHERE at <= ?1 ORDER BY at LIMIT ?2)",
        )?;
        delete.execute(params![now.minus(REMEMBERED_FOR).as_millis(), new_keys * 2])?;
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM inbox WHERE id IN (SELECT id FROM inbox WHERE at <= ?1 ORDER BY at LIMIT ?2)")?;
        delete.execute(params![now.minus(INBOX_KEPT).as_millis(), new_keys * 2])?;
        Ok(true)
    }
}

impl Failure {
    /// Whether the commits of a batch may do better each alone. When the machine is at fault, they will not.
    fn is_one_commits_fault(&self) -> bool {
        !self.committing
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
    fn meaning(&self) -> ApplyError {
        let unsure =
            self.committing && self.error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
        if unsure { ApplyError::Unknown } else { ApplyError::Unavailable }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        domain::{
            cart::{Cart, CartEvent, Owner},
            ids::UserId,
        },
        events::Fact,
        messages::change::IdempotencyKey,
        store::{
            Write,
            commit::{CommitError, Remember, RememberedBody},
        },
    };

    fn writer(dir: &tempfile::TempDir) -> Writer {
        let opened = open::open(dir.path(), "EUR".parse().unwrap(), 0).unwrap();
        Writer::new(opened, 5, false).unwrap()
    }

    fn put(owner: Owner, version: u64) -> Commit {
        let cart = Arc::new(Cart { version, ..Cart::untouched(owner) });
        let fact = Fact::Cart(Arc::clone(&cart), CartEvent::Cleared);
        let commit = Commit::new(Timestamp::from_millis(1), Instant::now());
        Commit { writes: vec![Write::Cart(cart)], facts: vec![fact], ..commit }
    }

    fn owner() -> Owner {
        Owner { id: UserId::new(), guest: false }
    }

    /// Applies a batch that must be done, and gives the positions of its events.
    fn positions(writer: &mut Writer, batch: &[Commit]) -> Vec<u64> {
        let applied = writer.apply(batch).unwrap();
        assert!(applied.outcomes.iter().all(Result::is_ok), "{:?}", applied.outcomes);
        applied.news.events.iter().map(|event| event.position).collect()
    }

    fn limit_pages(writer: &Writer, pages: i64) {
        writer.connection.pragma_update(None, "max_page_count", pages).unwrap();
    }

    #[test]
    fn a_full_disk_applies_nothing_and_is_overcome() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(&dir);
        let first = owner();
        assert_eq!(positions(&mut writer, &[put(first, 1)]), [1]);
        limit_pages(&writer, 1);
        let large: Vec<Commit> = (0..500).map(|_| put(owner(), 1)).chain([put(first, 2)]).collect();
        assert_eq!(writer.apply(&large).unwrap_err(), ApplyError::Unavailable);
        limit_pages(&writer, 1_000_000);
        assert_eq!(
            positions(&mut writer, &[put(first, 2)]),
            [2],
            "no version and no position was used up"
        );
        assert_eq!(positions(&mut writer, &large[..500]).len(), 500);
    }

    #[test]
    fn a_database_that_is_locked_applies_nothing_and_is_overcome() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(&dir);
        writer.connection.busy_timeout(Duration::ZERO).unwrap();
        let intruder = open::connect_to_write(&writer.database).unwrap();
        intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
        let batch = [put(owner(), 1), put(owner(), 1)];
        assert_eq!(writer.apply(&batch).unwrap_err(), ApplyError::Unavailable);
        intruder.execute_batch("ROLLBACK").unwrap();
        assert_eq!(positions(&mut writer, &batch), [1, 2]);
    }

    #[test]
    fn what_was_left_open_is_rolled_back_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(&dir);
        writer.connection.execute_batch("BEGIN IMMEDIATE; DELETE FROM meta").unwrap();
        assert_eq!(positions(&mut writer, &[put(owner(), 1)]), [1]);
        assert_eq!(
            writer.connection.query_row("SELECT count(*) FROM meta", [], |row| row.get(0)),
            Ok(1)
        );
    }

    #[test]
    fn commits_are_tried_alone_unless_the_machine_is_at_fault() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(&dir);
        let trigger = "CREATE TRIGGER t BEFORE INSERT ON carts WHEN NEW.guest BEGIN SELECT raise(ABORT, 'no guests'); END";
        writer.connection.execute_batch(trigger).unwrap();
        let guest = put(Owner { id: UserId::new(), guest: true }, 1);
        let applied = writer.apply(&[put(owner(), 1), guest.clone(), put(owner(), 1)]).unwrap();
        let done: Vec<bool> = applied.outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(
            (done, &applied.outcomes[1]),
            (vec![true, false, true], &Err(CommitError::Unavailable))
        );
        assert_eq!(
            applied.news.events.iter().map(|event| event.position).collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(writer.apply(&[guest]).unwrap_err(), ApplyError::Unavailable);
    }

    #[test]
    fn the_log_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(&dir);
        let body = RememberedBody::Ready(vec![b'x'; 1 << 20].into());
        for number in 0..60 {
            let key = IdempotencyKey {
                owner: UserId::new(),
                key: "key".into(),
                fingerprint: [0; 32],
                status: 200,
            };
            let remember = Some(Remember { key, body: body.clone() });
            let (reply, applied) = oneshot::channel();
            writer.work(Job::Apply(Batch {
                commits: vec![Commit { remember, ..put(owner(), 1) }].into(),
                reply,
            }));
            assert!(applied.blocking_recv().unwrap().unwrap().outcomes[0].is_ok(), "{number}");
        }
        let log = std::fs::metadata(dir.path().join("souk.db-wal")).unwrap().len();
        assert!(log < 20 << 20, "60 MiB were written, and the log has {log} bytes");
    }

    #[test]
    fn only_a_log_that_may_not_be_durable_leaves_doubt() {
        let failure = |code, committing| {
            let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            Failure { error, committing }.meaning()
        };
        use rusqlite::ffi::{SQLITE_BUSY, SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_IOERR_WRITE};
        assert_eq!(failure(SQLITE_IOERR_FSYNC, true), ApplyError::Unknown);
        assert_eq!(failure(SQLITE_IOERR_WRITE, true), ApplyError::Unknown);
        assert_eq!(failure(SQLITE_FULL, true), ApplyError::Unavailable);
        assert_eq!(failure(SQLITE_BUSY, true), ApplyError::Unavailable);
        assert_eq!(failure(SQLITE_IOERR_WRITE, false), ApplyError::Unavailable);
    }
}
