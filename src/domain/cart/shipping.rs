//! Where the goods of a cart go.

use super::{Cart, CartChange, CartError, CartEvent, CartShipping};
use crate::domain::{clock::Timestamp, pricing::PricingRules};

impl Cart {
    /// Decides what setting the address and the shipping method does. `None` if it changes nothing.
    ///
    /// # Errors
    /// No method reaches the address, or the chosen one does not, or the cart is closed.
    pub fn set_shipping(
        &self,
        shipping: CartShipping,
        rules: &PricingRules,
        now: Timestamp,
    ) -> Result<Option<CartChange>, CartError> {
        self.ensure_open()?;
        if !rules.can_ship(&shipping.destination, shipping.method) {
            return Err(CartError::MethodNotAvailable);
        }
        if self.shipping.as_ref() == Some(&shipping) {
            return Ok(None);
        }
        let changed = Self { shipping: Some(shipping), ..self.with_lines(self.lines.clone(), now) };
        Ok(Some((changed, CartEvent::ShippingChanged)))
    }
}
