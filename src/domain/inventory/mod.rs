//! Stock: units on hand, reserved units, and the ledger of movements.

use serde::{Deserialize, Serialize};

use super::{
    action::Actor,
    clock::Timestamp,
    ids::{OrderId, ProductId},
    validation::ValidationErrors,
};

/// The most units of a product on hand. The limit keeps sums of movements from overflowing.
pub const MAX_ON_HAND: u64 = 1_000_000_000_000;

/// A product's stock level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockLevel {
    /// The product's identifier.
    pub product_id: ProductId,
    /// The number of units on hand.
    pub on_hand: u64,
    /// The part of `on_hand` that is reserved for orders.
    pub reserved: u64,
    /// The number of changes. Changes in one transaction count as one.
    pub version: u64,
    /// The `sequence` of the last movement; 0 before the first.
    pub last_movement: u64,
}

impl StockLevel {
    /// The level of a product that never had stock.
    #[must_use]
    pub const fn empty(product_id: ProductId) -> Self {
        Self { product_id, on_hand: 0, reserved: 0, version: 0, last_movement: 0 }
    }

    /// The units that can be bought: `on_hand` minus `reserved`.
    #[must_use]
    pub const fn available(&self) -> u64 {
        self.on_hand.saturating_sub(self.reserved)
    }

    /// Decides what `change` does. `None` if it changes nothing. The version stays the same; the
    /// code that stores the level increments it.
    ///
    /// # Errors
    /// The change needs more units than are available, or would exceed [`MAX_ON_HAND`].
    pub fn apply(&self, change: StockChange) -> Result<Option<(Self, StockDelta)>, StockError> {
        if let StockChange::Correct { delta, reserved } = change {
            return self.apply_correction(delta, reserved.unwrap_or(self.reserved));
        }
        let delta = self.delta_for(change)?;
        if delta.on_hand == 0 && delta.reserved == 0 {
            return Ok(None);
        }
        let on_hand =
            self.on_hand.checked_add_signed(delta.on_hand).filter(|sum| *sum <= MAX_ON_HAND);
        let reserved = self.reserved.checked_add_signed(delta.reserved);
        let (Some(on_hand), Some(reserved)) = (on_hand, reserved) else {
            return Err(if delta.on_hand > 0 {
                StockError::LimitExceeded
            } else {
                self.insufficient_error(delta)
            });
        };
        if reserved > on_hand {
            return Err(self.insufficient_error(delta));
        }
        Ok(Some((
            Self { on_hand, reserved, last_movement: self.last_movement + 1, ..*self },
            delta,
        )))
    }

    /// The level with `reserved` corrected, after a missing movement was added.
    const fn apply_correction(
        &self,
        delta: StockDelta,
        reserved: u64,
    ) -> Result<Option<(Self, StockDelta)>, StockError> {
        if delta.on_hand == 0 && delta.reserved == 0 && reserved == self.reserved {
            return Ok(None);
        }
        if reserved > self.on_hand && reserved != self.reserved {
            return Err(StockError::Insufficient { requested: reserved, available: self.on_hand });
        }
        Ok(Some((Self { reserved, last_movement: self.last_movement + 1, ..*self }, delta)))
    }

    fn delta_for(&self, change: StockChange) -> Result<StockDelta, StockError> {
        let signed = |n: u64| i64::try_from(n).map_err(|_| StockError::LimitExceeded);
        Ok(match change {
            StockChange::Adjust(by) if by > 0 => {
                StockDelta { kind: MovementKind::Received, on_hand: by, reserved: 0 }
            }
            StockChange::Adjust(by) => {
                StockDelta { kind: MovementKind::Adjusted, on_hand: by, reserved: 0 }
            }
            StockChange::Set(to) => {
                // A product's first stock is a receipt. Later counts are adjustments.
                let kind = if self.last_movement == 0 {
                    MovementKind::Received
                } else {
                    MovementKind::Adjusted
                };
                StockDelta { kind, on_hand: signed(to)? - signed(self.on_hand)?, reserved: 0 }
            }
            StockChange::Reserve(n) => {
                StockDelta { kind: MovementKind::Reserved, on_hand: 0, reserved: signed(n)? }
            }
            StockChange::Release(n) => {
                StockDelta { kind: MovementKind::Released, on_hand: 0, reserved: -signed(n)? }
            }
            StockChange::Ship(n) => StockDelta {
                kind: MovementKind::Shipped,
                on_hand: -signed(n)?,
                reserved: -signed(n)?,
            },
            StockChange::Return(n) => {
                StockDelta { kind: MovementKind::Returned, on_hand: signed(n)?, reserved: 0 }
            }
            StockChange::Correct { delta, .. } => delta,
        })
    }

