//! What can be wrong with the folder that a store is to be opened in.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::domain::money::Currency;

/// Why a folder could not be opened. Each says in one line what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or a file in it cannot be made, read or locked.
    #[error("cannot use {} as the store's folder: {source}; set store.path to a folder that souk may write to", dir.display())]
    FolderUnusable {
        /// The folder.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "another souk is using {}; stop it first (or ask it: souk import has --server, and the audit is at POST /api/admin/audit)",
        dir.display()
    )]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// Its prices are in another currency.
    #[error(
        "the prices in {} are in {found}, but shop.currency is {expected:?}; set it to {found}, or set store.path to another folder",
        dir.display()
    )]
    CurrencyMismatch {
        /// The folder.
        dir: PathBuf,
        /// The currency it holds.
        found: String,
        /// The currency asked for.
        expected: Currency,
    },
    /// A newer souk has written it.
    #[error(
        "the data in {} has schema version {found}, and this souk supports versions up to {supported}; start the souk that wrote it, or a newer one",
        dir.display()
    )]
    SchemaTooNew {
        /// The folder.
        dir: PathBuf,
        /// The version found.
        found: i64,
        /// The newest version known.
        supported: usize,
    },
    /// The database cannot be read or written.
    #[error("cannot open the database in {}: {reason}; restore the folder from a backup, or set store.path to another one", dir.display())]
    DatabaseUnusable {
        /// The folder.
        dir: PathBuf,
        /// What the database says.
        reason: String,
    },
}

impl OpenError {
    /// Makes a database's error one of opening `dir`.
    pub(super) fn database_unusable(dir: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        |error| Self::DatabaseUnusable { dir: dir.to_owned(), reason: error.to_string() }
    }

    /// Makes a file's error one of opening `dir`.
    pub(super) fn folder_unusable(dir: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::FolderUnusable { dir: dir.to_owned(), source }
    }
}
