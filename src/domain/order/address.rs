//! Shipping addresses.

use std::collections::BTreeMap;

use crate::domain::validation::ValidationErrors;

/// The most fields in an address.
pub const MAX_ADDRESS_FIELDS: usize = 20;

/// The most characters in a field's name.
const MAX_FIELD_NAME: usize = 40;

/// The most characters in a field's value.
const MAX_FIELD_TEXT: usize = 200;

/// What stays of an order's address when the buyer's account is deleted: taxes depend on it, and it
/// identifies nobody.
pub const KEPT_ADDRESS_FIELDS: [&str; 2] = ["country", "region"];

/// A shipping address. The shop chooses the fields, such as `street` or `postal_code`, because
/// address formats differ by country.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShippingAddress(BTreeMap<String, String>);

impl ShippingAddress {
    /// Creates an address from `fields`.
    ///
    /// # Errors
    /// No fields or too many, a name with characters other than letters, digits, `_`, and `-`, or a
    /// value that is too long or contains control characters. Each error names its field under
    /// `shipping_address`.
    pub fn parse(fields: BTreeMap<String, String>) -> Result<Self, ValidationErrors> {
        let mut errors = ValidationErrors::new();
        if fields.is_empty() {
            errors.add("shipping_address", "required", "shipping_address must have a field");
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
                    "the names in shipping_address must be 1 to {MAX_FIELD_NAME} letters, \
                     digits, _ or -"
                );
                errors.add("shipping_address", "invalid_name", message);
            } else {
                errors.check_text(&format!("shipping_address.{name}"), text, 0, MAX_FIELD_TEXT);
            }
        }
        errors.into_result(Self(fields))
    }

    /// Creates an address from stored fields, which are already validated. `None` if none of them
    /// was kept.
    #[must_use]
    pub fn from_stored(fields: BTreeMap<String, String>) -> Option<Self> {
        (!fields.is_empty()).then_some(Self(fields))
    }

    /// The fields by name.
    #[must_use]
    pub const fn fields(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

const fn is_field_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}
