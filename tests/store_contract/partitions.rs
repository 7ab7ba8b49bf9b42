//! The partitions of the outbox: each writer has one, and readers put them together.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mongodb::bson::{Document, Uuid, doc};
use serde_json::Value;
use souk::{
    domain::{
        catalog::product::Product,
        clock::{Clock, SystemClock, Timestamp},
        ids::ProductId,
        inventory::StockChange,
    },
    events::{OutboxCursor, OutboxEvent, OutboxPosition},
    store::{Commit, Condition, Store, writer::CommitWriter},
};
use tokio::time::{sleep, timeout};

use crate::{
    fixtures::{
        advance_over, apply_one, cart, cart_commit, commit, customer, events, order, order_commit,
        order_stock_write, product, product_commit, stock, stocked_product,
    },
    harness::{Harness, Mongo},
    nodes::{assert_in_order, start_node},
};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The last sequence of each subject, by family and subject.
#[derive(Default)]
struct Sequences {
    last: HashMap<(String, String), u64>,
}

impl Sequences {
    /// Asserts that each subject's sequence rises by one. A subject that is new starts anywhere.
    fn observe(&mut self, event: &OutboxEvent) {
        let (subject, sequence) = subject_and_sequence(event);
        if let Some(last) = self.last.insert(subject, sequence) {
            assert_eq!(sequence, last + 1, "{event:?}");
        }
    }
}

fn subject_and_sequence(event: &OutboxEvent) -> ((String, String), u64) {
    let body: Value = serde_json::from_slice(&event.body).unwrap();
    let family = event.kind.split('.').next().unwrap().to_owned();
    let sequence = body["sequence"].as_str().unwrap().parse().unwrap();
    ((family, body["subject"].as_str().unwrap().to_owned()), sequence)
}

/// Reads pages of at most `limit` events until all that was written before `is_done` is read.
async fn follow(
    store: Arc<dyn Store>,
    start: OutboxCursor,
    limit: u32,
    is_done: Arc<AtomicBool>,
) -> Vec<OutboxEvent> {
    let (mut cursor, mut read, mut sequences) = (start, Vec::new(), Sequences::default());
    loop {
        let is_last = is_done.load(Ordering::Acquire);
        let page = store.list_events_after(&cursor, limit).await.unwrap();
        assert!(page.events.len() <= limit as usize && !page.has_gap);
        advance_over(&mut cursor, &page.events);
        assert_eq!(page.end, cursor);
        page.events.iter().for_each(|event| sequences.observe(event));
        read.extend(page.events);
        if is_last && !page.has_more {
            return read;
        }
    }
}

/// Changes one cart again and again, at each node in turn. Every third change reserves a unit of
/// the tea, too, and so takes another lane.
async fn change_cart(writers: Vec<CommitWriter>, tea: ProductId, versions: u64) {
    let owner = customer();
    for version in 1..=versions {
        let mut change = cart_commit(&cart(owner, version));
        if version % 3 == 0 {
            change.writes.push(stock(tea, StockChange::Reserve(1)));
        }
        writers[version as usize % writers.len()].commit(change).await.unwrap();
    }
}

/// Changes one product again and again, at each node in turn.
async fn change_product(writers: Vec<CommitWriter>, versions: u64) {
    let first = product(None);
    for version in 1..=versions {
        let change = product_commit(&Product { version, ..first.clone() });
        writers[version as usize % writers.len()].commit(change).await.unwrap();
    }
}

