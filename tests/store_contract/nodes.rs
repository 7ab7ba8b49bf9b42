//! Several nodes on one database, which only the MongoDB store supports.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use souk::{
    domain::{
        cart::CartOwner,
        catalog::product::Product,
        ids::{ProductId, UserId},
        inventory::StockChange,
        money::Money,
        order::OrderFilter,
    },
    events::{OutboxCursor, OutboxEvent},
    store::{Commit, CommitError, CommitOutcome, Condition, Store, writer::CommitWriter},
};
use tokio::{runtime::Handle, sync::watch};

use crate::{
    fixtures::{
        advance_over, apply_one, cart, cart_commit, commit, customer, euro, events, key, order,
        order_commit, order_stock_write, product, product_commit, put_cart, put_user,
        remembered_response, stock, stock_level, stocked_product, user, with_response,
    },
    harness::{Harness, Mongo, NoopObserver},
};

/// A store with its batching writer.
pub(crate) async fn start_node(mongo: &Mongo) -> (Arc<dyn Store>, CommitWriter) {
    let store = mongo.open().await;
    let (writer, _) =
        CommitWriter::start(&Handle::current(), Arc::clone(&store), Arc::new(NoopObserver));
    (store, writer)
}

/// Commits concurrently; outcomes are in the order of the commits.
pub(crate) async fn commit_concurrently(
    commits: Vec<(CommitWriter, Commit)>,
) -> Vec<CommitOutcome> {
    let tasks: Vec<_> = commits
        .into_iter()
        .map(|(writer, commit)| tokio::spawn(async move { writer.commit(commit).await }))
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

/// Asserts that the events are consecutive in each partition from the first one on, and that every
/// subject's sequence rises by one in their order.
pub(crate) fn assert_in_order(events: &[OutboxEvent]) {
    advance_over(&mut OutboxCursor::default(), events);
    let mut last: HashMap<(String, String), u64> = HashMap::new();
    for event in events {
        let body: Value = serde_json::from_slice(&event.body).unwrap();
        let family = event.kind.split('.').next().unwrap().to_owned();
        let sequence: u64 = body["sequence"].as_str().unwrap().parse().unwrap();
        let last = last.entry((family, body["subject"].as_str().unwrap().to_owned())).or_default();
        let repeats =
            matches!(event.kind.as_str(), "inventory.stock.low" | "inventory.stock.depleted");
        assert_eq!(sequence, *last + u64::from(!repeats), "{event:?}");
        *last = sequence;
    }
}

/// Reads the outbox until it has `count` events; no event may appear before the ones already read.
async fn follow_outbox(store: Arc<dyn Store>, count: usize) -> Vec<OutboxEvent> {
    let (mut read, mut cursor) = (Vec::new(), OutboxCursor::default());
    while read.len() < count {
        let heads = store.outbox_heads().await.unwrap();
        let page = store.list_events_after(&cursor, 64).await.unwrap();
        assert!(page.has_more || page.end.covers(&heads), "announced events are readable");
        assert!(!page.has_more || !page.events.is_empty(), "every page but the last has events");
        advance_over(&mut cursor, &page.events);
        assert_eq!(page.end, cursor);
        read.extend(page.events);
    }
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_never_oversell_together() {
    let Some(mongo) = Mongo::new().await else { return };
    let nodes = [start_node(&mongo).await, start_node(&mongo).await];
    let id = stocked_product(&*nodes[0].0, 300).await;
    let buyers: Vec<_> = (0..400)
        .map(|n: usize| {
            let mut buy = cart_commit(&cart(customer(), 1));
            buy.writes.push(stock(id, StockChange::Reserve(1)));
            (nodes[n % 2].1.clone(), buy)
        })
        .collect();
    let outcomes = commit_concurrently(buyers).await;
    let sold = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(
        outcomes.iter().all(|o| matches!(o, Ok(_) | Err(CommitError::InsufficientStock(_)))),
        "{outcomes:?}"
    );
    let stock_level = stock_level(&*nodes[1].0, id).await;
    assert_eq!((sold, stock_level.reserved, stock_level.available()), (300, 300, 0));
    let movements = nodes[0].0.list_movements(id, None, 1000).await.unwrap();
    assert_eq!(
        movements.iter().rev().map(|m| m.sequence).collect::<Vec<_>>(),
        (1..=301).collect::<Vec<_>>()
    );
    assert_in_order(&events(&*nodes[0].0).await);
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_do_not_conflict_on_separate_records() {
    let Some(mongo) = Mongo::new().await else { return };
    let nodes = [start_node(&mongo).await, start_node(&mongo).await];
    let followed = tokio::spawn(follow_outbox(mongo.open().await, 600));
    let tasks: Vec<_> = (0..30)
        .map(|n: usize| {
            let writer = nodes[n % 2].1.clone();
            tokio::spawn(async move {
                let owner = customer();
                for version in 1..=20 {
                    let outcome = writer.commit(cart_commit(&cart(owner, version))).await;
                    assert!(outcome.is_ok(), "no other client uses this cart: {outcome:?}");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut read = followed.await.unwrap();
    assert_in_order(&read);
    let mut later = events(&*nodes[0].0).await;
    assert_in_order(&later);
    // Carts are independent, so their events may be in another order, but they are the same.
    read.sort_by_key(|event| event.position);
    later.sort_by_key(|event| event.position);
    assert_eq!(read, later);
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_nodes_wins_the_same_version() {
    let Some(mongo) = Mongo::new().await else { return };
    let nodes = [start_node(&mongo).await, start_node(&mongo).await];
    for quiet in [false, true] {
        let owner = customer();
        for version in 1..=40 {
            // Without events, only the cart itself can cause the conflict.
            let put = |cart| if quiet { commit([put_cart(&cart)]) } else { cart_commit(&cart) };
            let both = nodes
                .iter()
                .map(|(_, writer)| (writer.clone(), put(cart(owner, version))))
                .collect();
            let mut outcomes = commit_concurrently(both).await;
            outcomes.sort_by_key(Result::is_err);
            assert!(matches!(outcomes[..], [Ok(_), Err(CommitError::Conflict)]), "{outcomes:?}");
        }
        assert_eq!(nodes[0].0.find_cart(owner.id).await.unwrap().unwrap().version, 40);
    }
    mongo.drop_database().await;
}

/// Places an order for `user` as a checkout does, on the newest version of the cart.
async fn check_out(
    (store, writer): &(Arc<dyn Store>, CommitWriter),
    owner: CartOwner,
    has_events: bool,
) -> CommitOutcome {
    loop {
        let version = store.find_cart(owner.id).await.unwrap().map_or(1, |cart| cart.version + 1);
        let place = order_commit(&order(owner.id));
        let facts = if has_events { place.events.clone() } else { Vec::new() };
        let mut place = Commit {
            conditions: vec![Condition::PendingOrdersBelow(owner.id, 5)],
            events: facts,
            ..place
        };
        place.writes.push(put_cart(&cart(owner, version)));
        match writer.commit(place).await {
            Err(CommitError::Conflict) => {}
            outcome => return outcome,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_orders_are_limited_across_nodes() {
    let Some(mongo) = Mongo::new().await else { return };
    let nodes = [start_node(&mongo).await, start_node(&mongo).await];
    for _ in 0..5 {
        let owner = customer();
        // Some commits have no events, so that nothing but the cart causes a conflict.
        let attempts = (0..40_usize).map(|n| {
            let node = nodes[n % 2].clone();
            tokio::spawn(async move { check_out(&node, owner, !n.is_multiple_of(3)).await })
        });
        let mut outcomes = Vec::new();
        for attempt in attempts.collect::<Vec<_>>() {
            outcomes.push(attempt.await.unwrap());
        }
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 5);
        assert!(
            outcomes
                .into_iter()
                .filter_map(Result::err)
                .all(|error| error == CommitError::TooManyPendingOrders)
        );
        assert_eq!(
            nodes[0].0.list_orders(OrderFilter::of_user(owner.id), None, 50).await.unwrap().len(),
            5
        );
    }
    mongo.drop_database().await;
}

/// Buys the product on the last version that it knows, until it has seen `last`. Counts the orders
/// in `sold`.
async fn buy_while_repriced(
    (store, writer): (Arc<dyn Store>, CommitWriter),
    tea: ProductId,
    acknowledged: Arc<AtomicU64>,
    sold: watch::Sender<u64>,
    last: u64,
) {
    let mut seen = 1;
    while seen < last {
        // The price records the version on which the order was decided.
        let mut bought = order(UserId::new());
        bought.lines[0].product_id = tea;
        bought.lines[0].unit_price = Money::from_minor_units(seen as i64, euro()).unwrap();
        let mut buy = Commit {
            conditions: vec![Condition::ProductUnchanged(tea, seen)],
            ..order_commit(&bought)
        };
        buy.writes.push(order_stock_write(&bought, StockChange::Reserve));
        let current = acknowledged.load(Ordering::Acquire);
        match writer.commit(buy).await {
            Ok(_) => {
                assert!(seen >= current, "an order at price {seen} after {current} was confirmed");
                sold.send_modify(|sold| *sold += 1);
            }
            Err(error) => {
                assert_eq!(error, CommitError::Conflict);
                seen = store.find_product(tea).await.unwrap().unwrap().0.version;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_is_not_placed_on_a_stale_product_version() {
    const VERSIONS: u64 = 60;
    let Some(mongo) = Mongo::new().await else { return };
    let nodes = [start_node(&mongo).await, start_node(&mongo).await];
    let tea = product(None);
    let stocked = product_commit(&tea);
    let writes =
        [stocked.writes.clone(), vec![stock(tea.id, StockChange::Set(1_000_000))]].concat();
    apply_one(&*nodes[0].0, Commit { writes, ..stocked }).await.unwrap();
    let acknowledged = Arc::new(AtomicU64::new(1));
    let (sold, mut sales) = watch::channel(0);
    let buyers: Vec<_> = nodes
        .iter()
        .map(|node| {
            let acknowledged = Arc::clone(&acknowledged);
            let sold = sold.clone();
            tokio::spawn(buy_while_repriced(node.clone(), tea.id, acknowledged, sold, VERSIONS))
        })
        .collect();
    for version in 2..=VERSIONS {
        // A price that never rests would be stale in every order.
        sales.wait_for(|sold| *sold >= version / 10).await.unwrap();
        let repriced = product_commit(&Product { version, ..tea.clone() });
        nodes[0].1.commit(repriced).await.unwrap();
        acknowledged.store(version, Ordering::Release);
    }
    for buyer in buyers {
        buyer.await.unwrap();
    }
    let sold = *sales.borrow();
    let (mut current, mut placed) = (0, 0_u64);
    for event in events(&*nodes[0].0).await {
        let body: Value = serde_json::from_slice(&event.body).unwrap();
        if event.kind == "order.placed" {
            let price = body["data"]["items"][0]["unit_price"].as_f64().unwrap();
            assert_eq!(
                (price * 100.0).round() as u64,
                current,
                "no order uses an older version than a preceding change"
            );
            placed += 1;
        } else if event.kind.starts_with("catalog.") {
            current = body["data"]["version"].as_u64().unwrap();
        }
    }
    assert_eq!((placed, current), (sold, VERSIONS));
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emails_and_skus_are_unique_across_nodes() {
    let Some(mongo) = Mongo::new().await else { return };
    let nodes = [start_node(&mongo).await, start_node(&mongo).await];
    for n in 0..30 {
        let address = format!("ada{n}@example.com");
        let registrations = nodes
            .iter()
            .map(|(_, writer)| (writer.clone(), commit([put_user(&user(&address))])))
            .collect();
        let mut outcomes = commit_concurrently(registrations).await;
        outcomes.sort_by_key(Result::is_err);
        assert!(matches!(outcomes[..], [Ok(_), Err(CommitError::EmailTaken)]), "{outcomes:?}");
        let sku = format!("TEA-{n}");
        let products = nodes
            .iter()
            .map(|(_, writer)| (writer.clone(), product_commit(&product(Some(&sku)))))
            .collect();
        let mut outcomes = commit_concurrently(products).await;
        outcomes.sort_by_key(Result::is_err);
        assert!(matches!(outcomes[..], [Ok(_), Err(CommitError::SkuTaken)]), "{outcomes:?}");
    }
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idempotency_key_counts_on_every_node() {
    let Some(mongo) = Mongo::new().await else { return };
    let nodes = [start_node(&mongo).await, start_node(&mongo).await];
    let id = stocked_product(&*nodes[0].0, 1000).await;
    for n in 0..30 {
        let key = key(customer().id, &format!("key {n}"), 1);
        let buy = with_response(commit([stock(id, StockChange::Reserve(1))]), &key, "done");
        let repeats = (0..6).map(|n: usize| (nodes[n % 2].1.clone(), buy.clone())).collect();
        let outcomes = commit_concurrently(repeats).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        let again = CommitError::Replayed(remembered_response("done"));
        assert!(
            outcomes
                .iter()
                .filter_map(|outcome| outcome.as_ref().err())
                .all(|error| *error == again),
            "{outcomes:?}"
        );
    }
    assert_eq!(stock_level(&*nodes[1].0, id).await.reserved, 30);
    mongo.drop_database().await;
}

#[test]
fn reads_do_not_depend_on_the_callers_runtime() {
    static SHUTDOWN_PANICS: AtomicUsize = AtomicUsize::new(0);
    let drivers =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let Some(mongo) = drivers.block_on(Mongo::new()) else { return };
    let store = drivers.block_on(mongo.open());
    let previous_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        SHUTDOWN_PANICS.fetch_add(
            usize::from(panic.to_string().contains("is being shutdown")),
            Ordering::Relaxed,
        );
        previous_hook(panic);
    }));
    for _ in 0..20 {
        let asking = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        asking.block_on(async {
            let mut read = std::pin::pin!(store.outbox_heads());
            assert!(futures_util::poll!(&mut read).is_pending());
        });
    }
    // The server answers the abandoned reads first.
    for _ in 0..20 {
        drivers.block_on(store.outbox_heads()).unwrap();
    }
    assert_eq!(
        SHUTDOWN_PANICS.load(Ordering::Relaxed),
        0,
        "a read uses the timer of its own runtime"
    );
    drivers.block_on(mongo.drop_database());
}
