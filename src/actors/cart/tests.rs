//! Tests the cart actors on a real store.

mod checkout;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use tempfile::TempDir;

use super::{
    CartDeps, CartRegistry,
    actor::{PanicInCommand, PanicInThread},
};
use crate::{
    cache::{catalog_snapshot::CatalogSnapshot, follower::Follower},
    domain::{
        cart::{Cart, CartCommand, CartLimits, CartOwner, PricedCart},
        catalog::product::{Product, ProductDetails},
        clock::{Clock, SystemClock, Timestamp},
        ids::{ProductId, UserId},
        inventory::{StockChange, StockLevel},
        money::{Currency, Money},
        order::OrderRules,
    },
    error::{Error, ErrorCode},
    events::DomainEvent,
    messages::{
        cart::{ChangeCart, MergeCart},
        context::{CommandContext, IdempotencyKey, Reply, Ticket},
    },
    store::{
        Commit, CommittedChanges, StockWrite, Store, Write,
        sqlite::{SqliteOptions, SqliteStore},
        writer::{CommitObserver, CommitWriter},
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// The system time plus an offset in milliseconds that a test sets.
#[derive(Default)]
struct MockClock(AtomicI64);

impl Clock for MockClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(SystemClock.now().as_millis() + self.0.load(Ordering::Relaxed))
    }
}

/// Forwards committed changes to some registries. Any other registry acts like another node that
/// has not caught up.
#[derive(Default)]
struct ForwardToRegistries(std::sync::Mutex<Vec<Arc<CartRegistry>>>);

impl CommitObserver for ForwardToRegistries {
    fn on_committed(&self, changes: &CommittedChanges) {
        for carts in self.0.lock().unwrap().iter() {
            carts.apply(changes);
        }
    }
}

/// Forwards committed changes to the caches of another node.
#[derive(Default)]
struct ForwardToCaches {
    snapshot: OnceLock<Arc<CatalogSnapshot>>,
    carts: OnceLock<Arc<CartRegistry>>,
}

impl CommitObserver for ForwardToCaches {
    fn on_committed(&self, changes: &CommittedChanges) {
        self.snapshot.get().unwrap().apply(changes);
        self.carts.get().unwrap().apply(changes);
    }
}

struct CartFixture {
    _dir: TempDir,
    store: Arc<dyn Store>,
    writer: CommitWriter,
    snapshot: Arc<CatalogSnapshot>,
    clock: Arc<MockClock>,
    observer: Arc<ForwardToRegistries>,
    tea: ProductId,
}

fn usd() -> Currency {
    "USD".parse().unwrap()
}

fn render_text(cart: &Cart, priced: &PricedCart) -> Bytes {
    format!("{} {} {}", cart.version, priced.item_count, priced.total).into()
}

impl CartFixture {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteOptions {
            dir: dir.path().to_owned(),
            currency: usd(),
            low_stock: 0,
            keep_unpublished: false,
        };
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
        let snapshot = Arc::new(CatalogSnapshot::new(|_, _| Bytes::new()));
        let tea = sample_product("Tea");
        let id = tea.id;
        snapshot.put(
            Arc::new(tea),
            StockLevel { on_hand: 100_000, version: 1, ..StockLevel::empty(id) },
        );
        Self { _dir: dir, store, writer, snapshot, clock, observer, tea: id }
    }

    fn start_registry(&self) -> Arc<CartRegistry> {
        self.start_registry_with(Arc::clone(&self.snapshot), None)
    }

    /// Starts a registry with its own catalog snapshot and a follower, like another node that
    /// shares the store.
    async fn start_following_registry(&self) -> (Arc<CartRegistry>, Arc<Follower>) {
        let (snapshot, caches) = (
            Arc::new(CatalogSnapshot::new(|_, _| Bytes::new())),
            Arc::new(ForwardToCaches::default()),
        );
        caches.snapshot.set(Arc::clone(&snapshot)).ok().unwrap();
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let follower =
            Follower::new(&self.store, &caches, &snapshot, &Arc::default(), &clock).await.unwrap();
        let registry = self.start_registry_with(snapshot, Some(Arc::clone(&follower)));
        caches.carts.set(Arc::clone(&registry)).ok().unwrap();
        (registry, follower)
    }

    fn start_registry_with(
        &self,
        snapshot: Arc<CatalogSnapshot>,
        follower: Option<Arc<Follower>>,
    ) -> Arc<CartRegistry> {
        self.start_registry_with_clock(
            snapshot,
            follower,
            Arc::clone(&self.clock) as Arc<dyn Clock>,
        )
    }

    fn start_registry_with_clock(
        &self,
        snapshot: Arc<CatalogSnapshot>,
        follower: Option<Arc<Follower>>,
        clock: Arc<dyn Clock>,
    ) -> Arc<CartRegistry> {
        let deps = CartDeps {
            store: Arc::clone(&self.store),
            writer: self.writer.clone(),
            catalog_snapshot: snapshot,
            follower,
            clock,
            limits: CartLimits { max_quantity: 999, max_lines: 200 },
            order_rules: OrderRules { payment_timeout: MINUTE, max_pending: 2 },
            currency: usd(),
            render: render_text,
        };
        CartRegistry::start(deps, 1)
    }

    /// Starts a registry that receives all committed changes.
    fn start_observed_registry(&self) -> Arc<CartRegistry> {
        let registry = self.start_registry();
        self.observer.0.lock().unwrap().push(Arc::clone(&registry));
        registry
    }

    fn add_tea_message(&self) -> ChangeCart {
        ChangeCart {
            command: CartCommand::AddItem { product_id: self.tea, quantity: 1 },
            context: CommandContext::internal(MINUTE),
        }
    }
}

