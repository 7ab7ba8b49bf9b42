//! Cart actors against a real store: what they keep, what they survive.

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
    cache::{catalog_snapshot::Shelf, follower::Follower},
    domain::{
        cart::{Cart, CartCommand, CartLimits, Owner, PricedCart},
        catalog::product::{Product, ProductFacts},
        clock::{Clock, SystemClock, Timestamp},
        ids::{ProductId, UserId},
        inventory::{StockChange, StockLevel},
        money::{Currency, Money},
        order::OrderRules,
    },
    error::{Error, ErrorCode},
    events::Fact,
    messages::{
        cart::{ChangeCart, MergeCart},
        change::{Change, Reply, Ticket},
    },
    store::{
        Commit, News, StockWrite, Store, Write,
        sqlite::{SqliteOptions, SqliteStore},
        writer::{Observer, Writer},
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// The machine's time, and what a test adds to it.
#[derive(Default)]
struct Hands(AtomicI64);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(SystemClock.now().as_millis() + self.0.load(Ordering::Relaxed))
    }
}

/// Lets each of some registries hear the news; those left out are like carts on other nodes, which hear nothing.
#[derive(Default)]
struct Hear(std::sync::Mutex<Vec<Arc<CartRegistry>>>);

impl Observer for Hear {
    fn committed(&self, news: &News) {
        for carts in self.0.lock().unwrap().iter() {
            carts.apply(news);
        }
    }
}

/// The caches of another node.
#[derive(Default)]
struct HearAll {
    shelf: OnceLock<Arc<Shelf>>,
    carts: OnceLock<Arc<CartRegistry>>,
}

impl Observer for HearAll {
    fn committed(&self, news: &News) {
        self.shelf.get().unwrap().apply(news);
        self.carts.get().unwrap().apply(news);
    }
}

struct Shop {
    _dir: TempDir,
    store: Arc<dyn Store>,
    writer: Writer,
    shelf: Arc<Shelf>,
    clock: Arc<Hands>,
    hear: Arc<Hear>,
    tea: ProductId,
}

fn usd() -> Currency {
    "USD".parse().unwrap()
}

fn render(cart: &Cart, priced: &PricedCart) -> Bytes {
    format!("{} {} {}", cart.version, priced.item_count, priced.total).into()
}

impl Shop {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteOptions {
            dir: dir.path().to_owned(),
            currency: usd(),
            low_stock: 0,
            keep_unpublished: false,
        };
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(options).unwrap());
        let hear = Arc::new(Hear::default());
        let runtime = tokio::runtime::Handle::current();
        let (writer, _) =
            Writer::start(&runtime, Arc::clone(&store), Arc::clone(&hear) as Arc<dyn Observer>);
        let shelf = Arc::new(Shelf::new(|_, _| Bytes::new()));
        let tea = product("Tea");
        let id = tea.id;
        shelf.put(
            Arc::new(tea),
            StockLevel { on_hand: 100_000, version: 1, ..StockLevel::none(id) },
        );
        Self { _dir: dir, store, writer, shelf, clock: Arc::default(), hear, tea: id }
    }

    fn registry(&self) -> Arc<CartRegistry> {
        self.registry_with(Arc::clone(&self.shelf), None)
    }

    /// A registry with a shelf of its own that hears of others through the outbox, as on another node of a shared store.
    async fn follower(&self) -> (Arc<CartRegistry>, Arc<Follower>) {
        let (shelf, hear) =
            (Arc::new(Shelf::new(|_, _| Bytes::new())), Arc::new(HearAll::default()));
        hear.shelf.set(Arc::clone(&shelf)).ok().unwrap();
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let follower =
            Follower::begin(&self.store, &hear, &shelf, &Arc::default(), &clock).await.unwrap();
        let registry = self.registry_with(shelf, Some(Arc::clone(&follower)));
        hear.carts.set(Arc::clone(&registry)).ok().unwrap();
        (registry, follower)
    }

    fn registry_with(
        &self,
        shelf: Arc<Shelf>,
        follower: Option<Arc<Follower>>,
    ) -> Arc<CartRegistry> {
        self.registry_at(shelf, follower, Arc::clone(&self.clock) as Arc<dyn Clock>)
    }

    fn registry_at(
        &self,
        shelf: Arc<Shelf>,
        follower: Option<Arc<Follower>>,
        clock: Arc<dyn Clock>,
    ) -> Arc<CartRegistry> {
        let deps = CartDeps {
            store: Arc::clone(&self.store),
            writer: self.writer.clone(),
            shelf,
            follower,
            clock,
            limits: CartLimits { max_quantity: 999, max_lines: 200 },
            orders: OrderRules { payment_timeout: MINUTE, max_pending: 2 },
            currency: usd(),
            render,
        };
        CartRegistry::start(deps, 1)
    }

    /// A registry that hears what others commit.
    fn node(&self) -> Arc<CartRegistry> {
        let registry = self.registry();
        self.hear.0.lock().unwrap().push(Arc::clone(&registry));
        registry
    }

    fn add(&self) -> ChangeCart {
        ChangeCart {
            command: CartCommand::Add { product_id: self.tea, quantity: 1 },
            change: Change::internal(MINUTE),
        }
    }
}