/// Sorting events by partition and not by commit time in `read/outbox.rs` makes this test fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_rise_page_by_page_while_nodes_take_turns() {
    let Some(mongo) = Mongo::new().await else { return };
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(start_node(&mongo).await);
    }
    let reader = mongo.open().await;
    let tea = stocked_product(&*reader, 1_000_000).await;
    let is_done = Arc::new(AtomicBool::new(false));
    let follow = |start: OutboxCursor, limit| {
        tokio::spawn(follow(Arc::clone(&reader), start, limit, Arc::clone(&is_done)))
    };
    let mut whole = vec![follow(OutboxCursor::default(), 7), follow(OutboxCursor::default(), 64)];
    let writers = || nodes.iter().map(|(_, writer)| writer.clone()).collect::<Vec<_>>();
    let mut changes: Vec<_> =
        (0..12).map(|_| tokio::spawn(change_cart(writers(), tea, 40))).collect();
    changes.extend((0..4).map(|_| tokio::spawn(change_product(writers(), 40))));
    // Two readers start in the middle.
    let mut late = Vec::new();
    for limit in [7, 300] {
        sleep(Duration::from_millis(300)).await;
        let start = reader.outbox_heads().await.unwrap();
        late.push((start.clone(), follow(start, limit)));
    }
    for change in changes {
        change.await.unwrap();
    }
    is_done.store(true, Ordering::Release);
    // And some when all is written.
    whole.extend([1, 7, 256, 10_000].map(|limit| follow(OutboxCursor::default(), limit)));
    let mut all = None;
    for reading in whole {
        let mut read = reading.await.unwrap();
        assert_in_order(&read);
        read.sort_by_key(|event| event.position);
        assert_eq!(*all.get_or_insert_with(|| read.clone()), read);
    }
    let all = all.unwrap();
    let heads = reader.outbox_heads().await.unwrap();
    assert_eq!(heads.count_since(&OutboxCursor::default()), all.len() as u64);
    assert!(heads.positions().count() >= 6, "two partitions for each node: {heads}");
    for (start, reading) in late {
        let mut read = reading.await.unwrap();
        assert!(!read.is_empty() && read.len() < all.len(), "{start} is not in the middle");
        // What the reader reads continues what was before its start.
        let mut sequences = Sequences::default();
        for event in all.iter().filter(|event| start.has_read(event.position)) {
            let (subject, sequence) = subject_and_sequence(event);
            let last = sequences.last.entry(subject).or_default();
            *last = sequence.max(*last);
        }
        read.iter().for_each(|event| sequences.observe(event));
        read.sort_by_key(|event| event.position);
        let rest: Vec<_> =
            all.iter().filter(|event| !start.has_read(event.position)).cloned().collect();
        assert_eq!(read, rest);
    }
    mongo.drop_database().await;
}

/// The system's clock, moved by some milliseconds.
struct SkewedClock(i64);

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(SystemClock.now().as_millis() + self.0)
    }
}

/// Taking the commit time from the node's clock alone makes this test fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_of_events_does_not_depend_on_clocks() {
    const HOUR: i64 = 3_600_000;
    let Some(mongo) = Mongo::new().await else { return };
    let mut nodes = Vec::new();
    for skew in [HOUR, -HOUR, 0] {
        nodes.push(mongo.open_with_clock(Arc::new(SkewedClock(skew))).await);
    }
    let (owner, tea) = (customer(), product(None));
    for version in 1..=12_u64 {
        let node = &*nodes[version as usize % 3];
        apply_one(node, cart_commit(&cart(owner, version))).await.unwrap();
        let change = product_commit(&Product { version, ..tea.clone() });
        apply_one(node, change).await.unwrap();
        let count = StockChange::Set(1000 + version);
        apply_one(node, commit([stock(tea.id, count)])).await.unwrap();
        // An order that the next node takes on what this one has changed.
        let mut bought = order(customer().id);
        bought.lines[0].product_id = tea.id;
        bought.lines[0].quantity = 1;
        let mut buy = Commit {
            conditions: vec![Condition::ProductUnchanged(tea.id, version)],
            ..order_commit(&bought)
        };
        buy.writes.push(order_stock_write(&bought, StockChange::Reserve));
        apply_one(&*nodes[(version as usize + 1) % 3], buy).await.unwrap();
    }
    for (node, limit) in nodes.iter().zip([1, 7, 1000]) {
        let is_done = Arc::new(AtomicBool::new(true));
        let read = follow(Arc::clone(node), OutboxCursor::default(), limit, is_done).await;
        assert_in_order(&read);
        let (mut product_version, mut placed) = (0, 0);
        for event in &read {
            let ((family, _), sequence) = subject_and_sequence(event);
            match &*family {
                "catalog" => product_version = sequence,
                "order" => {
                    placed += 1;
                    assert_eq!(product_version, placed, "an order directly follows its product");
                }
                _ => {}
            }
        }
        assert_eq!(placed, 12);
    }
    mongo.drop_database().await;
}

