//! What commands do to an order and its stock.

use proptest::prelude::*;

use super::*;
use crate::domain::ids::ShipmentId;

#[test]
fn only_contract_transitions_are_allowed() {
    use OrderStatus::{Cancelled, Expired, Fulfilled, Paid, PartiallyFulfilled, PendingPayment};
    let late = NOW.saturating_add(RULES.payment_timeout);
    let allowed = [
        (PendingPayment, Paid),
        (PendingPayment, Cancelled),
        (PendingPayment, Expired),
        (Paid, Fulfilled),
        (Paid, Cancelled),
        (PartiallyFulfilled, Fulfilled),
        (PartiallyFulfilled, Cancelled),
    ];
    for &from in OrderStatus::ALL {
        for command in [
            pay_command(),
            OrderCommand::Cancel(CancelledBy::Staff),
            OrderCommand::Expire,
            fulfill_command(),
        ] {
            let to = command.target_status();
            let decided = Order { status: from, ..pending_order() }.decide(command, late);
            if allowed.contains(&(from, to)) {
                let after = decided.unwrap().order;
                assert_eq!(
                    (after.status, after.version, after.updated_at, after.expires_at),
                    (to, 2, late, None)
                );
            } else {
                assert_eq!(decided, Err(OrderError::InvalidTransition { from, to }));
            }
        }
    }
}

#[test]
fn units_are_released_or_shipped_once() {
    let order = pending_order();
    let [tea, cup] = [order.lines[0].product_id, order.lines[1].product_id];
    let released = vec![(tea, StockChange::Release(2)), (cup, StockChange::Release(3))];
    assert_eq!(
        order.decide(OrderCommand::Cancel(CancelledBy::Staff), NOW).unwrap().stock_changes,
        released
    );
    let paid = order.decide(pay_command(), NOW).unwrap();
    assert_eq!(
        (&paid.order.payment.reference, paid.stock_changes),
        (&Some("transfer 17".into()), vec![])
    );
    assert_eq!(
        paid.order.decide(OrderCommand::Cancel(CancelledBy::Staff), NOW).unwrap().stock_changes,
        released
    );
    let fulfilled = paid.order.decide(fulfill_command(), NOW).unwrap();
    assert_eq!(fulfilled.stock_changes, [(tea, StockChange::Ship(2)), (cup, StockChange::Ship(3))]);
    assert_eq!(
        fulfilled.order.payment.reference.as_deref(),
        Some("transfer 17"),
        "a payment is not forgotten"
    );
}

fn ship(items: &[(ProductId, u32)]) -> OrderCommand {
    let units = |(product_id, quantity): &(ProductId, u32)| OrderUnits {
        product_id: *product_id,
        quantity: *quantity,
    };
    OrderCommand::Fulfill {
        shipment_id: ShipmentId::new(),
        items: Some(items.iter().map(units).collect()),
        details: ShipmentDetails { tracking: Some("T-1".into()), ..ShipmentDetails::default() },
    }
}

#[test]
fn order_ships_in_parts() {
    let order = pending_order();
    let [tea, cup] = [order.lines[0].product_id, order.lines[1].product_id];
    let paid = order.decide(pay_command(), NOW).unwrap().order;
    let first = paid.decide(ship(&[(cup, 2)]), NOW).unwrap();
    assert_eq!(first.stock_changes, [(cup, StockChange::Ship(2))]);
    let part = first.order;
    assert_eq!(
        (part.status, part.lines[0].fulfilled, part.lines[1].fulfilled, part.shipments.len()),
        (OrderStatus::PartiallyFulfilled, 0, 2, 1)
    );
    assert_eq!(part.shipments[0].details.tracking.as_deref(), Some("T-1"));
    let stranger = ProductId::new();
    for (items, product_id, requested, left) in [
        (vec![(cup, 2)], cup, 2, 1),
        (vec![(tea, 3)], tea, 3, 2),
        (vec![(tea, 1), (stranger, 1)], stranger, 1, 0),
    ] {
        let excess = vec![QuantityExcess { product_id, requested, left }];
        assert_eq!(part.decide(ship(&items), NOW), Err(OrderError::QuantityExceedsOrder(excess)));
    }
    let cancelled = part.decide(OrderCommand::Cancel(CancelledBy::Staff), NOW).unwrap();
    let rest = vec![(tea, StockChange::Release(2)), (cup, StockChange::Release(1))];
    assert_eq!(cancelled.stock_changes, rest);
    let last = part.decide(OrderCommand::fulfill_all(), NOW).unwrap();
    assert_eq!(last.stock_changes, [(tea, StockChange::Ship(2)), (cup, StockChange::Ship(1))]);
    assert_eq!((last.order.status, last.order.shipments.len()), (OrderStatus::Fulfilled, 2));
}

