//! Opens and locks the folder, and sets up each connection to the database.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, ffi};

use super::{open_error::OpenError, schema};
use crate::domain::money::Currency;

/// The database, in the store's folder.
const DATABASE_FILE: &str = "souk.db";

/// The file that is locked while a process uses the folder.
const LOCK_FILE: &str = "souk.lock";

/// How long a connection waits for a lock. Souk has one writer; this is for an operator who opens
/// the database by hand.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// SQLite truncates the write-ahead log to this many bytes after a burst.
const WAL_SIZE_LIMIT: i64 = 64 * 1024 * 1024;

/// The writer's page cache, in KiB.
const WRITER_CACHE_KIB: i64 = 8 * 1024;

/// A reader's page cache, in KiB.
const READER_CACHE_KIB: i64 = 2 * 1024;

/// More than the number of statements, so that each is compiled once.
const STATEMENT_CACHE_CAPACITY: usize = 64;

/// A locked folder with an open database.
pub(super) struct OpenedDatabase {
    /// The database file, for reconnecting.
    pub(super) database: PathBuf,
    /// The connection that writes.
    pub(super) writer: Connection,
    /// Connections that read.
    pub(super) readers: Vec<Connection>,
    /// Locked while this process uses the folder.
    pub(super) lock: File,
}

/// Opens `dir`, and creates it when missing.
pub(super) fn open_database(
    dir: &Path,
    currency: Currency,
    readers: usize,
) -> Result<OpenedDatabase, OpenError> {
    create_private_folder(dir).map_err(OpenError::folder_unusable(dir))?;
    let lock = lock_folder(dir)?;
    let database = dir.join(DATABASE_FILE);
    open_private_file(&database).map_err(OpenError::folder_unusable(dir))?;
    let mut writer = open_write_connection(&database).map_err(OpenError::database_unusable(dir))?;
    schema::prepare_schema(&mut writer, currency, dir)?;
    let readers = (0..readers)
        .map(|_| open_read_connection(&database))
        .collect::<Result<_, _>>()
        .map_err(OpenError::database_unusable(dir))?;
    Ok(OpenedDatabase { database, writer, readers, lock })
}

/// A connection for writing. Its commits are durable.
pub(super) fn open_write_connection(database: &Path) -> rusqlite::Result<Connection> {
    let connection =
        open_connection(database, OpenFlags::SQLITE_OPEN_READ_WRITE, WRITER_CACHE_KIB)?;
    let mode = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    if mode != "wal" {
        let reason =
            "this file system cannot share the memory that a write-ahead log needs".to_owned();
        return Err(rusqlite::Error::SqliteFailure(
            ffi::Error::new(ffi::SQLITE_CANTOPEN),
            Some(reason),
        ));
    }
    set_durable_commits(&connection)?;
    // The writer checkpoints by itself, after it has replied.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", WAL_SIZE_LIMIT)?;
    Ok(connection)
}

/// Makes a commit wait until it is on the disk.
pub(super) fn set_durable_commits(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")
}

fn open_read_connection(database: &Path) -> rusqlite::Result<Connection> {
    open_connection(database, OpenFlags::SQLITE_OPEN_READ_ONLY, READER_CACHE_KIB)
}

fn open_connection(
    database: &Path,
    access: OpenFlags,
    cache_kib: i64,
) -> rusqlite::Result<Connection> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE_CAPACITY);
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    Ok(connection)
}

/// Creates the folder with access for its owner only, and syncs its parent, so that the folder
/// survives a power failure.
fn create_private_folder(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)?;
    match std::path::absolute(dir)?.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn lock_folder(dir: &Path) -> Result<File, OpenError> {
    let file = open_private_file(&dir.join(LOCK_FILE)).map_err(OpenError::folder_unusable(dir))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(OpenError::folder_unusable(dir)(error)),
    }
}

/// Opens a file, and creates it when missing with access for its owner only. SQLite gives its other
/// files the same permissions as the database.
fn open_private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
