//! Errors of opening a store.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::domain::money::Currency;

/// Why the store could not be opened. Each message says in one line what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or a file in it cannot be created, read or locked.
    // The message has the system's error, so it is not the source as well.
    #[error(
        "cannot use {} as the store's folder: {reason}; \
         set store.path to a folder that souk may write to",
        dir.display()
    )]
    FolderUnusable {
        /// The folder.
        dir: PathBuf,
        /// The system's error.
        reason: io::Error,
    },
    /// Something else than a folder has this path.
    #[error("store.path is {}, which is a file; set it to a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The folder has no database.
    #[error("there is no shop in {}; set store.path to the folder of the shop", dir.display())]
    NoShop {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder has a database already.
    #[error(
        "there is a shop in {} already; move it away, or set store.path to another folder",
        dir.display()
    )]
    Occupied {
        /// The folder.
        dir: PathBuf,
    },
    /// Another process uses the folder.
    #[error(
        "another souk is using {}; stop it first \
         (or ask it: souk import, audit and admin have --server, and souk backup needs no stop)",
        dir.display()
    )]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// The stored prices are in another currency.
    #[error(
        "the prices in {} are in {found}, but shop.currency is {expected:?}; \
         set it to {found}, or set store.path to another folder",
        dir.display()
    )]
    CurrencyMismatch {
        /// The folder.
        dir: PathBuf,
        /// The currency of the stored prices.
        found: String,
        /// The configured currency.
        expected: Currency,
    },
    /// A newer souk wrote the data.
    #[error(
        "the data in {} has schema version {found}, \
         and this souk supports versions up to {supported}; \
         start the souk that wrote it, or a newer one",
        dir.display()
    )]
    SchemaTooNew {
        /// The folder.
        dir: PathBuf,
        /// The stored schema version.
        found: i64,
        /// The newest supported version.
        supported: usize,
    },
    /// The database file is not one of Souk's.
    #[error(
        "{} is not a database of souk: {reason}; \
         restore the folder from a backup, or move the file away to start with an empty shop",
        database.display()
    )]
    NotSouk {
        /// The file.
        database: PathBuf,
        /// What it is instead.
        reason: &'static str,
    },
    /// Pages of the database are damaged.
    #[error(
        "{} is damaged ({problem}); restore the folder from a backup. souk audit --deep lists all \
         damage, and with store.check_at_start = \"off\" the shop starts as far as it can",
        database.display()
    )]
    Damaged {
        /// The file.
        database: PathBuf,
        /// The first problem found.
        problem: String,
    },
    /// The database cannot be read or written.
    #[error(
        "cannot open the database in {}: {reason}; \
         restore the folder from a backup, or set store.path to another one",
        dir.display()
    )]
    DatabaseUnusable {
        /// The folder.
        dir: PathBuf,
        /// SQLite's error.
        reason: String,
    },
}

impl OpenError {
    /// The database file is something else.
    pub(super) const fn not_souk(database: PathBuf, reason: &'static str) -> Self {
        Self::NotSouk { database, reason }
    }

    /// Maps an SQLite error to an error of opening `dir`.
    pub(super) fn database_unusable(dir: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        |error| Self::DatabaseUnusable { dir: dir.to_owned(), reason: error.to_string() }
    }

    /// Maps a file error to an error of opening `dir`.
    pub(super) fn folder_unusable(dir: &Path) -> impl FnOnce(io::Error) -> Self {
        |reason| Self::FolderUnusable { dir: dir.to_owned(), reason }
    }
}