    const fn insufficient_error(&self, delta: StockDelta) -> StockError {
        let wanted = if delta.reserved > 0 { delta.reserved } else { delta.on_hand };
        StockError::Insufficient { requested: wanted.unsigned_abs(), available: self.available() }
    }
}

/// A change to stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StockChange {
    /// Adds this delta to `on_hand`.
    Adjust(i64),
    /// Sets `on_hand` to this count.
    Set(u64),
    /// Reserves units for an order.
    Reserve(u64),
    /// Releases reserved units.
    Release(u64),
    /// Ships reserved units.
    Ship(u64),
    /// Takes back shipped units.
    Return(u64),
    /// Repairs a level and movements that disagree, as an audit decided. No other change may make
    /// the two differ.
    Correct {
        /// The missing movement. It does not change the level.
        delta: StockDelta,
        /// The new `reserved`. `None` leaves it unchanged.
        reserved: Option<u64>,
    },
}

impl StockChange {
    /// Validates a requested change: either `delta` or `set`, the reason, and the caller's
    /// reference.
    ///
    /// # Errors
    /// All validation errors.
    pub fn from_request(
        delta: Option<i64>,
        set: Option<i64>,
        reason: &str,
        reference: Option<&str>,
    ) -> Result<Self, ValidationErrors> {
        let mut errors = ValidationErrors::new();
        errors.check_text("reason", reason, 1, 200);
        errors.check_text("reference", reference.unwrap_or_default(), 0, 200);
        let most = i64::try_from(MAX_ON_HAND).unwrap_or(i64::MAX);
        let mut within = |field: &str, value: i64, least: i64| {
            if !(least..=most).contains(&value) {
                errors.add(
                    field,
                    "out_of_range",
                    format!("{field} must be from {least} to {most}"),
                );
            }
            value
        };
        let change = match (delta, set) {
            (Some(delta), None) => Self::Adjust(within("delta", delta, -most)),
            (None, Some(set)) => Self::Set(u64::try_from(within("set", set, 0)).unwrap_or(0)),
            _ => {
                errors.add("delta", "required", "send either delta or set");
                Self::Adjust(0)
            }
        };
        errors.into_result(change)
    }
}

/// The kind of a movement, with the signs of its (`on_hand`, `reserved`) deltas.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum MovementKind {
    /// (+, 0): initial stock or a positive delta.
    Received,
    /// (±, 0): a negative delta or a count. (0, 0): an audit corrected only the level.
    Adjusted,
    /// (0, +): units were reserved for an order.
    Reserved,
    /// (0, -): reserved units were released.
    Released,
    /// (-, -): reserved units were shipped.
    Shipped,
    /// (+, 0): shipped units came back with a refund.
    Returned,
}

impl MovementKind {
    /// Every kind, in the order of declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The numeric effect of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockDelta {
    /// The kind of movement.
    pub kind: MovementKind,
    /// The change of `on_hand`.
    pub on_hand: i64,
    /// The change of `reserved`.
    pub reserved: i64,
}

/// One line of a product's append-only stock ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockMovement {
    /// The product's identifier.
    pub product_id: ProductId,
    /// The number in the product's ledger, from 1 without gaps.
    pub sequence: u64,
    /// The movement itself.
    pub delta: StockDelta,
    /// The order that caused the movement.
    pub order_id: Option<OrderId>,
    /// The caller's own reference: a delivery note, a count sheet.
    pub reference: Option<String>,
    /// The caller's reason.
    pub reason: Option<String>,
    /// Who made the change, if it needed rights that customers do not have.
    pub actor: Option<Actor>,
    /// The time of the movement.
    pub occurred_at: Timestamp,
}