#[test]
fn owner_cancels_only_what_is_not_paid() {
    let order = pending_order();
    let cancel = || OrderCommand::Cancel(CancelledBy::Owner);
    let paid = order.decide(pay_command(), NOW).unwrap().order;
    assert!(order.decide(cancel(), NOW).is_ok());
    assert_eq!(paid.decide(cancel(), NOW), Err(OrderError::PaidOrder));
}

#[test]
fn order_of_nothing_is_paid_at_once() {
    let (gift, tea) = (sample_product("gift", "0", 1), sample_product("tea", "4.50", 1));
    let bought = |products: &[_], stock: &[_]| {
        check_out_cart(&cart_with(products), CheckoutOptions::default(), stock).unwrap()
    };
    let free = bought(&[(&gift, 2)], &[(&gift, 2)]);
    let paid = free.paid.unwrap();
    assert_eq!((free.order.status, free.order.version), (OrderStatus::PendingPayment, 1));
    assert_eq!(
        (paid.status, paid.version, paid.expires_at),
        (OrderStatus::Paid, 2, None),
        "it is placed and paid"
    );
    assert_eq!(bought(&[(&gift, 1), (&tea, 1)], &[(&gift, 2), (&tea, 2)]).paid, None);
}

#[test]
fn order_expires_at_its_deadline_not_before() {
    let order = pending_order();
    let deadline = order.expires_at.unwrap();
    let early = deadline.saturating_sub(Duration::from_millis(1));
    assert_eq!(order.decide(OrderCommand::Expire, early), Err(OrderError::NotYetExpired));
    assert!(order.decide(OrderCommand::Expire, deadline).is_ok());
    assert!(order.decide(pay_command(), deadline).is_ok(), "until it has expired it can be paid");
}

fn any_order_command() -> impl Strategy<Value = OrderCommand> {
    prop_oneof![
        Just(pay_command()),
        Just(OrderCommand::Cancel(CancelledBy::Staff)),
        Just(OrderCommand::Expire),
        Just(fulfill_command()),
        Just(OrderCommand::Cancel(CancelledBy::Owner)),
        (0..2_usize, 1..4_u32).prop_map(|(line, quantity)| {
            // The line's product is filled in for the order at hand.
            ship(&[(ProductId::from(uuid::Uuid::from_u128(line as u128)), quantity)])
        }),
    ]
}

/// Replaces the number of a line by its product.
fn for_order(command: OrderCommand, order: &Order) -> OrderCommand {
    let OrderCommand::Fulfill { shipment_id, items: Some(mut items), details } = command else {
        return command;
    };
    for units in &mut items {
        let line = units.product_id.as_uuid().as_u128() as usize;
        units.product_id = order.lines[line].product_id;
    }
    OrderCommand::Fulfill { shipment_id, items: Some(items), details }
}

proptest! {
    #[test]
    fn reservations_always_match_order_status(
        asked in prop::collection::vec((any_order_command(), 0..120_u64), 0..12),
    ) {
        let mut order = pending_order();
        let full = |id| StockLevel { on_hand: 10, reserved: 5, ..StockLevel::empty(id) };
        let products = order.lines.iter().map(|line| line.product_id);
        let mut levels: HashMap<ProductId, StockLevel> =
            products.map(|product| (product, full(product))).collect();
        for (command, seconds) in asked {
            let before = order.clone();
            let now = NOW.saturating_add(Duration::from_secs(seconds));
            let decided = order.decide(for_order(command, &order), now);
            let changes = u64::from(decided.is_ok());
            if let Ok(transition) = decided {
                for (id, change) in transition.stock_changes {
                    let (level, _) = levels[&id].apply(change).unwrap().unwrap();
                    levels.insert(id, level);
                }
                order = transition.order;
            }
            prop_assert_eq!(order.version, before.version + changes);
            for line in &order.lines {
                let [quantity, shipped] = [line.quantity, line.fulfilled].map(u64::from);
                let level = levels[&line.product_id];
                let left = if order.status.holds_reservation() { quantity - shipped } else { 0 };
                prop_assert_eq!(level.reserved, 5 - quantity + left);
                prop_assert_eq!(level.on_hand, 10 - shipped);
                let in_shipments: u32 = order
                    .shipments
                    .iter()
                    .flat_map(|shipment| &shipment.items)
                    .filter(|units| units.product_id == line.product_id)
                    .map(|units| units.quantity)
                    .sum();
                prop_assert_eq!(in_shipments, line.fulfilled);
            }
        }
    }
}
