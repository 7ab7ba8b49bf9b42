//! Connects to the database: waits for a server that is not up yet, and rejects one that souk
//! cannot use.

use std::{future::IntoFuture, time::Duration};

use mongodb::{
    Client,
    bson::{Document, doc},
    error::{Error, ErrorKind},
    options::{
        Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
    },
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    migration::{MigrationOutcome, migrate},
    schema::{META, SCHEMA_VERSION, SHOP, create_collections_and_indexes},
    transaction_error::{self, ACCESS_DENIED_CODES, ErrorClass, NO_PRIMARY, TransactionError},
};
use crate::domain::money::Currency;

/// The least and the most connections for reads. The least stay open, because a cold pool opens
/// only a few at a time.
const READ_POOL_SIZE: (u32, u32) = (32, 64);

/// The same for the writers and for heartbeats, which must not queue behind reads.
const WRITE_POOL_SIZE: (u32, u32) = (2, 8);

/// How long to look for a primary before an operation fails. Short, so that callers get an error
/// before their own deadline.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause between two attempts to reach a server.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// How long the preparation of the database may take. Building indexes takes longest.
const SETUP_TIMEOUT: Duration = Duration::from_secs(60);

/// The wire version of MongoDB 6.0, the oldest server that souk supports.
const MIN_WIRE_VERSION: i32 = 17;

/// Where the database is, and how to use it.
#[derive(Debug, Clone)]
pub struct MongoOptions {
    /// The replica set's connection string, `mongodb://...`.
    pub uri: SecretString,
    /// The name of the database.
    pub database: String,
    /// The currency of all prices. The first node to connect sets it permanently.
    pub currency: Currency,
    /// Stock with at most this many available units is reported as low.
    pub low_stock: u64,
    /// There is a broker: keep all events until they are published. Permanent once it was set.
    pub keep_unpublished: bool,
    /// The longest wait for the server. Must not exceed the callers' own timeout.
    pub timeout: Duration,
}

/// Why a database cannot be used. Each message says in one line what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The connection string cannot be parsed or has an unsupported option.
    #[error("store.uri: {0}")]
    InvalidUri(String),
    /// The server is not in a replica set, so it has no transactions.
    #[error(
        "the MongoDB server at {0} is a standalone server, which has no transactions; \
         start it with --replSet and run rs.initiate() once"
    )]
    Standalone(String),
    /// The server is in another replica set than the connection string says.
    #[error(
        "the MongoDB server at {host} is in the replica set {found:?}, but store.uri has \
         replicaSet={expected}; set it to {found}"
    )]
    ReplicaSetMismatch {
        /// The server's address.
        host: String,
        /// The replica set that the server is in.
        found: String,
        /// The replica set in the connection string.
        expected: String,
    },
    /// The server is a router (`mongos`) of a sharded cluster.
    #[error("{0} is a router of a sharded cluster; set store.uri to a replica set")]
    ShardedCluster(String),
    /// The server is older than MongoDB 6.0.
    #[error("the MongoDB server at {0} is older than 6.0; use a newer one")]
    UnsupportedServer(String),
    /// The credentials are wrong, or the user lacks a permission.
    #[error(
        "MongoDB at {hosts} denied access: {reason}; check the credentials in store.uri, and grant \
         the user the roles readWrite and dbAdmin on the database {database:?}"
    )]
    AccessDenied {
        /// The servers' addresses.
        hosts: String,
        /// The configured database.
        database: String,
        /// The server's message.
        reason: String,
    },
    /// The stored prices are in another currency than the configured one.
    #[error(
        "the prices in the database are in {found}, but shop.currency is {expected}; \
         set it to {found}, or set store.database to another name"
    )]
    CurrencyMismatch {
        /// The currency in the database.
        found: String,
        /// The configured currency.
        expected: String,
    },
    /// An incompatible version of souk wrote the data.
    #[error(
        "the data has schema version {found}, and this souk supports version {supported}; \
         start the souk that wrote it, or a newer one"
    )]
    SchemaVersionMismatch {
        /// The schema version in the database.
        found: i64,
        /// The schema version of this build.
        supported: i64,
    },
    /// The server answered with another error that a retry cannot fix.
    #[error("MongoDB at {hosts} cannot be used: {reason}")]
    Unusable {
        /// The servers' addresses.
        hosts: String,
        /// The server's message.
        reason: String,
    },
}

