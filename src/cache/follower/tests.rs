//! Tests the follower with broker events in any order, on a real store.

use std::sync::Mutex as StdMutex;

use super::*;
use crate::{
    domain::{
        cart::{Cart, CartEvent, CartOwner},
        catalog::{
            product::{Product, ProductDetails},
            search::CatalogLanguage,
        },
        clock::{SystemClock, Timestamp},
        ids::{ProductId, UserId},
    },
    events::{DomainEvent, OutboxPosition},
    store::{
        Commit, CommittedChanges, Write,
        sqlite::{SqliteOptions, SqliteStore},
    },
};

/// Records the committed cart versions, and 0 when events were missed.
#[derive(Default)]
struct RecordingObserver(StdMutex<Vec<u64>>);

impl CommitObserver for RecordingObserver {
    fn on_committed(&self, changes: &CommittedChanges) {
        self.0.lock().unwrap().extend(changes.carts.iter().map(|(_, version)| *version));
    }

    fn on_missed(&self) {
        self.0.lock().unwrap().push(0);
    }
}

impl RecordingObserver {
    /// Takes the versions recorded since the last call.
    fn versions(&self) -> Vec<u64> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A follower of a store in which one cart changes.
struct Fixture {
    store: Arc<dyn Store>,
    observer: Arc<RecordingObserver>,
    follower: Arc<Follower>,
    catalog_cache: Arc<CatalogCache>,
    owner: CartOwner,
    _dir: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteOptions::sample(dir.path());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(options, Arc::clone(&clock)).unwrap());
        let observer = Arc::new(RecordingObserver::default());
        let catalog_cache =
            Arc::new(CatalogCache::new(|_, _| bytes::Bytes::new(), &CatalogLanguage::default()));
        let rights = Arc::new(AccountRights::new());
        let follower =
            Follower::new(&store, &observer, &catalog_cache, &rights, &Arc::default(), &clock)
                .await
                .unwrap();
        Self {
            store,
            observer,
            follower,
            catalog_cache,
            owner: CartOwner { id: UserId::new(), is_guest: false },
            _dir: dir,
        }
    }

    /// Changes the cart up to version `last`, and returns all events so far.
    async fn change(&self, last: u64) -> Vec<OutboxEvent> {
        let current = self.store.outbox_heads().await.unwrap().offset(0);
        for version in current + 1..=last {
            let cart = Arc::new(Cart { version, ..Cart::empty(self.owner) });
            let event = DomainEvent::Cart(Arc::clone(&cart), CartEvent::Cleared);
            let commit = Commit::new(Timestamp::from_millis(1), std::time::Instant::now());
            let commit = Commit { writes: vec![Write::Cart(cart)], events: vec![event], ..commit };
            self.store.apply(vec![commit].into()).await.unwrap();
        }
        let all = OutboxCursor::default();
        self.store.list_events_after(&all, PAGE_SIZE).await.unwrap().events
    }
}

fn cursor_at(offset: u64) -> OutboxCursor {
    [OutboxPosition { partition: 0, offset }].into_iter().collect()
}

#[tokio::test]
async fn next_events_are_applied_and_repeats_are_not() {
    let fixture = Fixture::new().await;
    let events = fixture.change(5).await;
    fixture.follower.receive(events[..2].to_vec()).await;
    assert_eq!(fixture.observer.versions(), [1, 2]);
    fixture.follower.receive(events[..4].to_vec()).await;
    assert_eq!(fixture.observer.versions(), [3, 4], "a new relay leader repeats some events");
    fixture.follower.receive(events[2..3].to_vec()).await;
    assert_eq!(fixture.observer.versions(), [0; 0]);
    fixture.follower.receive(vec![events[3].clone(), events[4].clone(), events[4].clone()]).await;
    assert_eq!(fixture.observer.versions(), [5]);
}

#[tokio::test]
async fn missing_events_are_read_from_the_store() {
    let fixture = Fixture::new().await;
    let events = fixture.change(6).await;
    fixture.follower.receive(vec![events[0].clone(), events[3].clone()]).await;
    assert_eq!(fixture.observer.versions(), [1, 2, 3, 4, 5, 6]);
    fixture.follower.receive(events).await;
    assert_eq!(fixture.observer.versions(), [0; 0], "all of these are repeats");
}

