//! Orders: queries and checkout conditions.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use souk::{
    domain::{
        action::Actor,
        catalog::product::Product,
        ids::{ApiKeyId, OrderId, ProductId, RefundId, ShipmentId, UserId},
        inventory::{MovementKind, StockChange},
        money::{MAX_MINOR_UNITS, Money},
        order::{
            Order, OrderAddress, OrderCommand, OrderFilter, OrderLine, OrderStatus, OrderUnits,
            Payment, PaymentMethod, Shipment, ShipmentDetails,
        },
        payment::{
            Intent, IntentState, PaymentFailure, PaymentStatus, ProviderState, Refund, RefundStatus,
        },
    },
    store::{Commit, CommitError, Condition, StockWrite, Write, writer::CommitWriter},
};
use tokio::runtime::Handle;

use crate::{
    fixtures::{
        apply, apply_one, commit, customer, euro, event_kinds, key, now, order, order_commit,
        order_stock_write, product, put_order, put_product, remembered_response, stock,
        stock_level, stocked_product, with_response,
    },
    harness::{Harness, NoopObserver},
    records::UNUSUAL_TEXT,
};

fn full_payment() -> Payment {
    let refund = |reason: Option<&str>| Refund {
        id: RefundId::new(),
        amount: Money::from_minor_units(7, euro()).unwrap(),
        status: RefundStatus::Succeeded,
        reason: reason.map(Into::into),
        refunded_at: now(),
        provider_id: reason.map(Into::into),
    };
    let intent = |state: IntentState, text: Option<&str>| Intent {
        attempt: u32::MAX,
        state,
        id: text.map(Into::into),
        client_secret: text.map(Into::into),
    };
    let texts = [Some(UNUSUAL_TEXT), None].into_iter().cycle();
    let intents = IntentState::ALL.iter().zip(texts).map(|(state, text)| intent(*state, text));
    let provider = ProviderState {
        intents: intents.collect(),
        due_at: Some(now()),
        refunded: Some(Money::from_minor_units(MAX_MINOR_UNITS, euro()).unwrap()),
    };
    Payment {
        status: PaymentStatus::PartiallyRefunded,
        reference: Some(UNUSUAL_TEXT.into()),
        refunds: vec![refund(Some(UNUSUAL_TEXT)), refund(None)],
        failure: Some(PaymentFailure {
            code: "card_declined".into(),
            message: UNUSUAL_TEXT.into(),
        }),
        provider: Some(provider),
        ..Payment::awaiting(
            PaymentMethod::Manual,
            Money::from_minor_units(MAX_MINOR_UNITS, euro()).unwrap(),
        )
    }
}

/// An order with every field, and with text that needs care.
fn full_order() -> Order {
    let line = |sku: Option<&str>, quantity, minor| OrderLine {
        product_id: ProductId::new(),
        sku: sku.map(Into::into),
        name: UNUSUAL_TEXT.into(),
        quantity,
        unit_price: Money::from_minor_units(minor, euro()).unwrap(),
        fulfilled: 0,
        restocked: 0,
    };
    let shipment = |text: Option<&str>| Shipment {
        id: ShipmentId::new(),
        items: vec![OrderUnits { product_id: ProductId::new(), quantity: 7 }],
        details: ShipmentDetails {
            carrier: text.map(Into::into),
            tracking: text.map(Into::into),
            reference: text.map(Into::into),
        },
        shipped_at: now(),
    };
    let fields = BTreeMap::from([
        ("street".to_owned(), UNUSUAL_TEXT.to_owned()),
        ("2nd-line_".to_owned(), String::new()),
    ]);
    Order {
        lines: vec![line(Some(UNUSUAL_TEXT), u32::MAX, MAX_MINOR_UNITS), line(None, 1, 0)],
        payment: full_payment(),
        shipments: vec![shipment(Some(UNUSUAL_TEXT)), shipment(None)],
        shipping_address: OrderAddress::from_stored(fields),
        actor: Some(Actor::ApiKey(ApiKeyId::new())),
        ..order(UserId::new())
    }
}

