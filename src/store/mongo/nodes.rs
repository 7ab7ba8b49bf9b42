//! The nodes that share the database, and the release of a dead node's locks.
//!
//! A node that is killed inside a transaction leaves the transaction open on the server. Everything
//! that it wrote stays locked until the server aborts it, after 60 s by default. So each node keeps
//! a document that names the sessions of its transactions, and renews the document regularly. Once
//! a document is too old, another node kills those sessions, which releases the locks at once. If
//! the node is alive after all, it loses nothing: its transaction fails, certainly not applied, and
//! the node retries it in a new session.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::TryStreamExt;
use mongodb::{
    Client, Collection, Database,
    bson::{Bson, DateTime, Document, Uuid as BsonUuid, doc},
    error::Result,
    options::{Acknowledgment, CollectionOptions, ReadConcern, WriteConcern},
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};
use uuid::Uuid;

use super::{
    forwarding::{Forwarder, Peer},
    partition::release_partitions,
    schema::NODES,
    transaction_error::{self, ACCESS_DENIED_CODES},
    trim::trim_outbox,
};
use crate::domain::clock::{Clock, Timestamp};

/// How often a node renews its document, and how often it looks for dead nodes.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

/// A node whose document is older than this counts as dead.
const NODE_TIMEOUT: Duration = Duration::from_millis(2500);

/// The age of a node's own last heartbeat above which it judges no other node: the server or the
/// machine is slow, so the heartbeats of running nodes may be late, too. To kill their sessions
/// would make everything slower still.
const MAX_OWN_HEARTBEAT_AGE: Duration = Duration::from_millis(1000);

/// How often a node checks its clock and the server's settings, and trims the outbox.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(5);

/// How far a node's clock may differ from the server's before the node logs a warning.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(1);

/// After how many seconds the server should abort a transaction that nobody ends.
const TRANSACTION_LIFETIME_SECONDS: i64 = 5;

/// The field with the address at which a node takes commits of others, if it does.
const ADDRESS: &str = "forwarding_address";

/// This node's document in `nodes`, and the tasks that nodes do for each other.
pub(super) struct NodeMembership {
    id: BsonUuid,
    client: Client,
    nodes: Collection<Document>,
    database: Database,
    clock: Arc<dyn Clock>,
    forwarder: Arc<Forwarder>,
    /// The session of each writer's transactions, by lane.
    sessions: Mutex<BTreeMap<usize, BsonUuid>>,
    /// Sessions that this node no longer uses, whose last transactions may still be open.
    orphaned_sessions: Mutex<BTreeSet<BsonUuid>>,
    /// When the last heartbeat that the server has confirmed was sent.
    last_heartbeat_sent_at: Mutex<Option<Instant>>,
    /// The log has the warning that souk may not shorten the lifetime of transactions.
    lifetime_warned: AtomicBool,
    /// The log has the warning that this node's clock is off.
    clock_is_skewed: AtomicBool,
}

impl NodeMembership {
    pub(super) fn new(client: Client, database: Database, clock: Arc<dyn Clock>) -> Arc<Self> {
        // A new primary has no locks of the old one, so these documents need not survive a
        // failover: confirmation by the primary is enough.
        let options = CollectionOptions::builder()
            .write_concern(WriteConcern::builder().w(Acknowledgment::Nodes(1)).build())
            // A majority that lags must not make running nodes look dead.
            .read_concern(ReadConcern::local())
            .build();
        let nodes = database.collection_with_options(NODES, options);
        let id = BsonUuid::new();
        let forwarder = Arc::new(Forwarder::new(Uuid::from_bytes(id.bytes()), Handle::current()));
        Arc::new(Self {
            id,
            forwarder,
            client,
            nodes,
            database,
            clock,
            sessions: Mutex::default(),
            orphaned_sessions: Mutex::default(),
            last_heartbeat_sent_at: Mutex::default(),
            lifetime_warned: AtomicBool::new(false),
            clock_is_skewed: AtomicBool::new(false),
        })
    }

    /// The `_id` of this node's document. New at each start.
    pub(super) const fn id(&self) -> BsonUuid {
        self.id
    }

    /// What forwards commits to other nodes.
    pub(super) const fn forwarder(&self) -> &Arc<Forwarder> {
        &self.forwarder
    }

    /// The client of the writers and of the heartbeats.
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Names the session of a lane, which the others kill once this node is dead. Must be called
    /// before the session's first transaction, so that no lock is ever without a name.
    pub(super) async fn register_session(
        &self,
        lane: usize,
        session: Option<BsonUuid>,
    ) -> Result<()> {
        if let Some(session) = session {
            self.lock_sessions().insert(lane, session);
        }
        self.send_heartbeat().await
    }

