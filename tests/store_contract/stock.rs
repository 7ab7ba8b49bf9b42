//! Guarded stock changes: summed within a batch, never below zero.

use serde_json::{Value, json};
use souk::{
    domain::{
        cart::Shortage,
        ids::ProductId,
        inventory::{StockChange, StockLevel, StockMovement},
    },
    events::OutboxEvent,
    store::{CommitError, CommitReceipt, StockWrite, Store, Write},
};

use crate::{
    fixtures::{
        advance_over, apply, apply_one, commit, event_kinds, events, events_after, product,
        put_product, stock, stock_level, stocked_product,
    },
    harness::Harness,
};

async fn change(
    store: &dyn Store,
    id: ProductId,
    change: StockChange,
) -> Result<CommitReceipt, CommitError> {
    apply_one(store, commit([stock(id, change)])).await
}

fn out_of_stock<const N: usize>(
    shortages: [(ProductId, u64, u64); N],
) -> Result<CommitReceipt, CommitError> {
    let shortage =
        |(product_id, requested, available)| Shortage { product_id, requested, available };
    Err(CommitError::InsufficientStock(shortages.map(shortage).to_vec()))
}

/// The type, sequence and data of an event.
fn event_parts(event: &OutboxEvent) -> (String, Value, Value) {
    let body: Value = serde_json::from_slice(&event.body).unwrap();
    assert_eq!(body["type"], event.kind);
    (event.kind.clone(), body["sequence"].clone(), body["data"].clone())
}

pub(crate) async fn batch_makes_one_stock_version_and_one_event(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 100).await;
    let before = store.outbox_heads().await.unwrap();
    let changes = [
        StockChange::Reserve(3),
        StockChange::Adjust(10),
        StockChange::Reserve(2),
        StockChange::Release(1),
    ];
    let outcomes = apply(&*store, changes.map(|change| commit([stock(id, change)]))).await.outcomes;
    let after =
        StockLevel { product_id: id, on_hand: 110, reserved: 4, version: 2, last_movement: 5 };
    assert_eq!(outcomes, vec![Ok(CommitReceipt { stock: vec![after] }); 4]);
    assert_eq!(stock_level(&*store, id).await, after);
    let events = events_after(&*store, &before).await;
    let data =
        json!({"product_id": id, "on_hand": 110, "reserved": 4, "available": 106, "version": 2});
    assert_eq!(
        events.iter().map(event_parts).collect::<Vec<_>>(),
        [("inventory.stock.changed".into(), json!("2"), data)]
    );
    let movements = store.list_movements(id, None, 100).await.unwrap();
    let deltas: Vec<_> =
        movements.iter().rev().map(|m| (m.sequence, m.delta.on_hand, m.delta.reserved)).collect();
    assert_eq!(
        deltas,
        [(1, 100, 0), (2, 0, 3), (3, 10, 0), (4, 0, 2), (5, 0, -1)],
        "one movement per change"
    );
}

pub(crate) async fn shortage_reports_the_remaining_stock(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 5).await;
    let reservations = [3, 3, 2, 1].map(|n| commit([stock(id, StockChange::Reserve(n))]));
    let outcomes = apply(&*store, reservations).await.outcomes;
    assert!(outcomes[0].is_ok());
    assert_eq!(outcomes[1], out_of_stock([(id, 3, 2)]));
    assert!(outcomes[2].is_ok(), "a later commit gets the rest");
    assert_eq!(outcomes[3], out_of_stock([(id, 1, 0)]));
    assert_eq!(stock_level(&*store, id).await.available(), 0);
    assert_eq!(
        change(&*store, id, StockChange::Adjust(-1)).await,
        out_of_stock([(id, 1, 0)]),
        "reserved stock cannot be removed"
    );
    assert_eq!(change(&*store, id, StockChange::Set(4)).await, out_of_stock([(id, 1, 0)]));
    assert_eq!(store.list_movements(id, None, 100).await.unwrap().len(), 3);
}

pub(crate) async fn every_short_line_is_reported(harness: &dyn Harness) {
    let store = harness.open().await;
    let (tea, cup) = (stocked_product(&*store, 5).await, stocked_product(&*store, 5).await);
    let unknown = ProductId::new();
    let (kinds_before, tea_before, cup_before) = (
        event_kinds(&*store).await,
        stock_level(&*store, tea).await,
        stock_level(&*store, cup).await,
    );
    let writes =
        [(tea, 10), (cup, 1), (unknown, 3)].map(|(id, n)| stock(id, StockChange::Reserve(n)));
    assert_eq!(
        apply_one(&*store, commit(writes)).await,
        out_of_stock([(tea, 10, 5), (unknown, 3, 0)])
    );
    assert_eq!(
        (stock_level(&*store, tea).await, stock_level(&*store, cup).await),
        (tea_before, cup_before)
    );
    assert_eq!(event_kinds(&*store).await, kinds_before);
    let twice = [4, 4].map(|n| stock(tea, StockChange::Reserve(n)));
    assert_eq!(
        apply_one(&*store, commit(twice)).await,
        out_of_stock([(tea, 4, 1)]),
        "lines of one commit add up"
    );
}

