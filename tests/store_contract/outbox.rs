//! Events exist if and only if their change is committed, in commit order, and are kept long enough
//! to catch up.

use std::{sync::Arc, time::Duration};

use souk::{
    domain::{
        account::RevocationReason,
        cart::{Cart, CartEvent},
        ids::{EventId, SessionId},
        inventory::StockChange,
    },
    events::{Audience, DomainEvent, OutboxEvent},
    messages::context::TraceParent,
    store::{Commit, Store},
};

use crate::{
    fixtures::{
        apply, apply_one, cart, cart_commit, commit, customer, event_kinds, events, product,
        product_commit, put_cart, put_user, stock, user,
    },
    harness::Harness,
};

fn positions(events: &[OutboxEvent]) -> Vec<u64> {
    events.iter().map(|event| event.position).collect()
}

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
    assert_eq!(store.last_event_position().await, Ok(4));
    apply_one(&*store, cart_commit(&third)).await.unwrap();
    let expected = [
        "cart.item.added",
        "catalog.product.created",
        "cart.cleared",
        "inventory.stock.changed",
        "cart.item.added",
    ];
    assert_eq!(event_kinds(&*store).await, expected);
    assert_eq!(positions(&events(&*store).await), [1, 2, 3, 4, 5]);
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

pub(crate) async fn events_are_paged_and_found_by_id(harness: &dyn Harness) {
    let store = harness.open().await;
    let owner = customer();
    apply(&*store, (1..=25).map(|version| cart_commit(&cart(owner, version)))).await;
    let all = events(&*store).await;
    let (mut read, mut position) = (Vec::new(), 0);
    loop {
        let page = store.list_events_after(position, 10).await.unwrap();
        assert!(page.len() <= 10);
        let Some(last) = page.last() else { break };
        position = last.position;
        read.extend(page);
    }
    assert_eq!(read, all);
    assert_eq!((position, store.last_event_position().await), (25, Ok(25)));
    for event in all {
        assert_eq!(store.event_position(event.id).await, Ok(Some(event.position)));
    }
    assert_eq!(store.event_position(EventId::new()).await, Ok(None));
    assert_eq!(store.list_events_after(u64::MAX, 10).await, Ok(vec![]));
    assert_eq!(store.list_events_after(24, 0).await, Ok(vec![]));
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

pub(crate) async fn last_ten_thousand_events_are_kept(harness: &dyn Harness) {
    let store = harness.open().await;
    write_events(&*store, 23_000).await;
    let (last, kept) = (23_000, store.list_events_after(13_000, u32::MAX).await.unwrap());
    assert_eq!(positions(&kept), (13_001..=last).collect::<Vec<_>>());
    assert_eq!(store.event_position(kept[0].id).await, Ok(Some(13_001)));
    drop(store);
    let store = harness.open().await;
    assert_eq!(store.last_event_position().await, Ok(last));
    apply_one(&*store, cart_commit(&cart(customer(), 1))).await.unwrap();
    assert_eq!(positions(&store.list_events_after(last, 10).await.unwrap()), [last + 1]);
}

pub(crate) async fn published_position_never_moves_back(harness: &dyn Harness) {
    let store = harness.open().await;
    assert_eq!(store.published_position().await, Ok(0));
    for (position, expected) in [(0, 0), (7, 7), (3, 7), (7, 7), (8, 8)] {
        store.mark_published(position).await.unwrap();
        assert_eq!(store.published_position().await, Ok(expected), "after {position}");
    }
    let notes = (1..=40).map(|n| store.mark_published(if n % 2 == 0 { n } else { 40 - n }));
    futures_util::future::join_all(notes).await.into_iter().for_each(Result::unwrap);
    assert_eq!(store.published_position().await, Ok(40));
    store.close().await;
    store.mark_published(50).await.unwrap_err();
    assert_eq!(harness.open().await.published_position().await, Ok(40));
}

pub(crate) async fn events_are_kept_until_published(harness: &dyn Harness) {
    let store = harness.open_with_broker().await;
    write_events(&*store, 250).await;
    store.close().await;
    // As a command that does not know about the broker.
    let store = harness.open().await;
    write_events(&*store, 22_750).await;
    let first_is = async |position| {
        // The engines delete old events in the background.
        while positions(&store.list_events_after(0, 1).await.unwrap()) != [position] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    for (published, first) in [(1_500, 1_501), (23_000, 3_001)] {
        store.mark_published(published).await.unwrap();
        tokio::time::timeout(Duration::from_secs(60), first_is(first))
            .await
            .expect("old events are not deleted");
    }
}
