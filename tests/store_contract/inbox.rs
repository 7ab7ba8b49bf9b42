//! A message from another system is applied once, however often and to whichever node it is
//! delivered.

use std::{sync::Arc, time::Duration};

use souk::{
    domain::inventory::StockChange,
    store::{Commit, CommitError, Write, writer::CommitWriter},
};
use tokio::runtime::Handle;

use crate::{
    fixtures::{apply, apply_one, commit, events, now, stock, stock_level, stocked_product},
    harness::{Harness, NoopObserver},
};

/// A commit that applies the message `id`.
pub(crate) fn inbox_commit(id: &str, writes: impl IntoIterator<Item = Write>) -> Commit {
    Commit { inbox_message_id: Some(id.into()), ..commit(writes) }
}

pub(crate) async fn message_is_applied_once(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 10).await;
    let odd = format!("\u{0}'\"$ü.{}", "x".repeat(250));
    let message = |text: &str, by| inbox_commit(text, [stock(id, StockChange::Adjust(by))]);
    assert_eq!(store.is_in_inbox(&odd).await, Ok(false));
    apply_one(&*store, message(&odd, 1)).await.unwrap();
    apply_one(&*store, message("another", 1)).await.unwrap();
    let before = events(&*store).await;
    store.close().await;
    let store = harness.open().await;
    assert_eq!(apply_one(&*store, message(&odd, 5)).await, Err(CommitError::AlreadyApplied));
    assert_eq!(store.is_in_inbox(&odd).await, Ok(true));
    assert_eq!(store.is_in_inbox("Another").await, Ok(false), "message ids are case-sensitive");
    assert_eq!(stock_level(&*store, id).await.on_hand, 12);
    assert_eq!(events(&*store).await, before);
    let months_later = Commit {
        decided_at: now().saturating_add(Duration::from_secs(29 * 24 * 60 * 60)),
        ..message(&odd, 5)
    };
    assert_eq!(apply_one(&*store, months_later).await, Err(CommitError::AlreadyApplied));
}

pub(crate) async fn duplicate_message_in_one_batch_applies_once(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 10).await;
    let message = |text, by| inbox_commit(text, [stock(id, StockChange::Adjust(by))]);
    let outcomes =
        apply(&*store, [message("1", 1), message("1", 2), message("2", 4), message("1", 8)])
            .await
            .outcomes;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    assert_eq!(
        (&outcomes[1], &outcomes[3]),
        (&Err(CommitError::AlreadyApplied), &Err(CommitError::AlreadyApplied))
    );
    assert_eq!(stock_level(&*store, id).await.on_hand, 15);
}

pub(crate) async fn refused_message_can_be_redelivered(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 1).await;
    let take = |by: i64| inbox_commit("1", [stock(id, StockChange::Adjust(-by))]);
    let outcomes = apply(&*store, [take(2), take(1), take(1)]).await.outcomes;
    assert!(
        matches!(
            outcomes[..],
            [Err(CommitError::InsufficientStock(_)), Ok(_), Err(CommitError::AlreadyApplied)]
        ),
        "{outcomes:?}"
    );
    assert_eq!(
        apply_one(&*store, take(2)).await,
        Err(CommitError::AlreadyApplied),
        "a duplicate is detected before a shortage"
    );
}

pub(crate) async fn no_op_message_is_recorded_as_applied(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 10).await;
    let before = events(&*store).await;
    let set = inbox_commit("1", [stock(id, StockChange::Set(10))]);
    assert!(apply_one(&*store, set.clone()).await.is_ok());
    assert_eq!(events(&*store).await, before);
    apply_one(&*store, commit([stock(id, StockChange::Adjust(-3))])).await.unwrap();
    assert_eq!(apply_one(&*store, set).await, Err(CommitError::AlreadyApplied));
    assert_eq!(stock_level(&*store, id).await.on_hand, 7);
}

pub(crate) async fn two_writers_apply_a_message_once(harness: &dyn Harness) {
    let store = harness.open().await;
    // A shared store has one writer per node; otherwise both writers use the same store.
    let other = if store.is_shared() { harness.open().await } else { Arc::clone(&store) };
    let writers = [&store, &other].map(|store| {
        CommitWriter::start(&Handle::current(), Arc::clone(store), Arc::new(NoopObserver)).0
    });
    let id = stocked_product(&*store, 0).await;
    let tasks: Vec<_> = (0..120_usize)
        .map(|n| {
            let message = inbox_commit(&(n / 4).to_string(), [stock(id, StockChange::Adjust(1))]);
            let writer = writers[n % 2].clone();
            tokio::spawn(async move { writer.commit(message).await })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => done += 1,
            outcome => assert_eq!(outcome, Err(CommitError::AlreadyApplied)),
        }
    }
    assert_eq!((done, stock_level(&*store, id).await.on_hand), (30, 30));
    for writer in writers {
        writer.close();
    }
}