/// Two clients with a pool of connections each. The database is ready for use.
pub(super) struct MongoClients {
    /// For the writers and for heartbeats.
    pub(super) write_client: Client,
    /// For everything else.
    pub(super) read_client: Client,
}

/// Connects. Retries until a primary answers, however long that takes.
pub(super) async fn connect_with_retry(
    options: &MongoOptions,
) -> Result<MongoClients, ConnectError> {
    let client_options = parse_client_options(options).await?;
    let hosts = client_options.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let [write_client, read_client] = [WRITE_POOL_SIZE, READ_POOL_SIZE].map(|(min, max)| {
        let mut options = client_options.clone();
        (options.min_pool_size, options.max_pool_size) = (Some(min), Some(max));
        Client::with_options(options)
            .map_err(|error| ConnectError::InvalidUri(transaction_error::one_line_message(&error)))
    });
    let clients = MongoClients { write_client: write_client?, read_client: read_client? };
    loop {
        let next_attempt = Instant::now() + RETRY_INTERVAL;
        let prepared = timeout(SETUP_TIMEOUT, prepare_database(&clients, options, &hosts));
        let reason = match prepared.await {
            Ok(Ok(())) => return Ok(clients),
            Ok(Err(SetupError::Fatal(error))) => return Err(error),
            Ok(Err(SetupError::Retryable(reason))) => {
                check_hosts_directly(&client_options).await?;
                match reason.as_str() {
                    NO_PRIMARY => {
                        format!("{reason}; if the replica set is new, run rs.initiate() once")
                    }
                    _ => reason,
                }
            }
            Err(_) => "timed out".to_owned(),
        };
        tracing::warn!(hosts, error = reason, "waiting for MongoDB");
        sleep_until(next_attempt).await;
    }
}

async fn parse_client_options(options: &MongoOptions) -> Result<ClientOptions, ConnectError> {
    if options.uri.expose_secret().starts_with("mongodb+srv://") {
        let message = "mongodb+srv:// is not supported; list the members instead: \
                       mongodb://host1,host2,host3/?replicaSet=name";
        return Err(ConnectError::InvalidUri(message.to_owned()));
    }
    let parsed = ClientOptions::parse(options.uri.expose_secret()).await;
    let mut client = parsed
        .map_err(|error| ConnectError::InvalidUri(transaction_error::one_line_message(&error)))?;
    if client.direct_connection == Some(true) {
        let message = "directConnection=true connects to one server only; remove it, so that the \
                       primary is found";
        return Err(ConnectError::InvalidUri(message.to_owned()));
    }
    client.app_name.get_or_insert_with(|| "souk".to_owned());
    client.max_connecting = Some(8);
    client.server_selection_timeout = Some(SERVER_SELECTION_TIMEOUT);
    client.connect_timeout.get_or_insert(SERVER_SELECTION_TIMEOUT);
    client.heartbeat_freq.get_or_insert(Duration::from_secs(1));
    client.retry_reads = Some(true);
    client.retry_writes = Some(true);
    client.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    client.read_concern = Some(ReadConcern::majority());
    client.write_concern = Some(durable_write_concern(options.timeout));
    Ok(client)
}

/// Acknowledged once a majority of the members has the write on disk.
pub(super) fn durable_write_concern(timeout: Duration) -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(timeout).build()
}

enum SetupError {
    /// The server does not answer, or another node has to stop first.
    Retryable(String),
    /// The server answers, and waiting will not help.
    Fatal(ConnectError),
}

