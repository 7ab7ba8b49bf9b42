//! The batching writer in front of the engine.

use std::{
    collections::HashSet,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, atomic::Ordering},
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use souk::{
    domain::{ids::UserId, inventory::StockChange},
    events::OutboxPosition,
    store::{
        Commit, CommitError, CommittedChanges, Store,
        writer::{CommitObserver, CommitWriter},
    },
};
use tokio::{runtime::Handle, task::JoinHandle};

use crate::{
    fixtures::{
        cart, cart_commit, commit, customer, events, key, remembered_response, stock, stock_level,
        stocked_product, with_response,
    },
    harness::Harness,
};

/// Records what it observes.
#[derive(Default)]
struct RecordingObserver {
    carts: Mutex<HashSet<(UserId, u64)>>,
    positions: Mutex<Vec<OutboxPosition>>,
}

impl CommitObserver for RecordingObserver {
    fn on_committed(&self, changes: &CommittedChanges) {
        self.carts.lock().unwrap().extend(&changes.carts);
        self.positions.lock().unwrap().extend(changes.events.iter().map(|event| event.position));
    }
}

fn start_recorded_writer(
    store: &Arc<dyn Store>,
) -> (CommitWriter, JoinHandle<()>, Arc<RecordingObserver>) {
    let observer = Arc::new(RecordingObserver::default());
    let (writer, task) = CommitWriter::start(
        &Handle::current(),
        Arc::clone(store),
        Arc::<RecordingObserver>::clone(&observer),
    );
    (writer, task, observer)
}

pub(crate) async fn concurrent_commits_get_their_own_outcomes(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 150).await;
    let (writer, task, observer) = start_recorded_writer(&store);
    let buyers: Vec<_> = (0..200)
        .map(|_| {
            let (writer, observer) = (writer.clone(), Arc::clone(&observer));
            tokio::spawn(async move {
                let cart = cart(customer(), 1);
                let mut buy = cart_commit(&cart);
                buy.writes.push(stock(id, StockChange::Reserve(1)));
                let outcome = writer.commit(buy).await;
                let notified = observer.carts.lock().unwrap().contains(&(cart.owner.id, 1));
                assert_eq!(notified, outcome.is_ok(), "the observer is notified before the caller");
                (cart, outcome)
            })
        })
        .collect();
    let mut sold = 0;
    for buyer in buyers {
        let (cart, outcome) = buyer.await.unwrap();
        let stored = store.find_cart(cart.owner.id).await.unwrap();
        match outcome {
            Ok(done) => {
                assert_eq!((stored, done.stock[0].product_id), (Some(cart), id));
                sold += 1;
            }
            Err(CommitError::InsufficientStock(short)) => {
                assert_eq!((stored, short[0].available), (None, 0))
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!((sold, stock_level(&*store, id).await.reserved), (150, 150));
    let stats = writer.stats();
    assert_eq!(stats.commits.load(Ordering::Relaxed), 200);
    let expected: Vec<OutboxPosition> =
        events(&*store).await.iter().skip(1).map(|event| event.position).collect();
    assert_eq!(*observer.positions.lock().unwrap(), expected, "the observer sees commit order");
    drop(writer);
    task.await.unwrap();
}

pub(crate) async fn concurrent_repeats_apply_once(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 100).await;
    let (writer, ..) = start_recorded_writer(&store);
    let key = key(customer().id, "key", 1);
    let buy = with_response(commit([stock(id, StockChange::Reserve(1))]), &key, "done");
    let repeats = (0..50).map(|_| {
        let (writer, buy) = (writer.clone(), buy.clone());
        tokio::spawn(async move { writer.commit(buy).await })
    });
    let mut done = 0;
    for repeat in repeats.collect::<Vec<_>>() {
        match repeat.await.unwrap() {
            Ok(_) => done += 1,
            Err(error) => assert_eq!(error, CommitError::Replayed(remembered_response("done"))),
        }
    }
    assert_eq!((done, stock_level(&*store, id).await.reserved), (1, 1));
}

pub(crate) async fn batch_size_is_limited_by_writes(harness: &dyn Harness) {
    const WRITES_PER_COMMIT: usize = 2100;
    let store = harness.open().await;
    let id = stocked_product(&*store, 0).await;
    let (writer, ..) = start_recorded_writer(&store);
    let large = || {
        commit(std::iter::repeat_with(|| stock(id, StockChange::Adjust(1))).take(WRITES_PER_COMMIT))
    };
    let outcomes = join_all((0..3).map(|_| writer.commit(large()))).await;
    let levels: Vec<u64> =
        outcomes.into_iter().map(|outcome| outcome.unwrap().stock[0].on_hand).collect();
    assert_eq!(levels, [2100, 4200, 6300], "commits apply in queue order");
    assert_eq!(writer.stats().batches.load(Ordering::Relaxed), 3);
}

pub(crate) async fn expired_commit_is_not_started(harness: &dyn Harness) {
    let store = harness.open().await;
    let (writer, ..) = start_recorded_writer(&store);
    let (late, good) = (cart(customer(), 1), cart(customer(), 1));
    let past = Commit { deadline: Instant::now() - Duration::from_millis(1), ..cart_commit(&late) };
    let (refused, applied) = tokio::join!(writer.commit(past), writer.commit(cart_commit(&good)));
    assert_eq!(refused, Err(CommitError::Overloaded));
    assert!(applied.is_ok());
    assert_eq!(store.find_cart(late.owner.id).await, Ok(None));
    assert_eq!(events(&*store).await.len(), 1);
}

pub(crate) async fn writer_ends_after_the_queue_is_applied(harness: &dyn Harness) {
    let store = harness.open().await;
    let (writer, task, _) = start_recorded_writer(&store);
    let carts: Vec<_> = (0..100).map(|_| cart(customer(), 1)).collect();
    let commits: Vec<_> = carts
        .iter()
        .map(|cart| {
            let (writer, commit) = (writer.clone(), cart_commit(cart));
            tokio::spawn(async move { writer.commit(commit).await })
        })
        .collect();
    drop(writer);
    task.await.unwrap();
    for commit in commits {
        assert!(commit.await.unwrap().is_ok());
    }
    assert_eq!(events(&*store).await.len(), carts.len());
}

pub(crate) async fn closed_writer_drains_its_queue_and_rejects_new_commits(harness: &dyn Harness) {
    let store = harness.open().await;
    let (writer, task, _) = start_recorded_writer(&store);
    let carts: Vec<_> = (0..50).map(|_| cart(customer(), 1)).collect();
    let mut waiting = join_all(carts.iter().map(|cart| writer.commit(cart_commit(cart))));
    // The first poll puts all commits into the queue.
    let _not_yet = poll_fn(|context| Poll::Ready(Pin::new(&mut waiting).poll(context))).await;
    writer.close();
    task.await.unwrap();
    assert!(!writer.is_running());
    assert!(waiting.await.iter().all(Result::is_ok));
    assert_eq!(
        writer.commit(cart_commit(&cart(customer(), 1))).await,
        Err(CommitError::Unavailable)
    );
    assert_eq!(events(&*store).await.len(), carts.len());
}

pub(crate) async fn closed_store_applies_nothing(harness: &dyn Harness) {
    let store = harness.open().await;
    let (writer, ..) = start_recorded_writer(&store);
    store.close().await;
    assert_eq!(
        writer.commit(cart_commit(&cart(customer(), 1))).await,
        Err(CommitError::Unavailable)
    );
}