pub(crate) async fn low_and_depleted_events_mark_the_transition(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 10).await;
    let mut cursor = store.outbox_heads().await.unwrap();
    let steps = [
        (StockChange::Reserve(4), None),
        (StockChange::Reserve(1), Some("inventory.stock.low")),
        (StockChange::Reserve(1), None),
        (StockChange::Reserve(4), Some("inventory.stock.depleted")),
        (StockChange::Adjust(1), None),
        (StockChange::Reserve(1), Some("inventory.stock.depleted")),
        (StockChange::Release(11), None),
        (StockChange::Set(0), Some("inventory.stock.depleted")),
    ];
    for (version, (step, warning)) in (2..).zip(steps) {
        change(&*store, id, step).await.unwrap();
        let new_events = events_after(&*store, &cursor).await;
        advance_over(&mut cursor, &new_events);
        let seen: Vec<_> = new_events
            .iter()
            .map(event_parts)
            .map(|(kind, sequence, _)| (kind, sequence))
            .collect();
        let expected = ["inventory.stock.changed"].into_iter().chain(warning);
        let expected: Vec<_> =
            expected.map(|kind| (kind.to_owned(), json!(version.to_string()))).collect();
        assert_eq!(seen, expected, "{step:?}");
    }
}

pub(crate) async fn no_op_stock_changes_leave_no_trace(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 7).await;
    let (before, events_before) = (stock_level(&*store, id).await, events(&*store).await);
    let nothing = [StockChange::Set(7), StockChange::Adjust(0), StockChange::Reserve(0)];
    for nothing in nothing {
        assert_eq!(
            change(&*store, id, nothing).await,
            Ok(CommitReceipt { stock: vec![before] }),
            "{nothing:?}"
        );
    }
    let there_and_back = [StockChange::Set(9), StockChange::Set(9), StockChange::Set(7)];
    assert!(
        apply(&*store, nothing.map(|n| commit([stock(id, n)])))
            .await
            .outcomes
            .iter()
            .all(Result::is_ok)
    );
    assert_eq!((stock_level(&*store, id).await, events(&*store).await), (before, events_before));
    apply(&*store, there_and_back.map(|n| commit([stock(id, n)]))).await;
    let after = StockLevel {
        version: before.version + 1,
        last_movement: before.last_movement + 2,
        ..before
    };
    assert_eq!(
        stock_level(&*store, id).await,
        after,
        "two opposite movements still make a version"
    );
}

pub(crate) async fn new_product_without_stock_has_no_stock_events(harness: &dyn Harness) {
    let store = harness.open().await;
    let tea = product(None);
    apply_one(&*store, commit([put_product(&tea), stock(tea.id, StockChange::Set(0))]))
        .await
        .unwrap();
    assert_eq!(stock_level(&*store, tea.id).await, StockLevel::empty(tea.id));
    assert_eq!(events(&*store).await, []);
}

pub(crate) async fn expected_stock_version_is_checked(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 10).await;
    let wanting = |version, by| {
        let change = StockChange::Adjust(by);
        let (order_id, reference, reason) = (None, None, None);
        commit([Write::Stock(StockWrite {
            product_id: id,
            change,
            expected_version: Some(version),
            order_id,
            reference,
            reason,
        })])
    };
    assert_eq!(apply_one(&*store, wanting(2, 1)).await, Err(CommitError::StockVersionMismatch(1)));
    assert!(apply_one(&*store, wanting(1, 1)).await.is_ok());
    let outcomes = apply(&*store, [wanting(2, 1), wanting(2, 1), wanting(1, 1)]).await.outcomes;
    assert!(outcomes[0].is_ok());
    assert_eq!(
        outcomes[1],
        Err(CommitError::StockVersionMismatch(3)),
        "the batch has already changed it"
    );
    assert_eq!(outcomes[2], Err(CommitError::StockVersionMismatch(3)));
    assert_eq!(stock_level(&*store, id).await.on_hand, 12);
}

pub(crate) async fn stock_overflow_is_rejected(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 10).await;
    for too_much in [
        StockChange::Adjust(i64::MAX),
        StockChange::Set(u64::MAX),
        StockChange::Adjust(1_000_000_000_000),
    ] {
        assert_eq!(
            change(&*store, id, too_much).await,
            Err(CommitError::StockOverflow),
            "{too_much:?}"
        );
    }
    assert_eq!(
        change(&*store, id, StockChange::Reserve(i64::MAX as u64)).await,
        out_of_stock([(id, i64::MAX as u64, 10)])
    );
    assert_eq!(stock_level(&*store, id).await.on_hand, 10);
}

pub(crate) async fn movements_are_paged_newest_first(harness: &dyn Harness) {
    let store = harness.open().await;
    let (id, other) = (stocked_product(&*store, 1).await, stocked_product(&*store, 1).await);
    for _ in 2..=25 {
        apply(&*store, [id, other].map(|id| commit([stock(id, StockChange::Adjust(1))]))).await;
    }
    let mut pages: Vec<Vec<StockMovement>> = Vec::new();
    let mut before = None;
    loop {
        let page = store.list_movements(id, before, 10).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.sequence);
        pages.push(page);
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    let sequences: Vec<u64> = pages.concat().iter().map(|movement| movement.sequence).collect();
    assert_eq!(sequences, (1..=25).rev().collect::<Vec<_>>());
    assert!(pages.concat().iter().all(|movement| movement.product_id == id));
    assert_eq!(store.list_movements(id, Some(u64::MAX), 1).await.unwrap()[0].sequence, 25);
}

pub(crate) async fn concurrent_batches_never_oversell(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 30).await;
    let buyers: Vec<_> = (0..50)
        .map(|_| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move { change(&*store, id, StockChange::Reserve(1)).await })
        })
        .collect();
    let mut sold = 0;
    for buyer in buyers {
        match buyer.await.unwrap() {
            Ok(_) => sold += 1,
            outcome => assert_eq!(outcome, out_of_stock([(id, 1, 0)])),
        }
    }
    let after = stock_level(&*store, id).await;
    assert_eq!((sold, after.on_hand, after.reserved, after.last_movement), (30, 30, 30, 31));
}
