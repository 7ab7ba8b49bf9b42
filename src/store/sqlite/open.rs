//! Opening the folder: who may use it, and how each connection to the database is set up.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, ffi};

use super::{failure::OpenError, schema};
use crate::domain::money::Currency;

/// The database, in the store's folder.
const DATABASE_FILE: &str = "souk.db";

/// The file whose lock says that the folder is in use.
const LOCK_FILE: &str = "souk.lock";

/// How long a connection waits for another. The one writer meets no other writer; this is for what an operator does by hand.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// To this many bytes the write-ahead log is cut when a burst has made it longer.
const WAL_SIZE_LIMIT: i64 = 64 * 1024 * 1024;

/// KiB of pages that the writer keeps.
const WRITER_CACHE_KIB: i64 = 8 * 1024;

/// KiB of pages that a reader keeps.
const READER_CACHE_KIB: i64 = 2 * 1024;

/// More statements than there are, so that each is compiled once.
const STATEMENT_CACHE_CAPACITY: usize = 64;

/// A folder that is this process's alone, with an open database.
pub(super) struct OpenedDatabase {
    /// Where to connect to again.
    pub(super) database: PathBuf,
    /// The connection that writes.
    pub(super) writer: Connection,
    /// Connections that read.
    pub(super) readers: Vec<Connection>,
    /// Held for as long as the folder is in use.
    pub(super) lock: File,
}

/// Opens `dir`, made when it is not there.
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

/// A connection that writes, durably.
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
    connection.pragma_update(None, "synchronous", "FULL")?;
    // The writer does it itself, when nobody waits for an answer.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", WAL_SIZE_LIMIT)?;
    Ok(connection)
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

/// Makes the folder for its owner alone, and makes sure that it is still there after a power failure.
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

/// Opens a file, made when it is not there for its owner alone. SQLite gives its own files the same rights as the database.
fn open_private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
