//! Opens a store of each kind for a test.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use mongodb::bson::doc;
use souk::{
    domain::{
        clock::{Clock, SystemClock},
        ids::EventId,
    },
    store::{
        CommittedChanges, Store,
        mongo::{MongoOptions, MongoStore},
        sqlite::{OpenError, SqliteOptions, SqliteStore},
        writer::CommitObserver,
    },
};
use tempfile::TempDir;

use crate::{
    fixtures::{LOW_STOCK, euro},
    shared_replica_set,
};

pub(crate) struct NoopObserver;

impl CommitObserver for NoopObserver {
    fn on_committed(&self, _: &CommittedChanges) {}
}

/// A location for one store, initially empty, which is deleted with the harness.
#[async_trait]
pub(crate) trait Harness: Send + Sync {
    /// Opens the store as the last one left it. The last one must be closed or dropped.
    async fn open(&self) -> Arc<dyn Store> {
        self.open_with_clock(Arc::new(SystemClock)).await
    }

    /// Opens the store with a clock of the test's own.
    async fn open_with_clock(&self, clock: Arc<dyn Clock>) -> Arc<dyn Store>;

    /// Makes every write to a table fail, or succeed again.
    async fn break_table(&self, table: &str, broken: bool);

    /// Opens the store for a shop with a broker, which keeps events until they are published.
    async fn open_with_broker(&self) -> Arc<dyn Store>;
}

/// Opens the embedded store with the system's clock.
pub(crate) fn open_sqlite(options: SqliteOptions) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(options, Arc::new(SystemClock))
}

/// A directory for the embedded store.
pub(crate) struct Sqlite {
    pub(crate) dir: TempDir,
}

impl Sqlite {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn options(&self) -> SqliteOptions {
        SqliteOptions {
            dir: self.dir.path().join("data"),
            currency: euro(),
            low_stock: LOW_STOCK,
            keep_unpublished: false,
            check_at_start: true,
        }
    }
}

#[async_trait]
impl Harness for Sqlite {
    async fn open_with_clock(&self, clock: Arc<dyn Clock>) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(self.options(), clock).unwrap())
    }

    async fn break_table(&self, table: &str, broken: bool) {
        let database = rusqlite::Connection::open(self.options().dir.join("souk.db")).unwrap();
        for event in ["INSERT", "UPDATE"] {
            let name = format!("broken_{table}_{event}");
            database
                .execute_batch(&match broken {
                    true => format!(
                        "CREATE TRIGGER {name} BEFORE {event} ON {table} \
                         BEGIN SELECT raise(ABORT, 'broken'); END"
                    ),
                    false => format!("DROP TRIGGER {name}"),
                })
                .unwrap();
        }
    }

    async fn open_with_broker(&self) -> Arc<dyn Store> {
        let options = SqliteOptions { keep_unpublished: true, ..self.options() };
        Arc::new(open_sqlite(options).unwrap())
    }
}

/// A database on the replica set in `SOUK_TEST_MONGO_URI`.
pub(crate) struct Mongo {
    client: mongodb::Client,
    uri: String,
    database: String,
}

impl Mongo {
    /// `None` without a replica set.
    pub(crate) async fn new() -> Option<Self> {
        let uri = shared_replica_set::uri().await?;
        let client = mongodb::Client::with_uri_str(&uri).await.unwrap();
        Some(Self {
            client,
            uri,
            database: format!("souk_test_{}", EventId::new().as_uuid().simple()),
        })
    }

    pub(crate) fn options(&self) -> MongoOptions {
        MongoOptions {
            uri: self.uri.clone().into(),
            database: self.database.clone(),
            currency: euro(),
            low_stock: LOW_STOCK,
            keep_unpublished: false,
            timeout: Duration::from_secs(5),
        }
    }

    pub(crate) fn raw_database(&self) -> mongodb::Database {
        self.client.database(&self.database)
    }

    pub(crate) async fn drop_database(self) {
        self.raw_database().drop().await.unwrap();
    }
}

#[async_trait]
impl Harness for Mongo {
    async fn open_with_clock(&self, clock: Arc<dyn Clock>) -> Arc<dyn Store> {
        Arc::new(MongoStore::connect(self.options(), clock).await.unwrap())
    }

    async fn break_table(&self, table: &str, broken: bool) {
        let validator = if broken {
            doc! { "broken": { "$exists": true } }
        } else {
            doc! {}
        };
        self.raw_database()
            .run_command(doc! { "collMod": table, "validator": validator })
            .await
            .unwrap();
    }

    async fn open_with_broker(&self) -> Arc<dyn Store> {
        let options = MongoOptions { keep_unpublished: true, ..self.options() };
        Arc::new(MongoStore::connect(options, Arc::new(SystemClock)).await.unwrap())
    }
}
