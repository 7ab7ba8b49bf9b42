//! Reaching the database for the first time: waiting for a server that is not up yet, refusing what souk cannot work with.

use std::{future::IntoFuture, time::Duration};

use mongodb::{
    Client,
    bson::{Document, doc},
    error::{Error, ErrorKind},
    options::{
        Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
    },
};
use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    MongoOptions,
    failure::{self, ACCESS_DENIED_CODES},
    schema::{self, META},
};

/// Connections kept open for reading, and most there may be. A cold pool connects two at a time.
const READ_POOL_SIZE: (u32, u32) = (32, 64);

/// The same for the writer and for looking after the nodes, who must not wait behind those who read.
const WRITE_POOL_SIZE: (u32, u32) = (2, 8);

/// How long to look for a primary before an operation fails. Short, so that whoever waits is told in time.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(2);

/// Between two tries to reach a server that is not up.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// How long a server may take for each of the first steps; making indexes is the longest.
const SETUP_TIMEOUT: Duration = Duration::from_secs(60);

/// The first wire version with everything that is asked of the server: MongoDB 6.0.
const MIN_WIRE_VERSION: i32 = 17;

/// Why a database cannot be used. Each says in one line what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The connection string is not one.
    #[error("store.uri: {0}")]
    InvalidUri(String),
    /// One server by itself: it has no transactions.
    #[error(
        "the MongoDB server at {0} is a standalone one, which has no transactions; start it with --replSet and run rs.initiate() once"
    )]
    Standalone(String),
    /// A replica set of another name than the connection string says.
    #[error(
        "the MongoDB server at {host} is in the replica set {found:?}, and store.uri says replicaSet={expected}; set it to {found}"
    )]
    ReplicaSetMismatch {
        /// Where.
        host: String,
        /// What the server says.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// A router of a sharded cluster.
    #[error("{0} is a router of a sharded cluster; set store.uri to a replica set")]
    ShardedCluster(String),
    /// An old server.
    #[error("the MongoDB server at {0} is older than 6.0; use a newer one")]
    UnsupportedServer(String),
    /// A login that does not work, or may not do what is needed.
    #[error(
        "MongoDB at {hosts} refuses: {reason}; souk's user needs the roles readWrite and dbAdmin on the database {database:?}"
    )]
    AccessDenied {
        /// Where.
        hosts: String,
        /// The database asked for.
        database: String,
        /// What the server says.
        reason: String,
    },
    /// The prices in it are in another currency.
    #[error(
        "the prices in the database are in {found}, but shop.currency is {expected}; set it to {found}, or set store.database to another name"
    )]
    CurrencyMismatch {
        /// The currency it holds.
        found: String,
        /// The currency asked for.
        expected: String,
    },
    /// Another version of souk has written it.
    #[error(
        "the data has schema version {found}, and this souk reads version {supported}; start the souk that wrote it"
    )]
    SchemaVersionMismatch {
        /// The version found.
        found: i64,
        /// The version known.
        supported: i64,
    },
    /// Something else that waiting will not change.
    #[error("MongoDB at {hosts} cannot be used: {reason}")]
    Unusable {
        /// Where.
        hosts: String,
        /// What the server says.
        reason: String,
    },
}

/// A database that is ready to be used.
pub(super) struct MongoClients {
    /// For the writer and for looking after the nodes.
    pub(super) write_client: Client,
    /// For everyone else.
    pub(super) read_client: Client,
}

/// Connects, waiting for as long as it takes until a primary answers.
pub(super) async fn connect_with_retry(
    options: &MongoOptions,
) -> Result<MongoClients, ConnectError> {
    let client_options = parse_client_options(options).await?;
    let hosts = client_options.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let [writing, reading] = [WRITE_POOL_SIZE, READ_POOL_SIZE].map(|(min, max)| {
        let mut options = client_options.clone();
        (options.min_pool_size, options.max_pool_size) = (Some(min), Some(max));
        Client::with_options(options)
            .map_err(|error| ConnectError::InvalidUri(failure::one_line_message(&error)))
    });
    let (writing, reading) = (writing?, reading?);
    loop {
        let again = Instant::now() + RETRY_INTERVAL;
        let reason =
            match timeout(SETUP_TIMEOUT, prepare_database(&writing, &reading, options, &hosts))
                .await
            {
                Ok(Ok(())) => {
                    return Ok(MongoClients { write_client: writing, read_client: reading });
                }
                Ok(Err(SetupError::Fatal(refusal))) => return Err(refusal),
                Ok(Err(SetupError::Retryable(reason))) => {
                    check_hosts_directly(&client_options).await?;
                    reason
                }
                Err(_) => "no answer in time".to_owned(),
            };
        tracing::warn!(hosts, reason, "waiting for MongoDB");
        sleep_until(again).await;
    }
}

