//! Pages of orders with their movements.

use std::collections::HashMap;

use super::super::{AuditOutcome, IdRange, MovementTotals, join_orders_with_movements};
use crate::domain::{
    clock::Timestamp,
    ids::{OrderId, ProductId, UserId},
    money::Money,
    order::{Order, OrderLine, OrderStatus, Payment, PaymentMethod},
};

fn paid_order(product_id: ProductId) -> Order {
    let currency = "EUR".parse().unwrap();
    let line = OrderLine {
        product_id,
        sku: None,
        name: "Tea".into(),
        quantity: 2,
        unit_price: Money::zero(currency),
        fulfilled: 0,
        restocked: 0,
    };
    let now = Timestamp::from_millis(0);
    Order {
        id: OrderId::new(),
        user_id: UserId::new(),
        status: OrderStatus::Paid,
        version: 1,
        currency,
        lines: vec![line],
        payment: Payment::awaiting(PaymentMethod::Manual, Money::zero(currency)),
        shipments: Vec::new(),
        email: None,
        guest: false,
        shipping_address: None,
        billing_address: None,
        placed_at: now,
        expires_at: None,
        updated_at: now,
        actor: None,
        anonymized: false,
        charges: None,
    }
}

#[test]
fn page_ends_at_the_shorter_source() {
    let product = ProductId::new();
    let orders: Vec<Order> = (0..4).map(|_| paid_order(product)).collect();
    let ids: Vec<OrderId> = orders.iter().map(|order| order.id).collect();
    let moved: Vec<_> = ids
        .iter()
        .map(|id| (*id, product, MovementTotals { on_hand: 0, reserved: 2, total_reserved: 2 }))
        .collect();
    let page = |most_orders, most_moved| {
        let (orders, moved) =
            (orders[..4.min(most_orders)].to_vec(), moved[..4.min(most_moved)].to_vec());
        let page = join_orders_with_movements(
            IdRange::ALL,
            (orders, most_orders),
            (moved, most_moved),
            &HashMap::from([(product, 5)]),
        );
        let found: Vec<OrderId> = page.items.iter().map(|order| order.order_id).collect();
        assert!(
            page.items.iter().all(|order| order.evaluate() == AuditOutcome::default()),
            "{page:?}"
        );
        assert!(page.items.iter().all(|order| order.items[0].stock_version == 5));
        let after = |last: OrderId| IdRange { after: last.as_uuid(), ..IdRange::ALL };
        assert_eq!(
            page.remaining,
            (found.len() < 4 || most_orders == 4).then(|| after(*found.last().unwrap()))
        );
        found
    };
    assert_eq!(page(10, 10), ids);
    assert_eq!(page(4, 10), ids);
    assert_eq!(page(2, 10), ids[..2]);
    assert_eq!(page(10, 3), ids[..2], "of the third, movements may be missing");
    assert_eq!(page(10, 1), ids[..1]);
    let orphans = join_orders_with_movements(
        IdRange::single(ids[0].as_uuid()),
        (Vec::new(), 10),
        (moved, 10),
        &HashMap::new(),
    );
    assert!(
        orphans.items.iter().all(|order| order.status.is_none()) && orphans.remaining.is_none()
    );
}
