//! How a test gets a store of each kind.

use std::sync::Arc;

use async_trait::async_trait;
use souk::store::{
    Store,
    sqlite::{SqliteOptions, SqliteStore},
};
use tempfile::TempDir;

use crate::fixtures::{LOW_STOCK, euro};

/// A place for one store, empty at first, which is thrown away with the harness.
#[async_trait]
pub(crate) trait Harness: Send + Sync {
    /// Opens the store as the last one left it. That one has to be closed or dropped.
    async fn open(&self) -> Arc<dyn Store>;
}

/// A folder for the embedded store.
pub(crate) struct Sqlite {
    pub(crate) dir: TempDir,
}

impl Sqlite {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn options(&self) -> SqliteOptions {
        SqliteOptions { dir: self.dir.path().join("data"), currency: euro(), low_stock: LOW_STOCK }
    }
}

#[async_trait]
impl Harness for Sqlite {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(self.options()).unwrap())
    }
}
