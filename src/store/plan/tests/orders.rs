//! Checkouts and what follows, decided by several nodes on what each has last seen: whatever they do and in whichever order it comes to
//! the store, nothing is sold that is not there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::world::{World, commit, facts, id, order, stock};
use crate::store::plan::Movement;
use crate::{
    domain::{
        cart::{Cart, CartCommand, CartLimits, Offer, Owner},
        catalog::product::Product,
        clock::Timestamp,
        ids::{OrderId, ProductId, UserId},
        inventory::StockChange,
        money::{Currency, Money},
        order::{Checkout, OrderCommand, OrderRules, OrderStatus, Transition},
    },
    events::Fact,
    store::commit::{Commit, CommitError, Condition, Outcome, StockWrite, Write},
};

const NODES: usize = 3;
const USERS: u8 = 3;
const PRODUCTS: u8 = 3;
const RULES: OrderRules = OrderRules { payment_timeout: Duration::from_millis(5), max_pending: 2 };
const LIMITS: CartLimits = CartLimits { max_quantity: 9, max_lines: 9 };

/// Something asked of one of the nodes.
#[derive(Debug, Clone)]
enum Step {
    Receive {
        product: u8,
        pieces: i64,
    },
    Reprice {
        product: u8,
    },
    Add {
        user: u8,
        product: u8,
        quantity: u32,
    },
    CheckOut {
        user: u8,
    },
    Move {
        order: prop::sample::Index,
        command: OrderCommand,
    },
    /// The node hears of everything that was done so far.
    Hear,
    /// What all nodes have decided so far comes to the store as one batch.
    Batch,
}

fn steps() -> impl Strategy<Value = (usize, Step)> {
    let command = prop_oneof![
        Just(OrderCommand::Pay { reference: None }),
        Just(OrderCommand::Cancel),
        Just(OrderCommand::Expire),
        Just(OrderCommand::Fulfil { reference: None }),
    ];
    let step = prop_oneof![
        2 => (0..PRODUCTS, -3..6_i64).prop_map(|(product, pieces)| Step::Receive { product, pieces }),
        1 => (0..PRODUCTS).prop_map(|product| Step::Reprice { product }),
        6 => (0..USERS, 0..PRODUCTS, 1..4_u32).prop_map(|(user, product, quantity)| Step::Add { user, product, quantity }),
        6 => (0..USERS).prop_map(|user| Step::CheckOut { user }),
        6 => (any::<prop::sample::Index>(), command).prop_map(|(order, command)| Step::Move { order, command }),
        10 => Just(Step::Hear),
        8 => Just(Step::Batch),
    ];
    (0..NODES, step)
}

fn euro() -> Currency {
    "EUR".parse().unwrap()
}

/// The commit that a node makes of a step, from what it has last seen; `None`: it refuses.
fn decide(seen: &World, step: &Step, now: Timestamp) -> Option<Commit> {
    let mut decided = match step {
        Step::Receive { product, pieces } => {
            commit(vec![stock(*product, StockChange::Adjust(*pieces), None)])
        }
        Step::Reprice { product } => {
            let known = &seen.products[&id(*product)];
            let mut facts = known.facts.clone();
            facts.price = Money::from_minor(facts.price.minor() + 1, euro()).unwrap();
            commit(vec![Write::Product(Arc::new(known.replaced(facts, now)?))])
        }
        Step::Add { user, product, quantity } => {
            let command = CartCommand::Add { product_id: id(*product), quantity: *quantity };
            // Whatever is on the shelf: only checkout counts.
            let offer =
                |_| Some(Offer { name: "Tea".into(), price: Money::zero(euro()), available: 99 });
            let (cart, _) = cart(seen, *user).decide(command, offer, LIMITS, now).ok()??;
            commit(vec![Write::Cart(Arc::new(cart))])
        }
        Step::CheckOut { user } => check_out(seen, *user, now)?,
        Step::Move { order, command } => {
            let orders: Vec<_> = seen.orders.values().collect();
            let order = orders.get(order.index(orders.len().max(1)))?;
            let Transition { order, stock } = order.decide(command.clone(), now).ok()?;
            let moves = stock
                .into_iter()
                .map(|(product_id, change)| for_order(product_id, change, order.id));
            let writes = moves.collect::<Vec<_>>();
            commit([vec![Write::Order(Arc::new(order))], writes].concat())
        }
        Step::Hear | Step::Batch => return None,
    };
    decided.at = now;
    Some(decided)
}

