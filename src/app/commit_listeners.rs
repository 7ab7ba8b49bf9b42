//! What on a node learns of every commit, of this node and of others.

use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::{
    actors::cart::CartRegistry,
    cache::{
        account_rights::AccountRights, catalog_cache::CatalogCache, follower::Follower,
        pricing_rules::PricingRulesCache, revoked_sessions::RevokedSessions,
    },
    config::{Settings, StoreKind},
    http,
    outbox::feed::Feed,
    store::{CommittedChanges, writer::CommitObserver},
};

/// The file with the search index, in the folder of an embedded store. The shop makes a new one if
/// it is missing.
const SEARCH_INDEX_FILE: &str = "search.index";

/// The listeners: caches, the carts in memory, the feed and the relay.
pub(super) struct CommitListeners {
    pub(super) catalog_cache: Arc<CatalogCache>,
    pub(super) revoked_sessions: Arc<RevokedSessions>,
    pub(super) account_rights: Arc<AccountRights>,
    pub(super) pricing_rules: Arc<PricingRulesCache>,
    pub(super) feed: Arc<Feed>,
    /// Notified when there are events for the relay to publish.
    pub(super) outbox_notify: Arc<Notify>,
    /// Set once: the carts need the writer, which needs the listeners.
    carts: OnceLock<Arc<CartRegistry>>,
}

impl CommitListeners {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            catalog_cache: Arc::new(catalog_cache(settings)),
            revoked_sessions: Arc::new(RevokedSessions::new()),
            account_rights: Arc::new(AccountRights::new()),
            pricing_rules: Arc::new(PricingRulesCache::new(settings.shop.prices_include_tax)),
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

/// The catalog, whose search index is saved beside an embedded store.
fn catalog_cache(settings: &Settings) -> CatalogCache {
    let (render, language) = (http::render_product, &settings.catalog.language);
    match settings.store.kind {
        StoreKind::Embedded => {
            CatalogCache::open(render, language, settings.store.path.join(SEARCH_INDEX_FILE))
        }
        StoreKind::Mongodb => CatalogCache::new(render, language),
    }
}

impl CommitObserver for CommitListeners {
    fn on_committed(&self, changes: &CommittedChanges) {
        self.catalog_cache.apply(changes);
        self.revoked_sessions.add(&changes.revoked_sessions);
        self.account_rights.add(&changes.rights);
        self.account_rights.api_keys.add(&changes.api_keys);
        self.pricing_rules.apply(&changes.pricing_rules);
        self.pricing_rules.apply_uses(&changes.promotion_uses);
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

/// Receives what this node's writer has committed, for the listeners and for the follower, which
/// then does not read it back from the store.
pub(super) struct LocalCommitObserver {
    listeners: Arc<CommitListeners>,
    follower: Option<Arc<Follower>>,
}

impl LocalCommitObserver {
    pub(super) fn new(listeners: &Arc<CommitListeners>, follower: Option<Arc<Follower>>) -> Self {
        Self { listeners: Arc::clone(listeners), follower }
    }
}

impl CommitObserver for LocalCommitObserver {
    fn on_committed(&self, changes: &CommittedChanges) {
        self.listeners.on_committed(changes);
        if let Some(follower) = &self.follower {
            follower.observe_local(&changes.events);
        }
    }
}
