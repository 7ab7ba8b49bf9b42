//! What commands do to an order and its stock.

use proptest::prelude::*;

use super::*;
use crate::domain::{
    ids::{RefundId, ShipmentId},
    payment::PaymentStatus,
};

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
        (Expired, Paid),
    ];
    for &from in OrderStatus::ALL {
        for command in [
            pay_command(),
            OrderCommand::cancel_by_staff(),
            OrderCommand::Expire,
            fulfill_command(),
        ] {
            let to = command.target_status(from);
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
    assert_eq!(order.decide(OrderCommand::cancel_by_staff(), NOW).unwrap().stock_changes, released);
    let paid = order.decide(pay_command(), NOW).unwrap();
    assert_eq!(
        (&paid.order.payment.reference, paid.stock_changes),
        (&Some("transfer 17".into()), vec![])
    );
    assert_eq!(
        paid.order.decide(OrderCommand::cancel_by_staff(), NOW).unwrap().stock_changes,
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
    let cancelled = part.decide(OrderCommand::cancel_by_staff(), NOW).unwrap();
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
        Just(OrderCommand::cancel_by_staff()),
        Just(OrderCommand::Expire),
        Just(fulfill_command()),
        Just(OrderCommand::Cancel(CancelledBy::Owner)),
        (0..2_usize, 1..4_u32)
            .prop_map(|(line, quantity)| { ship(&[(numbered_line(line), quantity)]) }),
        (prop::option::of(1..4_000_i64), prop::option::of((0..2_usize, 1..4_u32))).prop_map(
            |(amount, restock)| OrderCommand::Refund(RefundRequest {
                id: RefundId::new(),
                amount: amount.map(|cents| Money::from_minor_units(cents, euro()).unwrap()),
                reason: None,
                restock: restock
                    .map(|(line, quantity)| OrderUnits {
                        product_id: numbered_line(line),
                        quantity
                    })
                    .into_iter()
                    .collect(),
            })
        ),
    ]
}

/// Stands for the product of a line, which `for_order` fills in.
fn numbered_line(line: usize) -> ProductId {
    ProductId::from(uuid::Uuid::from_u128(line as u128))
}

/// Replaces the number of a line by its product.
fn for_order(mut command: OrderCommand, order: &Order) -> OrderCommand {
    let units = match &mut command {
        OrderCommand::Fulfill { items: Some(items), .. } => items,
        OrderCommand::Refund(request) => &mut request.restock,
        _ => return command,
    };
    for units in units {
        let line = units.product_id.as_uuid().as_u128() as usize;
        units.product_id = order.lines[line].product_id;
    }
    command
}

/// What the buyer paid and did not get back.
fn kept_money(order: &Order) -> i64 {
    let payment = &order.payment;
    match payment.status {
        PaymentStatus::Awaiting | PaymentStatus::Cancelled => 0,
        _ => payment.amount.minor_units() - payment.refunded().minor_units(),
    }
}

/// What must hold between an order and its payment.
fn check_payment(order: &Order) {
    let payment = &order.payment;
    let [amount, refunded] = [payment.amount, payment.refunded()].map(Money::minor_units);
    let expected: &[PaymentStatus] = match order.status {
        OrderStatus::PendingPayment => &[PaymentStatus::Awaiting],
        OrderStatus::Expired => &[PaymentStatus::Cancelled],
        OrderStatus::Cancelled => &[
            PaymentStatus::Cancelled,
            PaymentStatus::Paid,
            PaymentStatus::PartiallyRefunded,
            PaymentStatus::Refunded,
        ],
        _ => &[PaymentStatus::Paid, PaymentStatus::PartiallyRefunded, PaymentStatus::Refunded],
    };
    assert!(expected.contains(&payment.status), "{order:?}");
    match payment.status {
        PaymentStatus::Refunded => assert_eq!(refunded, amount),
        PaymentStatus::PartiallyRefunded => assert!(0 < refunded && refunded < amount),
        _ => assert_eq!(refunded, 0),
    }
    if order.status == OrderStatus::Cancelled {
        let shipped = |line: &OrderLine| line.unit_price.saturating_mul(line.fulfilled);
        let goods: i64 = order.lines.iter().map(|line| shipped(line).minor_units()).sum();
        assert!(kept_money(order) <= goods, "charged without goods or refund: {order:?}");
    }
}

proptest! {
    #[test]
    fn stock_and_payment_always_match_the_order(
        asked in prop::collection::vec((any_order_command(), 0..120_u64), 0..20),
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
            check_payment(&order);
            for line in &order.lines {
                let [quantity, shipped] = [line.quantity, line.fulfilled].map(u64::from);
                let level = levels[&line.product_id];
                let left = if order.status.holds_reservation() { quantity - shipped } else { 0 };
                prop_assert_eq!(level.reserved, 5 - quantity + left);
                let restocked = u64::from(line.restocked);
                prop_assert!(restocked <= shipped && shipped <= quantity);
                prop_assert_eq!(level.on_hand, 10 - shipped + restocked);
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
