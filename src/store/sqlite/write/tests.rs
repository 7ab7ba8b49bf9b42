//! The writer's behavior when SQLite fails, and the size of its log.

use std::time::{Duration, Instant};

use super::*;
use crate::{
    domain::{
        cart::{Cart, CartEvent, CartOwner},
        ids::UserId,
    },
    events::DomainEvent,
    messages::command_context::IdempotencyKey,
    store::{
        Write,
        commit::{CommitError, IdempotencyRecord, StoredReplyBody},
    },
};

fn open_writer(dir: &tempfile::TempDir) -> SqliteWriter {
    let opened = open::open_database(dir.path(), "EUR".parse().unwrap(), 0, false).unwrap();
    SqliteWriter::new(opened, 5, false).unwrap()
}

fn put_cart(owner: CartOwner, version: u64) -> Commit {
    let cart = Arc::new(Cart { version, ..Cart::empty(owner) });
    let event = DomainEvent::Cart(Arc::clone(&cart), CartEvent::Cleared);
    let commit = Commit::new(Timestamp::from_millis(1), Instant::now());
    Commit { writes: vec![Write::Cart(cart)], events: vec![event], ..commit }
}

fn new_owner() -> CartOwner {
    CartOwner { id: UserId::new(), is_guest: false }
}

/// Applies a batch that must succeed. Returns the positions of its events.
fn apply_for_positions(writer: &mut SqliteWriter, batch: &[Commit]) -> Vec<u64> {
    let applied = writer.apply_batch(batch).unwrap();
    assert!(applied.outcomes.iter().all(Result::is_ok), "{:?}", applied.outcomes);
    applied.changes.events.iter().map(|event| event.position.offset).collect()
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
fn full_disk_is_remembered_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open_writer(&dir);
    let health = writer.health();
    assert_eq!(writer.probe(), Ok(()));
    let pages: i64 =
        writer.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    let large: Vec<Commit> = (0..500).map(|_| put_cart(new_owner(), 1)).collect();
    limit_database_pages(&writer, pages + 4);
    writer.apply_batch(&large).unwrap_err();
    assert!(health.has_failed());
    assert_eq!(writer.probe(), Err(StoreUnavailable), "room for a little is not enough");
    limit_database_pages(&writer, pages + 40);
    assert_eq!(writer.probe(), Ok(()));
    assert!(!health.has_failed());
    writer.apply_batch(&large).unwrap_err();
    limit_database_pages(&writer, 1_000_000);
    assert_eq!(apply_for_positions(&mut writer, &large).len(), 500);
    assert!(!health.has_failed());
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
    let trigger = "CREATE TRIGGER t BEFORE INSERT ON carts WHEN NEW.guest \
                   BEGIN SELECT raise(ABORT, 'no guests'); END";
    writer.connection.execute_batch(trigger).unwrap();
    let guest = put_cart(CartOwner { id: UserId::new(), is_guest: true }, 1);
    let applied = writer
        .apply_batch(&[put_cart(new_owner(), 1), guest.clone(), put_cart(new_owner(), 1)])
        .unwrap();
    let applied_commits: Vec<bool> = applied.outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(
        (applied_commits, &applied.outcomes[1]),
        (vec![true, false, true], &Err(CommitError::Unavailable))
    );
    assert_eq!(
        applied.changes.events.iter().map(|event| event.position.offset).collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(writer.apply_batch(&[guest]).unwrap_err(), ApplyError::Unavailable);
}

#[test]
fn write_ahead_log_stays_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open_writer(&dir);
    let body = StoredReplyBody::Ready(vec![b'x'; 1 << 20].into());
    for number in 0..60 {
        let key = IdempotencyKey {
            owner: UserId::new(),
            key: "key".into(),
            fingerprint: [0; 32],
            received_at: Timestamp::default(),
        };
        let record = Some(IdempotencyRecord { key, body: body.clone(), about: None });
        let (reply, applied) = oneshot::channel();
        writer.run_job(WriteJob::Apply(QueuedBatch {
            span: tracing::Span::none(),
            commits: vec![Commit { idempotency_record: record, ..put_cart(new_owner(), 1) }].into(),
            reply,
        }));
        assert!(applied.blocking_recv().unwrap().unwrap().outcomes[0].is_ok(), "{number}");
    }
    let log = std::fs::metadata(dir.path().join("souk.db-wal")).unwrap().len();
    assert!(log < 20 << 20, "after writing 60 MiB, the log has {log} bytes");
}

#[test]
fn only_io_error_during_commit_is_outcome_unknown() {
    let failure = |code, during_commit| {
        let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        TransactionFailure { error, during_commit }.to_apply_error()
    };
    use rusqlite::ffi::{SQLITE_BUSY, SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_IOERR_WRITE};
    assert_eq!(failure(SQLITE_IOERR_FSYNC, true), ApplyError::OutcomeUnknown);
    assert_eq!(failure(SQLITE_IOERR_WRITE, true), ApplyError::OutcomeUnknown);
    assert_eq!(failure(SQLITE_FULL, true), ApplyError::Unavailable);
    assert_eq!(failure(SQLITE_BUSY, true), ApplyError::Unavailable);
    assert_eq!(failure(SQLITE_IOERR_WRITE, false), ApplyError::Unavailable);
}

#[test]
fn commits_wait_for_the_disk_after_a_failed_login() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open_writer(&dir);
    let synchronous = |writer: &SqliteWriter| {
        writer.connection.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let full = synchronous(&writer);
    let now = Timestamp::from_millis(1);
    writer.count_login_failure(&[LoginKey::from_bytes([1; 16])], now).unwrap();
    assert_eq!((full, synchronous(&writer)), (2, 2));
    limit_database_pages(&writer, 1);
    let many: Vec<_> = (0..=255).map(|n| LoginKey::from_bytes([n; 16])).collect();
    writer.count_login_failure(&many, now).unwrap_err();
    assert_eq!(synchronous(&writer), 2);
    limit_database_pages(&writer, 1_000_000);
    apply_for_positions(&mut writer, &[put_cart(new_owner(), 1)]);
}

#[test]
fn expired_login_failures_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open_writer(&dir);
    let keys: Vec<_> = (0..100).map(|n| LoginKey::from_bytes([n; 16])).collect();
    writer.count_login_failure(&keys, Timestamp::from_millis(0)).unwrap();
    let counters = |writer: &SqliteWriter| {
        let sql = "SELECT count(*) FROM login_failures";
        writer.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(counters(&writer), 100);
    for _ in 0..2 {
        let later = Timestamp::from_millis(60_000);
        writer.count_login_failure(&[LoginKey::from_bytes([200; 16])], later).unwrap();
    }
    assert_eq!(counters(&writer), 1);
}