pub(crate) async fn orders_round_trip(harness: &dyn Harness) {
    let store = harness.open().await;
    let full = full_order();
    let bare = Order { expires_at: None, ..order(UserId::new()) };
    for written in [&full, &bare] {
        apply_one(&*store, commit([put_order(written)])).await.unwrap();
    }
    let later = |order: &Order, version, status| Order {
        version,
        status,
        updated_at: now(),
        ..order.clone()
    };
    let mut known = vec![full.clone(), bare.clone()];
    for (version, status) in (2..).zip([
        OrderStatus::Paid,
        OrderStatus::PartiallyFulfilled,
        OrderStatus::Fulfilled,
        OrderStatus::Cancelled,
        OrderStatus::Expired,
    ]) {
        let mut next = later(&full, version, status);
        let ships = matches!(status, OrderStatus::PartiallyFulfilled | OrderStatus::Fulfilled);
        for line in &mut next.lines {
            line.fulfilled = match status {
                OrderStatus::Fulfilled => line.quantity,
                _ => u32::from(ships),
            };
            line.restocked = u32::from(ships);
        }
        apply_one(&*store, commit([put_order(&next)])).await.unwrap();
        assert_eq!(store.find_order(full.id).await, Ok(Some(next.clone())));
        known[0] = next;
    }
    store.close().await;
    let store = harness.open().await;
    for written in known {
        assert_eq!(store.find_order(written.id).await, Ok(Some(written)));
    }
}

pub(crate) async fn order_is_placed_and_paid_in_one_commit(harness: &dyn Harness) {
    let store = harness.open().await;
    let placed = order(UserId::new());
    let paid = placed.decide(OrderCommand::Pay { reference: None }, now()).unwrap().order;
    let both = || {
        let mut both = order_commit(&placed);
        let paid = order_commit(&paid);
        both.writes.extend(paid.writes);
        both.events.extend(paid.events);
        both
    };
    apply_one(&*store, both()).await.unwrap();
    assert_eq!(store.find_order(placed.id).await, Ok(Some(paid.clone())));
    assert_eq!(apply_one(&*store, both()).await, Err(CommitError::Conflict));
    let next = paid.decide(OrderCommand::fulfill_all(), now()).unwrap().order;
    let skipped = Order { version: 4, ..next.clone() };
    assert_eq!(apply_one(&*store, order_commit(&skipped)).await, Err(CommitError::Conflict));
    apply_one(&*store, order_commit(&next)).await.unwrap();
}

pub(crate) async fn orders_are_due_after_their_payment_deadline(harness: &dyn Harness) {
    let store = harness.open().await;
    let start = now();
    let after = |millis| start.saturating_add(Duration::from_millis(millis));
    let until = |millis| Order { expires_at: Some(after(millis)), ..order(UserId::new()) };
    let (second, first, third) = (until(20), until(10), until(30));
    let paid = Order { status: OrderStatus::Paid, expires_at: None, ..until(1) };
    apply(&*store, [&second, &first, &third, &paid].map(|order| commit([put_order(order)]))).await;
    assert_eq!(store.list_overdue_orders(after(9), None, 10).await, Ok(vec![]));
    assert_eq!(
        store.list_overdue_orders(after(10), None, 10).await,
        Ok(vec![first.clone()]),
        "an order is due at its deadline"
    );
    assert_eq!(
        store.list_overdue_orders(after(29), None, 10).await,
        Ok(vec![first.clone(), second.clone()])
    );
    assert_eq!(
        store.list_overdue_orders(after(99), None, 2).await,
        Ok(vec![first.clone(), second.clone()]),
        "the longest overdue order comes first"
    );
    for (order, command) in
        [(&first, OrderCommand::Expire), (&second, OrderCommand::cancel_by_staff())]
    {
        let next = order.decide(command, after(50)).unwrap().order;
        apply_one(&*store, commit([put_order(&next)])).await.unwrap();
    }
    assert_eq!(store.list_overdue_orders(after(99), None, 10).await, Ok(vec![third]));
}

pub(crate) async fn due_orders_are_paged(harness: &dyn Harness) {
    let store = harness.open().await;
    let start = now();
    // Many share a deadline, and they are written in another order than read.
    let until = |n: u64| Order {
        expires_at: Some(start.saturating_add(Duration::from_millis(n / 10))),
        ..order(UserId::new())
    };
    let all: Vec<Order> = (0..25).map(until).collect();
    apply(&*store, all.iter().rev().map(|order| commit([put_order(order)]))).await;
    for limit in [1, 4, 25, 26] {
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let page = store
                .list_overdue_orders(start.saturating_add(Duration::from_secs(1)), after, limit)
                .await
                .unwrap();
            assert!(page.len() <= limit as usize);
            let Some(last) = page.last() else { break };
            after = Some((last.expires_at.unwrap(), last.id));
            read.extend(page);
        }
        assert_eq!(read, all, "{limit} at a time");
    }
}

