//! Shipments: which units of an order left the house, and how.

use std::collections::{BTreeMap, BTreeSet};

use super::{Order, OrderError};
use crate::domain::{
    clock::Timestamp,
    ids::{ProductId, ShipmentId},
    validation::ValidationErrors,
};

/// Units of an order that were shipped together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipment {
    /// The shipment's identifier.
    pub id: ShipmentId,
    /// The shipped units of each product.
    pub items: Vec<OrderUnits>,
    /// Who carries it, how it can be followed, and the caller's own reference.
    pub details: ShipmentDetails,
    /// The time at which the units were shipped.
    pub shipped_at: Timestamp,
}

/// Units of a product in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderUnits {
    /// The product.
    pub product_id: ProductId,
    /// The number of units, at least 1.
    pub quantity: u32,
}

/// What is known about a shipment. Each text has up to 200 characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShipmentDetails {
    /// The carrier.
    pub carrier: Option<String>,
    /// The carrier's tracking number or address.
    pub tracking: Option<String>,
    /// The caller's own reference, which the stock movements have, too.
    pub reference: Option<String>,
}

/// Units that are not in an order, or too many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantityExcess {
    /// The product.
    pub product_id: ProductId,
    /// The units that were requested.
    pub requested: u64,
    /// The units that can be requested.
    pub left: u64,
}

impl ShipmentDetails {
    /// Checks the texts.
    pub fn validate(&self, errors: &mut ValidationErrors) {
        let texts = [
            ("carrier", &self.carrier),
            ("tracking", &self.tracking),
            ("reference", &self.reference),
        ];
        for (name, text) in texts {
            errors.check_text(name, text.as_deref().unwrap_or_default(), 0, 200);
        }
    }
}

/// Checks requested units: at least one product, each once, with at least one unit.
///
/// # Errors
/// The errors name `field`.
pub fn validate_units(field: &str, units: &[OrderUnits], errors: &mut ValidationErrors) {
    if units.is_empty() {
        errors.add(field, "required", format!("{field} must have a line"));
    }
    let mut seen = BTreeSet::new();
    for (index, line) in units.iter().enumerate() {
        if line.quantity == 0 {
            let name = format!("{field}[{index}].quantity");
            let message = format!("{name} must be at least 1");
            errors.add(name, "out_of_range", message);
        }
        if !seen.insert(line.product_id) {
            let name = format!("{field}[{index}].product_id");
            let message = format!("{name} is given twice");
            errors.add(name, "duplicate", message);
        }
    }
}

impl Order {
    /// The units that are to be shipped: those of `items`, or all that are left.
    ///
    /// # Errors
    /// The order has fewer of them left.
    pub(super) fn units_to_ship(
        &self,
        items: Option<Vec<OrderUnits>>,
    ) -> Result<Vec<OrderUnits>, OrderError> {
        let left = self.unshipped_units();
        let Some(items) = items else { return Ok(left) };
        let left: BTreeMap<ProductId, u32> =
            left.into_iter().map(|units| (units.product_id, units.quantity)).collect();
        ensure_within(&items, |product_id| left.get(&product_id).copied().unwrap_or(0))?;
        Ok(items)
    }

    /// The units that were ordered and not shipped.
    #[must_use]
    pub fn unshipped_units(&self) -> Vec<OrderUnits> {
        let lines = self.lines.iter();
        lines
            .map(|line| OrderUnits {
                product_id: line.product_id,
                quantity: line.quantity.saturating_sub(line.fulfilled),
            })
            .filter(|units| units.quantity > 0)
            .collect()
    }

    /// Counts `shipped` units as fulfilled.
    pub(super) fn add_fulfilled(&mut self, shipped: &[OrderUnits]) {
        for units in shipped {
            let line = self.lines.iter_mut().find(|line| line.product_id == units.product_id);
            if let Some(line) = line {
                line.fulfilled = line.fulfilled.saturating_add(units.quantity);
            }
        }
    }
}

/// Checks that at most `left` units of each product are requested.
///
/// # Errors
/// Every product of which more are requested.
pub(super) fn ensure_within(
    items: &[OrderUnits],
    left: impl Fn(ProductId) -> u32,
) -> Result<(), OrderError> {
    let excesses: Vec<QuantityExcess> = items
        .iter()
        .filter(|units| units.quantity > left(units.product_id))
        .map(|units| QuantityExcess {
            product_id: units.product_id,
            requested: u64::from(units.quantity),
            left: u64::from(left(units.product_id)),
        })
        .collect();
    if excesses.is_empty() { Ok(()) } else { Err(OrderError::QuantityExceedsOrder(excesses)) }
}
