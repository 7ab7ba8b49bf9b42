//! Merging a guest's cart into an account's cart.

use super::{
    Cart, CartChange, CartError, CartEvent, CartLimits, CartLine, MAX_CODES, Offer,
    check_line_count, check_total,
};
use crate::domain::{clock::Timestamp, ids::ProductId};

/// Merges can fill a cart up to this many times `max_lines`, since a merge drops no line.
pub const MERGED_LINES_FACTOR: usize = 4;

/// The result of a merge, which is stored atomically.
#[derive(Debug, Clone, PartialEq)]
pub struct CartMerge {
    /// The account's cart.
    pub user: Option<CartChange>,
    /// The guest's cart.
    pub guest: Option<CartChange>,
}

impl Cart {
    /// Decides what merging `guest` into this cart does to both. `None` if it changes nothing.
    ///
    /// # Errors
    /// The guest's cart was merged into another account's cart, the account was deleted, or the
    /// merged cart would have more
    /// than [`MERGED_LINES_FACTOR`] times `max_lines` lines, or exceed the limit for the total.
    /// Then both carts stay unchanged.
    pub fn merge(
        &self,
        guest: &Self,
        offer: impl Fn(ProductId) -> Option<Offer>,
        limits: CartLimits,
        now: Timestamp,
    ) -> Result<CartMerge, CartError> {
        self.ensure_open()?;
        match guest.merged_into {
            Some(user) if user == self.owner.id => {
                return Ok(CartMerge { user: None, guest: None });
            }
            Some(_) => return Err(CartError::GuestCartMerged),
            None => {}
        }
        let lines = self.merged_lines(guest, limits);
        check_line_count(lines.len(), limits.max_lines.saturating_mul(MERGED_LINES_FACTOR))?;
        let merged = CartEvent::Merged { guest_id: guest.owner.id };
        let codes = self.merged_codes(guest);
        let shipping = self.shipping.clone().or_else(|| guest.shipping.clone());
        let is_changed = lines != self.lines || codes != self.codes || shipping != self.shipping;
        let user = is_changed
            .then(|| {
                let cart = Self { codes, shipping, ..self.with_lines(lines, now) };
                check_total((cart, merged), &offer)
            })
            .transpose()?;
        let closed = guest.closed_into(self.owner.id, now);
        Ok(CartMerge {
            user,
            guest: Some((closed, CartEvent::Closed { merged_into: self.owner.id })),
        })
    }

    /// The codes of both carts, this one's first, up to [`MAX_CODES`].
    fn merged_codes(&self, guest: &Self) -> Vec<String> {
        let mut codes = self.codes.clone();
        let is_new = |code: &&String| !self.has_code(code);
        codes.extend(guest.codes.iter().filter(is_new).cloned());
        codes.truncate(MAX_CODES.max(self.codes.len()));
        codes
    }

    fn merged_lines(&self, guest: &Self, limits: CartLimits) -> Vec<CartLine> {
        let mut lines = self.lines.clone();
        for from in &guest.lines {
            match lines.iter_mut().find(|line| line.product_id == from.product_id) {
                // Keep a line that exceeds the limit because the limit was lowered later.
                Some(line) => {
                    let sum = line.quantity.saturating_add(from.quantity).min(limits.max_quantity);
                    line.quantity = line.quantity.max(sum);
                }
                None => lines.push(from.clone()),
            }
        }
        lines
    }
}
