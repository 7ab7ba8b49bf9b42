//! A write that fails at any step of an order leaves no partial change.

use souk::{
    domain::{
        cart::Cart,
        inventory::StockChange,
        order::{Order, OrderCommand},
    },
    store::{Commit, CommitError, Condition, Store, Write},
};

use crate::{
    fixtures::{
        apply_one, cart, commit, customer, key, order, order_commit, order_stock_write, put_cart,
        remembered_response, stock_level, stocked_product, with_response,
    },
    harness::Harness,
};

/// Everything that `commit` may change.
async fn observed_state(store: &dyn Store, commit: &Commit, order: &Order) -> String {
    let key = &commit.idempotency_record.as_ref().unwrap().key;
    let (cart, recorded) =
        (store.find_cart(order.user_id).await.unwrap(), store.outbox_heads().await.unwrap());
    let (product, moves) = (
        order.lines[0].product_id,
        store.list_movements(order.lines[0].product_id, None, 99).await.unwrap(),
    );
    let (order, remembered_response) =
        (store.find_order(order.id).await.unwrap(), store.find_stored_reply(key).await.unwrap());
    format!(
        "{cart:?} {order:?} {moves:?} {:?} {remembered_response:?} {recorded}",
        stock_level(store, product).await
    )
}

/// Order transitions after checkout, with their effect on stock.
type OrderSteps = Vec<(OrderCommand, Option<fn(u64) -> StockChange>)>;

pub(crate) async fn failed_step_leaves_no_partial_change(harness: &dyn Harness) {
    let store = harness.open().await;
    let tea = stocked_product(&*store, 10).await;
    let (pay, fulfil) = (OrderCommand::Pay { reference: None }, OrderCommand::fulfill_all());
    let scenarios: [OrderSteps; 4] = [
        vec![(pay.clone(), None), (fulfil, Some(StockChange::Ship))],
        vec![(OrderCommand::cancel_by_staff(), Some(StockChange::Release))],
        vec![(pay, None), (OrderCommand::cancel_by_staff(), Some(StockChange::Release))],
        vec![(OrderCommand::Expire, Some(StockChange::Release))],
    ];
    for steps in scenarios {
        let first = cart(customer(), 1);
        apply_one(&*store, commit([put_cart(&first)])).await.unwrap();
        let mut order = order(first.owner.id);
        order.lines[0].product_id = tea;
        let emptied = Cart { version: 2, lines: Vec::new(), ..first };
        let mut checkout = order_commit(&order);
        checkout.conditions = vec![
            Condition::ProductUnchanged(tea, 1),
            Condition::PendingOrdersBelow(order.user_id, 1),
        ];
        checkout
            .writes
            .extend([put_cart(&emptied), order_stock_write(&order, StockChange::Reserve)]);
        assert_each_step_can_fail(harness, &*store, &order, "checkout", checkout).await;
        for (command, moves) in steps {
            let step = format!("{command:?}");
            order = order.decide(command, order.expires_at.unwrap_or_default()).unwrap().order;
            let mut next = order_commit(&order);
            next.writes.extend(moves.map(|change| order_stock_write(&order, change)));
            assert_each_step_can_fail(harness, &*store, &order, &step, next).await;
        }
    }
    let after = stock_level(&*store, tea).await;
    assert_eq!((after.on_hand, after.reserved), (8, 0));
}

/// Asserts that `commit` fails without a trace while any of its tables rejects writes, and then
/// applies once.
async fn assert_each_step_can_fail(
    harness: &dyn Harness,
    store: &dyn Store,
    order: &Order,
    step: &str,
    commit: Commit,
) {
    let mut tables = vec!["orders", "idempotency_keys", "outbox"];
    for write in &commit.writes {
        match write {
            Write::Stock(_) => tables.extend(["movements", "stock"]),
            Write::Cart(_) => tables.push("carts"),
            _ => {}
        }
    }
    let commit = with_response(commit, &key(order.user_id, step, 1), "done");
    let before = observed_state(store, &commit, order).await;
    for table in tables {
        harness.break_table(table, true).await;
        let outcome = match store.apply(vec![commit.clone()].into()).await {
            Ok(mut applied) => applied.outcomes.remove(0),
            Err(error) => Err(error.into()),
        };
        harness.break_table(table, false).await;
        assert_eq!(outcome, Err(CommitError::Unavailable), "{step} without {table}");
        assert_eq!(observed_state(store, &commit, order).await, before, "{step} without {table}");
    }
    apply_one(store, commit.clone()).await.unwrap();
    assert_ne!(observed_state(store, &commit, order).await, before);
    assert_eq!(
        apply_one(store, commit).await,
        Err(CommitError::Replayed(remembered_response("done")))
    );
}
