//! The audit: checks that stock levels, movements, and orders agree, and plans repairs.
//!
//! A product's stock has three records: its level, which sales use; its movements, which sum to the
//! level; and the orders, which have units reserved. If they disagree, one record wins:
//!
//! - `on_hand`: the level wins, because it holds the last count and sales use it. The ledger gets
//!   an `adjusted` movement. An admin with a better count can set it.
//! - `reserved`: open orders win. Level and ledger get a `reserved` or `released` movement.
//! - An order's movements: the order's status wins. The ledger gets the missing movement.
//!
//! Movements are append-only, so a repair changes no existing one. The audit can only report gaps
//! in their numbers, and movements of an order that does not exist.

mod order;
mod product;
#[cfg(test)]
mod tests;

use std::fmt;

use uuid::Uuid;

pub use self::{
    order::{MovementTotals, OrderAudit, OrderItemAudit, join_orders_with_movements},
    product::{LedgerTotals, ProductAudit, StoredStock},
};
use super::{
    ids::{OrderId, ProductId},
    inventory::StockDelta,
};

/// A range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The exclusive lower bound.
    pub after: Uuid,
    /// The inclusive upper bound.
    pub up_to: Uuid,
}

impl IdRange {
    /// The range of all ids.
    pub const ALL: Self = Self { after: Uuid::nil(), up_to: Uuid::max() };

    /// Only this id.
    #[must_use]
    pub const fn single(id: Uuid) -> Self {
        Self { after: Uuid::from_u128(id.as_u128().wrapping_sub(1)), up_to: id }
    }

    /// The part up to and including `last`, and the part after it.
    #[must_use]
    pub const fn split_after(self, last: Uuid) -> (Self, Self) {
        (Self { up_to: last, ..self }, Self { after: last, ..self })
    }
}

/// Some of the records in an [`IdRange`], all from one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage<T> {
    /// The records, ordered by id.
    pub items: Vec<T>,
    /// The range that may contain more records.
    pub remaining: Option<IdRange>,
}

/// The positions of the stored events of one partition of the outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventAudit {
    /// The number of the partition.
    pub partition: u32,
    /// The first and last position of each range without gaps, in order.
    pub ranges: Vec<(u64, u64)>,
    /// The recorded last position, if the store records it.
    pub recorded_last: Option<u64>,
}

/// A kind of inconsistency.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum FindingKind {
    /// `on_hand` is not the sum of its movements.
    #[strum(serialize = "on_hand_mismatch")]
    OnHand,
    /// `reserved` is not the sum of its movements.
    #[strum(serialize = "reserved_mismatch")]
    Reserved,
    /// `reserved` is not the sum of the open orders' units.
    #[strum(serialize = "open_orders_mismatch")]
    OpenOrders,
    /// `reserved` is below 0 or above `on_hand`.
    ReservedOutOfRange,
    /// Movements are not numbered from 1 without gaps.
    MovementSequence,
    /// There is stock for a product that does not exist.
    UnknownProduct,
    /// An order's movements do not match its status.
    OrderMovements,
    /// Movements name an order that does not exist.
    UnknownOrder,
    /// The positions of the events have gaps.
    EventPositions,
}

impl FindingKind {
    /// Every kind, in the order of declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name in machine-readable output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// An inconsistency. Its text is one line with the place, the actual value, and the expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The kind of inconsistency.
    pub kind: FindingKind,
    /// The affected product.
    pub product_id: Option<ProductId>,
    /// The affected order.
    pub order_id: Option<OrderId>,
    /// The actual and the expected value.
    pub message: String,
    /// What an operator can do, if a repair cannot correct it.
    pub advice: Option<String>,
    /// Whether a repair corrected it.
    pub repaired: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.order_id, self.product_id) {
            (Some(order), Some(product)) => write!(f, "order {order}, product {product}: ")?,
            (Some(order), None) => write!(f, "order {order}: ")?,
            (None, Some(product)) => write!(f, "product {product}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.message)?;
        match &self.advice {
            _ if self.repaired => f.write_str("; corrected"),
            Some(advice) => write!(f, "; a repair does not correct this: {advice}"),
            None => Ok(()),
        }
    }
}

/// The movements that repair one product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// The product's identifier.
    pub product_id: ProductId,
    /// The stock version that the repair is based on. The repair is invalid for any other version.
    pub expected_version: u64,
    /// The missing movements.
    pub movements: Vec<StockDelta>,
    /// The new `reserved`. `None` leaves it unchanged.
    pub reserved: Option<u64>,
    /// The order that the movements belong to.
    pub order_id: Option<OrderId>,
}

/// The result of an audit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditOutcome {
    /// The inconsistencies found.
    pub findings: Vec<Finding>,
    /// The repairs, for everything that can be corrected.
    pub corrections: Vec<Correction>,
}

impl EventAudit {
    /// Finds gaps in the event positions.
    #[must_use]
    pub fn evaluate(&self) -> AuditOutcome {
        let advice = "consumers may have missed events; have each consumer reload its state";
        let finding = |message: String| Finding {
            kind: FindingKind::EventPositions,
            product_id: None,
            order_id: None,
            message,
            advice: Some(advice.to_owned()),
            repaired: false,
        };
        let gaps =
            self.ranges.iter().zip(self.ranges.iter().skip(1)).map(|((_, end), (next, _))| {
                finding(format!(
                    "events: position {end} is followed by {next} instead of {}",
                    end.saturating_add(1)
                ))
            });
        let behind =
            self.ranges.last().zip(self.recorded_last).filter(|((_, end), last)| end != last);
        let behind = behind.map(|((_, end), last)| {
            finding(format!("events: the last position is {end} instead of {last}"))
        });
        AuditOutcome { findings: gaps.chain(behind).collect(), corrections: Vec::new() }
    }
}
