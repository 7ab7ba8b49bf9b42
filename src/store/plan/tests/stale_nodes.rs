//! Several nodes decide checkouts and order commands, each on its own stale view of the store. In
//! whatever order their commits are applied, the store never sells more than it has.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;

use super::model_store::{ModelStore, commit_of, numbered_id, stock_write, stocked_store};
use crate::{
    domain::{
        cart::{Cart, CartCommand, CartLimits, CartOwner, Offer},
        catalog::product::ProductDetails,
        clock::Timestamp,
        ids::{OrderId, ProductId, UserId},
        inventory::{StockChange, StockMovement},
        money::{Currency, Money},
        order::{CheckoutOptions, Order, OrderCommand, OrderRules, OrderStatus, OrderTransition},
        pricing::{PricingRules, ShopPricing},
    },
    events::DomainEvent,
    store::commit::{Commit, Condition, StockWrite, Write},
};

const NODES: usize = 3;
const USERS: u8 = 3;
const PRODUCTS: u8 = 3;
const RULES: OrderRules =
    OrderRules { payment_timeout: Duration::from_millis(5), max_pending: 2, max_pending_units: 7 };
const LIMITS: CartLimits = CartLimits { max_quantity: 9, max_lines: 9 };

/// A request to one of the nodes.
#[derive(Debug, Clone)]
enum Step {
    AdjustStock {
        product: u8,
        units: i64,
    },
    Reprice {
        product: u8,
    },
    LimitPurchases {
        product: u8,
        limit: Option<u32>,
    },
    AddToCart {
        user: u8,
        product: u8,
        quantity: u32,
    },
    CheckOut {
        user: u8,
    },
    TransitionOrder {
        order: usize,
        command: OrderCommand,
    },
    /// The node's view becomes the current state.
    RefreshView,
    /// The commits of all nodes are applied as one batch.
    ApplyBatch,
}

fn node_steps() -> impl Strategy<Value = (usize, Step)> {
    let command = prop_oneof![
        Just(OrderCommand::Pay { reference: None }),
        Just(OrderCommand::cancel_by_staff()),
        Just(OrderCommand::Expire),
        Just(OrderCommand::fulfill_all()),
    ];
    let step = prop_oneof![
        2 => (0..PRODUCTS, -3..6_i64)
            .prop_map(|(product, units)| Step::AdjustStock { product, units }),
        1 => (0..PRODUCTS).prop_map(|product| Step::Reprice { product }),
        1 => (0..PRODUCTS, prop::option::of(1..5_u32))
            .prop_map(|(product, limit)| Step::LimitPurchases { product, limit }),
        6 => (0..USERS, 0..PRODUCTS, 1..4_u32)
            .prop_map(|(user, product, quantity)| Step::AddToCart { user, product, quantity }),
        6 => (0..USERS).prop_map(|user| Step::CheckOut { user }),
        6 => (any::<usize>(), command)
            .prop_map(|(order, command)| Step::TransitionOrder { order, command }),
        10 => Just(Step::RefreshView),
        8 => Just(Step::ApplyBatch),
    ];
    (0..NODES, step)
}

fn euro_currency() -> Currency {
    "EUR".parse().unwrap()
}

/// The commit that a node decides from its view; `None` when the domain rejects the step.
fn decide_step(seen: &ModelStore, step: &Step, now: Timestamp) -> Option<Commit> {
    let mut decided = match step {
        Step::AdjustStock { product, units } => {
            commit_of(vec![stock_write(*product, StockChange::Adjust(*units), None)])
        }
        Step::Reprice { product } => {
            let known = &seen.products[&numbered_id(*product)];
            let mut details = known.details.clone();
            let price = details.price.minor_units() + 1;
            details.price = Money::from_minor_units(price, euro_currency()).unwrap();
            commit_of(vec![Write::Product(Arc::new(known.with_details(details, now)?))])
        }
        Step::LimitPurchases { product, limit } => {
            let known = &seen.products[&numbered_id(*product)];
            let details = ProductDetails { purchase_limit: *limit, ..known.details.clone() };
            commit_of(vec![Write::Product(Arc::new(known.with_details(details, now)?))])
        }
        Step::AddToCart { user, product, quantity } => {
            let command =
                CartCommand::AddItem { product_id: numbered_id(*product), quantity: *quantity };
            // Always enough stock: only checkout checks the real amount.
            let offer = |_| {
                Some(Offer {
                    name: "Tea".into(),
                    price: Money::zero(euro_currency()),
                    available: 99,
                    product: None,
                })
            };
            let (cart, _) =
                cart_or_empty(seen, *user).decide(command, offer, LIMITS, now).ok()??;
            commit_of(vec![Write::Cart(Arc::new(cart))])
        }
        Step::CheckOut { user } => decide_checkout(seen, *user, now)?,
        Step::TransitionOrder { order, command } => {
            let orders: Vec<_> = seen.orders.values().collect();
            let order = orders.get(order % orders.len().max(1))?;
            let conditions = revival_conditions(seen, order, command);
            let OrderTransition { order, stock_changes, .. } =
                order.decide(command.clone(), now).ok()?;
            let moves = stock_changes
                .into_iter()
                .map(|(product_id, change)| order_stock_write(product_id, change, order.id));
            let writes = moves.collect::<Vec<_>>();
            let writes = [vec![Write::Order(Arc::new(order))], writes].concat();
            Commit { conditions, ..commit_of(writes) }
        }
        Step::RefreshView | Step::ApplyBatch => return None,
    };
    decided.decided_at = now;
    Some(decided)
}