/// Every commit writes a cart once, so a transaction that is aborted and repeated adds writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_do_not_abort_each_others_transactions() {
    let Some(mongo) = Mongo::new().await else { return };
    let nodes = [start_node(&mongo).await, start_node(&mongo).await];
    let database = mongo.raw_database();
    let profile = doc! { "create": "system.profile", "capped": true, "size": 64 << 20 };
    database.run_command(profile).await.unwrap();
    database.run_command(doc! { "profile": 2 }).await.unwrap();
    let changes = (0..24).map(|n: usize| {
        let writer = nodes[n % 2].1.clone();
        tokio::spawn(async move {
            let owner = customer();
            for version in 1..=25 {
                writer.commit(cart_commit(&cart(owner, version))).await.unwrap();
            }
        })
    });
    for change in changes.collect::<Vec<_>>() {
        change.await.unwrap();
    }
    database.run_command(doc! { "profile": 0 }).await.unwrap();
    let written = doc! { "ns": format!("{}.carts", database.name()) };
    let sum = doc! { "$sum": { "$add": [
        { "$ifNull": ["$ninserted", 0] }, { "$ifNull": ["$nModified", 0] },
    ] } };
    let sum = vec![doc! { "$match": written }, doc! { "$group": { "_id": null, "writes": sum } }];
    let profile = database.collection::<Document>("system.profile");
    let mut sums = profile.aggregate(sum).await.unwrap();
    assert!(sums.advance().await.unwrap());
    let writes = sums.deserialize_current().unwrap().get_i32("writes").unwrap();
    let batches: u64 =
        nodes.iter().map(|(_, writer)| writer.stats().batches.load(Ordering::Relaxed)).sum();
    assert!(batches >= 50, "{batches} batches");
    assert_eq!(writes, 24 * 25, "no transaction was repeated");
    mongo.drop_database().await;
}

/// The partitions and the nodes that have them.
async fn owners(mongo: &Mongo) -> Vec<(u32, Option<Uuid>)> {
    let outbox = mongo.raw_database().collection::<Document>("outbox");
    let mut heads = outbox.find(doc! { "_id": { "$type": "object" } }).await.unwrap();
    let mut owners = Vec::new();
    while heads.advance().await.unwrap() {
        let head = heads.deserialize_current().unwrap();
        let number = head.get_document("_id").unwrap().get("partition").unwrap();
        let number = number.as_i64().or(number.as_i32().map(i64::from)).unwrap();
        let node = match head.get("node") {
            Some(mongodb::bson::Bson::Binary(node)) => Some(node.to_uuid().unwrap()),
            _ => None,
        };
        owners.push((number.try_into().unwrap(), node));
    }
    owners.sort_by_key(|(number, _)| *number);
    owners
}

