//! Clients that keep buying and record the outcome of each purchase.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use souk::{
    domain::{
        cart::{Cart, CartEvent, CartOwner},
        catalog::product::{Product, ProductDetails},
        clock::{Clock, SystemClock},
        ids::{ProductId, UserId},
        inventory::StockChange,
    },
    events::{DomainEvent, OutboxCursor},
    messages::command_context::IdempotencyKey,
    store::{
        Commit, CommitError, CommittedChanges, StockWrite, Store, Write,
        commit::{IdempotencyRecord, StoredReplyBody},
        mongo::{MongoOptions, MongoStore},
        writer::{CommitObserver, CommitWriter},
    },
};
use tokio::{runtime::Handle, task::JoinHandle};

const DEADLINE: Duration = Duration::from_secs(2);

/// How late a response may be on a busy machine.
const SLACK: Duration = Duration::from_millis(750);

/// Outcomes that clients received.
#[derive(Default)]
pub(crate) struct OutcomeCounts {
    pub(crate) done: AtomicU64,
    pub(crate) not_done: AtomicU64,
    pub(crate) unknown: AtomicU64,
}

/// A running load of buyers.
pub(crate) struct Load {
    store: Arc<dyn Store>,
    product: ProductId,
    counts: Arc<OutcomeCounts>,
    stop: Arc<AtomicBool>,
    buyers: Vec<JoinHandle<(CartOwner, u64)>>,
}

struct NoopObserver;

impl CommitObserver for NoopObserver {
    fn on_committed(&self, _: &CommittedChanges) {}
}

pub(crate) async fn connect(uri: &str) -> Arc<dyn Store> {
    connect_with_timeout(uri, Duration::from_secs(2)).await
}

/// Opens a store with this server timeout.
pub(crate) async fn connect_with_timeout(uri: &str, timeout: Duration) -> Arc<dyn Store> {
    let (uri, database) = (uri.into(), "shop".to_owned());
    let options = MongoOptions {
        uri,
        database,
        currency: "EUR".parse().unwrap(),
        low_stock: 0,
        keep_unpublished: false,
        timeout,
    };
    Arc::new(MongoStore::connect(options, Arc::new(SystemClock)).await.unwrap())
}

impl Load {
    /// Starts `count` buyers, distributed over `nodes` nodes.
    pub(crate) async fn start(uri: &str, nodes: usize, count: usize) -> Self {
        let store = connect(uri).await;
        let product = create_product(&*store).await;
        let mut writers = Vec::new();
        for _ in 0..nodes {
            writers.push(
                CommitWriter::start(&Handle::current(), connect(uri).await, Arc::new(NoopObserver))
                    .0,
            );
        }
        let (counts, stop) = (Arc::new(OutcomeCounts::default()), Arc::new(AtomicBool::new(false)));
        let buyers = (0..count)
            .map(|n| {
                tokio::spawn(keep_buying(
                    writers[n % nodes].clone(),
                    product,
                    Arc::clone(&counts),
                    Arc::clone(&stop),
                ))
            })
            .collect();
        Self { store, product, counts, stop, buyers }
    }

    pub(crate) fn counts(&self) -> &OutcomeCounts {
        &self.counts
    }

