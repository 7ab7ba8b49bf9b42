//! Refunds: what goes back to the buyer, and what comes back into stock.

use super::{Order, OrderError, OrderUnits, shipment::ensure_within};
use crate::domain::{
    clock::Timestamp,
    ids::{ProductId, RefundId},
    money::Money,
};

/// A refund that staff asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundRequest {
    /// The id of the new refund.
    pub id: RefundId,
    /// The amount, above 0. `None` refunds all that is left.
    pub amount: Option<Money>,
    /// The reason, which the stock movements carry, too.
    pub reason: Option<String>,
    /// The shipped units that came back into stock.
    pub restock: Vec<OrderUnits>,
}

impl Order {
    /// Books a refund and the units that came back.
    ///
    /// # Errors
    /// Less money is left of the payment, or fewer units were shipped.
    pub(super) fn refund(
        &mut self,
        request: RefundRequest,
        now: Timestamp,
    ) -> Result<(), OrderError> {
        let RefundRequest { id, amount, reason, restock } = request;
        let out = |product_id: ProductId| {
            let line = self.lines.iter().find(|line| line.product_id == product_id);
            line.map_or(0, |line| line.fulfilled.saturating_sub(line.restocked))
        };
        ensure_within(&restock, out)?;
        self.payment.refund(id, amount, reason, now).map_err(OrderError::Refund)?;
        for units in restock {
            let line = self.lines.iter_mut().find(|line| line.product_id == units.product_id);
            if let Some(line) = line {
                line.restocked = line.restocked.saturating_add(units.quantity);
            }
        }
        Ok(())
    }

    /// Refunds what the shop does not ship: everything if it has shipped nothing, and otherwise the
    /// price of the units that are left, less their discounts, with their taxes.
    pub(super) fn refund_unshipped(&mut self, id: RefundId, now: Timestamp) {
        let zero = Money::zero(self.currency);
        let unshipped = self.lines.iter().enumerate().fold(zero, |sum, (at, line)| {
            let units = line.quantity.saturating_sub(line.fulfilled);
            let price = match &self.charges {
                Some(charges) => charges.price_of_units(at, line.total(), units, line.quantity),
                None => line.unit_price.saturating_mul(units),
            };
            sum.saturating_add(price)
        });
        let amount = match self.shipments.is_empty() {
            true => self.payment.amount,
            false => unshipped,
        };
        self.payment.refund_up_to(amount, id, now);
    }
}