pub(crate) async fn checkout_is_one_commit(harness: &dyn Harness) {
    let store = harness.open().await;
    let tea = stocked_product(&*store, 10).await;
    let bought = Order {
        lines: vec![OrderLine { product_id: tea, ..order(UserId::new()).lines.remove(0) }],
        ..order(UserId::new())
    };
    let key = key(bought.user_id, "checkout", 1);
    let conditions =
        vec![Condition::ProductUnchanged(tea, 1), Condition::PendingOrdersBelow(bought.user_id, 1)];
    let mut checkout =
        Commit { conditions, ..with_response(order_commit(&bought), &key, "placed") };
    checkout.writes.push(order_stock_write(&bought, StockChange::Reserve));
    apply_one(&*store, checkout.clone()).await.unwrap();
    assert_eq!(
        apply_one(&*store, checkout).await,
        Err(CommitError::Replayed(remembered_response("placed"))),
        "a replay comes before the conditions"
    );
    let after = stock_level(&*store, tea).await;
    assert_eq!((after.on_hand, after.reserved), (10, 2));
    let recorded: Vec<String> = event_kinds(&*store).await;
    assert_eq!(recorded[recorded.len() - 2..], ["order.placed", "inventory.stock.changed"]);
    let newest = store.list_movements(tea, None, 1).await.unwrap().remove(0);
    assert_eq!((newest.delta.kind, newest.order_id), (MovementKind::Reserved, Some(bought.id)));

    let expired = bought.decide(OrderCommand::Expire, bought.expires_at.unwrap()).unwrap().order;
    let paid = bought.decide(OrderCommand::Pay { reference: None }, now()).unwrap().order;
    let mut expire = order_commit(&expired);
    expire.writes.push(order_stock_write(&bought, StockChange::Release));
    let outcomes = apply(&*store, [expire.clone(), order_commit(&paid), expire]).await.outcomes;
    assert!(outcomes[0].is_ok());
    assert_eq!(
        outcomes[1..],
        [Err(CommitError::Conflict), Err(CommitError::Conflict)],
        "the first transition wins"
    );
    assert_eq!(store.find_order(bought.id).await, Ok(Some(expired)));
    assert_eq!(stock_level(&*store, tea).await.reserved, 0);
}

pub(crate) async fn refused_checkout_leaves_no_order(harness: &dyn Harness) {
    let store = harness.open().await;
    let tea = product(None);
    let repriced = Product { version: 2, ..tea.clone() };
    apply_one(&*store, commit([put_product(&tea), stock(tea.id, StockChange::Set(2))]))
        .await
        .unwrap();
    apply_one(&*store, commit([put_product(&repriced)])).await.unwrap();
    let reserving = |conditions| {
        let mut order = order(UserId::new());
        order.lines[0].product_id = tea.id;
        let mut commit = Commit { conditions, ..order_commit(&order) };
        commit.writes.push(order_stock_write(&order, StockChange::Reserve));
        (order.id, commit)
    };
    let none = UserId::new();
    let refused = [
        (vec![Condition::ProductUnchanged(tea.id, 1)], CommitError::Conflict),
        (vec![Condition::ProductUnchanged(tea.id, 3)], CommitError::Conflict),
        (vec![Condition::ProductUnchanged(ProductId::new(), 1)], CommitError::Conflict),
        (vec![Condition::PendingOrdersBelow(none, 0)], CommitError::TooManyPendingOrders),
    ];
    let (ids, mut batch): (Vec<OrderId>, Vec<Commit>) =
        refused.iter().map(|(conditions, _)| reserving(conditions.clone())).unzip();
    let (good, checkout) = reserving(vec![
        Condition::ProductUnchanged(tea.id, 2),
        Condition::PendingOrdersBelow(none, 1),
    ]);
    batch.push(checkout);
    let outcomes = apply(&*store, batch).await.outcomes;
    let expected: Vec<_> = refused.into_iter().map(|(_, error)| Err(error)).collect();
    assert_eq!(outcomes[..4], expected);
    assert!(outcomes[4].is_ok(), "a valid checkout in the batch succeeds");
    for id in ids {
        assert_eq!(store.find_order(id).await, Ok(None));
    }
    assert!(store.find_order(good).await.unwrap().is_some());
    assert_eq!(stock_level(&*store, tea.id).await.reserved, 2);
    apply_one(&*store, commit([put_product(&repriced.to_deleted(now()))])).await.unwrap();
    let (_, late) = reserving(vec![Condition::ProductUnchanged(tea.id, 2)]);
    assert_eq!(
        apply_one(&*store, late).await,
        Err(CommitError::Conflict),
        "a deletion is a change too"
    );
}

