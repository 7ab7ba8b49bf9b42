//! Events exist if and only if their change is committed, in commit order, and are kept long enough
//! to catch up.

use std::{sync::Arc, time::Duration};

use souk::{
    domain::{
        account::RevocationReason,
        cart::{Cart, CartEvent},
        ids::SessionId,
        inventory::StockChange,
    },
    events::{Audience, DomainEvent, OutboxCursor, OutboxEvent, OutboxPosition},
    messages::command_context::TraceParent,
    store::{Commit, Store},
};
use tokio::time::{sleep, timeout};

use crate::{
    fixtures::{
        advance_over, apply, apply_one, cart, cart_commit, commit, customer, event_kinds, events,
        product, product_commit, put_cart, put_user, stock, user,
    },
    harness::Harness,
};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

pub(crate) async fn events_keep_commit_order_across_a_restart(harness: &dyn Harness) {
    let store = harness.open().await;
    let owner = customer();
    let (first, second, third) = (cart(owner, 1), cart(owner, 2), cart(owner, 3));
    let cleared = Commit {
        events: vec![DomainEvent::Cart(Arc::new(second.clone()), CartEvent::Cleared)],
        ..commit([put_cart(&Cart { lines: vec![], ..second.clone() })])
    };
    let tea = product(None);
    let stale = cart_commit(&second);
    let batch = [
        cart_commit(&first),
        product_commit(&tea),
        cleared,
        stale,
        commit([stock(tea.id, StockChange::Set(9))]),
    ];
    let outcomes = apply(&*store, batch).await.outcomes;
    assert_eq!(
        outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, true, true, false, true]
    );
    store.close().await;
    let store = harness.open().await;
    let mut read = OutboxCursor::default();
    advance_over(&mut read, &events(&*store).await);
    assert_eq!(
        (read.count_since(&OutboxCursor::default()), store.outbox_heads().await),
        (4, Ok(read))
    );
    apply_one(&*store, cart_commit(&third)).await.unwrap();
    let expected = [
        "cart.item.added",
        "catalog.product.created",
        "cart.cleared",
        "inventory.stock.changed",
        "cart.item.added",
    ];
    assert_eq!(event_kinds(&*store).await, expected);
    advance_over(&mut OutboxCursor::default(), &events(&*store).await);
}

pub(crate) async fn events_are_read_back_unchanged(harness: &dyn Harness) {
    let store = harness.open().await;
    let (ada, mine, tea) = (user("ada@example.com"), cart(customer(), 1), product(Some("\"'\\")));
    let trace = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let revoked = DomainEvent::SessionRevoked {
        user_id: ada.id,
        session_id: SessionId::new(),
        reason: RevocationReason::Logout,
        sequence: 2,
    };
    let registered = DomainEvent::UserRegistered(Arc::new(ada.clone()));
    let batch = [
        Commit { events: vec![registered, revoked], ..commit([put_user(&ada)]) },
        Commit { trace: trace.clone(), ..cart_commit(&mine) },
        product_commit(&tea),
    ];
    let committed = apply(&*store, batch).await.changes.events;
    assert_eq!(events(&*store).await, committed);
    let audiences: Vec<Audience> = committed.iter().map(|event| event.audience).collect();
    assert_eq!(
        audiences,
        [
            Audience::BrokerOnly,
            Audience::BrokerOnly,
            Audience::Owner(mine.owner.id),
            Audience::Everyone
        ]
    );
    let body: serde_json::Value = serde_json::from_slice(&committed[2].body).unwrap();
    assert_eq!(body["traceparent"], trace.unwrap().as_str());
    assert_eq!(body["id"], committed[2].id.to_string());
    store.close().await;
    assert_eq!(events(&*harness.open().await).await, committed, "events do not change");
}

pub(crate) async fn events_are_paged(harness: &dyn Harness) {
    let store = harness.open().await;
    let owner = customer();
    apply(&*store, (1..=25).map(|version| cart_commit(&cart(owner, version)))).await;
    let all = events(&*store).await;
    let heads = store.outbox_heads().await.unwrap();
    let (mut read, mut cursor) = (Vec::new(), OutboxCursor::default());
    loop {
        let page = store.list_events_after(&cursor, 10).await.unwrap();
        assert!(page.events.len() <= 10 && !page.has_gap);
        advance_over(&mut cursor, &page.events);
        assert_eq!((&page.end, page.has_more), (&cursor, cursor != heads));
        read.extend(page.events);
        if !page.has_more {
            break;
        }
    }
    assert_eq!((read, &cursor), (all, &heads));
    let page = store.list_events_after(&heads, 10).await.unwrap();
    assert!(page.events.is_empty() && !page.has_more && !page.has_gap, "{page:?}");
    assert_eq!(page.end, heads);
}

