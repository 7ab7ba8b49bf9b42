//! Tests conditions on records that a commit does not write, and the order of commits in a batch.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::model_store::{
    ModelStore, commit_of, numbered_id, order_at_version, stock_write, stocked_store,
};
use crate::{
    domain::{catalog::product::Product, inventory::StockChange, order::OrderStatus},
    store::commit::{Commit, CommitError, CommitOutcome, Condition, Write},
};

fn assert_outcomes(store: &mut ModelStore, batch: &[Commit], expected: &[Result<(), CommitError>]) {
    let outcomes: Vec<CommitOutcome> = store.apply(batch);
    let plain: Vec<Result<(), CommitError>> =
        outcomes.into_iter().map(|outcome| outcome.map(drop)).collect();
    assert_eq!(plain, expected);
}

fn place_order_commit(number: u8, limit: u32) -> Commit {
    let placed =
        Write::Order(Arc::new(order_at_version(number, 0, OrderStatus::PendingPayment, 1)));
    Commit {
        conditions: vec![Condition::PendingOrdersBelow(numbered_id(0), limit)],
        ..commit_of(vec![placed])
    }
}

#[test]
fn pending_order_limit_counts_the_batch() {
    let mut store = ModelStore::default();
    let too_many = || Err(CommitError::TooManyPendingOrders);
    let paid = |number| {
        commit_of(vec![Write::Order(Arc::new(order_at_version(number, 0, OrderStatus::Paid, 2)))])
    };
    assert_outcomes(
        &mut store,
        &[place_order_commit(1, 2), place_order_commit(2, 2), place_order_commit(3, 2)],
        &[Ok(()), Ok(()), too_many()],
    );
    assert_outcomes(
        &mut store,
        &[place_order_commit(3, 2), paid(1), place_order_commit(4, 2), place_order_commit(5, 2)],
        &[too_many(), Ok(()), Ok(()), too_many()],
    );
    assert_eq!(store.pending_order_count(numbered_id(0)), 2);
    let other = Commit {
        conditions: vec![Condition::PendingOrdersBelow(numbered_id(1), 1)],
        ..place_order_commit(6, 9)
    };
    assert_outcomes(&mut store, &[other], &[Ok(())]);
}

#[test]
fn commit_on_stale_product_conflicts() {
    let mut store = stocked_store(1);
    let on = |version| Commit {
        conditions: vec![Condition::ProductUnchanged(numbered_id(0), version)],
        ..place_order_commit(1, 9)
    };
    let known = Arc::clone(&store.products[&numbered_id(0)]);
    let next = |version, deleted| {
        Write::Product(Arc::new(Product { version, deleted, ..(*known).clone() }))
    };
    let conflict = || Err(CommitError::Conflict);
    assert_outcomes(&mut store, &[commit_of(vec![next(2, false)]), on(1)], &[Ok(()), conflict()]);
    assert_outcomes(
        &mut store,
        &[on(1), commit_of(vec![next(3, true)]), on(2)],
        &[conflict(), Ok(()), conflict()],
    );
    let unknown = Commit {
        conditions: vec![Condition::ProductUnchanged(numbered_id(77), 1)],
        ..place_order_commit(1, 9)
    };
    assert_outcomes(&mut store, &[unknown], &[conflict()]);
    assert!(store.orders.is_empty());
    assert_outcomes(&mut store, &[on(3)], &[Ok(())]);
}

#[test]
fn earlier_commit_gets_the_stock() {
    let mut store = ModelStore::default();
    store.apply(&[commit_of(vec![stock_write(0, StockChange::Set(7), None)])]);
    let reserve = |units| commit_of(vec![stock_write(0, StockChange::Reserve(units), None)]);
    let deadline = Instant::now();
    // The order in the batch decides, not the deadline.
    let batch: Vec<Commit> = (0..9)
        .map(|n| Commit { deadline: deadline + Duration::from_secs(9 - n), ..reserve(1) })
        .collect();
    let sold: Vec<bool> = store.apply(&batch).iter().map(Result::is_ok).collect();
    assert_eq!(sold, [vec![true; 7], vec![false; 2]].concat());
}
