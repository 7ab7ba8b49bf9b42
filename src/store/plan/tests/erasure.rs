//! Accounts that are erased, and what other commits may still write of them.

use std::sync::Arc;

use super::{
    super::{Commit, CommitError, Condition, Write},
    model_store::{ModelStore, commit_of, numbered_id, order_at_version, user_at_version},
};
use crate::domain::{
    account::Email,
    clock::Timestamp,
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
    let conditions =
        vec![Condition::NoOpenOrders { user_id: numbered_id(USER), guest_email: None }];
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

const GUEST: u8 = 3;

/// The order of a guest that moves to the account.
fn moving(status: OrderStatus) -> Commit {
    let moved =
        order_at_version(0, GUEST, status, 1).moved_to(numbered_id(USER), Timestamp::default());
    let reassignment =
        Write::ReassignGuestReplies { guest_id: numbered_id(GUEST), user_id: numbered_id(USER) };
    commit_of(vec![Write::Order(Arc::new(moved)), reassignment])
}

fn store_with_order_of_guest(status: OrderStatus) -> ModelStore {
    let mut store = ModelStore::default();
    let placed = Order { guest: true, ..order_at_version(0, GUEST, status, 1) };
    let batch = [commit_of(vec![user(USER, "ada", 1)]), order_commit(placed)];
    assert!(store.apply(&batch).iter().all(Result::is_ok));
    store
}

#[test]
fn order_moves_only_to_an_account_that_exists() {
    let mut store = store_with_order_of_guest(OrderStatus::Fulfilled);
    let outcomes = store.apply(&[erasure(1), moving(OrderStatus::Fulfilled)]);
    assert_eq!((&outcomes[0].is_ok(), &outcomes[1]), (&true, &Err(CommitError::Conflict)));
    assert_eq!(store.apply(&[moving(OrderStatus::Fulfilled)]), [Err(CommitError::Conflict)]);
    assert!(store.orders.values().all(|order| order.guest));
}

#[test]
fn order_that_moves_to_an_account_counts_for_it_in_the_same_batch() {
    for (status, expected) in [
        (OrderStatus::Paid, CommitError::OrdersOpen),
        // It is unpaid, and the deletion does not cancel it.
        (OrderStatus::PendingPayment, CommitError::Conflict),
    ] {
        let mut store = store_with_order_of_guest(status);
        let outcomes = store.apply(&[moving(status), erasure(1)]);
        assert_eq!((outcomes[0].is_ok(), &outcomes[1]), (true, &Err(expected)));
    }
    let mut store = store_with_order_of_guest(OrderStatus::PendingPayment);
    let below = |user| Commit {
        conditions: vec![Condition::PendingOrdersBelow(numbered_id(user), 1)],
        ..commit_of(Vec::new())
    };
    let batch =
        [below(USER), below(GUEST), moving(OrderStatus::PendingPayment), below(USER), below(GUEST)];
    let allowed: Vec<bool> = store.apply(&batch).iter().map(Result::is_ok).collect();
    assert_eq!(allowed, [true, false, true, false, true]);
}

#[test]
fn guests_orders_with_the_verified_email_count_for_the_account() {
    for guest_email in [None, Some(email("ada"))] {
        let mut store = store_with_order_of_guest(OrderStatus::Fulfilled);
        let placed = order_at_version(1, GUEST, OrderStatus::PendingPayment, 1);
        let placed = Order { guest: true, email: Some(email("ada")), ..placed };
        assert!(store.apply(&[order_commit(placed)])[0].is_ok());
        let mut commit = erasure(1);
        commit.conditions = vec![Condition::NoOpenOrders {
            user_id: numbered_id(USER),
            guest_email: guest_email.clone(),
        }];
        assert_eq!(store.apply(&[commit])[0].is_ok(), guest_email.is_none());
    }
}

#[test]
fn paid_orders_of_guests_do_not_prevent_an_erasure() {
    let mut store = ModelStore::default();
    let placed = order_at_version(0, GUEST, OrderStatus::Paid, 1);
    let placed = Order { guest: true, email: Some(email("ada")), ..placed };
    let batch = [commit_of(vec![user(USER, "ada", 1)]), order_commit(placed)];
    assert!(store.apply(&batch).iter().all(Result::is_ok));
    let mut commit = erasure(1);
    commit.conditions = vec![Condition::NoOpenOrders {
        user_id: numbered_id(USER),
        guest_email: Some(email("ada")),
    }];
    assert!(store.apply(&[commit])[0].is_ok());
}
