//! What all components of a node share, and what keeps its caches current.

use std::sync::{Arc, OnceLock};

use tokio::{runtime::Handle, sync::Notify, task::JoinHandle};

use super::resources::open_store;
use crate::{
    actors::cart::CartRegistry,
    cache::{catalog_cache::CatalogCache, follower::Follower, revoked_sessions::RevokedSessions},
    config::Settings,
    domain::clock::{Clock, SystemClock},
    http,
    outbox::feed::Feed,
    store::{
        CommittedChanges, Store,
        writer::{CommitObserver, CommitWriter},
    },
};

/// What every component of a node is built from.
pub(super) struct NodeContext {
    pub(super) store: Arc<dyn Store>,
    pub(super) writer: CommitWriter,
    pub(super) caches: Arc<Caches>,
    /// Follows the commits of other nodes, when the store is shared.
    pub(super) follower: Option<Arc<Follower>>,
    pub(super) clock: Arc<dyn Clock>,
}

impl NodeContext {
    /// Opens the store, fills the caches and starts the writer, whose task it returns.
    pub(super) async fn start(
        settings: &Settings,
        drivers: &Handle,
    ) -> anyhow::Result<(Self, JoinHandle<()>)> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = open_store(settings, drivers, Arc::clone(&clock)).await?;
        let caches = Arc::new(Caches::new());
        // The follower starts before the caches load. What other nodes commit meanwhile may be
        // applied twice, which is harmless, but cannot be missed.
        let follower = match store.is_shared() {
            true => Some(Follower::new(&store, &caches, &caches.catalog_cache, &clock).await?),
            false => None,
        };
        caches.catalog_cache.load(&*store).await?;
        caches.revoked_sessions.load(&*store, clock.now()).await?;
        let observer = NodeObserver { caches: Arc::clone(&caches), follower: follower.clone() };
        let (writer, writer_task) =
            CommitWriter::start(drivers, Arc::clone(&store), Arc::new(observer));
        Ok((Self { store, writer, caches, follower, clock }, writer_task))
    }
}

/// What a node keeps in memory. Updated by its own commits and by those of other nodes.
pub(super) struct Caches {
    pub(super) catalog_cache: Arc<CatalogCache>,
    pub(super) revoked_sessions: Arc<RevokedSessions>,
    pub(super) feed: Arc<Feed>,
    /// Notified when there are events for the relay to publish.
    pub(super) outbox_notify: Arc<Notify>,
    /// Set once: the carts need the writer, which needs the caches.
    carts: OnceLock<Arc<CartRegistry>>,
}

impl Caches {
    fn new() -> Self {
        Self {
            catalog_cache: Arc::new(CatalogCache::new(http::render_product)),
            revoked_sessions: Arc::new(RevokedSessions::new()),
            feed: Arc::new(Feed::new()),
            outbox_notify: Arc::default(),
            carts: OnceLock::new(),
        }
    }

    /// Adds the carts, once, before the node serves requests.
    pub(super) fn set_carts(&self, carts: &Arc<CartRegistry>) {
        // Only `Node::start` calls this, so the carts cannot be set already.
        drop(self.carts.set(Arc::clone(carts)));
    }
}

impl CommitObserver for Caches {
    fn on_committed(&self, changes: &CommittedChanges) {
        self.catalog_cache.apply(changes);
        self.revoked_sessions.add(&changes.revoked_sessions);
        if let Some(carts) = self.carts.get() {
            carts.apply(changes);
        }
        if !changes.events.is_empty() {
            self.outbox_notify.notify_one();
        }
        self.feed.wake();
    }

    fn on_missed(&self) {
        if let Some(carts) = self.carts.get() {
            carts.evict_all();
        }
    }
}

/// Receives what this node's writer has committed.
struct NodeObserver {
    caches: Arc<Caches>,
    follower: Option<Arc<Follower>>,
}

impl CommitObserver for NodeObserver {
    fn on_committed(&self, changes: &CommittedChanges) {
        self.caches.on_committed(changes);
        if let Some(follower) = &self.follower {
            follower.observe_local(&changes.events);
        }
    }
}
