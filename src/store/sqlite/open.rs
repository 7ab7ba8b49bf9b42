//! Opens and locks the folder, and sets up each connection to the database.

use std::{
    fs::{DirBuilder, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig, ffi};

use super::{
    integrity::{IntegrityCheck, find_damage},
    open_error::OpenError,
    schema,
};
use crate::{domain::money::Currency, private_file::private_file_options};

/// The database, in the store's folder.
pub const DATABASE_FILE: &str = "souk.db";

/// The database of a new shop until it is complete. A start that is interrupted leaves it behind.
pub(super) const NEW_DATABASE_FILE: &str = "souk.db.new";

/// What SQLite appends to the name of the write-ahead log.
pub(super) const WAL_SUFFIX: &str = "-wal";

/// The file that is locked while a process uses the folder.
const LOCK_FILE: &str = "souk.lock";

/// How long a connection waits for a lock. Souk has one writer; this is for an operator who opens
/// the database by hand.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// SQLite truncates the write-ahead log to this many bytes after a burst.
const WAL_SIZE_LIMIT: i64 = 64 * 1024 * 1024;

/// The writer's page cache, in KiB.
pub(super) const WRITER_CACHE_KIB: i64 = 8 * 1024;

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

/// Opens `dir`, and creates it when missing. With `check`, refuses a database with damaged pages.
pub(super) fn open_database(
    dir: &Path,
    currency: Currency,
    readers: usize,
    check: bool,
) -> Result<OpenedDatabase, OpenError> {
    if dir.is_file() {
        return Err(OpenError::NotAFolder { path: dir.to_owned() });
    }
    create_private_folder(dir).map_err(OpenError::folder_unusable(dir))?;
    let lock = lock_folder(dir)?;
    let database = dir.join(DATABASE_FILE);
    let mut writer = match std::fs::metadata(&database) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_database(dir, &database, currency)?;
            open_write_connection(&database).map_err(OpenError::database_unusable(dir))?
        }
        Err(error) => return Err(OpenError::folder_unusable(dir)(error)),
        // Its creation is atomic, so something else has emptied it.
        Ok(file) if file.len() == 0 => return Err(OpenError::not_souk(database, "it is empty")),
        Ok(_) => open_existing(dir, &database, check)?,
    };
    schema::prepare_schema(&mut writer, currency, dir)?;
    let readers = (0..readers)
        .map(|_| open_read_connection(&database))
        .collect::<Result<_, _>>()
        .map_err(OpenError::database_unusable(dir))?;
    Ok(OpenedDatabase { database, writer, readers, lock })
}

/// Creates a database under another name and renames it when it is complete and on disk.
fn create_database(dir: &Path, database: &Path, currency: Currency) -> Result<(), OpenError> {
    // SQLite would apply it to the new database, which it does not belong to.
    if with_suffix(database, WAL_SUFFIX).exists() {
        let reason = "it is missing, while the log with its newest changes, souk.db-wal, is there";
        return Err(OpenError::not_souk(database.to_owned(), reason));
    }
    let new = dir.join(NEW_DATABASE_FILE);
    let prepare_file = || -> io::Result<()> {
        for suffix in ["", WAL_SUFFIX, "-shm"] {
            match std::fs::remove_file(with_suffix(&new, suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        open_private_file(&new).map(drop)
    };
    prepare_file().map_err(OpenError::folder_unusable(dir))?;
    let mut connection = open_write_connection(&new).map_err(OpenError::database_unusable(dir))?;
    schema::prepare_schema(&mut connection, currency, dir)?;
    // The last connection moves the write-ahead log into the database when it closes.
    connection.close().map_err(|(_, error)| OpenError::database_unusable(dir)(error))?;
    let publish = || {
        File::open(&new)?.sync_all()?;
        std::fs::rename(&new, database)?;
        File::open(dir)?.sync_all()
    };
    publish().map_err(OpenError::folder_unusable(dir))
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens a database for writing after it has been identified as one of Souk, so that another
/// program's stays as it is.
fn open_existing(dir: &Path, database: &Path, check: bool) -> Result<Connection, OpenError> {
    let unusable = |error| OpenError::database_unusable(dir)(error);
    let access = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let connection = open_connection(database, access, WRITER_CACHE_KIB).map_err(unusable)?;
    if !schema::is_souk_database(&connection).map_err(unusable)? {
        let reason = "another program wrote it";
        return Err(OpenError::not_souk(database.to_owned(), reason));
    }
    if check {
        let damage = find_damage(&connection, IntegrityCheck::Quick);
        if let Some(problem) = damage.into_iter().next() {
            return Err(OpenError::Damaged { database: database.to_owned(), problem });
        }
    }
    configure_writer(&connection).map_err(unusable)?;
    Ok(connection)
}

/// A connection for writing. Its commits are durable.
pub(super) fn open_write_connection(database: &Path) -> rusqlite::Result<Connection> {
    let access = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let connection = open_connection(database, access, WRITER_CACHE_KIB)?;
    configure_writer(&connection)?;
    Ok(connection)
}

fn configure_writer(connection: &Connection) -> rusqlite::Result<()> {
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
    set_durable_commits(connection)?;
    // The writer checkpoints by itself, after it has replied.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", WAL_SIZE_LIMIT)
}

/// Makes a commit wait until it is on the disk.
pub(super) fn set_durable_commits(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")
}

pub(super) fn open_read_connection(database: &Path) -> rusqlite::Result<Connection> {
    open_connection(database, OpenFlags::SQLITE_OPEN_READ_ONLY, READER_CACHE_KIB)
}

pub(super) fn open_connection(
    database: &Path,
    access: OpenFlags,
    cache_kib: i64,
) -> rusqlite::Result<Connection> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE_CAPACITY);
    // Plans do not depend on bound values. Otherwise each new value for a column of a partial index
    // prepares its statement again, which takes longer than to run it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    Ok(connection)
}

/// Creates the folder with access for its owner only, and syncs its parent, so that the folder
/// survives a power failure.
pub(super) fn create_private_folder(dir: &Path) -> io::Result<()> {
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

pub(super) fn lock_folder(dir: &Path) -> Result<File, OpenError> {
    let file = open_private_file(&dir.join(LOCK_FILE)).map_err(OpenError::folder_unusable(dir))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(OpenError::folder_unusable(dir)(error)),
    }
}

/// Opens a file, and creates it when missing with access for its owner only. SQLite gives its other
/// files the same permissions as the database.
pub(super) fn open_private_file(path: &Path) -> io::Result<File> {
    private_file_options().read(true).truncate(false).open(path)
}
