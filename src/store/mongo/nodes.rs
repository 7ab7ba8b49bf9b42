//! The nodes that share the database, and what becomes of the locks of one that is gone.
//!
//! A node killed inside a transaction leaves it open on the server, with everything it wrote locked, until the server gives the
//! transaction up: 60 s by default. So each node keeps a document that names the session its transactions run in, and renews it; when
//! it is not renewed any more, the others end that session, which frees its locks at once. Should the node live after all, nothing is
//! lost: its transaction fails, certainly not applied, and is run again.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mongodb::{
    Client, Collection, Database,
    bson::{DateTime, Document, Uuid as Id, doc},
    error::Result,
    options::{Acknowledgment, CollectionOptions, WriteConcern},
};
use tokio::time::sleep;

use super::{
    failure::{self, ACCESS_DENIED_CODES},
    schema::{COUNTERS, NODES, OUTBOX, PUBLISHED_COUNTER},
};
use crate::store::limits::MAX_RETAINED_EVENTS;

/// How often a node renews its document, and looks at the others'.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

/// A node that was not heard of for so long is taken for dead.
const NODE_TIMEOUT: Duration = Duration::from_millis(2500);

/// How often the chores are done.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(5);

/// How far a node's clock may be from the server's before that is told.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(1);

/// For how long the server shall keep a transaction open that nobody ends.
const TRANSACTION_LIFETIME_SECONDS: i64 = 5;

/// This node, as the others see it.
pub(super) struct NodeMembership {
    id: Id,
    client: Client,
    nodes: Collection<Document>,
    database: Database,
    /// The session that its transactions run in.
    session: Mutex<Option<Id>>,
    /// A session that it runs no transactions in any more, whose last one may still be open.
    orphaned_session: Mutex<Option<Id>>,
    /// It was told in the log that transactions cannot be given a shorter lifetime.
    lifetime_warned: AtomicBool,
    /// It was told in the log that this node's clock is off.
    clock_is_skewed: AtomicBool,
}

impl NodeMembership {
    pub(super) fn new(client: Client, database: Database) -> Arc<Self> {
        // Locks do not outlive the primary, so neither need these documents.
        let options = CollectionOptions::builder()
            .write_concern(WriteConcern::builder().w(Acknowledgment::Nodes(1)).build())
            .build();
        let nodes = database.collection_with_options(NODES, options);
        Arc::new(Self {
            id: Id::new(),
            client,
            nodes,
            database,
            session: Mutex::default(),
            orphaned_session: Mutex::default(),
            lifetime_warned: AtomicBool::new(false),
            clock_is_skewed: AtomicBool::new(false),
        })
    }

    /// What its document is known by.
    pub(super) const fn id(&self) -> Id {
        self.id
    }

    /// Tells the others which session to end when this node is gone. Has to be done before the session is used.
    pub(super) async fn register_session(&self, session: Option<Id>) -> Result<()> {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session;
        self.send_heartbeat().await
    }

    /// Ends a session: what its transaction has locked is free.
    pub(super) async fn kill_session(&self, session: Id) -> Result<()> {
        self.client
            .database("admin")
            .run_command(doc! { "killSessions": [{ "id": session }] })
            .await
            .map(drop)
    }

    /// Notes a session that is to be ended: what a transaction that is still open in it has locked is in everybody's way.
    pub(super) fn mark_session_orphaned(&self, session: Option<Id>) {
        *self.orphaned_session.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }

    /// Ends the session that was left behind, if there is one. Done before the next transaction, and at the next beat if there is none.
    pub(super) async fn kill_orphaned_session(&self) -> Result<()> {
        let left = *self.orphaned_session.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(session) = left else { return Ok(()) };
        self.kill_session(session).await?;
        let mut left = self.orphaned_session.lock().unwrap_or_else(PoisonError::into_inner);
        // Unless another was left in the meantime.
        left.take_if(|left| *left == session);
        Ok(())
    }

    /// Renews this node's document, ends the sessions of the dead, and does the chores, again and again. The chores wait for a majority,
    /// which must not keep the node from being heard of.
    pub(super) async fn run_maintenance(self: Arc<Self>) {
        tokio::join!(
            repeat_forever(HEARTBEAT_INTERVAL, || self.heartbeat_and_reap()),
            repeat_forever(MAINTENANCE_INTERVAL, || self.do_maintenance())
        );
    }

    /// Says that this node is gone, in good order.
    pub(super) async fn deregister(&self) -> Result<()> {
        self.nodes.delete_one(doc! { "_id": self.id }).await.map(drop)
    }

    async fn heartbeat_and_reap(&self) -> Result<()> {
        self.send_heartbeat().await?;
        self.kill_orphaned_session().await?;
        self.reap_dead_nodes().await
    }

    async fn do_maintenance(&self) -> Result<()> {
        limit_transaction_lifetime(&self.client, &self.lifetime_warned).await?;
        self.check_clock_skew().await?;
        self.trim_outbox().await
    }

    /// Warns when this node's clock and the server's are apart. One node writes down until when an order is to be paid, and any node ends
    /// it by its own clock.
    async fn check_clock_skew(&self) -> Result<()> {
        let asked = DateTime::now();
        let hello = self.client.database("admin").run_command(doc! { "hello": 1 }).await?;
        let answered = DateTime::now();
        let Ok(server) = hello.get_datetime("localTime") else { return Ok(()) };
        let apart = min_clock_skew(*server, asked, answered);
        let is_far = apart > MAX_CLOCK_SKEW;
        if is_far && !self.clock_is_skewed.load(Ordering::Relaxed) {
            tracing::warn!(
                ?apart,
                "this node's clock and MongoDB's are apart, so that orders may expire too early or too late; have both set by NTP"
            );
        }
        self.clock_is_skewed.store(is_far, Ordering::Relaxed);
        Ok(())
    }