fn sample_product(name: &str) -> Product {
    let details = ProductDetails {
        sku: None,
        name: name.into(),
        description: String::new(),
        price: Money::parse("2.50", usd()).unwrap(),
        category: None,
        tags: Vec::new(),
        image_url: None,
        attributes: std::collections::BTreeMap::new(),
    };
    Product::new(ProductId::new(), details, Timestamp::default())
}

fn user_owner() -> CartOwner {
    CartOwner { id: UserId::new(), is_guest: false }
}

fn guest_owner() -> CartOwner {
    CartOwner { id: UserId::new(), is_guest: true }
}

async fn read_body(carts: &CartRegistry, owner: CartOwner) -> String {
    String::from_utf8(carts.read_cart(owner, &Ticket::new(MINUTE)).await.unwrap().body.to_vec())
        .unwrap()
}

fn merge_message(guest: CartOwner) -> MergeCart {
    MergeCart { guest_id: guest.id, context: CommandContext::internal(MINUTE) }
}

#[actix_rt::test]
async fn parallel_adds_all_apply() {
    let shop = CartFixture::open();
    let (carts, owner) = (shop.start_observed_registry(), user_owner());
    let replies =
        join_all((0..100).map(|_| carts.change_cart(owner, shop.add_tea_message()))).await;
    let mut versions: Vec<u64> =
        replies.into_iter().map(|reply| reply_version(reply.unwrap())).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=100).collect::<Vec<_>>());
    assert_eq!(read_body(&carts, owner).await, "100 100 250.00");
}

fn reply_version(reply: Reply<Arc<crate::messages::cart::CartView>>) -> u64 {
    match reply {
        Reply::Completed(view) => view.cart.version,
        Reply::Replayed(_) => panic!("nothing was repeated"),
    }
}

/// Two registries on one store that do not follow each other. Versions in the store order their
/// changes, and callers see no conflict.
#[actix_rt::test]
async fn concurrent_changes_on_two_nodes_all_apply() {
    let shop = CartFixture::open();
    let (a, b, owner) = (shop.start_registry(), shop.start_registry(), user_owner());
    for _ in 0..20 {
        let (one, other) = tokio::join!(
            a.change_cart(owner, shop.add_tea_message()),
            b.change_cart(owner, shop.add_tea_message())
        );
        assert_ne!(reply_version(one.unwrap()), reply_version(other.unwrap()));
    }
    assert_eq!(shop.store.find_cart(owner.id).await.unwrap().unwrap().lines[0].quantity, 40);
}