#[tokio::test]
async fn connected_broker_is_awaited_for_one_poll() {
    let fixture = Fixture::new().await;
    fixture.follower.set_broker_connected(true);
    let events = fixture.change(2).await;
    let awaited = fixture.follower.poll(None).await.unwrap();
    assert_eq!((&awaited, fixture.observer.versions()), (&Some(cursor_at(2)), vec![]));
    assert!(!fixture.follower.is_current());
    fixture.follower.receive(events).await;
    assert_eq!(fixture.observer.versions(), [1, 2]);
    assert!(fixture.follower.is_current(), "the awaited events have arrived");
    fixture.change(3).await;
    let awaited = fixture.follower.poll(awaited).await.unwrap();
    assert_eq!(
        (&awaited, fixture.observer.versions()),
        (&Some(cursor_at(3)), vec![]),
        "a new event to await"
    );
    assert_eq!(fixture.follower.poll(awaited).await, Ok(None));
    assert_eq!(fixture.observer.versions(), [3], "the broker did not deliver it");
}

#[tokio::test]
async fn disconnected_broker_leaves_polling_and_nothing_current() {
    let fixture = Fixture::new().await;
    fixture.follower.set_broker_connected(false);
    fixture.change(2).await;
    assert_eq!(fixture.follower.poll(None).await, Ok(None));
    assert_eq!(fixture.observer.versions(), [1, 2]);
    assert!(!fixture.follower.is_current(), "each read must ask the store");
    fixture.change(3).await;
    fixture.follower.catch_up().await.unwrap();
    assert_eq!(fixture.observer.versions(), [3]);
    fixture.follower.set_broker_connected(true);
    assert!(!fixture.follower.is_current());
    fixture.follower.catch_up().await.unwrap();
    assert!(fixture.follower.is_current());
}

#[tokio::test]
async fn missed_events_that_are_gone_reload_the_caches() {
    let fixture = Fixture::new().await;
    let details = ProductDetails::sample("Tea");
    let [changed, deleted] = [(); 2]
        .map(|()| Product::new(ProductId::new(), details.clone(), Timestamp::from_millis(1)));
    let put = async |product: Product, count: usize| {
        let product = Arc::new(product);
        let events = vec![DomainEvent::Product(Arc::clone(&product)); count];
        let commit = Commit::new(Timestamp::from_millis(1), std::time::Instant::now());
        let commit = Commit { writes: vec![Write::Product(product)], events, ..commit };
        assert!(fixture.store.apply(vec![commit].into()).await.unwrap().outcomes[0].is_ok());
    };
    put(changed.clone(), 1).await;
    put(deleted.clone(), 1).await;
    fixture.follower.catch_up().await.unwrap();
    assert_eq!(
        fixture.catalog_cache.len(),
        0,
        "this test's observer does not update the catalog cache"
    );
    fixture.catalog_cache.load(&*fixture.store).await.unwrap();
    assert_eq!(fixture.catalog_cache.len(), 2);
    put(Product { version: 2, ..changed.clone() }, 1).await;
    put(deleted.to_deleted(Timestamp::from_millis(2)), 1).await;
    // Add so many events that the outbox no longer keeps the ones above.
    for version in 1..=23 {
        let cart = Arc::new(Cart { version, ..Cart::empty(fixture.owner) });
        let events = vec![DomainEvent::Cart(Arc::clone(&cart), CartEvent::Cleared); 1000];
        let commit = Commit::new(Timestamp::from_millis(1), std::time::Instant::now());
        let commit = Commit { writes: vec![Write::Cart(cart)], events, ..commit };
        fixture.store.apply(vec![commit].into()).await.unwrap();
    }
    fixture.observer.versions();
    fixture.follower.catch_up().await.unwrap();
    assert_eq!(fixture.catalog_cache.len(), 1);
    assert_eq!(fixture.catalog_cache.get(changed.id).unwrap().product.version, 2);
    assert_eq!(fixture.observer.versions(), [0], "cached carts are dropped");
    assert!(fixture.follower.has_reached(&fixture.store.outbox_heads().await.unwrap()));
}

#[tokio::test]
async fn unavailable_store_makes_nothing_current() {
    let fixture = Fixture::new().await;
    fixture.store.close().await;
    assert_eq!(fixture.follower.poll(None).await, Err(StoreUnavailable));
    assert_eq!(fixture.follower.catch_up().await, Err(StoreUnavailable));
    assert!(!fixture.follower.is_current());
}