    async fn send_heartbeat(&self) -> Result<()> {
        let session = *self.session.lock().unwrap_or_else(PoisonError::into_inner);
        // The server's clock is the only one that all nodes share.
        let now = doc! { "$set": { "at": "$$NOW", "session": session, "process": i64::from(std::process::id()) } };
        self.nodes.update_one(doc! { "_id": self.id }, vec![now]).upsert(true).await.map(drop)
    }

    async fn reap_dead_nodes(&self) -> Result<()> {
        let age = i64::try_from(NODE_TIMEOUT.as_millis()).unwrap_or(i64::MAX);
        let dead = doc! { "_id": { "$ne": self.id }, "$expr": { "$lt": ["$at", { "$subtract": ["$$NOW", age] }] } };
        let mut dead = self.nodes.find(dead).await?;
        while dead.advance().await? {
            let node = dead.deserialize_current()?;
            let session = match node.get("session") {
                Some(mongodb::bson::Bson::Binary(session)) => session.to_uuid().ok(),
                _ => None,
            };
            if let Some(session) = session {
                self.kill_session(session).await?;
            }
            // Unless it has come back in between.
            let at: Option<&DateTime> = node.get_datetime("at").ok();
            self.nodes.delete_one(doc! { "_id": node.get("_id"), "at": at.copied() }).await?;
            tracing::warn!(
                process = node.get_i64("process").ok(),
                "a node was not heard of any more; its session was ended"
            );
        }
        Ok(())
    }

    /// Takes away events beyond those that are kept. The first of the living nodes does so, for all.
    async fn trim_outbox(&self) -> Result<()> {
        let first = self
            .nodes
            .find_one(doc! {})
            .sort(doc! { "_id": 1 })
            .projection(doc! { "_id": 1 })
            .await?;
        let first = first.and_then(|node| node.get("_id").cloned());
        if first != Some(self.id.into()) {
            return Ok(());
        }
        let newest = self.read_counter(OUTBOX).await?.unwrap_or(0);
        // Once there was a broker, whoever trims keeps what waits for it: also a node or a command that does not know of one.
        let published = self.read_counter(PUBLISHED_COUNTER).await?.unwrap_or(i64::MAX);
        let oldest = published.min(newest - i64::from(MAX_RETAINED_EVENTS));
        if oldest > 0 {
            self.database
                .collection::<Document>(OUTBOX)
                .delete_many(doc! { "_id": { "$lte": oldest } })
                .await?;
        }
        Ok(())
    }

    async fn read_counter(&self, name: &str) -> Result<Option<i64>> {
        let counter =
            self.database.collection::<Document>(COUNTERS).find_one(doc! { "_id": name }).await?;
        Ok(counter.and_then(|counter| counter.get_i64("last").ok()))
    }
}

/// How far apart the server's clock and this node's are at least, when the server told its time between these two of this node's.
fn min_clock_skew(server: DateTime, asked: DateTime, answered: DateTime) -> Duration {
    let [server, asked, answered] = [server, asked, answered].map(DateTime::timestamp_millis);
    Duration::from_millis(
        server.saturating_sub(answered).max(asked.saturating_sub(server)).max(0).unsigned_abs(),
    )
}

/// Does `work` for ever, with a pause after each time.
async fn repeat_forever<F: Future<Output = Result<()>>>(pause: Duration, work: impl Fn() -> F) {
    loop {
        if let Err(error) = work().await {
            tracing::warn!(
                reason = failure::one_line_message(&error),
                "could not look after the other nodes; trying again"
            );
        }
        sleep(pause).await;
    }
}

/// Has the server give up transactions that nobody ends, if souk may say so; each server that becomes primary has to be told.
async fn limit_transaction_lifetime(client: &Client, warned: &AtomicBool) -> Result<()> {
    const PARAMETER: &str = "transactionLifetimeLimitSeconds";
    let admin = client.database("admin");
    let set = async {
        let held = admin.run_command(doc! { "getParameter": 1, PARAMETER: 1 }).await?;
        let held = held
            .get_i32(PARAMETER)
            .map(i64::from)
            .or_else(|_| held.get_i64(PARAMETER))
            .unwrap_or(i64::MAX);
        if held > TRANSACTION_LIFETIME_SECONDS {
            admin
                .run_command(doc! { "setParameter": 1, PARAMETER: TRANSACTION_LIFETIME_SECONDS })
                .await?;
            tracing::info!(
                was = held,
                is = TRANSACTION_LIFETIME_SECONDS,
                "transactionLifetimeLimitSeconds was set"
            );
        }
        Ok(())
    };
    match set.await {
        Err(error)
            if failure::server_error_code(&error)
                .is_some_and(|code| ACCESS_DENIED_CODES.contains(&code)) =>
        {
            if !warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "souk may not look at or set MongoDB's transactionLifetimeLimitSeconds; set it to 5 on every member, so that the \
                     last node to die leaves no locks for longer"
                );
            }
            Ok(())
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_skew_excludes_round_trip_time() {
        let at = DateTime::from_millis;
        assert_eq!(min_clock_skew(at(1_500), at(1_000), at(2_000)), Duration::ZERO);
        assert_eq!(min_clock_skew(at(2_500), at(1_000), at(2_000)), Duration::from_millis(500));
        assert_eq!(min_clock_skew(at(400), at(1_000), at(2_000)), Duration::from_millis(600));
        assert_eq!(min_clock_skew(at(-2_000), at(1_000), at(1_000)), Duration::from_secs(3));
    }
}
