//! Purchase limits, and the limit of unpaid units.

use std::sync::Arc;

use souk::{
    domain::{
        cart::CartOwner,
        ids::{ProductId, UserId},
        order::{
            LimitedLine, Order, OrderCommand, OrderFilter, OrderLine, OrderStatus, PurchaseExcess,
        },
    },
    store::{Commit, CommitError, CommitOutcome, Condition, Store, writer::CommitWriter},
};

use crate::{
    fixtures::{apply, apply_one, cart, customer, now, order, order_commit, put_cart},
    harness::{Harness, Mongo},
    nodes::start_node,
};

/// An unpaid order with one line.
fn order_of(user_id: UserId, product_id: ProductId, quantity: u32) -> Order {
    let mut order = order(user_id);
    order.lines[0] = OrderLine { product_id, quantity, ..order.lines[0].clone() };
    order
}

/// The commit of an order whose first product has this purchase limit.
fn place(order: &Order, limit: u32) -> Commit {
    let OrderLine { product_id, quantity, .. } = order.lines[0];
    let line = LimitedLine { product_id, quantity, limit };
    Commit {
        conditions: vec![Condition::PurchaseWithin(order.user_id, line)],
        ..order_commit(order)
    }
}

fn cancel(order: &Order) -> Commit {
    order_commit(&order.decide(OrderCommand::cancel_by_staff(), now()).unwrap().order)
}

fn limit_reached(product_id: ProductId, requested: u64, left: u64) -> CommitError {
    CommitError::PurchaseLimitReached(vec![PurchaseExcess { product_id, requested, left }])
}

fn plain(outcomes: Vec<CommitOutcome>) -> Vec<Result<(), CommitError>> {
    outcomes.into_iter().map(|outcome| outcome.map(drop)).collect()
}

pub(crate) async fn purchase_limit_counts_orders_that_stand(harness: &dyn Harness) {
    let store = harness.open().await;
    let (ada, bob) = (UserId::new(), UserId::new());
    let (tea, cup) = (ProductId::new(), ProductId::new());
    // Orders from before the product had a limit.
    let with_status = |status| Order { status, ..order_of(ada, tea, 1) };
    let mut earlier: Vec<Order> = OrderStatus::ALL.iter().map(|s| with_status(*s)).collect();
    let paid = earlier[1].clone();
    assert_eq!(paid.status, OrderStatus::Paid);
    let mut both = order_of(ada, cup, 9);
    both.lines.push(OrderLine { product_id: tea, quantity: 1, ..both.lines[0].clone() });
    for status in [OrderStatus::PendingPayment, OrderStatus::Paid] {
        earlier.push(Order { id: order(ada).id, status, ..both.clone() });
        earlier.push(Order { status, ..order_of(bob, tea, 9) });
        let mut named_like_it = order_of(ada, cup, 9);
        named_like_it.lines[0].name = tea.to_string();
        earlier.push(Order { status, ..named_like_it });
    }
    apply(&*store, earlier.iter().map(order_commit)).await;
    store.close().await;
    let store = harness.open().await;
    // An unpaid, a paid, a partly shipped and a shipped one, and two with other products.
    let buy = |quantity, limit| place(&order_of(ada, tea, quantity), limit);
    assert_eq!(apply_one(&*store, buy(2, 7)).await, Err(limit_reached(tea, 2, 1)));
    assert_eq!(apply_one(&*store, buy(1, 4)).await, Err(limit_reached(tea, 1, 0)));
    apply_one(&*store, buy(1, 7)).await.unwrap();
    assert_eq!(apply_one(&*store, buy(1, 7)).await, Err(limit_reached(tea, 1, 0)));
    apply_one(&*store, cancel(&paid)).await.unwrap();
    apply_one(&*store, buy(1, 7)).await.unwrap();
    assert_eq!(apply_one(&*store, buy(1, 7)).await, Err(limit_reached(tea, 1, 0)));
    apply_one(&*store, place(&order_of(bob, tea, 1), 19)).await.unwrap();
}

pub(crate) async fn purchase_limit_counts_the_batch(harness: &dyn Harness) {
    let store = harness.open().await;
    let (ada, bob, tea) = (UserId::new(), UserId::new(), ProductId::new());
    let first = order_of(ada, tea, 2);
    let batch = [
        place(&first, 5),
        place(&order_of(ada, tea, 4), 5),
        place(&order_of(bob, tea, 5), 5),
        place(&order_of(ada, tea, 3), 5),
        place(&order_of(ada, tea, 1), 5),
        cancel(&first),
        place(&order_of(ada, tea, 2), 5),
        place(&order_of(ada, tea, 1), 5),
    ];
    let expected = [
        Ok(()),
        Err(limit_reached(tea, 4, 3)),
        Ok(()),
        Ok(()),
        Err(limit_reached(tea, 1, 0)),
        Ok(()),
        Ok(()),
        Err(limit_reached(tea, 1, 0)),
    ];
    assert_eq!(plain(apply(&*store, batch).await.outcomes), expected);
    assert_eq!(store.list_orders(OrderFilter::of_user(ada), None, 10).await.unwrap().len(), 3);
}

