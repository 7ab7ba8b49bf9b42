//! Tests conditions on records that a commit does not write, and the order of commits in a batch.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::model_store::{
    ModelStore, commit_of, numbered_id, order_at_version, stock_write, stocked_store,
};
use crate::{
    domain::{
        account::Email,
        catalog::product::Product,
        inventory::StockChange,
        order::{Buyer, LimitedLine, Order, OrderStatus, PurchaseExcess},
        pricing::{Charges, Discount, UseChange},
    },
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
    assert_eq!(store.pending_orders(numbered_id(0)).orders, 2);
    let other = Commit {
        conditions: vec![Condition::PendingOrdersBelow(numbered_id(1), 1)],
        ..place_order_commit(6, 9)
    };
    assert_outcomes(&mut store, &[other], &[Ok(())]);
}

/// Places the order `number` of user 0 with further conditions.
fn place_order_with(number: u8, conditions: Vec<Condition>) -> Commit {
    Commit { conditions, ..place_order_commit(number, u32::MAX) }
}

fn order_commit_at(number: u8, status: OrderStatus, version: u64) -> Commit {
    commit_of(vec![Write::Order(Arc::new(order_at_version(number, 0, status, version)))])
}

#[test]
fn pending_unit_limit_counts_the_batch() {
    let mut store = ModelStore::default();
    // The order `number` has `number % 3 + 1` units.
    let place = |number: u8, limit| {
        let units = u64::from(number % 3) + 1;
        let user_id = numbered_id(0);
        place_order_with(number, vec![Condition::PendingUnitsWithin { user_id, units, limit }])
    };
    let too_many = |left| Err(CommitError::TooManyPendingUnits { left });
    assert_outcomes(
        &mut store,
        &[place(2, 4), place(1, 4), place(0, 4), place(3, 4)],
        &[Ok(()), too_many(1), Ok(()), too_many(0)],
    );
    for (status, freed) in [(OrderStatus::Paid, true), (OrderStatus::PendingPayment, false)] {
        let expected = if freed { Ok(()) } else { too_many(0) };
        let batch = [order_commit_at(2, status, 2), place(5, 4)];
        assert_outcomes(&mut store.clone(), &batch, &[Ok(()), expected]);
    }
    let user = numbered_id(0);
    assert_eq!(store.pending_orders(user).units, 4);
    assert_outcomes(&mut store, &[place(7, 0)], &[too_many(0)]);
}

#[test]
fn purchase_limit_counts_the_batch_and_what_orders_give_back() {
    let mut store = ModelStore::default();
    // The order `number` has `number % 3 + 1` units of the product `number % 2`.
    let line = |number: u8, limit| LimitedLine {
        product_id: numbered_id(number % 2),
        quantity: u32::from(number % 3) + 1,
        limit,
    };
    let place = |number: u8, limit| {
        place_order_with(
            number,
            vec![Condition::PurchaseWithin(numbered_id(0), line(number, limit))],
        )
    };
    let reached = |number: u8, left| {
        let LimitedLine { product_id, quantity, .. } = line(number, 0);
        let excess = PurchaseExcess { product_id, requested: quantity.into(), left };
        Err(CommitError::PurchaseLimitReached(vec![excess]))
    };
    // Product 0: 3 units, then 3 more of at most 5, then 2.
    assert_outcomes(
        &mut store,
        &[place(2, 5), place(8, 5), place(4, 5), place(0, 5), place(1, 2)],
        &[Ok(()), reached(8, 2), Ok(()), reached(0, 0), Ok(())],
    );
    for status in OrderStatus::ALL {
        let gives_back = [OrderStatus::Cancelled, OrderStatus::Expired].contains(status);
        let expected = if gives_back { Ok(()) } else { reached(8, 0) };
        let batch = [order_commit_at(2, *status, 2), place(8, 5)];
        assert_outcomes(&mut store.clone(), &batch, &[Ok(()), expected]);
    }
    // A cancelled order gives back once, also when it changes again or was placed in the batch.
    let cancel = |version| order_commit_at(2, OrderStatus::Cancelled, version);
    assert_outcomes(
        &mut store,
        &[cancel(2), cancel(3), place(8, 5), order_commit_at(8, OrderStatus::Expired, 2)],
        &[Ok(()), Ok(()), Ok(()), Ok(())],
    );
    assert_eq!(store.purchased_units((numbered_id(0), numbered_id(0))), 2);
    assert_outcomes(&mut store, &[place(14, 1)], &[reached(14, 0)]);
}