/// Commits the shop's product to the store, where other nodes find it.
async fn commit_tea(shop: &CartFixture) {
    let mut commit = Commit::new(shop.clock.now(), Instant::now() + MINUTE);
    let tea = Arc::clone(&shop.snapshot.get(shop.tea).unwrap().product);
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

#[actix_rt::test]
async fn command_catches_up_before_refusing() {
    let shop = CartFixture::open();
    let (here, owner) = (shop.start_observed_registry(), user_owner());
    let (there, _) = shop.start_following_registry().await;
    commit_tea(&shop).await;
    assert_eq!(
        reply_version(there.change_cart(owner, shop.add_tea_message()).await.unwrap()),
        1,
        "the node did not know the product"
    );
    assert_eq!(reply_version(here.change_cart(owner, shop.add_tea_message()).await.unwrap()), 2);
    let clear = |carts: Arc<CartRegistry>| async move {
        let context = CommandContext::internal(MINUTE);
        reply_version(
            carts
                .change_cart(owner, ChangeCart { command: CartCommand::Clear, context })
                .await
                .unwrap(),
        )
    };
    assert_eq!(clear(Arc::clone(&here)).await, 3);
    assert_eq!(reply_version(here.change_cart(owner, shop.add_tea_message()).await.unwrap()), 4);
    assert_eq!(clear(there).await, 5, "the cart was empty in this node's cache");
}

#[actix_rt::test]
async fn caught_up_node_shows_changes_of_other_nodes() {
    let shop = CartFixture::open();
    let (here, owner) = (shop.start_observed_registry(), user_owner());
    let (there, follower) = shop.start_following_registry().await;
    commit_tea(&shop).await;
    follower.catch_up().await.unwrap();
    there.change_cart(owner, shop.add_tea_message()).await.unwrap();
    here.change_cart(owner, shop.add_tea_message()).await.unwrap();
    assert_eq!(read_body(&there, owner).await, "1 1 2.50", "the cached cart");
    follower.catch_up().await.unwrap();
    assert_eq!(read_body(&there, owner).await, "2 2 5.00");
}

#[actix_rt::test]
async fn repeat_on_another_node_shows_its_change_there() {
    let shop = CartFixture::open();
    let (here, owner) = (shop.start_observed_registry(), user_owner());
    let (there, follower) = shop.start_following_registry().await;
    commit_tea(&shop).await;
    follower.catch_up().await.unwrap();
    there.change_cart(owner, shop.add_tea_message()).await.unwrap();
    let key = IdempotencyKey { owner: owner.id, key: "k".into(), fingerprint: [1; 32] };
    let keyed = || {
        let ChangeCart { command, context } = shop.add_tea_message();
        let idempotency_key = Some(key.clone());
        ChangeCart { command, context: CommandContext { idempotency_key, ..context } }
    };
    here.change_cart(owner, keyed()).await.unwrap();
    let repeat = there.change_cart(owner, keyed()).await.unwrap();
    assert!(matches!(repeat, Reply::Replayed(_)));
    assert_eq!(read_body(&there, owner).await, "2 2 5.00");
}

#[actix_rt::test]
async fn panicking_command_returns_error_and_actor_continues() {
    let shop = CartFixture::open();
    let (carts, owner) = (shop.start_observed_registry(), user_owner());
    carts.change_cart(owner, shop.add_tea_message()).await.unwrap();
    let panicked: Result<(), Error> =
        carts.ask_actor(owner, PanicInCommand, &Ticket::new(MINUTE)).await;
    assert_eq!(panicked.unwrap_err().code, ErrorCode::Internal);
    assert_eq!(reply_version(carts.change_cart(owner, shop.add_tea_message()).await.unwrap()), 2);
}

#[actix_rt::test]
async fn dead_arbiter_is_replaced_and_carts_reload_from_store() {
    let shop = CartFixture::open();
    let (carts, owner) = (shop.start_observed_registry(), user_owner());
    carts.change_cart(owner, shop.add_tea_message()).await.unwrap();
    // The thread dies before it replies, so the outcome of the command is unknown.
    let ticket = Ticket::new(MINUTE);
    ticket.mark_started().unwrap();
    let lost: Result<(), Error> = carts.ask_actor(owner, PanicInThread, &ticket).await;
    assert_eq!(lost.unwrap_err().code, ErrorCode::OutcomeUnknown);
    for _ in 0..5 {
        let other = user_owner();
        carts.change_cart(other, shop.add_tea_message()).await.unwrap();
        assert_eq!(read_body(&carts, other).await, "1 1 2.50");
    }
    assert_eq!(read_body(&carts, owner).await, "1 1 2.50");
    assert_eq!(reply_version(carts.change_cart(owner, shop.add_tea_message()).await.unwrap()), 2);
}

#[actix_rt::test]
async fn passivated_cart_reloads_from_store() {
    let shop = CartFixture::open();
    let (carts, owner) = (shop.start_observed_registry(), user_owner());
    carts.change_cart(owner, shop.add_tea_message()).await.unwrap();
    carts.passivate_idle(MINUTE);
    assert_eq!(carts.active_count(), 1, "the cart was just used");
    carts.passivate_idle(Duration::ZERO);
    assert_eq!(carts.active_count(), 0);
    assert_eq!(read_body(&carts, owner).await, "1 1 2.50");
}

#[actix_rt::test]
async fn expired_command_changes_nothing() {
    let shop = CartFixture::open();
    let (carts, owner) = (shop.start_observed_registry(), user_owner());
    let context = CommandContext::internal(Duration::ZERO);
    let late = ChangeCart { context, ..shop.add_tea_message() };
    assert_eq!(carts.change_cart(owner, late).await.unwrap_err().code, ErrorCode::Overloaded);
    assert_eq!(read_body(&carts, owner).await, "0 0 0.00");
    assert_eq!(shop.store.find_cart(owner.id).await.unwrap(), None);
}

#[actix_rt::test]
async fn merge_closes_guest_cart_for_its_own_actor() {
    let shop = CartFixture::open();
    let (carts, owner, visitor) = (shop.start_observed_registry(), user_owner(), guest_owner());
    carts.change_cart(visitor, shop.add_tea_message()).await.unwrap();
    assert_eq!(read_body(&carts, visitor).await, "1 1 2.50");
    assert_eq!(
        reply_version(carts.merge_guest_cart(owner, merge_message(visitor)).await.unwrap()),
        1
    );
    let closed = carts.read_cart(visitor, &Ticket::new(MINUTE)).await.unwrap_err();
    assert_eq!(closed.code, ErrorCode::GuestCartMerged);
    assert_eq!(
        carts.change_cart(visitor, shop.add_tea_message()).await.unwrap_err().code,
        ErrorCode::GuestCartMerged
    );
    let stranger = carts.merge_guest_cart(user_owner(), merge_message(visitor)).await.unwrap_err();
    assert_eq!(stranger.code, ErrorCode::GuestCartMerged);
    assert_eq!(
        reply_version(carts.merge_guest_cart(owner, merge_message(visitor)).await.unwrap()),
        1,
        "a repeat changes nothing"
    );
}

#[actix_rt::test]
async fn guest_cart_merges_into_only_one_of_fifty_accounts() {
    let shop = CartFixture::open();
    let (carts, visitor) = (shop.start_observed_registry(), guest_owner());
    carts.change_cart(visitor, shop.add_tea_message()).await.unwrap();
    let users: Vec<CartOwner> = (0..50).map(|_| user_owner()).collect();
    let merges =
        join_all(users.iter().map(|owner| carts.merge_guest_cart(*owner, merge_message(visitor))))
            .await;
    assert_eq!(merges.iter().filter(|merged| merged.is_ok()).count(), 1);
    assert!(
        merges
            .into_iter()
            .filter_map(Result::err)
            .all(|error| error.code == ErrorCode::GuestCartMerged)
    );
}

#[actix_rt::test]
async fn price_change_invalidates_cached_cart() {
    let shop = CartFixture::open();
    let (carts, owner) = (shop.start_observed_registry(), user_owner());
    carts.change_cart(owner, shop.add_tea_message()).await.unwrap();
    let before = carts.read_cart(owner, &Ticket::new(MINUTE)).await.unwrap();
    let tea = shop.snapshot.get(shop.tea).unwrap();
    let details = ProductDetails {
        price: Money::parse("3.00", usd()).unwrap(),
        ..tea.product.details.clone()
    };
    let dearer = tea.product.with_details(details, Timestamp::default()).unwrap();
    shop.snapshot.put(Arc::new(dearer), tea.stock);
    let after = carts.read_cart(owner, &Ticket::new(MINUTE)).await.unwrap();
    assert_eq!(after.body, "1 1 3.00");
    assert_ne!(after.etag, before.etag);
    assert_eq!(after.cart.version, before.cart.version);
}

#[actix_rt::test]
async fn idle_cart_is_marked_abandoned_once() {
    let shop = CartFixture::open();
    let (carts, owner) = (shop.start_observed_registry(), user_owner());
    carts.change_cart(owner, shop.add_tea_message()).await.unwrap();
    assert_eq!(carts.mark_abandoned_carts(MINUTE).await.unwrap(), 0);
    shop.clock.0.store(61_000, Ordering::Relaxed);
    assert_eq!(carts.mark_abandoned_carts(MINUTE).await.unwrap(), 1);
    assert_eq!(carts.mark_abandoned_carts(MINUTE).await.unwrap(), 0);
    assert_eq!(read_body(&carts, owner).await, "2 1 2.50");
}