fn product(name: &str) -> Product {
    let facts = ProductFacts {
        sku: None,
        name: name.into(),
        description: String::new(),
        price: Money::parse("2.50", usd()).unwrap(),
        category: None,
        tags: Vec::new(),
        image_url: None,
        attributes: std::collections::BTreeMap::new(),
    };
    Product::new(ProductId::new(), facts, Timestamp::default())
}

fn user() -> Owner {
    Owner { id: UserId::new(), guest: false }
}

fn guest() -> Owner {
    Owner { id: UserId::new(), guest: true }
}

async fn body(carts: &CartRegistry, owner: Owner) -> String {
    String::from_utf8(carts.read(owner, &Ticket::new(MINUTE)).await.unwrap().body.to_vec()).unwrap()
}

fn merge(guest: Owner) -> MergeCart {
    MergeCart { guest: guest.id, change: Change::internal(MINUTE) }
}

#[actix_rt::test]
async fn parallel_adds_are_all_kept() {
    let shop = Shop::open();
    let (carts, owner) = (shop.node(), user());
    let replies = join_all((0..100).map(|_| carts.change(owner, shop.add()))).await;
    let mut versions: Vec<u64> = replies.into_iter().map(|reply| version(reply.unwrap())).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=100).collect::<Vec<_>>());
    assert_eq!(body(&carts, owner).await, "100 100 250.00");
}

fn version(reply: Reply<Arc<crate::messages::cart::CartView>>) -> u64 {
    match reply {
        Reply::Done(view) => view.cart.version,
        Reply::Replayed(_) => panic!("nothing was repeated"),
    }
}

/// Two registries on one store that hear nothing of each other: the store's versions settle it, and nobody sees a conflict.
#[actix_rt::test]
async fn two_nodes_that_change_one_cart_lose_nothing() {
    let shop = Shop::open();
    let (a, b, owner) = (shop.registry(), shop.registry(), user());
    for _ in 0..20 {
        let (one, other) = tokio::join!(a.change(owner, shop.add()), b.change(owner, shop.add()));
        assert_ne!(version(one.unwrap()), version(other.unwrap()));
    }
    assert_eq!(shop.store.cart(owner.id).await.unwrap().unwrap().lines[0].quantity, 40);
}

/// Puts the shop's product into the store too, where other nodes find it.
async fn publish_tea(shop: &Shop) {
    let mut commit = Commit::new(shop.clock.now(), Instant::now() + MINUTE);
    let tea = Arc::clone(&shop.shelf.get(shop.tea).unwrap().product);
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
    commit.facts = vec![Fact::Product(tea)];
    shop.writer.commit(commit).await.unwrap();
}

#[actix_rt::test]
async fn no_refusal_rests_on_what_another_node_has_changed_meanwhile() {
    let shop = Shop::open();
    let (here, owner) = (shop.node(), user());
    let (there, _) = shop.follower().await;
    publish_tea(&shop).await;
    assert_eq!(
        version(there.change(owner, shop.add()).await.unwrap()),
        1,
        "a product it had not heard of"
    );
    assert_eq!(version(here.change(owner, shop.add()).await.unwrap()), 2);
    let clear = |carts: Arc<CartRegistry>| async move {
        let change = Change::internal(MINUTE);
        version(
            carts.change(owner, ChangeCart { command: CartCommand::Clear, change }).await.unwrap(),
        )
    };
    assert_eq!(clear(Arc::clone(&here)).await, 3);
    assert_eq!(version(here.change(owner, shop.add()).await.unwrap()), 4);
    assert_eq!(clear(there).await, 5, "empty as far as it knew");
}

#[actix_rt::test]
async fn a_node_that_has_caught_up_shows_what_others_did() {
    let shop = Shop::open();
    let (here, owner) = (shop.node(), user());
    let (there, follower) = shop.follower().await;
    publish_tea(&shop).await;
    follower.catch_up().await.unwrap();
    there.change(owner, shop.add()).await.unwrap();
    here.change(owner, shop.add()).await.unwrap();
    assert_eq!(body(&there, owner).await, "1 1 2.50", "what it knew");
    follower.catch_up().await.unwrap();
    assert_eq!(body(&there, owner).await, "2 2 5.00");
}

#[actix_rt::test]
async fn a_panic_in_a_command_is_answered_and_the_next_is_served() {
    let shop = Shop::open();
    let (carts, owner) = (shop.node(), user());
    carts.change(owner, shop.add()).await.unwrap();
    let panicked: Result<(), Error> = carts.send(owner, PanicInCommand, &Ticket::new(MINUTE)).await;
    assert_eq!(panicked.unwrap_err().code, ErrorCode::Internal);
    assert_eq!(version(carts.change(owner, shop.add()).await.unwrap()), 2);
}