fn check_out(seen: &World, user: u8, now: Timestamp) -> Option<Commit> {
    let ware = |product| {
        Some((Arc::clone(&seen.products[&product]), seen.stock.get(&product)?.available()))
    };
    let done = cart(seen, user)
        .check_out(Checkout::default(), OrderId::new(), ware, euro(), RULES, now)
        .ok()?;
    let take = |line: &crate::domain::order::OrderLine| {
        for_order(line.product_id, StockChange::Reserve(line.quantity.into()), done.order.id)
    };
    let moves: Vec<Write> = done.order.lines.iter().map(take).collect();
    let writes = vec![Write::Cart(Arc::new(done.cart.0)), Write::Order(Arc::new(done.order))];
    let unchanged =
        done.decided_on.into_iter().map(|(id, version)| Condition::Unchanged(id, version));
    let conditions =
        unchanged.chain([Condition::PendingBelow(id(user), RULES.max_pending)]).collect();
    Some(Commit { conditions, ..commit([writes, moves].concat()) })
}

fn cart(seen: &World, user: u8) -> Cart {
    let owner = Owner { id: id(user), guest: false };
    seen.carts.get(&owner.id).map_or_else(|| Cart::untouched(owner), |cart| (**cart).clone())
}

fn for_order(product_id: ProductId, change: StockChange, order_id: OrderId) -> Write {
    let order_id = Some(order_id);
    Write::Stock(StockWrite {
        product_id,
        change,
        expected_version: None,
        order_id,
        reference: None,
        reason: None,
    })
}

/// A shop with a few pieces of everything.
fn shop() -> World {
    let mut world = World::default();
    for number in 0..PRODUCTS {
        let product = Product::new(id(number), facts(None), Timestamp::default());
        let first = commit(vec![
            Write::Product(Arc::new(product)),
            stock(number, StockChange::Set(4), None),
        ]);
        assert!(world.apply(&[first])[0].is_ok());
    }
    world
}

fn check(world: &World, prices: &HashMap<(ProductId, u64), Money>) -> Result<(), TestCaseError> {
    let mut reserved: BTreeMap<ProductId, u64> = BTreeMap::new();
    for order in world.orders.values().filter(|order| order.status.reserves()) {
        for line in &order.lines {
            *reserved.entry(line.product_id).or_default() += u64::from(line.quantity);
        }
    }
    for level in world.stock.values() {
        let moved: Vec<&Movement> =
            world.movements.iter().filter(|m| m.product_id == level.product_id).collect();
        prop_assert!(level.reserved <= level.on_hand, "available is not below zero");
        prop_assert_eq!(level.on_hand as i64, moved.iter().map(|m| m.delta.on_hand).sum::<i64>());
        prop_assert_eq!(level.reserved as i64, moved.iter().map(|m| m.delta.reserved).sum::<i64>());
        prop_assert_eq!(
            level.reserved,
            reserved.get(&level.product_id).copied().unwrap_or(0),
            "what open orders hold"
        );
    }
    for order in world.orders.values() {
        let mut held = BTreeMap::new();
        for moved in world.movements.iter().filter(|m| m.order_id == Some(order.id)) {
            *held.entry(moved.product_id).or_insert(0) += moved.delta.reserved;
        }
        let expected =
            |quantity: u32| if order.status.reserves() { i64::from(quantity) } else { 0 };
        let lines = order.lines.iter().map(|line| (line.product_id, expected(line.quantity)));
        prop_assert_eq!(
            held,
            lines.collect::<BTreeMap<_, _>>(),
            "an order's own movements say what it holds"
        );
        let versions = world.events.iter().filter_map(|event| match &event.fact {
            Fact::Order(told) if told.id == order.id => Some(told.version),
            _ => None,
        });
        prop_assert_eq!(versions.collect::<Vec<_>>(), (1..=order.version).collect::<Vec<_>>());
    }
    for user in 0..USERS {
        prop_assert!(world.pending(id::<UserId>(user)) <= u64::from(RULES.max_pending));
    }
    let placed = world.events.iter().filter_map(|event| match &event.fact {
        Fact::Order(order) if order.version == 1 => Some(order),
        _ => None,
    });
    for order in placed {
        for line in &order.lines {
            let at_the_time = prices[&(line.product_id, order.placed_at.as_millis() as u64)];
            prop_assert_eq!(
                line.unit_price,
                at_the_time,
                "no order has a price that was not the store's when it was placed"
            );
        }
    }
    Ok(())
}