/// Writes a cart in each lane; returns the positions of the events.
async fn write_in_each_lane(store: &dyn Store) -> Vec<OutboxPosition> {
    let mut positions = Vec::new();
    for lane in 0..store.write_lanes() {
        let batch = vec![cart_commit(&cart(customer(), 1))];
        let applied = store.apply_in_lane(lane, batch.into()).await.unwrap();
        assert!(applied.outcomes[0].is_ok());
        positions.push(applied.changes.events[0].position);
    }
    positions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_claimed_again() {
    let Some(mongo) = Mongo::new().await else { return };
    let mut lanes = 0;
    for round in 1..=3 {
        let store = mongo.open().await;
        lanes = store.write_lanes();
        let positions = write_in_each_lane(&*store).await;
        let expected: Vec<_> = (0..lanes as u32)
            .map(|partition| OutboxPosition { partition, offset: round })
            .collect();
        assert_eq!(positions, expected, "the offsets go on");
        store.close().await;
        assert!(owners(&mongo).await.iter().all(|(_, node)| node.is_none()));
    }
    let stores = [mongo.open().await, mongo.open().await];
    let mut partitions = Vec::new();
    for store in &stores {
        partitions.extend(write_in_each_lane(&**store).await.iter().map(|at| at.partition));
        partitions.extend(write_in_each_lane(&**store).await.iter().map(|at| at.partition));
    }
    partitions.sort_unstable();
    partitions.dedup();
    assert_eq!(partitions, (0..2 * lanes as u32).collect::<Vec<_>>(), "each writer has one");
    let owners = owners(&mongo).await;
    assert_eq!(owners.len(), 2 * lanes);
    let distinct: std::collections::BTreeSet<_> =
        owners.iter().map(|(_, node)| node.unwrap().bytes()).collect();
    assert_eq!(distinct.len(), 2, "{owners:?}");
    assert_in_order(&events(&*stores[0]).await);
    mongo.drop_database().await;
}

/// A node that seemed dead goes on after others have claimed its partitions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_without_its_partition_claims_another() {
    let Some(mongo) = Mongo::new().await else { return };
    let (owner, outbox) = (customer(), mongo.raw_database().collection::<Document>("outbox"));
    let robbed = mongo.open().await;
    let mut version = 0;
    let mut change = async |store: &dyn Store| {
        version += 1;
        let applied = timeout(TIMEOUT, store.apply([cart_commit(&cart(owner, version))].into()));
        let applied = applied.await.expect("the writer is stuck").unwrap();
        assert!(applied.outcomes[0].is_ok(), "{:?}", applied.outcomes);
        applied.changes.events[0].position
    };
    assert_eq!(change(&*robbed).await, OutboxPosition { partition: 0, offset: 1 });
    // Another node takes it and moves its head.
    let free = doc! { "$set": { "node": null } };
    outbox.update_many(doc! { "_id": { "$type": "object" } }, free).await.unwrap();
    let other = mongo.open().await;
    assert_eq!(change(&*other).await, OutboxPosition { partition: 0, offset: 2 });
    assert_eq!(change(&*robbed).await, OutboxPosition { partition: 1, offset: 1 });
    assert_eq!(change(&*other).await, OutboxPosition { partition: 0, offset: 3 });
    assert_eq!(change(&*robbed).await, OutboxPosition { partition: 1, offset: 2 });
    // Or takes it and has not written yet.
    let taken = doc! { "$set": { "node": Uuid::new() } };
    outbox.update_one(doc! { "_id": { "partition": 1_i64 } }, taken).await.unwrap();
    assert_eq!(change(&*robbed).await, OutboxPosition { partition: 2, offset: 1 });
    // Or only the head has moved, as a commit of which the writer knows nothing would do it.
    let moved = doc! { "$set": { "node": Uuid::new() }, "$inc": { "last": 1_i64 } };
    outbox.update_one(doc! { "_id": { "partition": 2_i64 } }, moved).await.unwrap();
    assert_eq!(change(&*robbed).await, OutboxPosition { partition: 3, offset: 1 });
    let stored = other.find_cart(owner.id).await.unwrap().unwrap();
    let read = events(&*other).await;
    assert_eq!((stored.version, read.len()), (7, 7), "nothing is lost");
    assert_in_order(&read);
    mongo.drop_database().await;
}

/// As after a failover, when the first node that is back takes the others for dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_a_node_do_not_share_a_partition() {
    let Some(mongo) = Mongo::new().await else { return };
    let outbox = mongo.raw_database().collection::<Document>("outbox");
    let store = mongo.open().await;
    let last_lane = store.write_lanes() - 1;
    for _ in 0..3 {
        write_in_each_lane(&*store).await;
        let free = doc! { "$set": { "node": null } };
        outbox.update_many(doc! { "_id": { "$type": "object" } }, free).await.unwrap();
        // The last lane is the first to write, and claims the first partition.
        let batch = vec![cart_commit(&cart(customer(), 1))];
        store.apply_in_lane(last_lane, batch.into()).await.unwrap();
        let mut used: Vec<u32> =
            write_in_each_lane(&*store).await.iter().map(|at| at.partition).collect();
        used.sort_unstable();
        assert_eq!(used, (0..store.write_lanes() as u32).collect::<Vec<_>>());
    }
    assert_in_order(&events(&*store).await);
    mongo.drop_database().await;
}
