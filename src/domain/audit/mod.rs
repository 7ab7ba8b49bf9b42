//! The audit: whether stock, its ledger of movements and the orders agree, and what makes them agree again.
//!
//! Three things tell of a product's stock: its level, which is what is sold from; its movements, whose sums the level is; and the
//! orders, which have pieces reserved. Where they disagree, one of them is believed:
//!
//! - `on_hand` is what the level says. It is what was last counted and what is sold from; the ledger gets an `adjusted` movement.
//!   Whoever knows better counts, and sets it.
//! - `reserved` is what open orders need, neither more nor less: level and ledger follow by a `reserved` or `released` movement.
//! - What an order has moved is what its state says: the ledger gets the missing movement in its name.
//!
//! Movements are append-only, so nothing that was written is changed. A gap in their numbers, or movements of an order that is not
//! there, can only be told.

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

/// A stretch of ids, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// They come after this one,
    pub after: Uuid,
    /// and go up to this one, with it.
    pub up_to: Uuid,
}

impl IdRange {
    /// All ids there can be.
    pub const ALL: Self = Self { after: Uuid::nil(), up_to: Uuid::max() };

    /// One id alone.
    #[must_use]
    pub const fn single(id: Uuid) -> Self {
        Self { after: Uuid::from_u128(id.as_u128().wrapping_sub(1)), up_to: id }
    }

    /// The part up to and with `last`, and the part after it.
    #[must_use]
    pub const fn split_after(self, last: Uuid) -> (Self, Self) {
        (Self { up_to: last, ..self }, Self { after: last, ..self })
    }
}

/// Facts about some of the things in a [`Span`], all from one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage<T> {
    /// Them, by id.
    pub items: Vec<T>,
    /// Where there may be more.
    pub remaining: Option<IdRange>,
}

/// Which events are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventAudit {
    /// First and last position of each stretch without gaps, in order.
    pub ranges: Vec<(u64, u64)>,
    /// What is noted down as the last position, where that is noted down.
    pub recorded_last: Option<u64>,
}

/// What is off.
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
    /// `reserved` is not what open orders need.
    #[strum(serialize = "open_orders_mismatch")]
    OpenOrders,
    /// `reserved` is below 0 or above `on_hand`.
    ReservedOutOfRange,
    /// Movements are not numbered from 1 without gaps.
    MovementSequence,
    /// There is stock of a product that is not there.
    UnknownProduct,
    /// An order has not moved what its state says.
    OrderMovements,
    /// Movements name an order that is not there.
    UnknownOrder,
    /// Positions of events have gaps.
    EventPositions,
}

impl FindingKind {
    /// Every kind there is.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The word programs see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Something that is off. As text: one line that says where, what is, and what should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// At which product.
    pub product_id: Option<ProductId>,
    /// At which order.
    pub order_id: Option<OrderId>,
    /// What is, and what should be.
    pub message: String,
    /// What to do, when a repair cannot correct it.
    pub advice: Option<String>,
    /// Whether it was corrected.
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

/// Movements that make things agree again, of one product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// Whose stock.
    pub product_id: ProductId,
    /// The version of the stock it was decided on; with any other it is wrong.
    pub expected_version: u64,
    /// The movements that are missing.
    pub movements: Vec<StockDelta>,
    /// What `reserved` has to be then; `None`: what it is.
    pub reserved: Option<u64>,
    /// The order whose movements they are.
    pub order_id: Option<OrderId>,
}

/// What an audit makes of some facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditOutcome {
    /// What is off.
    pub findings: Vec<Finding>,
    /// What corrects that of it that can be corrected.
    pub corrections: Vec<Correction>,
}

impl EventAudit {
    /// What is off with the events.
    #[must_use]
    pub fn evaluate(&self) -> AuditOutcome {
        let advice =
            "consumers may have missed them; have each of them read the state it keeps anew";
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
                    "events: after position {end} comes {next}, where {} should",
                    end.saturating_add(1)
                ))
            });
        let behind =
            self.ranges.last().zip(self.recorded_last).filter(|((_, end), last)| end != last);
        let behind = behind.map(|((_, end), last)| {
            finding(format!("events: the last has position {end}, where {last} should be the last"))
        });
        AuditOutcome { findings: gaps.chain(behind).collect(), corrections: Vec::new() }
    }
}