#[test]
fn purchase_limit_names_every_line_and_a_conflict_comes_first() {
    let mut store = stocked_store(2);
    let purchase = |product, quantity, limit| {
        let line = LimitedLine { product_id: numbered_id(product), quantity, limit };
        Condition::PurchaseWithin(numbered_id(0), line)
    };
    let unchanged = |version| Condition::ProductUnchanged(numbered_id(0), version);
    let conditions = vec![unchanged(1), purchase(0, 3, 2), purchase(1, 1, 1), purchase(1, 9, 8)];
    let excess = |product, requested, left| PurchaseExcess {
        product_id: numbered_id(product),
        requested,
        left,
    };
    let both = vec![excess(0, 3, 2), excess(1, 9, 8)];
    let stale = vec![purchase(0, 3, 2), unchanged(2)];
    assert_outcomes(
        &mut store,
        &[place_order_with(1, conditions), place_order_with(1, stale)],
        &[Err(CommitError::PurchaseLimitReached(both)), Err(CommitError::Conflict)],
    );
    assert!(store.orders.is_empty());
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

#[test]
fn promotion_is_used_as_often_as_it_can_be() {
    let mut store = ModelStore::default();
    let used_up = || Err(CommitError::PromotionUsedUp(numbered_id(7)));
    let change = |change| commit_of(vec![Write::PromotionUse(numbered_id(7), change)]);
    let take = || change(UseChange::Take { limit: Some(2) });
    let give_back = || change(UseChange::GiveBack);
    let batch = [take(), take(), take(), give_back(), take(), take()];
    let expected = [Ok(()), Ok(()), used_up(), Ok(()), Ok(()), used_up()];
    assert_outcomes(&mut store, &batch, &expected);
    assert_outcomes(&mut store, &[take(), give_back(), take()], &[used_up(), Ok(()), Ok(())]);
    let unlimited = change(UseChange::Take { limit: None });
    assert_outcomes(&mut store, &[unlimited, take()], &[Ok(()), used_up()]);
    assert_eq!(store.uses[&numbered_id(7)].used, 3);
}

/// An order of user 0 that has promotion 7.
fn order_with_promotion(number: u8, status: OrderStatus, version: u64) -> Commit {
    let order = order_at_version(number, 0, status, version);
    let discount = Discount {
        promotion_id: numbered_id(7),
        name: "Ten".into(),
        code: None,
        amount: order.total(),
    };
    let charges = Charges { discounts: vec![discount], ..Charges::default() };
    let order = Order { charges: Some(Box::new(charges)), ..order };
    commit_of(vec![Write::Order(Arc::new(order))])
}

#[test]
fn buyer_uses_of_a_promotion_count_the_batch() {
    let mut store = ModelStore::default();
    let used_up = || Err(CommitError::PromotionUsedUp(numbered_id(7)));
    let place = |number| Commit {
        conditions: vec![Condition::BuyerUsesBelow {
            buyer: Buyer { user_id: numbered_id(0), emails: Vec::new() },
            promotion_id: numbered_id(7),
            limit: 1,
        }],
        ..order_with_promotion(number, OrderStatus::PendingPayment, 1)
    };
    assert_outcomes(&mut store, &[place(1), place(2)], &[Ok(()), used_up()]);
    let cancelled = order_with_promotion(1, OrderStatus::Cancelled, 2);
    let batch = [place(2), cancelled, place(3), place(4)];
    assert_outcomes(&mut store, &batch, &[used_up(), Ok(()), Ok(()), used_up()]);
}

#[test]
fn buyer_uses_of_an_email_count_with_those_of_the_user() {
    let mut store = ModelStore::default();
    let ada = || Email::from_stored("ada@example.com".to_owned());
    let place = |number, owner: u8, email: Option<Email>| {
        let buyer = Buyer { user_id: numbered_id(owner), emails: email.iter().cloned().collect() };
        let mut commit = order_with_promotion(number, OrderStatus::PendingPayment, 1);
        let Some(Write::Order(order)) = commit.writes.pop() else { panic!("no order") };
        let order = Order { user_id: numbered_id(owner), email, ..(*order).clone() };
        let condition = Condition::BuyerUsesBelow { buyer, promotion_id: numbered_id(7), limit: 2 };
        Commit { conditions: vec![condition], ..commit_of(vec![Write::Order(Arc::new(order))]) }
    };
    let used_up = || Err(CommitError::PromotionUsedUp(numbered_id(7)));
    // The first two have the same buyer twice: by the account and by the address.
    let batch = [place(1, 0, Some(ada())), place(2, 5, Some(ada())), place(3, 6, Some(ada()))];
    assert_outcomes(&mut store, &batch, &[Ok(()), Ok(()), used_up()]);
    let batch = [place(3, 0, None), place(4, 0, Some(ada())), place(5, 6, Some(ada()))];
    assert_outcomes(&mut store, &batch, &[Ok(()), used_up(), used_up()]);
    let batch = [place(6, 6, None), place(7, 5, None)];
    assert_outcomes(&mut store, &batch, &[Ok(()), Ok(())]);
}
