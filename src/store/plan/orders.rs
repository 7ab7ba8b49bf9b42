//! Orders, and what is counted of them.

use std::sync::Arc;

use super::{PendingOrders, Planner, StoredOrder};
use crate::{
    domain::{
        ids::{OrderId, UserId},
        order::{BuyerKey, Order, OrderStatus},
    },
    store::commit::{Commit, CommitError, Write},
};

/// Whether an order comes to a count or leaves it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Add,
    Remove,
}

impl Step {
    const fn apply(self, count: u64, by: u64) -> u64 {
        match self {
            Self::Add => count.saturating_add(by),
            Self::Remove => count.saturating_sub(by),
        }
    }
}

impl Planner<'_> {
    pub(super) fn pending_orders(&self, user: UserId) -> PendingOrders {
        self.state.pending_orders.get(&user).copied().unwrap_or_default()
    }

    pub(super) fn record_order(&mut self, order: &Arc<Order>) {
        // Its buyer may be another one than before.
        let before = self.state.orders.get(&order.id).copied();
        if let Some(StoredOrder { user_id, status, .. }) = before {
            self.count_order(order, user_id, status, Step::Remove);
        }
        self.count_order(order, order.user_id, order.status, Step::Add);
        self.record_unfinished(order);
        let Order { version, status, user_id, .. } = **order;
        self.state.orders.insert(order.id, StoredOrder { version, status, user_id });
        self.writes.orders.insert(order.id, Arc::clone(order));
    }

    /// Updates the counts of the pending orders and purchases of `buyer`. Counts that were not
    /// loaded may be wrong, and no condition of the batch reads them.
    fn count_order(&mut self, order: &Order, buyer: UserId, status: OrderStatus, step: Step) {
        if status == OrderStatus::PendingPayment {
            let pending = self.state.pending_orders.entry(buyer).or_default();
            pending.orders = step.apply(pending.orders, 1);
            pending.units = step.apply(pending.units, order.units());
        }
        if !status.counts_as_purchase() {
            return;
        }
        self.count_buyer_uses(order, buyer, step == Step::Add);
        if self.state.purchased_units.is_empty() {
            return;
        }
        for line in &order.lines {
            if let Some(units) = self.state.purchased_units.get_mut(&(buyer, line.product_id)) {
                *units = step.apply(*units, u64::from(line.quantity));
            }
        }
    }

    fn record_unfinished(&mut self, order: &Order) {
        for (key, orders) in &mut self.state.unfinished_orders {
            if key.unfinished_statuses().contains(&order.status) && key.matches(order) {
                orders.insert(order.id, order.status);
            } else {
                orders.remove(&order.id);
            }
        }
    }

    /// Checks that no unfinished order with one of `keys` is paid and not shipped. If the commit
    /// erases an account, none may be unpaid that it does not write.
    pub(super) fn check_erasure_allowed(
        &self,
        commit: &Commit,
        keys: impl Iterator<Item = BuyerKey>,
    ) -> Result<(), CommitError> {
        let erases = commit.writes.iter().any(|write| matches!(write, Write::EraseAccount(_)));
        let is_written = |id: OrderId| {
            let is_same = |write: &Write| matches!(write, Write::Order(order) if order.id == id);
            commit.writes.iter().any(is_same)
        };
        for key in keys {
            let Some(orders) = self.state.unfinished_orders.get(&key) else { continue };
            if orders.values().any(|status| OrderStatus::TO_SHIP.contains(status)) {
                return Err(CommitError::OrdersOpen);
            }
            if erases && !orders.keys().all(|id| is_written(*id)) {
                return Err(CommitError::Conflict);
            }
        }
        Ok(())
    }
}
