//! The codes of promotions in a cart.

use super::{Cart, CartChange, CartError, CartEvent, MAX_CODES};
use crate::domain::{
    clock::Timestamp,
    pricing::{Breakdown, CodeRefusal, PricingRules},
};

impl Cart {
    /// Decides what giving a code does. `price` prices the cart with the code. `None` if the cart
    /// has the code.
    ///
    /// # Errors
    /// There is no such code, it gives nothing to this cart now, there are too many, or the cart is
    /// closed.
    pub fn add_code(
        &self,
        code: &str,
        rules: &PricingRules,
        price: impl Fn(&Self) -> Breakdown,
        now: Timestamp,
    ) -> Result<Option<CartChange>, CartError> {
        self.ensure_open()?;
        let promotion = rules.find_by_code(code).filter(|promotion| promotion.active);
        let code = promotion.and_then(|found| found.code.clone()).ok_or(CartError::CodeUnknown)?;
        if self.has_code(&code) {
            return Ok(None);
        }
        if self.codes.len() >= MAX_CODES {
            return Err(CartError::CodeLimitExceeded);
        }
        let mut changed = self.with_lines(self.lines.clone(), now);
        changed.codes.push(code);
        let outcome = price(&changed).codes.pop();
        match outcome.and_then(|outcome| outcome.refusal) {
            None | Some(CodeRefusal::NotBest) => Ok(Some((changed, CartEvent::CodesChanged))),
            Some(CodeRefusal::Inactive) => Err(CartError::CodeUnknown),
            Some(refusal) => Err(CartError::CodeRefused(refusal)),
        }
    }

    /// Decides what removing a code does.
    ///
    /// # Errors
    /// The cart has no such code, or is closed.
    pub fn remove_code(&self, code: &str, now: Timestamp) -> Result<CartChange, CartError> {
        self.ensure_open()?;
        if !self.has_code(code) {
            return Err(CartError::CodeUnknown);
        }
        let mut changed = self.with_lines(self.lines.clone(), now);
        changed.codes.retain(|known| !known.eq_ignore_ascii_case(code));
        Ok((changed, CartEvent::CodesChanged))
    }
}