    fn lock_sessions(&self) -> MutexGuard<'_, BTreeMap<usize, BsonUuid>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_orphaned_sessions(&self) -> MutexGuard<'_, BTreeSet<BsonUuid>> {
        self.orphaned_sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills a session on the server, which aborts its transaction and releases the locks.
    async fn kill_session(&self, session: BsonUuid) -> Result<()> {
        self.client
            .database("admin")
            .run_command(doc! { "killSessions": [{ "id": session }] })
            .await
            .map(drop)
    }

    /// Marks a session to be killed: a transaction that is still open in it would block all nodes.
    pub(super) fn mark_session_orphaned(&self, session: Option<BsonUuid>) {
        self.lock_orphaned_sessions().extend(session);
    }

    /// Kills the orphaned sessions. Runs before a writer starts a new session and with each
    /// heartbeat, whichever comes first.
    pub(super) async fn kill_orphaned_sessions(&self) -> Result<()> {
        let orphaned = self.lock_orphaned_sessions().clone();
        for session in orphaned {
            self.kill_session(session).await?;
            self.lock_orphaned_sessions().remove(&session);
        }
        Ok(())
    }

    /// Sends heartbeats, reaps dead nodes and does maintenance, forever. Each runs apart, since
    /// nothing may delay the heartbeat: reaping sends many commands, and maintenance waits for a
    /// majority of the members.
    pub(super) async fn run(self: Arc<Self>) {
        tokio::join!(
            repeat_forever(HEARTBEAT_INTERVAL, || self.send_heartbeat()),
            repeat_forever(HEARTBEAT_INTERVAL, || self.kill_orphans_and_reap()),
            repeat_forever(HEARTBEAT_INTERVAL, || self.update_forwarding_peers()),
            repeat_forever(MAINTENANCE_INTERVAL, || self.maintain())
        );
    }

    /// Deletes this node's document and releases its partitions when the node stops.
    pub(super) async fn deregister(&self) -> Result<()> {
        release_partitions(&self.database, self.id).await?;
        self.nodes.delete_one(doc! { "_id": self.id }).await.map(drop)
    }

    async fn kill_orphans_and_reap(&self) -> Result<()> {
        self.kill_orphaned_sessions().await?;
        self.reap_dead_nodes().await
    }

    async fn maintain(&self) -> Result<()> {
        limit_transaction_lifetime(&self.client, &self.lifetime_warned).await?;
        self.check_clock_skew().await?;
        if self.is_first_node().await? {
            trim_outbox(&self.database).await?;
        }
        Ok(())
    }

    /// Warns when this node's clock differs from the server's. One node sets an order's payment
    /// deadline, and any node may expire the order by its own clock.
    async fn check_clock_skew(&self) -> Result<()> {
        let asked = self.clock.now();
        let hello = self.client.database("admin").run_command(doc! { "hello": 1 }).await?;
        let answered = self.clock.now();
        let Ok(server) = hello.get_datetime("localTime") else { return Ok(()) };
        let server = Timestamp::from_millis(server.timestamp_millis());
        let skew = min_clock_skew(server, asked, answered);
        let is_skewed = skew > MAX_CLOCK_SKEW;
        let was_skewed = self.clock_is_skewed.swap(is_skewed, Ordering::Relaxed);
        if is_skewed && !was_skewed {
            tracing::warn!(
                ?skew,
                "this node's clock differs from MongoDB's, so orders may expire too early or too \
                 late; synchronize both clocks with NTP"
            );
        }
        Ok(())
    }

    async fn send_heartbeat(&self) -> Result<()> {
        let sessions: Vec<BsonUuid> = self.lock_sessions().values().copied().collect();
        let process = i64::from(std::process::id());
        // The server's clock is the only one that all nodes share.
        let address = self.forwarder.advertised_address();
        let renewed = doc! { "$set": {
            "at": "$$NOW", "sessions": sessions, "process": process, ADDRESS: address,
        } };
        let sent_at = Instant::now();
        self.nodes.update_one(doc! { "_id": self.id }, vec![renewed]).upsert(true).await?;
        *self.lock_last_heartbeat() = Some(sent_at);
        Ok(())
    }

    /// Tells the forwarder which running nodes take commits of others.
    async fn update_forwarding_peers(&self) -> Result<()> {
        if self.forwarder.advertised_address().is_none() {
            return Ok(());
        }
        let is_live = doc! { "$gte": ["$at", oldest_live_heartbeat()] };
        let taking = doc! { ADDRESS: { "$type": "string" }, "$expr": is_live };
        let nodes: Vec<Document> = self.nodes.find(taking).await?.try_collect().await?;
        let peer = |node: &Document| {
            let id = Uuid::from_bytes(node.get("_id").and_then(parse_uuid)?.bytes());
            Some(Peer { id, address: node.get_str(ADDRESS).ok()?.to_owned() })
        };
        self.forwarder.set_peers(nodes.iter().filter_map(peer).collect());
        Ok(())
    }

    fn lock_last_heartbeat(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last_heartbeat_sent_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills the sessions of nodes whose last heartbeat is too old, and releases their partitions.
    /// Does nothing while this node's own heartbeats are late; see [`MAX_OWN_HEARTBEAT_AGE`].
    async fn reap_dead_nodes(&self) -> Result<()> {
        let own = *self.lock_last_heartbeat();
        if own.is_none_or(|sent_at| sent_at.elapsed() > MAX_OWN_HEARTBEAT_AGE) {
            return Ok(());
        }
        let is_dead = doc! { "$lt": ["$at", oldest_live_heartbeat()] };
        let dead = doc! { "_id": { "$ne": self.id }, "$expr": is_dead };
        let mut dead = self.nodes.find(dead).await?;
        while dead.advance().await? {
            let node = dead.deserialize_current()?;
            for session in node.get_array("sessions").into_iter().flatten().filter_map(parse_uuid) {
                self.kill_session(session).await?;
            }
            if let Some(id) = node.get("_id").and_then(parse_uuid) {
                release_partitions(&self.database, id).await?;
            }
            // The time keeps the document of a node that has sent a heartbeat in the meantime.
            let at: Option<&DateTime> = node.get_datetime("at").ok();
            self.nodes.delete_one(doc! { "_id": node.get("_id"), "at": at.copied() }).await?;
            tracing::warn!(
                process = node.get_i64("process").ok(),
                "a node stopped sending heartbeats; its sessions were killed"
            );
        }
        Ok(())
    }

    /// Whether this node has the lowest id of all. Some tasks need only one node.
    async fn is_first_node(&self) -> Result<bool> {
        let first = self
            .nodes
            .find_one(doc! {})
            .sort(doc! { "_id": 1 })
            .projection(doc! { "_id": 1 })
            .await?;
        Ok(first.and_then(|node| node.get("_id").cloned()) == Some(self.id.into()))
    }
}

fn parse_uuid(value: &Bson) -> Option<BsonUuid> {
    match value {
        Bson::Binary(binary) => binary.to_uuid().ok(),
        _ => None,
    }
}

/// Whether any node, including one of another version, has sent a heartbeat recently.
pub(super) async fn has_running_nodes(database: &Database) -> Result<bool> {
    let is_live = doc! { "$gte": ["$at", oldest_live_heartbeat()] };
    let nodes = database.collection::<Document>(NODES);
    Ok(nodes.find_one(doc! { "$expr": is_live }).await?.is_some())
}

/// An aggregation expression: the server's time, less [`NODE_TIMEOUT`].
fn oldest_live_heartbeat() -> Document {
    let age = i64::try_from(NODE_TIMEOUT.as_millis()).unwrap_or(i64::MAX);
    doc! { "$subtract": ["$$NOW", age] }
}

/// The least possible difference between the clocks: the server read its own at some time between
/// `asked` and `answered` on this node's clock.
fn min_clock_skew(server: Timestamp, asked: Timestamp, answered: Timestamp) -> Duration {
    let [server, asked, answered] = [server, asked, answered].map(Timestamp::as_millis);
    Duration::from_millis(
        server.saturating_sub(answered).max(asked.saturating_sub(server)).max(0).unsigned_abs(),
    )
}

/// Runs `task` forever, with a pause after each run.
async fn repeat_forever<F: Future<Output = Result<()>>>(pause: Duration, task: impl Fn() -> F) {
    loop {
        if let Err(error) = task().await {
            tracing::warn!(
                error = transaction_error::one_line_message(&error),
                "failed to send a heartbeat or to clean up after other nodes; retrying"
            );
        }
        sleep(pause).await;
    }
}

/// Shortens the server's transaction lifetime, if souk's user may. It repeats because the setting
/// belongs to one server, and another one may have become the primary.
async fn limit_transaction_lifetime(client: &Client, warned: &AtomicBool) -> Result<()> {
    const PARAMETER: &str = "transactionLifetimeLimitSeconds";
    let admin = client.database("admin");
    let set = async {
        let reply = admin.run_command(doc! { "getParameter": 1, PARAMETER: 1 }).await?;
        let current = reply
            .get_i32(PARAMETER)
            .map(i64::from)
            .or_else(|_| reply.get_i64(PARAMETER))
            .unwrap_or(i64::MAX);
        if current > TRANSACTION_LIFETIME_SECONDS {
            admin
                .run_command(doc! { "setParameter": 1, PARAMETER: TRANSACTION_LIFETIME_SECONDS })
                .await?;
            tracing::info!(
                before = current,
                now = TRANSACTION_LIFETIME_SECONDS,
                "lowered MongoDB's transactionLifetimeLimitSeconds"
            );
        }
        Ok(())
    };
    match set.await {
        Err(error)
            if transaction_error::server_error_code(&error)
                .is_some_and(|code| ACCESS_DENIED_CODES.contains(&code)) =>
        {
            if !warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "souk's user has no permission to set MongoDB's \
                     transactionLifetimeLimitSeconds; set it to 5 on every member, so that a dead \
                     node leaves no locks for longer even when no other node runs"
                );
            }
            Ok(())
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_skew_excludes_round_trip_time() {
        let at = Timestamp::from_millis;
        assert_eq!(min_clock_skew(at(1_500), at(1_000), at(2_000)), Duration::ZERO);
        assert_eq!(min_clock_skew(at(2_500), at(1_000), at(2_000)), Duration::from_millis(500));
        assert_eq!(min_clock_skew(at(400), at(1_000), at(2_000)), Duration::from_millis(600));
        assert_eq!(min_clock_skew(at(-2_000), at(1_000), at(1_000)), Duration::from_secs(3));
    }
}