#[actix_rt::test]
async fn a_dead_thread_is_replaced_and_its_carts_come_back_from_the_store() {
    let shop = Shop::open();
    let (carts, owner) = (shop.node(), user());
    carts.change(owner, shop.add()).await.unwrap();
    // The thread dies before it can answer, so nobody knows what became of this one.
    let ticket = Ticket::new(MINUTE);
    ticket.begin().unwrap();
    let lost: Result<(), Error> = carts.send(owner, PanicInThread, &ticket).await;
    assert_eq!(lost.unwrap_err().code, ErrorCode::OutcomeUnknown);
    for _ in 0..5 {
        let other = user();
        carts.change(other, shop.add()).await.unwrap();
        assert_eq!(body(&carts, other).await, "1 1 2.50");
    }
    assert_eq!(body(&carts, owner).await, "1 1 2.50");
    assert_eq!(version(carts.change(owner, shop.add()).await.unwrap()), 2);
}

#[actix_rt::test]
async fn an_idle_actor_goes_and_its_cart_comes_back() {
    let shop = Shop::open();
    let (carts, owner) = (shop.node(), user());
    carts.change(owner, shop.add()).await.unwrap();
    carts.passivate(MINUTE);
    assert_eq!(carts.active(), 1, "it was used just now");
    carts.passivate(Duration::ZERO);
    assert_eq!(carts.active(), 0);
    assert_eq!(body(&carts, owner).await, "1 1 2.50");
}

#[actix_rt::test]
async fn what_comes_too_late_changes_nothing() {
    let shop = Shop::open();
    let (carts, owner) = (shop.node(), user());
    let change = Change::internal(Duration::ZERO);
    let late = ChangeCart { change, ..shop.add() };
    assert_eq!(carts.change(owner, late).await.unwrap_err().code, ErrorCode::Overloaded);
    assert_eq!(body(&carts, owner).await, "0 0 0.00");
    assert_eq!(shop.store.cart(owner.id).await.unwrap(), None);
}

#[actix_rt::test]
async fn a_merge_closes_the_guests_cart_for_its_own_actor_too() {
    let shop = Shop::open();
    let (carts, owner, visitor) = (shop.node(), user(), guest());
    carts.change(visitor, shop.add()).await.unwrap();
    assert_eq!(body(&carts, visitor).await, "1 1 2.50");
    assert_eq!(version(carts.merge(owner, merge(visitor)).await.unwrap()), 1);
    let closed = carts.read(visitor, &Ticket::new(MINUTE)).await.unwrap_err();
    assert_eq!(closed.code, ErrorCode::GuestCartMerged);
    assert_eq!(
        carts.change(visitor, shop.add()).await.unwrap_err().code,
        ErrorCode::GuestCartMerged
    );
    let stranger = carts.merge(user(), merge(visitor)).await.unwrap_err();
    assert_eq!(stranger.code, ErrorCode::GuestCartMerged);
    assert_eq!(
        version(carts.merge(owner, merge(visitor)).await.unwrap()),
        1,
        "a repeat changes nothing"
    );
}

#[actix_rt::test]
async fn fifty_users_merging_one_guest_cart_get_it_once() {
    let shop = Shop::open();
    let (carts, visitor) = (shop.node(), guest());
    carts.change(visitor, shop.add()).await.unwrap();
    let users: Vec<Owner> = (0..50).map(|_| user()).collect();
    let merges = join_all(users.iter().map(|owner| carts.merge(*owner, merge(visitor)))).await;
    assert_eq!(merges.iter().filter(|merged| merged.is_ok()).count(), 1);
    assert!(
        merges
            .into_iter()
            .filter_map(Result::err)
            .all(|error| error.code == ErrorCode::GuestCartMerged)
    );
}

#[actix_rt::test]
async fn a_new_price_is_seen_at_once() {
    let shop = Shop::open();
    let (carts, owner) = (shop.node(), user());
    carts.change(owner, shop.add()).await.unwrap();
    let before = carts.read(owner, &Ticket::new(MINUTE)).await.unwrap();
    let tea = shop.shelf.get(shop.tea).unwrap();
    let facts =
        ProductFacts { price: Money::parse("3.00", usd()).unwrap(), ..tea.product.facts.clone() };
    let dearer = tea.product.replaced(facts, Timestamp::default()).unwrap();
    shop.shelf.put(Arc::new(dearer), tea.stock);
    let after = carts.read(owner, &Ticket::new(MINUTE)).await.unwrap();
    assert_eq!(after.body, "1 1 3.00");
    assert_ne!(after.etag, before.etag);
    assert_eq!(after.cart.version, before.cart.version);
}

#[actix_rt::test]
async fn a_cart_left_lying_is_noted_once() {
    let shop = Shop::open();
    let (carts, owner) = (shop.node(), user());
    carts.change(owner, shop.add()).await.unwrap();
    assert_eq!(carts.note_abandoned(MINUTE).await.unwrap(), 0);
    shop.clock.0.store(61_000, Ordering::Relaxed);
    assert_eq!(carts.note_abandoned(MINUTE).await.unwrap(), 1);
    assert_eq!(carts.note_abandoned(MINUTE).await.unwrap(), 0);
    assert_eq!(body(&carts, owner).await, "2 1 2.50");
}