/// Applies what was decided as one batch. An order of it is as old as the batch: that is when the store has taken it.
fn land(
    world: &mut World,
    mut batch: Vec<Commit>,
    batches: u64,
    prices: &mut HashMap<(ProductId, u64), Money>,
) {
    // Orders carry the batch's number as their time, so that their prices can be compared with those of that moment.
    for commit in &mut batch {
        for write in &mut commit.writes {
            if let Write::Order(order) = write
                && order.version == 1
            {
                Arc::make_mut(order).placed_at = Timestamp::from_millis(batches as i64);
            }
        }
        let told = commit.writes.iter().filter_map(|write| match write {
            Write::Order(order) => Some(Fact::Order(Arc::clone(order))),
            _ => None,
        });
        let told: Vec<Fact> = told.collect();
        commit.facts.retain(|fact| !matches!(fact, Fact::Order(_)));
        commit.facts.extend(told);
    }
    world.apply(&batch);
    for product in world.products.values() {
        prices.insert((product.id, batches), product.facts.price);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_is_sold_that_is_not_there_whatever_nodes_decide_on_what_they_last_saw(
        steps in prop::collection::vec(steps(), 0..250),
    ) {
        let mut world = shop();
        let mut nodes = vec![world.clone(); NODES];
        let (mut waiting, mut prices, mut batches) = (Vec::new(), HashMap::new(), 0);
        for (time, (node, step)) in (0..).zip(&steps) {
            match step {
                Step::Hear => nodes[*node] = world.clone(),
                Step::Batch => {
                    // A change of price stands alone, so that a batch has one price of everything.
                    let (repricing, rest): (Vec<Commit>, Vec<Commit>) = std::mem::take(&mut waiting)
                        .into_iter()
                        .partition(|commit: &Commit| commit.writes.iter().any(|write| matches!(write, Write::Product(_))));
                    for batch in [repricing, rest] {
                        batches += 1;
                        land(&mut world, batch, batches, &mut prices);
                        check(&world, &prices)?;
                    }
                }
                step => waiting.extend(decide(&nodes[*node], step, Timestamp::from_millis(time))),
            }
        }
    }
}

fn expect(world: &mut World, batch: &[Commit], expected: &[Result<(), CommitError>]) {
    let outcomes: Vec<Outcome> = world.apply(batch);
    let plain: Vec<Result<(), CommitError>> =
        outcomes.into_iter().map(|outcome| outcome.map(drop)).collect();
    assert_eq!(plain, expected);
}

fn placing(number: u8, limit: u32) -> Commit {
    let placed = Write::Order(Arc::new(order(number, 0, OrderStatus::PendingPayment, 1)));
    Commit { conditions: vec![Condition::PendingBelow(id(0), limit)], ..commit(vec![placed]) }
}

#[test]
fn the_limit_of_pending_orders_counts_what_the_batch_does() {
    let mut world = World::default();
    let too_many = || Err(CommitError::TooManyPending);
    let paid =
        |number| commit(vec![Write::Order(Arc::new(order(number, 0, OrderStatus::Paid, 2)))]);
    expect(
        &mut world,
        &[placing(1, 2), placing(2, 2), placing(3, 2)],
        &[Ok(()), Ok(()), too_many()],
    );
    expect(
        &mut world,
        &[placing(3, 2), paid(1), placing(4, 2), placing(5, 2)],
        &[too_many(), Ok(()), Ok(()), too_many()],
    );
    assert_eq!(world.pending(id(0)), 2);
    let other = Commit { conditions: vec![Condition::PendingBelow(id(1), 1)], ..placing(6, 9) };
    expect(&mut world, &[other], &[Ok(())]);
}

#[test]
fn what_was_decided_on_an_older_product_is_decided_again() {
    let mut world = shop();
    let on = |version| Commit {
        conditions: vec![Condition::Unchanged(id(0), version)],
        ..placing(1, 9)
    };
    let known = Arc::clone(&world.products[&id(0)]);
    let next = |version, deleted| {
        Write::Product(Arc::new(Product { version, deleted, ..(*known).clone() }))
    };
    let conflict = || Err(CommitError::Conflict);
    expect(&mut world, &[commit(vec![next(2, false)]), on(1)], &[Ok(()), conflict()]);
    expect(
        &mut world,
        &[on(1), commit(vec![next(3, true)]), on(2)],
        &[conflict(), Ok(()), conflict()],
    );
    let unknown = Commit { conditions: vec![Condition::Unchanged(id(77), 1)], ..placing(1, 9) };
    expect(&mut world, &[unknown], &[conflict()]);
    assert!(world.orders.is_empty());
    expect(&mut world, &[on(3)], &[Ok(())]);
}

#[test]
fn whoever_asks_first_gets_the_pieces() {
    let mut world = World::default();
    world.apply(&[commit(vec![stock(0, StockChange::Set(7), None)])]);
    let take = |pieces| commit(vec![stock(0, StockChange::Reserve(pieces), None)]);
    let deadline = Instant::now();
    // A later deadline makes nobody wait for longer.
    let batch: Vec<Commit> = (0..9)
        .map(|n| Commit { deadline: deadline + Duration::from_secs(9 - n), ..take(1) })
        .collect();
    let sold: Vec<bool> = world.apply(&batch).iter().map(Result::is_ok).collect();
    assert_eq!(sold, [vec![true; 7], vec![false; 2]].concat());
}
