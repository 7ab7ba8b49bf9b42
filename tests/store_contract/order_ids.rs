//! Leases for order ids: no two processes make ids with the same number.

use std::{collections::HashSet, time::Duration};

use mongodb::bson::{DateTime, Document, doc};
use souk::{
    domain::{
        clock::Timestamp,
        ids::{OrderId, UserId},
        order::{ORDER_ID_WORKERS, Order, OrderIdGenerator, OrderIdLease, OrderNumber},
    },
    store::StoreUnavailable,
};
use uuid::Uuid;

use crate::{
    fixtures::{apply_one, now, order, order_commit},
    harness::{Harness, Mongo},
};

const HOUR: Duration = Duration::from_secs(3600);

fn millisecond_of(id: OrderId) -> Timestamp {
    Timestamp::from_millis(i64::try_from(id.as_uuid().as_u128() >> 80).unwrap())
}

fn first_id(lease: OrderIdLease) -> OrderId {
    let mut generator = OrderIdGenerator::default();
    generator.renew(lease);
    generator.next_id(lease.from, 0).unwrap()
}

pub(crate) async fn restarted_process_repeats_no_order_number(harness: &dyn Harness) {
    let mut numbers = HashSet::new();
    let start = now();
    // The clock stands still, goes on, is set back and set ahead while the shop is down.
    let [back, ahead] = [start.saturating_sub(HOUR), start.saturating_add(HOUR)];
    let soon = start.saturating_add(Duration::from_millis(1));
    for clock in [start, start, soon, back, back, ahead, start, ahead] {
        let store = harness.open().await;
        let lease = store.lease_order_ids(clock).await.unwrap();
        assert!(lease.from >= clock && lease.from < lease.until, "{lease:?} at {clock}");
        // Without randomness, only the lease tells ids apart.
        let id = first_id(lease);
        assert!(numbers.insert(OrderNumber::of(id)), "{lease:?} at {clock}");
        let placed = Order { id, ..order(UserId::new()) };
        apply_one(&*store, order_commit(&placed)).await.unwrap();
        store.close().await;
    }
}

pub(crate) async fn first_lease_begins_after_older_orders(harness: &dyn Harness) {
    let store = harness.open().await;
    // An order of an earlier version, by a clock that was ahead: its number has any bits.
    let ahead = now().saturating_add(HOUR).as_millis();
    let id = OrderId::from(Uuid::from_u64_pair(ahead.unsigned_abs() << 16 | 0x7abc, u64::MAX / 3));
    apply_one(&*store, order_commit(&Order { id, ..order(UserId::new()) })).await.unwrap();
    let lease = store.lease_order_ids(now()).await.unwrap();
    assert!(lease.from > millisecond_of(id), "{lease:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_of_nodes_do_not_overlap() {
    let Some(mongo) = Mongo::new().await else { return };
    let (first, second) = tokio::join!(mongo.open(), mongo.open());
    let start = now();
    let mut leases: Vec<OrderIdLease> = Vec::new();
    // The clocks of the two differ, and their nodes take leases at once, and again later.
    let behind = start.saturating_sub(HOUR);
    for minutes in [0, 1, 5, 10, 11, 70, 130] {
        let after = Duration::from_secs(60 * minutes);
        let times = [start, start, behind, start, behind].map(|time| time.saturating_add(after));
        let taken = times.into_iter().enumerate().map(|(number, from)| {
            let store = if number % 2 == 0 { &first } else { &second };
            store.lease_order_ids(from)
        });
        let taken = futures_util::future::join_all(taken).await;
        leases.extend(taken.into_iter().map(Result::unwrap));
    }
    for (at, lease) in leases.iter().enumerate() {
        let others = leases.iter().take(at).filter(|other| other.worker == lease.worker);
        for other in others {
            let is_disjoint = lease.until <= other.from || other.until <= lease.from;
            assert!(is_disjoint, "{lease:?} {other:?}");
        }
    }
    let workers: HashSet<u64> = leases.iter().map(|lease| lease.worker).collect();
    assert!(workers.len() < leases.len(), "worker numbers are used again");
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_processes_than_worker_numbers_place_no_orders() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    let start = now();
    let workers = mongo.raw_database().collection::<Document>("order_id_workers");
    let until = |time: Timestamp| DateTime::from_millis(time.as_millis());
    let last = i64::try_from(ORDER_ID_WORKERS - 1).unwrap();
    let taken = doc! { "_id": last, "until": until(start.saturating_add(HOUR)) };
    workers.insert_one(taken).await.unwrap();
    assert_eq!(store.lease_order_ids(start).await, Err(StoreUnavailable));
    let free = doc! { "_id": 7_i64, "until": until(start) };
    workers.insert_one(free).await.unwrap();
    let lease = store.lease_order_ids(start).await.unwrap();
    assert_eq!((lease.worker, lease.from), (7, start));
    mongo.drop_database().await;
}
