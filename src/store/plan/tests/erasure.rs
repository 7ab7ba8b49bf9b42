//! Accounts that are erased, and what other commits may still write of them.

use std::sync::Arc;

use super::{
    super::{Commit, CommitError, Condition, Write},
    model_store::{ModelStore, commit_of, numbered_id, order_at_version, user_at_version},
};
use crate::domain::{
    account::Email,
    ids::UserId,
    order::{Order, OrderStatus},
};

const USER: u8 = 2;

fn email(name: &str) -> Email {
    Email::from_stored(format!("{name}@example.com"))
}

fn user(number: u8, name: &str, version: u64) -> Write {
    Write::User(Arc::new(user_at_version(number, email(name), version)))
}

fn erasure(version: u64) -> Commit {
    let erased = Arc::new(user_at_version(USER, email("ada"), version));
    let conditions = vec![Condition::NoOpenOrders(numbered_id(USER))];
    Commit { conditions, ..commit_of(vec![Write::EraseAccount(erased)]) }
}

fn order(status: OrderStatus, version: u64) -> Order {
    order_at_version(0, USER, status, version)
}

fn order_commit(order: Order) -> Commit {
    commit_of(vec![Write::Order(Arc::new(order))])
}

/// A store with the account and an order of it.
fn store_with_order(status: OrderStatus) -> ModelStore {
    let mut store = ModelStore::default();
    let batch = [commit_of(vec![user(USER, "ada", 1)]), order_commit(order(status, 1))];
    assert!(store.apply(&batch).iter().all(Result::is_ok));
    store
}

#[test]
fn account_is_erased_at_its_version_and_its_email_is_free_in_the_same_batch() {
    let mut store = store_with_order(OrderStatus::Fulfilled);
    let next = commit_of(vec![user(1, "ada", 1)]);
    assert_eq!(store.apply(&[erasure(2)]), [Err(CommitError::Conflict)]);
    assert_eq!(store.apply(std::slice::from_ref(&next)), [Err(CommitError::EmailTaken)]);
    let late = commit_of(vec![user(USER, "ada", 2)]);
    let outcomes = store.apply(&[erasure(1), next, erasure(1), late]);
    assert!(outcomes[0].is_ok() && outcomes[1].is_ok(), "{outcomes:?}");
    assert_eq!(outcomes[2..], [Err(CommitError::Conflict), Err(CommitError::Conflict)]);
    let left: Vec<_> = store.users.keys().copied().collect();
    assert_eq!(left, [numbered_id::<UserId>(1)]);
}

#[test]
fn no_account_is_erased_that_has_an_open_order() {
    let mut store = store_with_order(OrderStatus::Paid);
    assert_eq!(store.apply(&[erasure(1)]), [Err(CommitError::OrdersOpen)]);
    // The payment is in the same batch.
    let mut store = store_with_order(OrderStatus::PendingPayment);
    let outcomes = store.apply(&[order_commit(order(OrderStatus::Paid, 2)), erasure(1)]);
    assert_eq!(outcomes[1], Err(CommitError::OrdersOpen));
}

#[test]
fn order_that_was_read_before_the_erasure_is_not_written_after_it() {
    for in_one_batch in [true, false] {
        let mut store = store_with_order(OrderStatus::Fulfilled);
        let stale = order_commit(order(OrderStatus::Cancelled, 2));
        let outcome = if in_one_batch {
            store.apply(&[erasure(1), stale]).remove(1)
        } else {
            assert!(store.apply(&[erasure(1)])[0].is_ok());
            store.apply(&[stale]).remove(0)
        };
        assert_eq!(outcome, Err(CommitError::Conflict));
        let fresh = Order { anonymized: true, ..order(OrderStatus::Cancelled, 2) };
        assert!(store.apply(&[order_commit(fresh)])[0].is_ok());
    }
}
