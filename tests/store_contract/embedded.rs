//! Guarantees of the embedded store only: one process, one currency, a private directory.

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use rusqlite::Connection;
use souk::{
    domain::{clock::Timestamp, ids::UserId, inventory::StockChange, order::Order},
    store::{
        Commit, CommitError, Store,
        sqlite::{OpenError, SqliteOptions},
        writer::CommitWriter,
    },
};
use tokio::runtime::Handle;

use crate::{
    fixtures::{
        apply, apply_one, cart, cart_commit, commit, customer, key, now, order, put_order, stock,
        stocked_product, with_response,
    },
    harness::{Harness, NoopObserver, Sqlite, open_sqlite},
    inbox::inbox_commit,
    outbox::write_events,
};

fn open_error(options: SqliteOptions) -> (OpenError, String) {
    let error = open_sqlite(options).err().unwrap();
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    (error, line)
}

fn raw_database(harness: &Sqlite) -> Connection {
    Connection::open(harness.options().dir.join("souk.db")).unwrap()
}

fn row_count(harness: &Sqlite, table: &str) -> u64 {
    raw_database(harness)
        .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
        .unwrap()
}

#[tokio::test]
async fn second_store_is_refused_while_the_first_is_open() {
    let harness = Sqlite::new();
    let first = open_sqlite(harness.options()).unwrap();
    let (error, line) = open_error(harness.options());
    assert!(matches!(error, OpenError::InUse { .. }));
    let expected =
        format!("another souk is using {}; stop it first", harness.options().dir.display());
    assert!(line.starts_with(&expected), "{line}");
    first.close().await;
    let second = open_sqlite(harness.options()).unwrap();
    drop(second);
    drop(open_sqlite(harness.options()).unwrap());
    drop(first);
}

#[test]
fn other_currency_is_rejected() {
    let harness = Sqlite::new();
    drop(open_sqlite(harness.options()).unwrap());
    let (error, line) =
        open_error(SqliteOptions { currency: "USD".parse().unwrap(), ..harness.options() });
    assert!(matches!(error, OpenError::CurrencyMismatch { .. }));
    assert!(line.contains("are in EUR, but shop.currency is USD"), "{line}");
    drop(open_sqlite(harness.options()).unwrap());
}

#[tokio::test]
async fn unreadable_order_does_not_hide_other_due_orders() {
    let harness = Sqlite::new();
    let store = open_sqlite(harness.options()).unwrap();
    let until =
        |millis| Order { expires_at: Some(Timestamp::from_millis(millis)), ..order(UserId::new()) };
    let (broken, first, second) = (until(1), until(2), until(3));
    apply(&store, [&broken, &first, &second].map(|order| commit([put_order(order)]))).await;
    raw_database(&harness)
        .execute("UPDATE orders SET lines = '[' WHERE id = ?1", [broken.id.to_string()])
        .unwrap();
    assert_eq!(store.list_overdue_orders(now(), None, 1).await, Ok(vec![first.clone()]));
    assert_eq!(store.list_overdue_orders(now(), None, 10).await, Ok(vec![first, second]));
}

#[test]
fn data_of_a_newer_version_is_rejected() {
    let harness = Sqlite::new();
    drop(open_sqlite(harness.options()).unwrap());
    let known: i64 =
        raw_database(&harness).query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    raw_database(&harness).pragma_update(None, "user_version", known + 1).unwrap();
    let (error, line) = open_error(harness.options());
    assert!(matches!(error, OpenError::SchemaTooNew { .. }), "{line}");
    assert!(line.contains(&format!("schema version {}", known + 1)), "{line}");
}

#[test]
fn invalid_database_or_directory_is_rejected() {
    let harness = Sqlite::new();
    let dir = harness.options().dir;
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("souk.db"), "not a database, but long enough to be read as one".repeat(100))
        .unwrap();
    let (error, line) = open_error(harness.options());
    assert!(matches!(error, OpenError::DatabaseUnusable { .. }), "{line}");
    let file = harness.dir.path().join("file");
    fs::write(&file, "").unwrap();
    let (error, line) = open_error(SqliteOptions { dir: file.clone(), ..harness.options() });
    assert!(matches!(error, OpenError::NotAFolder { .. }), "{line}");
    let (error, line) = open_error(SqliteOptions { dir: file.join("data"), ..harness.options() });
    assert!(matches!(error, OpenError::FolderUnusable { .. }), "{line}");
}

