//! Audits an order: its status against the movements that name it.

use std::collections::{BTreeMap, HashMap};

use super::{
    AuditOutcome, AuditPage, Correction, Finding, FindingKind, IdRange, product::reservation_delta,
};
use crate::domain::{
    ids::{OrderId, ProductId},
    inventory::{MovementKind, StockDelta},
    order::{Order, OrderStatus},
};

/// The sum of an order's movements of one product.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MovementTotals {
    /// The change of `on_hand`.
    pub on_hand: i64,
    /// The change of `reserved`.
    pub reserved: i64,
    /// The number of units ever reserved.
    pub total_reserved: i64,
}

/// A product that an order contains or that its movements name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderItemAudit {
    /// The product's identifier.
    pub product_id: ProductId,
    /// The number of units ordered. 0 if the order does not contain the product.
    pub quantity: i64,
    /// The number of those units that were shipped.
    pub fulfilled: i64,
    /// The number of shipped units that came back into stock.
    pub restocked: i64,
    /// The sum of the movements.
    pub movements: MovementTotals,
    /// The version of the product's stock.
    pub stock_version: u64,
}

/// An order and its movements, from one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderAudit {
    /// The order's identifier.
    pub order_id: OrderId,
    /// The order's status. `None` if the order does not exist.
    pub status: Option<OrderStatus>,
    /// The order's products.
    pub items: Vec<OrderItemAudit>,
}

impl OrderAudit {
    /// Finds the inconsistencies and their repairs.
    #[must_use]
    pub fn evaluate(&self) -> AuditOutcome {
        let Some(status) = self.status else { return self.unknown_order_outcome() };
        let mut outcome = AuditOutcome::default();
        for item in &self.items {
            let moves = item.missing_movements(status);
            if moves.is_empty() {
                continue;
            }
            outcome.findings.push(Finding {
                kind: FindingKind::OrderMovements,
                product_id: Some(item.product_id),
                order_id: Some(self.order_id),
                message: item.describe_mismatch(status),
                advice: None,
                repaired: false,
            });
            outcome.corrections.push(Correction {
                product_id: item.product_id,
                expected_version: item.stock_version,
                movements: moves,
                reserved: None,
                order_id: Some(self.order_id),
            });
        }
        outcome
    }

    fn unknown_order_outcome(&self) -> AuditOutcome {
        let products: Vec<String> =
            self.items.iter().map(|item| item.product_id.to_string()).collect();
        let finding = Finding {
            kind: FindingKind::UnknownOrder,
            product_id: None,
            order_id: Some(self.order_id),
            message: format!(
                "there is no such order, but movements of these products name it: {}",
                products.join(", ")
            ),
            advice: Some(
                "restore the order from a backup; without it, a repair releases its reserved units"
                    .to_owned(),
            ),
            repaired: false,
        };
        AuditOutcome { findings: vec![finding], corrections: Vec::new() }
    }
}

impl OrderItemAudit {
    /// The missing movements that would make the ledger match the order's status.
    fn missing_movements(&self, status: OrderStatus) -> Vec<StockDelta> {
        let ExpectedMovements { on_hand, reserved } = self.expected_movements(status);
        let mut moved = self.movements;
        let mut moves = Vec::new();
        // A finished order also had its units reserved once.
        let unreserved = self.quantity.saturating_sub(moved.total_reserved).max(0);
        moves.extend(reservation_delta(unreserved));
        moved.reserved = moved.reserved.saturating_add(unreserved);
        let missing = on_hand.saturating_sub(moved.on_hand);
        if missing < 0 {
            moves.push(StockDelta {
                kind: MovementKind::Shipped,
                on_hand: missing,
                reserved: missing,
            });
            moved.reserved = moved.reserved.saturating_add(missing);
        } else if missing > 0 {
            moves.push(StockDelta { kind: MovementKind::Adjusted, on_hand: missing, reserved: 0 });
        }
        moves.extend(reservation_delta(reserved.saturating_sub(moved.reserved)));
        moves
    }