pub(crate) async fn unpaid_units_per_user_are_limited(harness: &dyn Harness) {
    let store = harness.open().await;
    let (ada, bob) = (UserId::new(), UserId::new());
    let place = |user_id, units: u32| {
        let mut order = order_of(user_id, ProductId::new(), units - 1);
        order.lines.push(OrderLine { quantity: 1, ..order.lines[0].clone() });
        let condition = Condition::PendingUnitsWithin { user_id, units: units.into(), limit: 10 };
        (order.clone(), Commit { conditions: vec![condition], ..order_commit(&order) })
    };
    let (first, six) = place(ada, 6);
    apply_one(&*store, six).await.unwrap();
    let too_many = |left| Err(CommitError::TooManyPendingUnits { left });
    let batch = [place(ada, 5).1, place(bob, 10).1, place(ada, 4).1, place(ada, 2).1];
    assert_eq!(
        plain(apply(&*store, batch).await.outcomes),
        [too_many(4), Ok(()), Ok(()), too_many(0)]
    );
    assert_eq!(apply_one(&*store, place(bob, 11).1).await.map(drop), too_many(0));
    let paid = first.decide(OrderCommand::Pay { reference: None }, now()).unwrap().order;
    let batch = [order_commit(&paid), place(ada, 7).1, place(ada, 6).1];
    assert_eq!(
        plain(apply(&*store, batch).await.outcomes),
        [Ok(()), too_many(6), Ok(())],
        "paid units do not count"
    );
}

type Node = (Arc<dyn Store>, CommitWriter);

/// Places `order` as a checkout does, on the newest version of the cart.
async fn check_out((store, writer): &Node, owner: CartOwner, order: &Order) -> CommitOutcome {
    loop {
        let version = store.find_cart(owner.id).await.unwrap().map_or(1, |cart| cart.version + 1);
        let mut commit = place(order, 5);
        // Without events, nothing but the cart causes a conflict.
        commit.events.clear();
        commit.writes.push(put_cart(&cart(owner, version)));
        match writer.commit(commit).await {
            Err(CommitError::Conflict) => {}
            outcome => return outcome,
        }
    }
}

/// What a buyer has of a product, by the orders.
async fn bought(store: &dyn Store, user: UserId) -> u32 {
    let orders = store.list_orders(OrderFilter::of_user(user), None, 500).await.unwrap();
    let units = |order: &Order| order.lines[0].quantity;
    orders.iter().filter(|order| order.status.counts_as_purchase()).map(units).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purchase_limit_holds_across_eight_nodes() {
    let Some(mongo) = Mongo::new().await else { return };
    let mut nodes: Vec<Node> = Vec::new();
    for _ in 0..8 {
        nodes.push(start_node(&mongo).await);
    }
    for _ in 0..3 {
        let (owner, tea) = (customer(), ProductId::new());
        // Every third order is cancelled as soon as it is placed.
        let attempts = (0..48_usize).map(|n| {
            let (node, order) = (nodes[n % 8].clone(), order_of(owner.id, tea, 1 + n as u32 % 2));
            tokio::spawn(async move {
                let outcome = check_out(&node, owner, &order).await;
                if outcome.is_ok() && n.is_multiple_of(3) {
                    node.1.commit(cancel(&order)).await.unwrap();
                }
                outcome
            })
        });
        for attempt in attempts.collect::<Vec<_>>() {
            match attempt.await.unwrap() {
                Ok(_) => assert!(bought(&*nodes[0].0, owner.id).await <= 5),
                Err(error) => assert!(
                    matches!(&error, CommitError::PurchaseLimitReached(lines)
                        if lines[0].left < lines[0].requested),
                    "{error:?}"
                ),
            }
        }
        // Nothing that was given back is lost.
        while bought(&*nodes[0].0, owner.id).await < 5 {
            check_out(&nodes[1], owner, &order_of(owner.id, tea, 1)).await.unwrap();
        }
        let one_more = check_out(&nodes[2], owner, &order_of(owner.id, tea, 1)).await;
        assert_eq!(one_more, Err(limit_reached(tea, 1, 0)));
    }
    mongo.drop_database().await;
}