#[test]
fn file_that_is_no_souk_database_is_rejected_and_kept() {
    let harness = Sqlite::new();
    let dir = harness.options().dir;
    fs::create_dir(&dir).unwrap();
    let file = dir.join("souk.db");
    let open = |reason: &str| {
        let before = fs::read(&file).ok();
        let (error, line) = open_error(harness.options());
        assert!(matches!(error, OpenError::NotSouk { .. }), "{line}");
        assert!(line.contains("souk.db is not a database of souk") && line.contains(reason));
        assert_eq!(fs::read(&file).ok(), before, "the file stays as it is");
    };
    fs::write(&file, "").unwrap();
    open("it is empty");
    fs::remove_file(&file).unwrap();
    fs::write(dir.join("souk.db-wal"), "changes").unwrap();
    open("it is missing");
    fs::remove_file(dir.join("souk.db-wal")).unwrap();
    for other in [
        "CREATE TABLE notes (text TEXT); PRAGMA user_version = 1",
        "CREATE TABLE meta (name TEXT); PRAGMA application_id = 7; PRAGMA user_version = 1",
        "CREATE TABLE meta (name TEXT)",
    ] {
        raw_database(&harness).execute_batch(other).unwrap();
        open("another program wrote it");
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn database_without_an_application_id_is_adopted() {
    let harness = Sqlite::new();
    drop(open_sqlite(harness.options()).unwrap());
    let id = || -> i64 {
        raw_database(&harness).query_row("PRAGMA application_id", [], |row| row.get(0)).unwrap()
    };
    let written = id();
    assert_ne!(written, 0);
    raw_database(&harness).pragma_update(None, "application_id", 0).unwrap();
    drop(open_sqlite(harness.options()).unwrap());
    assert_eq!(id(), written);
}

#[test]
fn interrupted_creation_is_repeated() {
    let harness = Sqlite::new();
    let dir = harness.options().dir;
    fs::create_dir(&dir).unwrap();
    for (file, contents) in [("souk.db.new", "half"), ("souk.db.new-wal", "half")] {
        fs::write(dir.join(file), contents).unwrap();
    }
    drop(open_sqlite(harness.options()).unwrap());
    assert!(!dir.join("souk.db.new").exists() && !dir.join("souk.db.new-wal").exists());
    assert_eq!(row_count(&harness, "products"), 0);
}

/// Overwrites the first page of the file that belongs to a table.
fn damage_table(harness: &Sqlite, table: &str) {
    let query = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let (page, size): (u64, u64) = {
        let database = raw_database(harness);
        (
            database.query_row(query, [table], |row| row.get(0)).unwrap(),
            database.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap(),
        )
    };
    let file =
        fs::OpenOptions::new().write(true).open(harness.options().dir.join("souk.db")).unwrap();
    file.write_all_at(&[0x5a; 512], (page - 1) * size).unwrap();
}

#[tokio::test]
async fn damaged_page_is_found_at_the_start_and_by_a_deep_check() {
    let harness = Sqlite::new();
    let store = open_sqlite(harness.options()).unwrap();
    apply_one(&store, cart_commit(&cart(customer(), 1))).await.unwrap();
    assert_eq!(store.find_damage().await, Ok(Vec::new()));
    store.close().await;
    damage_table(&harness, "carts");
    let (error, line) = open_error(harness.options());
    assert!(matches!(error, OpenError::Damaged { .. }), "{line}");
    assert!(line.contains("souk.db is damaged (") && line.contains("souk audit --deep"), "{line}");
    let unchecked = SqliteOptions { check_at_start: false, ..harness.options() };
    let store = open_sqlite(unchecked).unwrap();
    assert_ne!(store.find_damage().await.unwrap(), Vec::<String>::new());
    store.close().await;
}

#[tokio::test]
async fn index_that_disagrees_with_its_table_is_found_by_a_deep_check() {
    let harness = Sqlite::new();
    let store = open_sqlite(harness.options()).unwrap();
    apply_one(&store, commit([put_order(&order(UserId::new()))])).await.unwrap();
    store.close().await;
    let database = raw_database(&harness);
    // The index now claims to be sorted by the other column.
    database
        .execute_batch(
            "PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = replace(sql, '(user_id, id)', '(id, user_id)')
                 WHERE name = 'orders_of_user';",
        )
        .unwrap();
    assert!(database.changes() > 0);
    drop(database);
    let store = open_sqlite(harness.options()).unwrap();
    assert_ne!(store.find_damage().await.unwrap(), Vec::<String>::new());
    store.close().await;
}

#[tokio::test]
async fn directory_is_private_and_tidy_after_close() {
    let harness = Sqlite::new();
    let dir = harness.options().dir.join("made/on/the/way");
    let store = open_sqlite(SqliteOptions { dir: dir.clone(), ..harness.options() }).unwrap();
    apply_one(&store, cart_commit(&cart(customer(), 1))).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in ["souk.db", "souk.db-wal", "souk.lock"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
    store.close().await;
    let mut left: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["souk.db", "souk.lock"]);
}

#[tokio::test]
async fn changes_reach_the_files_before_acknowledgment() {
    let harness = Sqlite::new();
    let store = open_sqlite(harness.options()).unwrap();
    let cart = cart(customer(), 1);
    apply_one(&store, cart_commit(&cart)).await.unwrap();
    // A copy of the current files is the state after a crash.
    let copy = Sqlite::new();
    fs::create_dir(copy.options().dir).unwrap();
    for file in ["souk.db", "souk.db-wal"] {
        fs::copy(harness.options().dir.join(file), copy.options().dir.join(file)).unwrap();
    }
    let after_a_crash = open_sqlite(copy.options()).unwrap();
    assert_eq!(after_a_crash.find_cart(cart.owner.id).await, Ok(Some(cart)));
    store.close().await;
}

#[tokio::test]
async fn old_events_are_deleted() {
    let harness = Sqlite::new();
    let store = open_sqlite(harness.options()).unwrap();
    write_events(&store, 23_000).await;
    store.close().await;
    let kept = row_count(&harness, "outbox");
    assert!((20_000..21_250).contains(&kept), "{kept}");
}

#[tokio::test]
async fn old_keys_are_deleted() {
    let harness = Sqlite::new();
    let store = open_sqlite(harness.options()).unwrap();
    let owner = UserId::new();
    let yesterday = now().saturating_sub(Duration::from_secs(25 * 60 * 60));
    let keyed = |at, number: u32| {
        let key = key(owner, &number.to_string(), 1);
        Commit {
            decided_at: at,
            ..with_response(cart_commit(&cart(customer(), 1)), &key, "answer")
        }
    };
    for round in 0..4 {
        apply(&store, (0..300).map(|n| keyed(yesterday, round * 300 + n))).await;
    }
    for round in 4..8 {
        apply(&store, (0..300).map(|n| keyed(now(), round * 300 + n))).await;
    }
    store.close().await;
    assert_eq!(row_count(&harness, "idempotency_keys"), 1200, "only today's keys remain");
}

#[tokio::test]
async fn old_messages_are_deleted() {
    let harness = Sqlite::new();
    let store = open_sqlite(harness.options()).unwrap();
    let id = stocked_product(&store, 0).await;
    let month_ago = now().saturating_sub(Duration::from_secs(31 * 24 * 60 * 60));
    let message = |at, number: u32| Commit {
        decided_at: at,
        ..inbox_commit(&number.to_string(), [stock(id, StockChange::Adjust(1))])
    };
    for round in 0..4 {
        apply(&store, (0..300).map(|n| message(month_ago, round * 300 + n))).await;
    }
    for round in 4..8 {
        apply(&store, (0..300).map(|n| message(now(), round * 300 + n))).await;
    }
    store.close().await;
    assert_eq!(row_count(&harness, "inbox"), 1200, "only this month's messages remain");
}

/// Single-threaded, so that the writer takes nothing from the queue while it fills.
#[tokio::test]
async fn full_queue_rejects_commits_immediately() {
    let harness = Sqlite::new();
    let store = harness.open().await;
    let (writer, _) =
        CommitWriter::start(&Handle::current(), Arc::clone(&store), Arc::new(NoopObserver));
    let carts: Vec<_> = (0..8192 + 10).map(|_| cart(customer(), 1)).collect();
    let outcomes = join_all(carts.iter().map(|cart| writer.commit(cart_commit(cart)))).await;
    let (waited, refused) = outcomes.split_at(8192);
    assert!(waited.iter().all(Result::is_ok));
    assert!(refused.iter().all(|outcome| *outcome == Err(CommitError::Overloaded)), "{refused:?}");
    assert_eq!(store.outbox_heads().await.unwrap().to_string(), "0.8192");
    assert_eq!(store.find_cart(carts.last().unwrap().owner.id).await, Ok(None));
}
