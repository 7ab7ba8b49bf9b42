//! The limits of a cart: units in a line, lines, the total, and the stock.

use super::{CartChange, CartError, Offer, Shortage};
use crate::domain::{
    ids::ProductId,
    money::{MAX_MINOR_UNITS, MAX_PRICE_MINOR_UNITS},
};

/// This many units at the highest price stay within the largest total. A cart with no more
/// units needs no pricing to check its total.
const UNITS_WITHIN_TOTAL_LIMIT: u64 = (MAX_MINOR_UNITS / MAX_PRICE_MINOR_UNITS) as u64;

/// The cart limits from the shop's settings.
#[derive(Debug, Clone, Copy)]
pub struct CartLimits {
    /// The most units in one line.
    pub max_quantity: u32,
    /// The most lines that adding products may create. A merge may reach
    /// [`MERGED_LINES_FACTOR`](super::MERGED_LINES_FACTOR) times as many.
    pub max_lines: usize,
}

impl CartLimits {
    /// Returns the quantity of a line if it is not above the limit.
    pub(super) fn check_quantity(self, quantity: u64) -> Result<u32, CartError> {
        let limit = self.max_quantity;
        let checked = u32::try_from(quantity).ok().filter(|quantity| *quantity <= limit);
        checked.ok_or(CartError::QuantityLimitExceeded { quantity, limit })
    }
}

/// Rejects a cart with more than `limit` lines.
pub(super) const fn check_line_count(lines: usize, limit: usize) -> Result<(), CartError> {
    if lines > limit { Err(CartError::LineLimitExceeded { lines, limit }) } else { Ok(()) }
}

/// Rejects a change if the total, at the prices of `offer`, would exceed the limit.
pub(super) fn check_total(
    change: CartChange,
    offer: impl Fn(ProductId) -> Option<Offer>,
) -> Result<CartChange, CartError> {
    let (cart, _) = &change;
    let units: u64 = cart.lines.iter().map(|line| u64::from(line.quantity)).sum();
    if units <= UNITS_WITHIN_TOTAL_LIMIT || cart.is_total_within_limit(offer) {
        Ok(change)
    } else {
        Err(CartError::TotalLimitExceeded)
    }
}

/// Rejects a quantity that exceeds the available stock.
pub(super) const fn check_stock(
    product_id: ProductId,
    quantity: u32,
    available: u64,
) -> Result<(), CartError> {
    let requested = quantity as u64;
    if requested > available {
        Err(CartError::InsufficientStock(Shortage { product_id, requested, available }))
    } else {
        Ok(())
    }
}