    fn expected_movements(&self, status: OrderStatus) -> ExpectedMovements {
        let left = self.quantity.saturating_sub(self.fulfilled);
        let reserved = if status.holds_reservation() { left } else { 0 };
        let on_hand = self.restocked.saturating_sub(self.fulfilled);
        ExpectedMovements { on_hand, reserved }
    }

    fn describe_mismatch(&self, status: OrderStatus) -> String {
        let ExpectedMovements { on_hand, reserved } = self.expected_movements(status);
        let moved = self.movements;
        format!(
            "the order is {} with {} units, of which {} are shipped, so its movements should \
             reserve {} in total and add up to on_hand {on_hand} and reserved {reserved}; \
             they reserve {} and add up to on_hand {} and reserved {}",
            status.as_str(),
            self.quantity,
            self.fulfilled,
            self.quantity,
            moved.total_reserved,
            moved.on_hand,
            moved.reserved
        )
    }
}

/// The expected sum of an order's movements of a product.
struct ExpectedMovements {
    on_hand: i64,
    reserved: i64,
}

/// Joins orders and movements, both ordered by id and from one snapshot. Each list comes with its
/// maximum length. If one of them has reached it, the rest of `range` is left for the next page.
#[must_use]
pub fn join_orders_with_movements(
    range: IdRange,
    orders: (Vec<Order>, usize),
    moved: (Vec<(OrderId, ProductId, MovementTotals)>, usize),
    versions: &HashMap<ProductId, u64>,
) -> AuditPage<OrderAudit> {
    let ((mut orders, max_orders), (mut moved, max_moved)) = (orders, moved);
    let mut last = None;
    if orders.len() >= max_orders {
        last = orders.last().map(|order| order.id);
    }
    if moved.len() >= max_moved {
        // The last order may be incomplete, unless it is the only one.
        let last_named = moved.last().map(|(order, ..)| *order);
        let last_complete =
            moved.iter().rev().map(|(order, ..)| *order).find(|order| Some(*order) != last_named);
        last = [last, last_complete.or(last_named)].into_iter().flatten().min();
    }
    if let Some(last) = last {
        orders.retain(|order| order.id <= last);
        moved.retain(|(order, ..)| *order <= last);
    }
    AuditPage {
        items: group_by_order(orders, moved, versions),
        remaining: last.map(|last| range.split_after(last.as_uuid()).1),
    }
}

/// The units ordered, those shipped, those that came back, and the sum of the movements.
type ItemsByProduct = BTreeMap<ProductId, (i64, i64, i64, MovementTotals)>;

fn group_by_order(
    orders: Vec<Order>,
    moved: Vec<(OrderId, ProductId, MovementTotals)>,
    versions: &HashMap<ProductId, u64>,
) -> Vec<OrderAudit> {
    let mut found: BTreeMap<OrderId, (Option<OrderStatus>, ItemsByProduct)> = BTreeMap::new();
    for order in orders {
        let (status, items) = found.entry(order.id).or_default();
        *status = Some(order.status);
        for line in order.lines {
            let item = items.entry(line.product_id).or_default();
            item.0 += i64::from(line.quantity);
            item.1 += i64::from(line.fulfilled);
            item.2 += i64::from(line.restocked);
        }
    }
    for (order_id, product_id, moved) in moved {
        found.entry(order_id).or_default().1.entry(product_id).or_default().3 = moved;
    }
    let item = |(product_id, (quantity, fulfilled, restocked, moved))| {
        let stock_version = versions.get(&product_id).copied().unwrap_or(0);
        OrderItemAudit {
            product_id,
            quantity,
            fulfilled,
            restocked,
            movements: moved,
            stock_version,
        }
    };
    let to_audit = |(order_id, (status, items)): (_, (_, ItemsByProduct))| OrderAudit {
        order_id,
        status,
        items: items.into_iter().map(item).collect(),
    };
    found.into_iter().map(to_audit).collect()
}
