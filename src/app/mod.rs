//! The one place where all parts are wired together.

mod application;
pub mod audit;
pub mod broker_wiring;
mod domain_options;
mod resources;
mod secrets;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use actix::{Actor, Addr};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    task::JoinHandle,
};

pub use self::application::Application;
use self::{
    broker_wiring::{CatalogCommandHandler, subscriptions},
    domain_options::{cart_limits, order_rules, product_limits},
    resources::open_store,
    secrets::{build_tokens, load_or_create_secret},
};
use crate::{
    actors::{
        accounts::{AccountActor, AccountDeps, PasswordHasher, bootstrap::AdminBootstrap},
        cart::{CartDeps, CartRegistry},
        catalog::{CatalogActor, CatalogService},
        orders::{OrderActor, OrderService},
    },
    auth::{caller::Authenticator, refresh_token::RefreshTokens},
    broker::{Broker, BrokerDeps, BrokerUri},
    cache::{catalog_snapshot::Shelf, follower::Follower, revoked_sessions::RevokedSessions},
    config::Settings,
    domain::clock::{Clock, SystemClock},
    http::{self, AppState, HttpOptions, RateLimits, ReadLimiter, middleware::metrics::Metrics},
    outbox::feed::Feed,
    store::{
        CommittedChanges, Store,
        writer::{CommitObserver, CommitWriter},
    },
};

/// How often callers that have gone are forgotten by the rate limits.
const RATE_LIMIT_CLEANUP_INTERVAL: Duration = Duration::from_secs(60);

/// A node without its network side: store, actors and what they share.
pub struct Node {
    /// Changes to the catalog.
    pub catalog: Addr<CatalogActor>,
    /// Makes admins.
    pub bootstrap: AdminBootstrap,
    context: NodeContext,
    carts: Arc<CartRegistry>,
    orders: Addr<OrderActor>,
    accounts: Addr<AccountActor>,
    token_secret: SecretString,
    writer_task: JoinHandle<()>,
    broker: Option<Broker>,
}

/// What every actor of a node works with.
struct NodeContext {
    store: Arc<dyn Store>,
    writer: CommitWriter,
    caches: Arc<Caches>,
    follower: Option<Arc<Follower>>,
    clock: Arc<dyn Clock>,
}

/// The caches of a node.
struct Caches {
    catalog_snapshot: Arc<Shelf>,
    revoked_sessions: Arc<RevokedSessions>,
    feed: Arc<Feed>,
    /// Wakes the relay when there are events to publish.
    outbox_notify: Arc<Notify>,
    /// Set once the carts, which need the writer, are there.
    carts: OnceLock<Arc<CartRegistry>>,
}

impl Caches {
    fn new() -> Self {
        Self {
            catalog_snapshot: Arc::new(Shelf::new(http::render_product)),
            revoked_sessions: Arc::new(RevokedSessions::new()),
            feed: Arc::new(Feed::new()),
            outbox_notify: Arc::default(),
            carts: OnceLock::new(),
        }
    }
}

impl CommitObserver for Caches {
    fn on_committed(&self, news: &CommittedChanges) {
        self.catalog_snapshot.apply(news);
        self.revoked_sessions.note(&news.revoked_sessions);
        if let Some(carts) = self.carts.get() {
            carts.apply(news);
        }
        if !news.events.is_empty() {
            self.outbox_notify.notify_one();
        }
    }

    fn on_missed(&self) {
        if let Some(carts) = self.carts.get() {
            carts.evict_all();
        }
    }
}

/// Who hears of what this node's writer has made durable.
struct NodeObserver {
    caches: Arc<Caches>,
    follower: Option<Arc<Follower>>,
}

impl CommitObserver for NodeObserver {
    fn on_committed(&self, news: &CommittedChanges) {
        self.caches.on_committed(news);
        match &self.follower {
            // The feed has the events of other nodes too, and all of them in commit order.
            Some(follower) => follower.made(&news.events),
            None => self.caches.feed.apply(&news.events),
        }
    }
}

impl NodeContext {
    /// Opens the store, starts the writer, and fills the caches.
    async fn start(
        settings: &Settings,
        drivers: &Handle,
    ) -> anyhow::Result<(Self, JoinHandle<()>)> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = open_store(settings, drivers, Arc::clone(&clock)).await?;
        let caches = Arc::new(Caches::new());
        // Followed from a place that is older than what is loaded next, so that nothing falls in between.
        let follower = match store.is_shared() {
            true => Some(
                Follower::begin(&store, &caches, &caches.catalog_snapshot, &caches.feed, &clock)
                    .await?,
            ),
            false => None,
        };
        caches.catalog_snapshot.load(&*store).await?;
        caches.revoked_sessions.load(&*store, clock.now()).await?;
        let witness = NodeObserver { caches: Arc::clone(&caches), follower: follower.clone() };
        let (writer, task) = CommitWriter::start(drivers, Arc::clone(&store), Arc::new(witness));
        Ok((Self { store, writer, caches, follower, clock }, task))
    }

    fn order_service(&self) -> OrderService {
        OrderService {
            store: Arc::clone(&self.store),
            writer: self.writer.clone(),
            clock: Arc::clone(&self.clock),
        }
    }
}

