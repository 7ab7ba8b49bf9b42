//! A shop with one product on a real store, and registries that act as its nodes.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tempfile::TempDir;

use crate::{
    actors::cart::{CartDeps, CartRegistry, IdempotencyQuota, OrderIds},
    cache::{account_rights::AccountRights, catalog_cache::CatalogCache, follower::Follower},
    domain::{
        cart::{Cart, CartCommand, CartLimits, CartOwner, PricedCart},
        catalog::{
            product::{Product, ProductDetails},
            search::CatalogLanguage,
        },
        clock::{Clock, SystemClock, Timestamp},
        ids::{ProductId, UserId},
        inventory::{StockChange, StockLevel},
        money::{Currency, Money},
        order::OrderRules,
    },
    events::DomainEvent,
    messages::{
        cart::{CartView, ChangeCart},
        command_context::{CommandContext, Reply, Ticket},
    },
    metrics::{actors::MailboxMetrics, caches::CacheReads},
    store::{
        Commit, CommittedChanges, StockWrite, Store, Write,
        account_emails::AccountEmails,
        sqlite::{SqliteOptions, SqliteStore},
        writer::{CommitObserver, CommitWriter},
    },
};

pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// The system time plus an offset in milliseconds that a test sets.
#[derive(Default)]
pub(super) struct MockClock(pub(super) AtomicI64);

impl Clock for MockClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(SystemClock.now().as_millis() + self.0.load(Ordering::Relaxed))
    }
}

/// Forwards committed changes to some registries. Any other registry acts like another node that
/// has not caught up.
#[derive(Default)]
pub(super) struct ForwardToRegistries(std::sync::Mutex<Vec<Arc<CartRegistry>>>);

impl CommitObserver for ForwardToRegistries {
    fn on_committed(&self, changes: &CommittedChanges) {
        for carts in self.0.lock().unwrap().iter() {
            carts.apply(changes);
        }
    }
}

/// Forwards committed changes to the caches of another node.
#[derive(Default)]
pub(super) struct ForwardToCaches {
    catalog_cache: OnceLock<Arc<CatalogCache>>,
    carts: OnceLock<Arc<CartRegistry>>,
}

impl CommitObserver for ForwardToCaches {
    fn on_committed(&self, changes: &CommittedChanges) {
        self.catalog_cache.get().unwrap().apply(changes);
        self.carts.get().unwrap().apply(changes);
    }
}

pub(super) struct CartFixture {
    _dir: TempDir,
    pub(super) store: Arc<dyn Store>,
    pub(super) writer: CommitWriter,
    pub(super) catalog_cache: Arc<CatalogCache>,
    pub(super) clock: Arc<MockClock>,
    observer: Arc<ForwardToRegistries>,
    pub(super) tea: ProductId,
    pub(super) idempotency_quota: IdempotencyQuota,
    pub(super) max_rendered_bytes: usize,
}

pub(super) fn usd() -> Currency {
    "USD".parse().unwrap()
}

pub(super) fn render_text(cart: &Cart, priced: &PricedCart) -> Bytes {
    format!("{} {} {}", cart.version, priced.item_count, priced.breakdown.total).into()
}