async fn prepare_database(
    clients: &MongoClients,
    options: &MongoOptions,
    hosts: &str,
) -> Result<(), SetupError> {
    let classify = |error: Error| classify_setup_error(&error, options, hosts);
    let admin = clients.read_client.database("admin");
    let hello = admin.run_command(doc! { "hello": 1 }).await.map_err(classify)?;
    check_server(&hello, hosts).map_err(SetupError::Fatal)?;
    let database = clients.write_client.database(&options.database);
    let meta = database.collection::<Document>(META);
    let new_shop = doc! { "currency": options.currency.code(), "schema": SCHEMA_VERSION };
    meta.update_one(doc! { "_id": SHOP }, doc! { "$setOnInsert": new_shop })
        .upsert(true)
        .await
        .map_err(classify)?;
    let shop = meta.find_one(doc! { "_id": SHOP }).await.map_err(classify)?.unwrap_or_default();
    check_currency(&shop, options).map_err(SetupError::Fatal)?;
    let found = shop.get_i64("schema").unwrap_or(0);
    let schema = migrate(&database, found).await.map_err(classify)?;
    check_schema_version(schema)?;
    create_collections_and_indexes(&database, options.keep_unpublished).await.map_err(classify)
}

fn check_schema_version(outcome: MigrationOutcome) -> Result<(), SetupError> {
    match outcome {
        MigrationOutcome::Version(SCHEMA_VERSION) => Ok(()),
        MigrationOutcome::Version(found) => {
            Err(SetupError::Fatal(ConnectError::SchemaVersionMismatch {
                found,
                supported: SCHEMA_VERSION,
            }))
        }
        MigrationOutcome::OldNodesRunning => Err(SetupError::Retryable(
            "another node still runs an older souk; stop all of them to upgrade the database"
                .to_owned(),
        )),
    }
}

/// Asks each server separately. The driver ignores a server outside the expected replica set, which
/// then looks like a server that is down.
async fn check_hosts_directly(options: &ClientOptions) -> Result<(), ConnectError> {
    let Some(expected) = &options.repl_set_name else { return Ok(()) };
    for host in &options.hosts {
        let mut direct = options.clone();
        (direct.hosts, direct.repl_set_name, direct.direct_connection) =
            (vec![host.clone()], None, Some(true));
        (direct.min_pool_size, direct.server_selection_timeout) = (None, Some(RETRY_INTERVAL / 4));
        let Ok(client) = Client::with_options(direct) else { continue };
        let admin = client.database("admin");
        let hello = timeout(RETRY_INTERVAL, admin.run_command(doc! { "hello": 1 }).into_future());
        let Ok(Ok(hello)) = hello.await else { continue };
        // The server waits for rs.initiate(), or to be added to a set.
        if hello.get_bool("isreplicaset").unwrap_or(false) {
            continue;
        }
        check_server(&hello, &host.to_string())?;
        match hello.get_str("setName") {
            Ok(found) if found != expected => {
                return Err(ConnectError::ReplicaSetMismatch {
                    host: host.to_string(),
                    found: found.to_owned(),
                    expected: expected.clone(),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_server(hello: &Document, hosts: &str) -> Result<(), ConnectError> {
    if hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
        return Err(ConnectError::ShardedCluster(hosts.to_owned()));
    }
    if hello.get_str("setName").is_err() {
        return Err(ConnectError::Standalone(hosts.to_owned()));
    }
    if hello.get_i32("maxWireVersion").is_ok_and(|version| version < MIN_WIRE_VERSION) {
        return Err(ConnectError::UnsupportedServer(hosts.to_owned()));
    }
    Ok(())
}

fn check_currency(shop: &Document, options: &MongoOptions) -> Result<(), ConnectError> {
    match shop.get_str("currency") {
        Ok(found) if found != options.currency.code() => Err(ConnectError::CurrencyMismatch {
            found: found.to_owned(),
            expected: options.currency.code().to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Decides whether a retry can help.
fn classify_setup_error(error: &Error, options: &MongoOptions, hosts: &str) -> SetupError {
    let reason = transaction_error::one_line_message(error);
    let code = transaction_error::server_error_code(error);
    if matches!(&*error.kind, ErrorKind::Authentication { .. })
        || code.is_some_and(|code| ACCESS_DENIED_CODES.contains(&code))
    {
        return SetupError::Fatal(ConnectError::AccessDenied {
            hosts: hosts.to_owned(),
            database: options.database.clone(),
            reason,
        });
    }
    if TransactionError::from(error).class == ErrorClass::Permanent {
        return SetupError::Fatal(ConnectError::Unusable { hosts: hosts.to_owned(), reason });
    }
    SetupError::Retryable(reason)
}
