//! Audits a product: its level, its ledger, and the open orders.

use super::{AuditOutcome, Correction, Finding, FindingKind};
use crate::domain::{
    ids::ProductId,
    inventory::{MAX_ON_HAND, MovementKind, StockDelta},
};

/// A stock level as stored, even if it is invalid. All 0 if there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredStock {
    /// The number of units on hand.
    pub on_hand: i64,
    /// The number of units reserved for orders.
    pub reserved: i64,
    /// The number of changes.
    pub version: u64,
    /// The number of the last movement.
    pub last_movement: i64,
}

/// Totals of a product's movements. All 0 if there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerTotals {
    /// The number of movements.
    pub count: u64,
    /// The lowest number.
    pub first: i64,
    /// The highest number.
    pub last: i64,
    /// The sum of the `on_hand` changes.
    pub on_hand: i64,
    /// The sum of the `reserved` changes.
    pub reserved: i64,
}

/// The records of a product's stock, from one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProductAudit {
    /// The product's identifier.
    pub product_id: ProductId,
    /// Whether the product exists, even if deleted.
    pub known: bool,
    /// The stored level.
    pub stock: StoredStock,
    /// The totals of the movements.
    pub ledger: LedgerTotals,
    /// The number of units in open orders.
    pub promised: i64,
}

impl ProductAudit {
    /// The records of a product that nothing is known of yet.
    #[must_use]
    pub fn empty(product_id: ProductId) -> Self {
        Self {
            product_id,
            known: false,
            stock: StoredStock::default(),
            ledger: LedgerTotals::default(),
            promised: 0,
        }
    }

    /// Finds the inconsistencies and their repairs.
    #[must_use]
    pub fn evaluate(&self) -> AuditOutcome {
        let blocker = self.repair_blocker();
        let finding = |kind, message, advice| Finding {
            kind,
            product_id: Some(self.product_id),
            order_id: None,
            message,
            advice,
            repaired: false,
        };
        let mut findings: Vec<Finding> = self
            .level_mismatches()
            .map(|(kind, message)| finding(kind, message, blocker.clone()))
            .collect();
        let corrections = if findings.is_empty() || blocker.is_some() {
            Vec::new()
        } else {
            vec![self.build_correction()]
        };
        if let Some(message) = self.sequence_mismatch() {
            let default_advice = || {
                "restore the missing movements from a backup, then run the audit again".to_owned()
            };
            findings.push(finding(
                FindingKind::MovementSequence,
                message,
                Some(self.sequence_conflict_advice().unwrap_or_else(default_advice)),
            ));
        }
        if !self.known {
            let message =
                "there is no such product, but it has stock, movements or open orders".to_owned();
            let advice = "restore the product from a backup".to_owned();
            findings.push(finding(FindingKind::UnknownProduct, message, Some(advice)));
        }
        AuditOutcome { findings, corrections }
    }

    /// Compares the level with the ledger and the orders.
    fn level_mismatches(&self) -> impl Iterator<Item = (FindingKind, String)> {
        let (stock, ledger, promised) = (self.stock, self.ledger, self.promised);
        let on_hand = (stock.on_hand != ledger.on_hand).then(|| {
            let message = format!(
                "on_hand is {}, but its movements add up to {}",
                stock.on_hand, ledger.on_hand
            );
            (FindingKind::OnHand, message)
        });
        let reserved = (stock.reserved != ledger.reserved).then(|| {
            let message = format!(
                "reserved is {}, but its movements add up to {}",
                stock.reserved, ledger.reserved
            );
            (FindingKind::Reserved, message)
        });
        let orders = (stock.reserved != promised).then(|| {
            let message =
                format!("reserved is {}, but open orders need {promised}", stock.reserved);
            (FindingKind::OpenOrders, message)
        });
        let range = (stock.reserved < 0 || stock.reserved > stock.on_hand).then(|| {
            let message = format!(
                "reserved is {}, but should be from 0 to on_hand, which is {}",
                stock.reserved, stock.on_hand
            );
            (FindingKind::ReservedOutOfRange, message)
        });
        [on_hand, reserved, orders, range].into_iter().flatten()
    }

    fn sequence_mismatch(&self) -> Option<String> {
        let (ledger, last) = (self.ledger, self.stock.last_movement);
        let count = i64::try_from(ledger.count).unwrap_or(i64::MAX);
        let gapless = count == 0 || (ledger.first == 1 && ledger.last == count);
        if gapless && last == count {
            return None;
        }
        let movements = match count {
            0 => "it has no movements".to_owned(),
            1 => format!("it has 1 movement, numbered {}", ledger.first),
            _ => format!("it has {count} movements, numbered {} to {}", ledger.first, ledger.last),
        };
        Some(format!(
            "{movements}, and its stock names {last} as the last; \
             they should be numbered from 1 without gaps, up to the last"
        ))
    }

    /// Advice for an operator, if no repair can be written.
    fn repair_blocker(&self) -> Option<String> {
        let (stock, max) = (self.stock, i64::try_from(MAX_ON_HAND).unwrap_or(i64::MAX));
        if let Some(advice) = self.sequence_conflict_advice() {
            return Some(advice);
        }
        if stock.reserved < 0 || stock.on_hand < 0 || stock.on_hand > max {
            return Some(
                "stop all nodes, set its stock in the store to the counted units, then repair"
                    .to_owned(),
            );
        }
        if self.promised > stock.on_hand {
            let missing = self.promised.saturating_sub(stock.on_hand);
            return Some(format!(
                "open orders need {missing} more units than are on hand; receive them, then repair"
            ));
        }
        None
    }

    fn sequence_conflict_advice(&self) -> Option<String> {
        let last = self.ledger.last;
        (self.stock.last_movement < last).then(|| {
            format!(
                "the number of its next movement is taken; \
                 stop all nodes, set last_movement of its stock in the store to {last}, then repair"
            )
        })
    }

    fn build_correction(&self) -> Correction {
        let on_hand = self.stock.on_hand.saturating_sub(self.ledger.on_hand);
        let reserved = self.promised.saturating_sub(self.ledger.reserved);
        let counted = (on_hand != 0).then_some(StockDelta {
            kind: MovementKind::Adjusted,
            on_hand,
            reserved: 0,
        });
        let mut moves: Vec<StockDelta> =
            counted.into_iter().chain(reservation_delta(reserved)).collect();
        if moves.is_empty() {
            // Only the level is wrong. The ledger must record the correction too.
            moves.push(StockDelta { kind: MovementKind::Adjusted, on_hand: 0, reserved: 0 });
        }
        Correction {
            product_id: self.product_id,
            expected_version: self.stock.version,
            movements: moves,
            reserved: u64::try_from(self.promised).ok(),
            order_id: None,
        }
    }
}

/// The movement that changes `reserved` by this amount.
pub(super) fn reservation_delta(reserved: i64) -> Option<StockDelta> {
    match reserved {
        0 => None,
        1.. => Some(StockDelta { kind: MovementKind::Reserved, on_hand: 0, reserved }),
        _ => Some(StockDelta { kind: MovementKind::Released, on_hand: 0, reserved }),
    }
}