/// Writes `count` events in large commits.
pub(crate) async fn write_events(store: &dyn Store, count: u64) {
    const EVENTS_PER_COMMIT: u64 = 250;
    let owner = customer();
    let mut version = 0;
    for _ in 0..count / EVENTS_PER_COMMIT {
        version += 1;
        let commit = cart_commit(&cart(owner, version));
        let facts = vec![commit.events[0].clone(); EVENTS_PER_COMMIT as usize];
        apply_one(store, Commit { events: facts, ..commit }).await.unwrap();
    }
}

/// How many events are kept, at least.
const KEPT_EVENTS: usize = 10_000;

pub(crate) async fn last_ten_thousand_events_are_kept(harness: &dyn Harness) {
    let store = harness.open().await;
    write_events(&*store, 33_000).await;
    let heads = store.outbox_heads().await.unwrap();
    // The engines delete old events in the background.
    let page = timeout(TIMEOUT, async {
        loop {
            let page = store.list_events_after(&OutboxCursor::default(), u32::MAX).await.unwrap();
            if page.has_gap {
                return page;
            }
            sleep(POLL_INTERVAL).await;
        }
    });
    let page = page.await.expect("old events are not deleted");
    assert!(page.events.len() >= KEPT_EVENTS, "{} are kept", page.events.len());
    assert_eq!(page.end, heads, "the newest are kept");
    let mut cursor = before(&page.events[0]);
    advance_over(&mut cursor, &page.events);
    // A reader that has read the deleted ones misses nothing.
    let again = store.list_events_after(&before(&page.events[0]), u32::MAX).await.unwrap();
    assert!(!again.has_gap || again.events.len() < page.events.len(), "more were deleted");
    store.close().await;
    let store = harness.open().await;
    assert_eq!(store.outbox_heads().await, Ok(heads.clone()));
    apply_one(&*store, cart_commit(&cart(customer(), 1))).await.unwrap();
    let page = store.list_events_after(&heads, 10).await.unwrap();
    assert!(page.events.len() == 1 && heads.is_next(page.events[0].position) && !page.has_gap);
}

/// The cursor before an event of a store with one partition.
fn before(event: &OutboxEvent) -> OutboxCursor {
    let position = event.position;
    cursor_at(position.partition, position.offset - 1)
}

fn cursor_at(partition: u32, offset: u64) -> OutboxCursor {
    [OutboxPosition { partition, offset }].into_iter().collect()
}

pub(crate) async fn published_cursor_never_moves_back(harness: &dyn Harness) {
    let store = harness.open().await;
    let mark = async |offset| store.mark_published(&cursor_at(0, offset)).await;
    let published = async || store.published_cursor().await.unwrap();
    assert_eq!(published().await, OutboxCursor::default());
    for (offset, expected) in [(0, 0), (7, 7), (3, 7), (7, 7), (8, 8)] {
        mark(offset).await.unwrap();
        assert_eq!(published().await, cursor_at(0, expected), "after {offset}");
    }
    let notes = (1..=40).map(|n| mark(if n % 2 == 0 { n } else { 40 - n }));
    futures_util::future::join_all(notes).await.into_iter().for_each(Result::unwrap);
    assert_eq!(published().await, cursor_at(0, 40));
    store.close().await;
    mark(50).await.unwrap_err();
    assert_eq!(harness.open().await.published_cursor().await, Ok(cursor_at(0, 40)));
}

pub(crate) async fn events_are_kept_until_published(harness: &dyn Harness) {
    let store = harness.open_with_broker().await;
    write_events(&*store, 250).await;
    store.close().await;
    // As a command that does not know about the broker.
    let store = harness.open().await;
    write_events(&*store, 22_750).await;
    let first_is = async |offset| {
        // The engines delete old events in the background.
        loop {
            let page = store.list_events_after(&OutboxCursor::default(), 1).await.unwrap();
            if page.events[0].position == (OutboxPosition { partition: 0, offset }) {
                return assert_eq!(page.has_gap, offset > 1);
            }
            sleep(POLL_INTERVAL).await;
        }
    };
    first_is(1).await;
    for (published, first) in [(1_500, 1_501), (23_000, 3_001)] {
        store.mark_published(&cursor_at(0, published)).await.unwrap();
        timeout(TIMEOUT, first_is(first)).await.expect("old events are not deleted");
    }
}
