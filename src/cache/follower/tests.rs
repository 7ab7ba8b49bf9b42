//! Events from a broker, in every order, on a real store.

use std::{collections::BTreeMap, sync::Mutex as StdMutex};

use super::*;
use crate::{
    domain::{
        cart::{Cart, CartEvent, CartOwner},
        catalog::product::{Product, ProductDetails},
        clock::{SystemClock, Timestamp},
        ids::{ProductId, UserId},
        money::Money,
    },
    events::DomainEvent,
    store::{
        Commit, CommittedChanges, Write,
        sqlite::{SqliteOptions, SqliteStore},
    },
};

/// Writes down what it was told: versions of carts, and 0 for that some were missed.
#[derive(Default)]
struct Heard(StdMutex<Vec<u64>>);

impl CommitObserver for Heard {
    fn on_committed(&self, news: &CommittedChanges) {
        self.0.lock().unwrap().extend(news.carts.iter().map(|(_, version)| *version));
    }

    fn on_missed(&self) {
        self.0.lock().unwrap().push(0);
    }
}

impl Heard {
    /// The versions heard of since last time.
    fn versions(&self) -> Vec<u64> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A follower of a store in which one cart has changed so often.
struct Scene {
    store: Arc<dyn Store>,
    heard: Arc<Heard>,
    follower: Arc<Follower>,
    shelf: Arc<Shelf>,
    owner: CartOwner,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let currency = "EUR".parse().unwrap();
        let options = SqliteOptions {
            dir: dir.path().to_owned(),
            currency,
            low_stock: 0,
            keep_unpublished: false,
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(options, Arc::clone(&clock)).unwrap());
        let heard = Arc::new(Heard::default());
        let shelf = Arc::new(Shelf::new(|_, _| bytes::Bytes::new()));
        let follower =
            Follower::begin(&store, &heard, &shelf, &Arc::default(), &clock).await.unwrap();
        Self {
            store,
            heard,
            follower,
            shelf,
            owner: CartOwner { id: UserId::new(), is_guest: false },
            _dir: dir,
        }
    }

    /// Changes the cart up to version `last`; all events so far.
    async fn change(&self, last: u64) -> Vec<OutboxEvent> {
        let begun = self.store.last_event_position().await.unwrap();
        for version in begun + 1..=last {
            let cart = Arc::new(Cart { version, ..Cart::empty(self.owner) });
            let fact = DomainEvent::Cart(Arc::clone(&cart), CartEvent::Cleared);
            let commit = Commit::new(Timestamp::from_millis(1), std::time::Instant::now());
            let commit = Commit { writes: vec![Write::Cart(cart)], events: vec![fact], ..commit };
            self.store.apply(vec![commit].into()).await.unwrap();
        }
        self.store.list_events_after(0, PAGE).await.unwrap()
    }
}

#[tokio::test]
async fn events_that_come_in_turn_are_taken_and_repeats_are_not() {
    let scene = Scene::new().await;
    let events = scene.change(5).await;
    scene.follower.hear(events[..2].to_vec()).await;
    assert_eq!(scene.heard.versions(), [1, 2]);
    scene.follower.hear(events[..4].to_vec()).await;
    assert_eq!(scene.heard.versions(), [3, 4], "a relay that took over repeats some");
    scene.follower.hear(events[2..3].to_vec()).await;
    assert_eq!(scene.heard.versions(), [0; 0]);
    scene.follower.hear(vec![events[3].clone(), events[4].clone(), events[4].clone()]).await;
    assert_eq!(scene.heard.versions(), [5]);
}

#[tokio::test]
async fn what_is_missing_is_read_from_the_store() {
    let scene = Scene::new().await;
    let events = scene.change(6).await;
    scene.follower.hear(vec![events[0].clone(), events[3].clone()]).await;
    assert_eq!(scene.heard.versions(), [1, 2, 3, 4, 5, 6]);
    scene.follower.hear(events).await;
    assert_eq!(scene.heard.versions(), [0; 0], "all of it is old");
}