impl Node {
    /// Opens the store and starts the actors. `drivers` is the runtime that store and writer live on; it must outlive the node.
    ///
    /// # Errors
    /// One line that says what to do: the store cannot be opened, or does not answer.
    pub async fn start(settings: &Settings, drivers: &Handle) -> anyhow::Result<Self> {
        let (core, writer_task) = NodeContext::start(settings, drivers).await?;
        let secret = match &settings.auth.jwt_secret {
            Some(secret) => secret.clone(),
            None => load_or_create_secret(&settings.store.path)?,
        };
        let carts = start_cart_registry(settings, &core);
        // Nothing can have been set before: this is the only place that does.
        drop(core.caches.carts.set(Arc::clone(&carts)));
        let catalog = CatalogActor::new(CatalogService {
            catalog_snapshot: Arc::clone(&core.caches.catalog_snapshot),
            store: Arc::clone(&core.store),
            writer: core.writer.clone(),
            follower: core.follower.clone(),
            clock: Arc::clone(&core.clock),
            limits: product_limits(settings),
        });
        let hasher = PasswordHasher::start(settings.auth.bcrypt_cost, None);
        let accounts = AccountActor::new(AccountDeps {
            store: Arc::clone(&core.store),
            writer: core.writer.clone(),
            clock: Arc::clone(&core.clock),
            hasher: hasher.clone(),
            refresh_tokens: RefreshTokens::new(secret.expose_secret().as_bytes()),
            revoked: Arc::clone(&core.caches.revoked_sessions),
            login_limit: settings.limits.login,
        });
        let orders = OrderActor::new(core.order_service());
        let (store, writer, clock) =
            (Arc::clone(&core.store), core.writer.clone(), Arc::clone(&core.clock));
        let bootstrap = AdminBootstrap { store, writer, clock, hasher };
        let (catalog, orders, accounts) = (catalog.start(), orders.start(), accounts.start());
        Ok(Self {
            catalog,
            bootstrap,
            context: core,
            carts,
            orders,
            accounts,
            token_secret: secret,
            writer_task,
            broker: None,
        })
    }

    /// Begins to publish events and to hear of other nodes, over the broker at `uri`.
    fn connect_broker(&mut self, uri: BrokerUri, settings: &Settings, drivers: &Handle) {
        let (store, timeout) = (Arc::clone(&self.context.store), settings.http.request_timeout);
        let hands = Arc::new(CatalogCommandHandler {
            catalog: self.catalog.clone(),
            store: Arc::clone(&store),
            timeout,
        });
        let (bell, follower) =
            (Arc::clone(&self.context.caches.outbox_notify), self.context.follower.clone());
        let parts = BrokerDeps {
            uri,
            store,
            outbox_notify: bell,
            follower,
            subscriptions: subscriptions(settings),
            command_handler: hands,
        };
        self.broker = Some(Broker::start(parts, drivers));
    }

    /// Applies what waits, publishes its events, and closes the store.
    pub async fn stop(self) {
        self.context.writer.close();
        if self.writer_task.await.is_err() {
            tracing::error!("the writer had panicked");
        }
        if let Some(broker) = self.broker {
            broker.stop().await;
        }
        self.context.store.close().await;
    }

    fn build_http_state(
        &self,
        settings: &Settings,
        stopping: watch::Receiver<bool>,
    ) -> anyhow::Result<Arc<AppState>> {
        let core = &self.context;
        Ok(Arc::new(AppState {
            carts: Arc::clone(&self.carts),
            orders: self.orders.clone(),
            catalog: self.catalog.clone(),
            catalog_snapshot: Arc::clone(&core.caches.catalog_snapshot),
            accounts: self.accounts.clone(),
            authenticator: Authenticator::new(
                build_tokens(settings, &self.token_secret, &core.clock)?,
                Arc::clone(&core.caches.revoked_sessions),
                Arc::clone(&core.clock),
            ),
            feed: Arc::clone(&core.caches.feed),
            follower: core.follower.clone(),
            broker_status: self.broker.as_ref().map(|broker| Arc::clone(broker.status())),
            store: Arc::clone(&core.store),
            read_limiter: ReadLimiter::default(),
            writer: core.writer.clone(),
            clock: Arc::clone(&core.clock),
            options: HttpOptions {
                currency: settings.shop.currency,
                max_body: settings.http.max_body,
                request_timeout: settings.http.request_timeout,
                trusted_proxies: settings.http.trusted_proxies.clone(),
                public_read: settings.catalog.public_read,
                login_limit: settings.limits.login,
            },
            rate_limits: RateLimits::new(settings.limits.per_address, settings.limits.per_user),
            metrics: Metrics::new(),
            shutdown: stopping,
        }))
    }

    /// What runs beside the actors as long as the node serves.
    fn spawn_background_tasks(
        &self,
        services: Arc<AppState>,
        abandoned_after: Duration,
    ) -> Vec<JoinHandle<()>> {
        let forget = async move {
            loop {
                tokio::time::sleep(RATE_LIMIT_CLEANUP_INTERVAL).await;
                services.rate_limits.evict_idle();
            }
        };
        let follow =
            self.context.follower.clone().map(|follower| actix_rt::spawn(follower.follow()));
        let sweep = actix_rt::spawn(Arc::clone(&self.carts).run_maintenance_loop(abandoned_after));
        let expire = actix_rt::spawn(self.context.order_service().run_expiry_loop());
        [sweep, expire, actix_rt::spawn(forget)].into_iter().chain(follow).collect()
    }
}

fn start_cart_registry(settings: &Settings, core: &NodeContext) -> Arc<CartRegistry> {
    let deps = CartDeps {
        store: Arc::clone(&core.store),
        writer: core.writer.clone(),
        shelf: Arc::clone(&core.caches.catalog_snapshot),
        follower: core.follower.clone(),
        clock: Arc::clone(&core.clock),
        limits: cart_limits(settings),
        order_rules: order_rules(settings),
        currency: settings.shop.currency,
        render: http::render_cart,
    };
    CartRegistry::start(deps, settings.http.workers.div_ceil(2))
}