pub(crate) async fn pending_orders_per_user_are_limited(harness: &dyn Harness) {
    let store = harness.open().await;
    let (ada, bob) = (UserId::new(), UserId::new());
    let place = |user, limit| {
        let order = order(user);
        (
            order.clone(),
            Commit {
                conditions: vec![Condition::PendingOrdersBelow(user, limit)],
                ..order_commit(&order)
            },
        )
    };
    let (first, one_order) = place(ada, 3);
    apply_one(&*store, one_order).await.unwrap();
    let batch =
        [place(ada, 3).1, place(bob, 3).1, place(ada, 3).1, place(ada, 3).1, place(bob, 3).1];
    let done: Vec<bool> = apply(&*store, batch).await.outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(done, [true, true, true, false, true]);
    assert_eq!(apply_one(&*store, place(ada, 3).1).await, Err(CommitError::TooManyPendingOrders));
    let paid = first.decide(OrderCommand::Pay { reference: None }, now()).unwrap().order;
    let outcomes =
        apply(&*store, [place(ada, 3).1, order_commit(&paid), place(ada, 3).1, place(ada, 3).1])
            .await
            .outcomes;
    assert_eq!(
        outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [false, true, true, false],
        "a paid order frees a slot"
    );
    assert_eq!(store.list_orders(OrderFilter::of_user(ada), None, 10).await.unwrap().len(), 4);
}

pub(crate) async fn stock_of_a_deleted_product_still_moves(harness: &dyn Harness) {
    let store = harness.open().await;
    let tea = product(None);
    apply_one(&*store, commit([put_product(&tea), stock(tea.id, StockChange::Set(9))]))
        .await
        .unwrap();
    let mut bought = order(UserId::new());
    bought.lines[0].product_id = tea.id;
    apply_one(
        &*store,
        commit([put_order(&bought), order_stock_write(&bought, StockChange::Reserve)]),
    )
    .await
    .unwrap();
    apply_one(&*store, commit([put_product(&tea.to_deleted(now()))])).await.unwrap();
    apply_one(&*store, commit([order_stock_write(&bought, StockChange::Ship)])).await.unwrap();
    let after = stock_level(&*store, tea.id).await;
    assert_eq!((after.on_hand, after.reserved), (7, 0));
}

pub(crate) async fn commits_are_served_in_queue_order(harness: &dyn Harness) {
    let store = harness.open().await;
    let (tea, cup) = (stocked_product(&*store, 100).await, stocked_product(&*store, 1000).await);
    let (writer, _) =
        CommitWriter::start(&Handle::current(), store.clone(), std::sync::Arc::new(NoopObserver));
    let buy = |n: usize| {
        let write = |product_id, change| {
            let (expected_version, order_id, reference, reason) =
                (None, Some(OrderId::new()), None, None);
            Write::Stock(StockWrite {
                product_id,
                change,
                expected_version,
                order_id,
                reference,
                reason,
            })
        };
        // Every third commit writes a second product, and every fifth one has a key.
        let more = n.is_multiple_of(3).then(|| write(cup, StockChange::Reserve(1)));
        let commit = commit([write(tea, StockChange::Reserve(1))].into_iter().chain(more));
        if n.is_multiple_of(5) {
            with_response(commit, &key(customer().id, "key", 1), "sold")
        } else {
            commit
        }
    };
    // Polled in this order, so this is the order in the queue.
    let outcomes = join_all((0..300).map(|n| writer.commit(buy(n)))).await;
    let sold: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(sold, [vec![true; 100], vec![false; 200]].concat());
}
