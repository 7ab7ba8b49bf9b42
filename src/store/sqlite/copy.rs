//! Copies a database into another folder: for a backup while a shop uses it, and to restore one.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};

use super::{
    integrity::{IntegrityCheck, find_damage},
    open::{
        DATABASE_FILE, NEW_DATABASE_FILE, WAL_SUFFIX, WRITER_CACHE_KIB, create_private_folder,
        lock_folder, open_connection, open_private_file, open_read_connection, with_suffix,
    },
    open_error::OpenError,
    schema,
};

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseCopy {
    /// The version of its schema.
    pub schema_version: i64,
    /// The size of the copy.
    pub bytes: u64,
}

/// A folder without a shop, in which no shop can start meanwhile.
pub struct EmptyFolder {
    dir: PathBuf,
    /// Locked until it is dropped.
    _lock: File,
}

impl EmptyFolder {
    /// Locks a folder, and creates it when missing.
    ///
    /// # Errors
    /// There is a shop in it, or it cannot be used.
    pub fn lock(dir: &Path) -> Result<Self, OpenError> {
        if dir.is_file() {
            return Err(OpenError::NotAFolder { path: dir.to_owned() });
        }
        create_private_folder(dir).map_err(OpenError::folder_unusable(dir))?;
        let lock = lock_folder(dir)?;
        let database = dir.join(DATABASE_FILE);
        if database.exists() || with_suffix(&database, WAL_SUFFIX).exists() {
            return Err(OpenError::Occupied { dir: dir.to_owned() });
        }
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

/// Copies the database of the shop in `from` into the folder `into`, which has none.
///
/// The shop may be running. The copy has everything that was acknowledged before, and of each later
/// change all or nothing. It is checked, and appears under its name when it is complete and on the
/// disk.
///
/// # Errors
/// There is no database, it is not one of Souk's or damaged, or a file cannot be written.
pub fn copy_database(from: &Path, into: &Path) -> Result<DatabaseCopy, OpenError> {
    let database = from.join(DATABASE_FILE);
    if !database.is_file() {
        return Err(OpenError::NoShop { dir: from.to_owned() });
    }
    let new = into.join(NEW_DATABASE_FILE);
    let copied = copy_and_check(from, &database, into, &new);
    if copied.is_err() {
        // The error that led here says more.
        let _ = remove_database(&new);
        return copied;
    }
    let publish = || {
        File::open(&new)?.sync_all()?;
        fs::rename(&new, into.join(DATABASE_FILE))?;
        File::open(into)?.sync_all()
    };
    publish().map_err(OpenError::folder_unusable(into))?;
    copied
}

fn copy_and_check(
    from: &Path,
    database: &Path,
    into: &Path,
    new: &Path,
) -> Result<DatabaseCopy, OpenError> {
    let source = open_read_connection(database).map_err(OpenError::database_unusable(from))?;
    if !schema::is_souk_database(&source).map_err(OpenError::database_unusable(from))? {
        return Err(OpenError::not_souk(database.to_owned(), "another program wrote it"));
    }
    remove_database(new).map_err(OpenError::folder_unusable(into))?;
    open_private_file(new).map_err(OpenError::folder_unusable(into))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let mut copy = open_connection(new, flags, WRITER_CACHE_KIB)
        .map_err(OpenError::database_unusable(into))?;
    copy_pages(&source, &mut copy).map_err(OpenError::database_unusable(from))?;
    // A single file, without a log beside it.
    copy.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))
        .map_err(OpenError::database_unusable(into))?;
    if let Some(problem) = find_damage(&copy, IntegrityCheck::Full).into_iter().next() {
        return Err(OpenError::Damaged { database: database.to_owned(), problem });
    }
    let schema_version = schema::supported_version(&copy, from)?;
    copy.close().map_err(|(_, error)| OpenError::database_unusable(into)(error))?;
    let bytes = fs::metadata(new).map_err(OpenError::folder_unusable(into))?.len();
    Ok(DatabaseCopy { schema_version, bytes })
}

/// Copies all pages from one snapshot. Writers go on meanwhile, since their changes go to the log.
fn copy_pages(source: &Connection, copy: &mut Connection) -> rusqlite::Result<()> {
    let backup = Backup::new(source, copy)?;
    match backup.step(-1)? {
        StepResult::Done => Ok(()),
        // A database in another mode than a shop's, which somebody else is writing.
        _ => Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            Some("another program is writing it; try again".to_owned()),
        )),
    }
}

/// Removes a database and what SQLite may have left beside it.
fn remove_database(database: &Path) -> io::Result<()> {
    for suffix in ["", WAL_SUFFIX, "-shm", "-journal"] {
        match fs::remove_file(with_suffix(database, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