    /// Waits for `count` more purchases; returns how long that took.
    pub(crate) async fn wait_for_purchases(&self, count: u64) -> Duration {
        let began = Instant::now();
        let goal = self.counts.done.load(Ordering::Acquire) + count;
        while self.counts.done.load(Ordering::Acquire) < goal {
            assert!(began.elapsed() < Duration::from_secs(60), "no purchase succeeds");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        began.elapsed()
    }

    /// Stops the buyers and compares their outcomes with the store.
    pub(crate) async fn stop_and_verify(mut self) {
        self.stop.store(true, Ordering::Release);
        let mut bought = 0;
        for buyer in std::mem::take(&mut self.buyers) {
            let (owner, version) = buyer.await.unwrap();
            bought += version;
            let stored = self.store.find_cart(owner.id).await.unwrap();
            assert_eq!(
                stored.map_or(0, |cart| cart.version),
                version,
                "the store has exactly the acknowledged purchases"
            );
        }
        let (_, level) = self.store.find_product(self.product).await.unwrap().unwrap();
        assert_eq!(level.reserved, bought, "no purchase is lost or duplicated");
        let movements = self.store.list_movements(self.product, None, u32::MAX).await.unwrap();
        assert_eq!(
            movements.iter().map(|movement| movement.delta.reserved).sum::<i64>(),
            i64::try_from(bought).unwrap()
        );
        assert_eq!(movements.len() as u64, bought + 1);
        self.check_events(bought).await;
    }

    async fn check_events(&self, bought: u64) {
        let start = OutboxCursor::default();
        let page = self.store.list_events_after(&start, u32::MAX).await.unwrap();
        assert!(!page.has_gap && !page.has_more);
        let (events, mut read) = (page.events, start);
        let mut last: HashMap<(String, String), u64> = HashMap::new();
        for event in &events {
            assert!(read.is_next(event.position), "{} after {read}", event.position);
            read.advance_to(event.position);
            let body: Value = serde_json::from_slice(&event.body).unwrap();
            let family = event.kind.split('.').next().unwrap().to_owned();
            let last =
                last.entry((family, body["subject"].as_str().unwrap().to_owned())).or_default();
            *last += 1;
            assert_eq!(body["sequence"], last.to_string(), "each change has one event, in order");
        }
        assert_eq!(
            events.iter().filter(|event| event.kind.starts_with("cart.")).count() as u64,
            bought
        );
    }
}

async fn create_product(store: &dyn Store) -> ProductId {
    let facts = ProductDetails {
        sku: None,
        name: "Mint tea".into(),
        description: String::new(),
        price: souk::domain::money::Money::from_minor_units(450, "EUR".parse().unwrap()).unwrap(),
        category: None,
        tags: vec![],
        image_url: None,
        purchase_limit: None,
        weight_grams: None,
        tax_class: None,
        attributes: std::collections::BTreeMap::new(),
    };
    let product = Arc::new(Product::new(ProductId::new(), facts, SystemClock.now()));
    let id = product.id;
    let writes = vec![Write::Product(product), stock_write(id, StockChange::Set(10_000_000))];
    let opened = Commit {
        writes,
        ..Commit::new(SystemClock.now(), Instant::now() + Duration::from_secs(30))
    };
    store.apply(vec![opened].into()).await.unwrap().outcomes.remove(0).unwrap();
    id
}

/// A change with an event and a deadline.
pub(crate) async fn change(store: &dyn Store, within: Duration) -> Result<(), CommitError> {
    let owner = CartOwner { id: UserId::new(), is_guest: false };
    let cart = Arc::new(Cart { version: 1, updated_at: SystemClock.now(), ..Cart::empty(owner) });
    let commit = Commit {
        writes: vec![Write::Cart(Arc::clone(&cart))],
        events: vec![DomainEvent::Cart(cart, CartEvent::Cleared)],
        ..Commit::new(SystemClock.now(), Instant::now() + within)
    };
    match store.apply(vec![commit].into()).await {
        Ok(mut applied) => applied.outcomes.remove(0).map(drop),
        Err(error) => Err(error.into()),
    }
}

fn stock_write(product_id: ProductId, change: StockChange) -> Write {
    Write::Stock(StockWrite {
        product_id,
        change,
        expected_version: None,
        order_id: None,
        reference: None,
        reason: None,
    })
}

fn purchase(owner: CartOwner, version: u64, product: ProductId, attempt: u64) -> Commit {
    let cart = Arc::new(Cart { version, updated_at: SystemClock.now(), ..Cart::empty(owner) });
    let key = IdempotencyKey {
        owner: owner.id,
        key: format!("{version}-{attempt}").into(),
        fingerprint: [1; 32],
        received_at: SystemClock.now(),
    };
    Commit {
        writes: vec![Write::Cart(Arc::clone(&cart)), stock_write(product, StockChange::Reserve(1))],
        events: vec![DomainEvent::Cart(cart, CartEvent::Cleared)],
        idempotency_record: Some(IdempotencyRecord {
            key,
            body: StoredReplyBody::Ready("done".into()),
            about: None,
        }),
        ..Commit::new(SystemClock.now(), Instant::now() + DEADLINE)
    }
}

/// Buys unit after unit, each exactly once; returns the number of purchases.
async fn keep_buying(
    writer: CommitWriter,
    product: ProductId,
    counts: Arc<OutcomeCounts>,
    stop: Arc<AtomicBool>,
) -> (CartOwner, u64) {
    let owner = CartOwner { id: UserId::new(), is_guest: false };
    let (mut version, mut attempt) = (0, 0);
    let mut in_doubt = false;
    loop {
        if stop.load(Ordering::Acquire) && !in_doubt {
            return (owner, version);
        }
        let began = Instant::now();
        let outcome = writer.commit(purchase(owner, version + 1, product, attempt)).await;
        // An outcome may stay open until every commit of its batch has passed its deadline.
        let latest = if matches!(outcome, Err(CommitError::Unavailable | CommitError::Overloaded)) {
            DEADLINE
        } else {
            2 * DEADLINE
        };
        assert!(began.elapsed() < latest + SLACK, "{outcome:?} after {:?}", began.elapsed());
        match outcome {
            Ok(_) => {}
            Err(CommitError::Replayed(_)) if in_doubt => {}
            Err(CommitError::Unavailable | CommitError::Overloaded) => {
                counts.not_done.fetch_add(1, Ordering::AcqRel);
                // Only an answer resolves a doubt, so an unknown outcome keeps its key.
                attempt += u64::from(!in_doubt);
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            Err(CommitError::OutcomeUnknown) => {
                counts.unknown.fetch_add(1, Ordering::AcqRel);
                in_doubt = true;
                continue;
            }
            Err(error) => panic!("no other client uses this cart: {error:?}"),
        }
        counts.done.fetch_add(1, Ordering::AcqRel);
        (version, in_doubt) = (version + 1, false);
    }
}