#[tokio::test]
async fn a_broker_that_delivers_is_waited_for_once() {
    let scene = Scene::new().await;
    scene.follower.link(true);
    let events = scene.change(2).await;
    let awaited = scene.follower.look(None).await.unwrap();
    assert_eq!((awaited, scene.heard.versions()), (Some(2), vec![]));
    assert!(!scene.follower.is_current());
    scene.follower.hear(events).await;
    assert_eq!(scene.heard.versions(), [1, 2]);
    assert!(scene.follower.is_current(), "what was awaited has come");
    scene.change(3).await;
    let awaited = scene.follower.look(awaited).await.unwrap();
    assert_eq!((awaited, scene.heard.versions()), (Some(3), vec![]), "this is new");
    assert_eq!(scene.follower.look(awaited).await, Ok(None));
    assert_eq!(scene.heard.versions(), [3], "it did not come");
}

#[tokio::test]
async fn without_the_broker_it_looks_for_itself_and_nothing_is_current_for_long() {
    let scene = Scene::new().await;
    scene.follower.link(false);
    scene.change(2).await;
    assert_eq!(scene.follower.look(None).await, Ok(None));
    assert_eq!(scene.heard.versions(), [1, 2]);
    assert!(!scene.follower.is_current(), "each read has to ask");
    scene.change(3).await;
    scene.follower.catch_up().await.unwrap();
    assert_eq!(scene.heard.versions(), [3]);
    scene.follower.link(true);
    assert!(!scene.follower.is_current());
    scene.follower.catch_up().await.unwrap();
    assert!(scene.follower.is_current());
}

#[tokio::test]
async fn what_was_missed_and_is_not_kept_any_more_is_read_anew() {
    let scene = Scene::new().await;
    let currency = "EUR".parse().unwrap();
    let facts = ProductDetails {
        sku: None,
        name: "Tea".into(),
        description: String::new(),
        price: Money::zero(currency),
        category: None,
        tags: Vec::new(),
        image_url: None,
        attributes: BTreeMap::new(),
    };
    let [changed, deleted] =
        [(); 2].map(|()| Product::new(ProductId::new(), facts.clone(), Timestamp::from_millis(1)));
    let put = async |product: Product, count: usize| {
        let product = Arc::new(product);
        let facts = vec![DomainEvent::Product(Arc::clone(&product)); count];
        let commit = Commit::new(Timestamp::from_millis(1), std::time::Instant::now());
        let commit = Commit { writes: vec![Write::Product(product)], events: facts, ..commit };
        assert!(scene.store.apply(vec![commit].into()).await.unwrap().outcomes[0].is_ok());
    };
    put(changed.clone(), 1).await;
    put(deleted.clone(), 1).await;
    scene.follower.catch_up().await.unwrap();
    assert_eq!(scene.shelf.len(), 0, "the observer here is not the shelf");
    scene.shelf.load(&*scene.store).await.unwrap();
    assert_eq!(scene.shelf.len(), 2);
    put(Product { version: 2, ..changed.clone() }, 1).await;
    put(deleted.to_deleted(Timestamp::from_millis(2)), 1).await;
    // So many more that the outbox keeps nothing of it.
    for version in 1..=23 {
        let cart = Arc::new(Cart { version, ..Cart::empty(scene.owner) });
        let facts = vec![DomainEvent::Cart(Arc::clone(&cart), CartEvent::Cleared); 1000];
        let commit = Commit::new(Timestamp::from_millis(1), std::time::Instant::now());
        let commit = Commit { writes: vec![Write::Cart(cart)], events: facts, ..commit };
        scene.store.apply(vec![commit].into()).await.unwrap();
    }
    scene.heard.versions();
    scene.follower.catch_up().await.unwrap();
    assert_eq!(scene.shelf.len(), 1);
    assert_eq!(scene.shelf.get(changed.id).unwrap().product.version, 2);
    let heard = scene.heard.versions();
    assert_eq!(
        (heard.first(), heard.last()),
        (Some(&0), Some(&23)),
        "carts are forgotten, then heard of"
    );
}

#[tokio::test]
async fn a_store_that_does_not_answer_makes_nothing_current() {
    let scene = Scene::new().await;
    scene.store.close().await;
    assert_eq!(scene.follower.look(None).await, Err(StoreUnavailable));
    assert_eq!(scene.follower.catch_up().await, Err(StoreUnavailable));
    assert!(!scene.follower.is_current());
}