fn decide_checkout(seen: &ModelStore, user: u8, now: Timestamp) -> Option<Commit> {
    let product = |product| {
        Some((Arc::clone(&seen.products[&product]), seen.stock.get(&product)?.available()))
    };
    let shop = ShopPricing {
        currency: euro_currency(),
        rules: &PricingRules::default(),
        buyer_uses: None,
    };
    let done = cart_or_empty(seen, user)
        .check_out(CheckoutOptions::default(), OrderId::new(), product, shop, RULES, now)
        .ok()?;
    let take = |line: &crate::domain::order::OrderLine| {
        order_stock_write(
            line.product_id,
            StockChange::Reserve(line.quantity.into()),
            done.order.id,
        )
    };
    let moves: Vec<Write> = done.order.lines.iter().map(take).collect();
    let units = done.order.units();
    let writes = vec![Write::Cart(Arc::new(done.cart.0)), Write::Order(Arc::new(done.order))];
    let unchanged = done
        .product_versions
        .into_iter()
        .map(|(id, version)| Condition::ProductUnchanged(id, version));
    let user_id = numbered_id(user);
    let pending = [
        Condition::PendingOrdersBelow(user_id, RULES.max_pending),
        Condition::PendingUnitsWithin { user_id, units, limit: RULES.max_pending_units },
    ];
    let limited =
        done.limited_lines.into_iter().map(|line| Condition::PurchaseWithin(user_id, line));
    let conditions = unchanged.chain(pending).chain(limited).collect();
    Some(Commit { conditions, ..commit_of([writes, moves].concat()) })
}

fn revival_conditions(seen: &ModelStore, order: &Order, command: &OrderCommand) -> Vec<Condition> {
    if order.status != OrderStatus::Expired || !matches!(command, OrderCommand::Pay { .. }) {
        return Vec::new();
    }
    let products = order.lines.iter().map(|line| &*seen.products[&line.product_id]);
    Condition::of_revived_order(order, products)
}

fn cart_or_empty(seen: &ModelStore, user: u8) -> Cart {
    let owner = CartOwner { id: numbered_id(user), is_guest: false };
    seen.carts.get(&owner.id).map_or_else(|| Cart::empty(owner), |cart| (**cart).clone())
}

