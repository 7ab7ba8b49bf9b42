//! Where an order goes.

use std::collections::BTreeMap;

use crate::domain::validation::ValidationErrors;

/// Most fields of an address.
pub const MAX_ADDRESS_FIELDS: usize = 20;

/// Most characters of a field's name.
const MAX_FIELD_NAME: usize = 40;

/// Most characters of a field's text.
const MAX_FIELD_TEXT: usize = 200;

/// An address in fields of the shop's choice, `street` or `postal_code`: countries differ too much for one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShippingAddress(BTreeMap<String, String>);

impl ShippingAddress {
    /// Takes `fields` that an address can have.
    ///
    /// # Errors
    /// None or too many of them, a name that is not of letters, digits, `_` and `-`, or a text that is too long or holds control
    /// characters; the faults name each under `shipping_address`.
    pub fn parse(fields: BTreeMap<String, String>) -> Result<Self, ValidationErrors> {
        let mut faults = ValidationErrors::new();
        if fields.is_empty() {
            faults.add("shipping_address", "required", "shipping_address must have a field");
        }
        if fields.len() > MAX_ADDRESS_FIELDS {
            let message = format!(
                "shipping_address has {} fields; at most {MAX_ADDRESS_FIELDS} are allowed",
                fields.len()
            );
            return Err(ValidationErrors::single("shipping_address", "too_many", message));
        }
        for (name, text) in &fields {
            if name.is_empty()
                || name.len() > MAX_FIELD_NAME
                || !name.bytes().all(is_field_name_byte)
            {
                let message = format!(
                    "the names in shipping_address are 1 to {MAX_FIELD_NAME} letters, digits, _ or -"
                );
                faults.add("shipping_address", "invalid_name", message);
            } else {
                faults.check_text(&format!("shipping_address.{name}"), text, 0, MAX_FIELD_TEXT);
            }
        }
        faults.into_result(Self(fields))
    }

    /// Takes fields that were checked when they were stored.
    #[must_use]
    pub const fn from_stored(fields: BTreeMap<String, String>) -> Self {
        Self(fields)
    }

    /// Its fields.
    #[must_use]
    pub const fn fields(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

const fn is_field_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}