async fn parse_client_options(options: &MongoOptions) -> Result<ClientOptions, ConnectError> {
    if options.uri.expose_secret().starts_with("mongodb+srv://") {
        let text = "mongodb+srv:// is not in this build; name the members instead: mongodb://host1,host2,host3/?replicaSet=name";
        return Err(ConnectError::InvalidUri(text.to_owned()));
    }
    let parsed = ClientOptions::parse(options.uri.expose_secret()).await;
    let mut client =
        parsed.map_err(|error| ConnectError::InvalidUri(failure::one_line_message(&error)))?;
    if client.direct_connection == Some(true) {
        return Err(ConnectError::InvalidUri(
            "directConnection=true keeps to one server; leave it out, so that the primary is found"
                .into(),
        ));
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

/// On the disks of a majority.
pub(super) fn durable_write_concern(within: Duration) -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(within).build()
}

enum SetupError {
    /// It does not answer.
    Retryable(String),
    /// It answers, and will not do.
    Fatal(ConnectError),
}

async fn prepare_database(
    writing: &Client,
    reading: &Client,
    options: &MongoOptions,
    hosts: &str,
) -> Result<(), SetupError> {
    let meant = |error: Error| classify_setup_error(&error, options, hosts);
    let hello = reading.database("admin").run_command(doc! { "hello": 1 }).await.map_err(meant)?;
    check_server(&hello, hosts).map_err(SetupError::Fatal)?;
    let database = writing.database(&options.database);
    let meta = database.collection::<Document>(META);
    let shop = doc! { "$setOnInsert": { "currency": options.currency.code(), "schema": schema::SCHEMA_VERSION } };
    meta.update_one(doc! { "_id": "shop" }, shop).upsert(true).await.map_err(meant)?;
    let shop = meta.find_one(doc! { "_id": "shop" }).await.map_err(meant)?.unwrap_or_default();
    check_shop_metadata(&shop, options).map_err(SetupError::Fatal)?;
    schema::create_collections_and_indexes(&database, options.keep_unpublished).await.map_err(meant)
}

/// Asks each server by itself. The driver passes over those that are not in the replica set it was told of, so that they look like ones
/// that are not up yet.
async fn check_hosts_directly(options: &ClientOptions) -> Result<(), ConnectError> {
    let Some(wanted) = &options.repl_set_name else { return Ok(()) };
    for host in &options.hosts {
        let mut alone = options.clone();
        (alone.hosts, alone.repl_set_name, alone.direct_connection) =
            (vec![host.clone()], None, Some(true));
        (alone.min_pool_size, alone.server_selection_timeout) = (None, Some(RETRY_INTERVAL / 4));
        let Ok(client) = Client::with_options(alone) else { continue };
        let admin = client.database("admin");
        let hello = timeout(RETRY_INTERVAL, admin.run_command(doc! { "hello": 1 }).into_future());
        let Ok(Ok(hello)) = hello.await else { continue };
        // A server that has not been made a member yet says so.
        if hello.get_bool("isreplicaset").unwrap_or(false) {
            continue;
        }
        check_server(&hello, &host.to_string())?;
        match hello.get_str("setName") {
            Ok(found) if found != wanted => {
                let (host, found, wanted) = (host.to_string(), found.to_owned(), wanted.clone());
                return Err(ConnectError::ReplicaSetMismatch { host, found, expected: wanted });
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

fn check_shop_metadata(shop: &Document, options: &MongoOptions) -> Result<(), ConnectError> {
    let found = shop.get_i64("schema").unwrap_or(0);
    if found != schema::SCHEMA_VERSION {
        return Err(ConnectError::SchemaVersionMismatch {
            found,
            supported: schema::SCHEMA_VERSION,
        });
    }
    match shop.get_str("currency") {
        Ok(held) if held != options.currency.code() => Err(ConnectError::CurrencyMismatch {
            found: held.to_owned(),
            expected: options.currency.code().to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Whether it is worth waiting.
fn classify_setup_error(error: &Error, options: &MongoOptions, hosts: &str) -> SetupError {
    let reason = failure::one_line_message(error);
    let login = matches!(&*error.kind, ErrorKind::Authentication { .. });
    if login
        || failure::server_error_code(error).is_some_and(|code| ACCESS_DENIED_CODES.contains(&code))
    {
        let database = options.database.clone();
        return SetupError::Fatal(ConnectError::AccessDenied {
            hosts: hosts.to_owned(),
            database,
            reason,
        });
    }
    if failure::TransactionError::from(error).class == failure::ErrorClass::Permanent {
        return SetupError::Fatal(ConnectError::Unusable { hosts: hosts.to_owned(), reason });
    }
    SetupError::Retryable(reason)
}
