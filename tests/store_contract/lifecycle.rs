//! Acknowledged writes are visible to the next reader, with or without a close.

use std::{sync::Arc, time::Duration};

use souk::{
    events::OutboxCursor,
    store::{ApplyError, CommitError, StoreUnavailable},
};

use crate::{
    fixtures::{
        advance_over, apply, apply_one, cart, cart_commit, commit, customer, events, put_cart,
    },
    harness::Harness,
};

pub(crate) async fn store_that_takes_no_changes_is_not_writable(harness: &dyn Harness) {
    let store = harness.open().await;
    let probed = if store.is_shared() { "nodes" } else { "meta" };
    harness.break_table(probed, true).await;
    assert_eq!(store.check_writable().await, Err(StoreUnavailable));
    assert_eq!(store.ping().await, Ok(()), "it can be read");
    harness.break_table(probed, false).await;
    let recovers = async {
        // A result counts for a second.
        while store.check_writable().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), recovers).await.expect("it stays unwritable");
}

pub(crate) async fn reads_see_acknowledged_writes(harness: &dyn Harness) {
    let store = harness.open().await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let owner = customer();
                for version in 1..=50 {
                    let event = apply(&*store, [cart_commit(&cart(owner, version))])
                        .await
                        .changes
                        .events
                        .remove(0);
                    assert_eq!(store.find_cart(owner.id).await.unwrap().unwrap().version, version);
                    assert!(store.outbox_heads().await.unwrap().has_read(event.position));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let all = events(&*store).await;
    let mut read = OutboxCursor::default();
    advance_over(&mut read, &all);
    assert_eq!((all.len(), store.outbox_heads().await), (400, Ok(read)));
}

pub(crate) async fn acknowledged_writes_survive_an_unclosed_store(harness: &dyn Harness) {
    let mut carts = Vec::new();
    for round in 0..3 {
        let store = harness.open().await;
        for _ in 0..40 {
            let cart = cart(customer(), 1);
            apply_one(&*store, cart_commit(&cart)).await.unwrap();
            carts.push(cart);
        }
        drop(store);
        let store = harness.open().await;
        for cart in &carts {
            assert_eq!(
                store.find_cart(cart.owner.id).await.unwrap().as_ref(),
                Some(cart),
                "round {round}"
            );
        }
        assert_eq!(events(&*store).await.len(), carts.len());
    }
}

pub(crate) async fn closed_store_rejects_reads_and_writes(harness: &dyn Harness) {
    let store = harness.open().await;
    let cart = cart(customer(), 1);
    store.close().await;
    let refused = store.apply(vec![commit([put_cart(&cart)])].into()).await;
    assert_eq!(refused.unwrap_err(), ApplyError::Unavailable);
    assert_eq!(store.ping().await, Err(StoreUnavailable));
    assert_eq!(store.find_cart(cart.owner.id).await, Err(StoreUnavailable));
    store.close().await;
    assert_eq!(harness.open().await.find_cart(cart.owner.id).await, Ok(None));
}

pub(crate) async fn close_applies_accepted_batches_and_rejects_the_rest(harness: &dyn Harness) {
    let store = harness.open().await;
    let carts: Vec<_> = (0..60).map(|_| cart(customer(), 1)).collect();
    let tasks: Vec<_> = carts
        .iter()
        .map(|cart| {
            let (store, commit) = (Arc::clone(&store), cart_commit(cart));
            tokio::spawn(async move {
                store.apply(vec![commit].into()).await.map(|applied| applied.outcomes)
            })
        })
        .collect();
    store.close().await;
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    drop(store);
    let store = harness.open().await;
    for (cart, outcome) in carts.iter().zip(outcomes) {
        let stored = store.find_cart(cart.owner.id).await.unwrap();
        match outcome {
            Ok(outcomes) => assert!(outcomes[0].is_ok() && stored.as_ref() == Some(cart)),
            Err(error) => assert!(
                error == ApplyError::Unavailable && stored.is_none(),
                "the batch is certainly not applied: {error:?}"
            ),
        }
    }
}

pub(crate) async fn dropped_caller_does_not_cancel_its_change(harness: &dyn Harness) {
    let store = harness.open().await;
    let first = cart(customer(), 1);
    let second = cart(first.owner, 2);
    let mut applying = store.apply(vec![cart_commit(&first)].into());
    // The first poll hands the batch over; then the caller drops the future.
    let polled =
        std::future::poll_fn(|context| std::task::Poll::Ready(applying.as_mut().poll(context)))
            .await;
    drop(applying);
    drop(polled);
    let next = apply_one(&*store, cart_commit(&second)).await;
    assert!(next.is_ok(), "the first commit is applied: {next:?}");
    assert_eq!(apply_one(&*store, cart_commit(&second)).await, Err(CommitError::Conflict));
}