fn order_stock_write(product_id: ProductId, change: StockChange, order_id: OrderId) -> Write {
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

fn check_invariants(
    store: &ModelStore,
    prices: &HashMap<(ProductId, u64), Money>,
) -> Result<(), TestCaseError> {
    let mut reserved: BTreeMap<ProductId, u64> = BTreeMap::new();
    for order in store.orders.values().filter(|order| order.status.holds_reservation()) {
        for line in &order.lines {
            *reserved.entry(line.product_id).or_default() += u64::from(line.quantity);
        }
    }
    for level in store.stock.values() {
        let moved: Vec<&StockMovement> =
            store.movements.iter().filter(|m| m.product_id == level.product_id).collect();
        prop_assert!(level.reserved <= level.on_hand, "available is not below zero");
        prop_assert_eq!(level.on_hand as i64, moved.iter().map(|m| m.delta.on_hand).sum::<i64>());
        prop_assert_eq!(level.reserved as i64, moved.iter().map(|m| m.delta.reserved).sum::<i64>());
        prop_assert_eq!(
            level.reserved,
            reserved.get(&level.product_id).copied().unwrap_or(0),
            "the reserved units are those of open orders"
        );
    }
    for order in store.orders.values() {
        let mut held = BTreeMap::new();
        for moved in store.movements.iter().filter(|m| m.order_id == Some(order.id)) {
            *held.entry(moved.product_id).or_insert(0) += moved.delta.reserved;
        }
        let expected =
            |quantity: u32| if order.status.holds_reservation() { i64::from(quantity) } else { 0 };
        let lines = order.lines.iter().map(|line| (line.product_id, expected(line.quantity)));
        prop_assert_eq!(
            held,
            lines.collect::<BTreeMap<_, _>>(),
            "an order's movements add up to its reservation"
        );
        let versions = store.events.iter().filter_map(|event| match &event.payload {
            DomainEvent::Order(event) if event.id == order.id => Some(event.version),
            _ => None,
        });
        prop_assert_eq!(versions.collect::<Vec<_>>(), (1..=order.version).collect::<Vec<_>>());
    }
    for user in 0..USERS {
        let pending = store.pending_orders(numbered_id::<UserId>(user));
        prop_assert!(pending.orders <= u64::from(RULES.max_pending));
        prop_assert!(pending.units <= u64::from(RULES.max_pending_units));
    }
    let placed = store.events.iter().filter_map(|event| match &event.payload {
        DomainEvent::Order(order) if order.version == 1 => Some(order),
        _ => None,
    });
    for order in placed {
        for line in &order.lines {
            let at_the_time = prices[&(line.product_id, order.placed_at.as_millis() as u64)];
            prop_assert_eq!(
                line.unit_price,
                at_the_time,
                "an order has the prices of the time when it was placed"
            );
        }
    }
    Ok(())
}

/// Applies a batch. Its new orders are placed at the time of the batch.
fn apply_as_one_batch(
    store: &mut ModelStore,
    mut batch: Vec<Commit>,
    batches: u64,
    prices: &mut HashMap<(ProductId, u64), Money>,
) {
    // The batch's number serves as that time, so that order prices can be compared with it.
    for commit in &mut batch {
        for write in &mut commit.writes {
            if let Write::Order(order) = write
                && order.version == 1
            {
                Arc::make_mut(order).placed_at = Timestamp::from_millis(batches as i64);
            }
        }
        let events = commit.writes.iter().filter_map(|write| match write {
            Write::Order(order) => Some(DomainEvent::Order(Arc::clone(order))),
            _ => None,
        });
        let events: Vec<DomainEvent> = events.collect();
        commit.events.retain(|event| !matches!(event, DomainEvent::Order(_)));
        commit.events.extend(events);
    }
    store.apply(&batch);
    for product in store.products.values() {
        prices.insert((product.id, batches), product.details.price);
    }
}

/// Checks the purchase limits of what was ordered in the last batch. The limits are constant within
/// a batch, and what came after an order in the batch can only have given back.
fn check_purchase_limits(store: &ModelStore, batches: u64) -> Result<(), TestCaseError> {
    let now = Timestamp::from_millis(batches as i64);
    for order in store.orders.values().filter(|order| order.placed_at == now) {
        for line in &order.lines {
            let Some(limit) = store.products[&line.product_id].details.purchase_limit else {
                continue;
            };
            let bought = store.purchased_units((order.user_id, line.product_id));
            prop_assert!(bought <= u64::from(limit), "{bought} units of at most {limit}");
        }
    }
    Ok(())
}

fn writes_product(commit: &Commit) -> bool {
    commit.writes.iter().any(|write| matches!(write, Write::Product(_)))
}

/// Runs the steps of the nodes, and checks the store after each batch.
fn run_steps(steps: &[(usize, Step)]) -> Result<(), TestCaseError> {
    let mut store = stocked_store(PRODUCTS);
    let mut nodes = vec![store.clone(); NODES];
    let (mut waiting, mut prices, mut batches) = (Vec::new(), HashMap::new(), 0);
    for (time, (node, step)) in (0..).zip(steps) {
        match step {
            Step::RefreshView => nodes[*node] = store.clone(),
            Step::ApplyBatch => {
                // Price changes have a batch of their own: prices are constant within a batch.
                let (repricing, rest): (Vec<Commit>, Vec<Commit>) =
                    std::mem::take(&mut waiting).into_iter().partition(writes_product);
                for batch in [repricing, rest] {
                    batches += 1;
                    apply_as_one_batch(&mut store, batch, batches, &mut prices);
                    check_invariants(&store, &prices)?;
                    check_purchase_limits(&store, batches)?;
                }
            }
            step => {
                let now = Timestamp::from_millis(time);
                waiting.extend(decide_step(&nodes[*node], step, now));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn stale_nodes_never_oversell(
        steps in prop::collection::vec(node_steps(), 0..250),
    ) {
        run_steps(&steps)?;
    }
}

/// The order expired when the product had no limit, and the node that books its late payment has
/// not seen the limit.
#[test]
fn late_payment_stays_within_a_limit_that_was_set_meanwhile() {
    let add = |quantity| Step::AddToCart { user: 2, product: 1, quantity };
    let pay = OrderCommand::Pay { reference: None };
    let steps = [
        (0, add(2)),
        (0, Step::ApplyBatch),
        (0, Step::RefreshView),
        (0, Step::CheckOut { user: 2 }),
        (0, Step::ApplyBatch),
        (0, Step::RefreshView),
        (0, Step::TransitionOrder { order: 0, command: OrderCommand::Expire }),
        (0, Step::ApplyBatch),
        (0, Step::RefreshView),
        (1, Step::RefreshView),
        (0, Step::LimitPurchases { product: 1, limit: Some(2) }),
        (0, add(1)),
        (0, Step::ApplyBatch),
        (0, Step::RefreshView),
        (0, Step::CheckOut { user: 2 }),
        (1, Step::TransitionOrder { order: 0, command: pay }),
        (0, Step::ApplyBatch),
    ];
    run_steps(&steps).unwrap();
}