impl CartFixture {
    pub(super) fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteOptions { currency: usd(), ..SqliteOptions::sample(dir.path()) };
        let clock = Arc::new(MockClock::default());
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(options, Arc::clone(&clock) as Arc<dyn Clock>).unwrap());
        let observer = Arc::new(ForwardToRegistries::default());
        let runtime = tokio::runtime::Handle::current();
        let (writer, _) = CommitWriter::start(
            &runtime,
            Arc::clone(&store),
            Arc::clone(&observer) as Arc<dyn CommitObserver>,
        );
        let catalog_cache =
            Arc::new(CatalogCache::new(|_, _| Bytes::new(), &CatalogLanguage::default()));
        let tea = sample_product("Tea");
        let id = tea.id;
        catalog_cache.put(
            Arc::new(tea),
            StockLevel { on_hand: 100_000, version: 1, ..StockLevel::empty(id) },
        );
        let idempotency_quota = IdempotencyQuota { max_keys: 0, max_bytes: 0, max_guest_bytes: 0 };
        Self {
            _dir: dir,
            store,
            writer,
            catalog_cache,
            clock,
            observer,
            tea: id,
            idempotency_quota,
            max_rendered_bytes: usize::MAX,
        }
    }

    pub(super) fn start_registry(&self) -> Arc<CartRegistry> {
        self.start_registry_with(Arc::clone(&self.catalog_cache), None)
    }

    /// Starts a registry with its own catalog cache and a follower, like another node that
    /// shares the store.
    pub(super) async fn start_following_registry(&self) -> (Arc<CartRegistry>, Arc<Follower>) {
        let (catalog_cache, caches) = (
            Arc::new(CatalogCache::new(|_, _| Bytes::new(), &CatalogLanguage::default())),
            Arc::new(ForwardToCaches::default()),
        );
        caches.catalog_cache.set(Arc::clone(&catalog_cache)).ok().unwrap();
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let rights = Arc::new(AccountRights::new());
        let follower =
            Follower::new(&self.store, &caches, &catalog_cache, &rights, &Arc::default(), &clock)
                .await
                .unwrap();
        let registry = self.start_registry_with(catalog_cache, Some(Arc::clone(&follower)));
        caches.carts.set(Arc::clone(&registry)).ok().unwrap();
        (registry, follower)
    }

    pub(super) fn start_registry_with(
        &self,
        catalog_cache: Arc<CatalogCache>,
        follower: Option<Arc<Follower>>,
    ) -> Arc<CartRegistry> {
        self.start_registry_with_clock(
            catalog_cache,
            follower,
            Arc::clone(&self.clock) as Arc<dyn Clock>,
        )
    }

    pub(super) fn start_registry_with_clock(
        &self,
        catalog_cache: Arc<CatalogCache>,
        follower: Option<Arc<Follower>>,
        clock: Arc<dyn Clock>,
    ) -> Arc<CartRegistry> {
        let deps = CartDeps {
            store: Arc::clone(&self.store),
            account_emails: AccountEmails::new(Arc::clone(&self.store)),
            writer: self.writer.clone(),
            catalog_cache,
            follower,
            clock,
            limits: CartLimits { max_quantity: 999, max_lines: 200 },
            pricing_rules: Arc::default(),
            sends_mail: false,
            order_rules: OrderRules {
                payment_timeout: MINUTE,
                max_pending: 2,
                max_pending_units: 1000,
            },
            order_ids: OrderIds::default(),
            idempotency_quota: self.idempotency_quota,
            max_rendered_bytes: self.max_rendered_bytes,
            currency: usd(),
            render: render_text,
            mailbox: MailboxMetrics::default(),
            cache_reads: CacheReads::default(),
        };
        CartRegistry::start(deps, 1)
    }

    /// Starts a registry that receives all committed changes.
    pub(super) fn start_observed_registry(&self) -> Arc<CartRegistry> {
        let registry = self.start_registry();
        self.observer.0.lock().unwrap().push(Arc::clone(&registry));
        registry
    }

    pub(super) fn add_tea_message(&self) -> ChangeCart {
        ChangeCart {
            command: CartCommand::AddItem { product_id: self.tea, quantity: 1 },
            context: CommandContext::internal(MINUTE),
        }
    }
}

pub(super) fn sample_product(name: &str) -> Product {
    let details = ProductDetails {
        price: Money::parse("2.50", usd()).unwrap(),
        ..ProductDetails::sample(name)
    };
    Product::new(ProductId::new(), details, Timestamp::default())
}

pub(super) fn user_owner() -> CartOwner {
    CartOwner { id: UserId::new(), is_guest: false }
}

pub(super) async fn read_body(carts: &CartRegistry, owner: CartOwner) -> String {
    String::from_utf8(carts.read_cart(owner, &Ticket::new(MINUTE)).await.unwrap().body.to_vec())
        .unwrap()
}

pub(super) fn reply_version(reply: Reply<Arc<CartView>>) -> u64 {
    match reply {
        Reply::Completed(view) => view.cart.version,
        Reply::Replayed(_) => panic!("nothing was repeated"),
    }
}

/// Commits the shop's product to the store, where other nodes find it.
pub(super) async fn commit_tea(shop: &CartFixture) {
    let mut commit = Commit::new(shop.clock.now(), Instant::now() + MINUTE);
    let tea = Arc::clone(&shop.catalog_cache.get(shop.tea).unwrap().product);
    let (product_id, change) = (shop.tea, StockChange::Set(100_000));
    let stock = StockWrite {
        product_id,
        change,
        expected_version: None,
        order_id: None,
        reference: None,
        reason: None,
    };
    commit.writes = vec![Write::Product(Arc::clone(&tea)), Write::Stock(stock)];
    commit.events = vec![DomainEvent::Product(tea)];
    shop.writer.commit(commit).await.unwrap();
}