/// The reason a stock change is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockError {
    /// Fewer units are available than requested.
    Insufficient {
        /// The number of units requested.
        requested: u64,
        /// The number of units available.
        available: u64,
    },
    /// `on_hand` would exceed [`MAX_ON_HAND`].
    LimitExceeded,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stock_level(on_hand: u64, reserved: u64) -> StockLevel {
        StockLevel { on_hand, reserved, last_movement: 1, ..StockLevel::empty(ProductId::new()) }
    }

    #[test]
    fn stock_changes_map_to_movement_kinds_and_signs() {
        let opening =
            StockLevel::empty(ProductId::new()).apply(StockChange::Set(5)).unwrap().unwrap();
        assert_eq!(opening.1, StockDelta { kind: MovementKind::Received, on_hand: 5, reserved: 0 });
        for (change, kind, on_hand, reserved) in [
            (StockChange::Adjust(3), MovementKind::Received, 3, 0),
            (StockChange::Adjust(-3), MovementKind::Adjusted, -3, 0),
            (StockChange::Set(12), MovementKind::Adjusted, 2, 0),
            (StockChange::Reserve(4), MovementKind::Reserved, 0, 4),
            (StockChange::Release(2), MovementKind::Released, 0, -2),
            (StockChange::Ship(2), MovementKind::Shipped, -2, -2),
            (StockChange::Return(2), MovementKind::Returned, 2, 0),
        ] {
            assert_eq!(
                stock_level(10, 2).apply(change).unwrap().unwrap().1,
                StockDelta { kind, on_hand, reserved }
            );
        }
    }

    #[test]
    fn reserved_stock_cannot_be_taken() {
        let refusal = |requested| Err(StockError::Insufficient { requested, available: 6 });
        assert_eq!(stock_level(10, 4).apply(StockChange::Adjust(-7)), refusal(7));
        assert_eq!(stock_level(10, 4).apply(StockChange::Set(3)), refusal(7));
        assert_eq!(stock_level(10, 4).apply(StockChange::Reserve(7)), refusal(7));
        assert_eq!(
            stock_level(10, 4).apply(StockChange::Adjust(i64::MIN)),
            refusal(i64::MIN.unsigned_abs())
        );
        assert!(stock_level(10, 4).apply(StockChange::Release(5)).is_err());
        assert!(stock_level(10, 4).apply(StockChange::Ship(5)).is_err());
    }

    #[test]
    fn noop_changes_nothing_and_overflow_is_rejected() {
        assert_eq!(stock_level(10, 4).apply(StockChange::Set(10)), Ok(None));
        assert_eq!(stock_level(10, 4).apply(StockChange::Adjust(0)), Ok(None));
        assert_eq!(
            stock_level(10, 4).apply(StockChange::Adjust(i64::MAX)),
            Err(StockError::LimitExceeded)
        );
        assert_eq!(
            stock_level(10, 4).apply(StockChange::Set(u64::MAX)),
            Err(StockError::LimitExceeded)
        );
    }

    #[test]
    fn correction_changes_level_and_ledger_independently() {
        let correct = |on_hand, reserved, to| {
            let delta = StockDelta { kind: MovementKind::Adjusted, on_hand, reserved };
            let moved = stock_level(10, 4).apply(StockChange::Correct { delta, reserved: to })?;
            assert!(moved.is_none_or(|(_, written)| written == delta));
            Ok(moved.map(|(level, _)| (level.on_hand, level.reserved, level.last_movement)))
        };
        assert_eq!(correct(-3, 0, None), Ok(Some((10, 4, 2))));
        assert_eq!(correct(0, 2, Some(6)), Ok(Some((10, 6, 2))));
        assert_eq!(correct(0, 0, Some(0)), Ok(Some((10, 0, 2))));
        assert_eq!(correct(0, 0, None), Ok(None));
        assert_eq!(correct(0, 0, Some(4)), Ok(None));
        assert_eq!(
            correct(0, 0, Some(11)),
            Err(StockError::Insufficient { requested: 11, available: 10 })
        );
    }

    fn any_stock_change() -> impl Strategy<Value = StockChange> {
        prop_oneof![
            (-50..50_i64).prop_map(StockChange::Adjust),
            (0..50_u64).prop_map(StockChange::Set),
            (0..20_u64).prop_map(StockChange::Reserve),
            (0..20_u64).prop_map(StockChange::Release),
            (0..20_u64).prop_map(StockChange::Ship),
            (0..20_u64).prop_map(StockChange::Return),
        ]
    }

    proptest! {
        #[test]
        fn level_equals_sum_of_movements(
            changes in prop::collection::vec(any_stock_change(), 0..60),
        ) {
            let mut now = StockLevel::empty(ProductId::new());
            let mut sums = (0_i64, 0_i64);
            let applied = changes.into_iter().filter_map(|change| apply_in_place(&mut now, change));
            for (expected, change) in applied.enumerate() {
                sums = (sums.0 + change.1.on_hand, sums.1 + change.1.reserved);
                prop_assert_eq!(change.0.last_movement, expected as u64 + 1);
                prop_assert_eq!((change.0.on_hand as i64, change.0.reserved as i64), sums);
                prop_assert!(change.0.reserved <= change.0.on_hand);
            }
        }
    }

    fn apply_in_place(
        now: &mut StockLevel,
        change: StockChange,
    ) -> Option<(StockLevel, StockDelta)> {
        let next = now.apply(change).ok().flatten()?;
        *now = next.0;
        Some(next)
    }
}
