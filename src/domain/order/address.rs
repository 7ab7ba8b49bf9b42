//! The addresses of orders.

use std::collections::BTreeMap;

use crate::domain::{account::PostalAddress, pricing::Destination};

/// What stays of an order's address when the buyer's account is deleted: taxes depend on it, and it
/// identifies nobody.
pub const KEPT_ADDRESS_FIELDS: [&str; 2] = ["country", "region"];

/// A shipping or billing address: the parts of a [`PostalAddress`] by name. Orders of earlier
/// versions may have other parts, which their shops have chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderAddress(BTreeMap<String, String>);

impl OrderAddress {
    /// Creates an address from stored fields, which are already validated. `None` if none of them
    /// was kept.
    #[must_use]
    pub fn from_stored(fields: BTreeMap<String, String>) -> Option<Self> {
        (!fields.is_empty()).then_some(Self(fields))
    }

    /// Where the order goes, as far as shipping and tax depend on it.
    #[must_use]
    pub fn destination(&self) -> Option<Destination> {
        let part = |name| self.0.get(name).cloned();
        Some(Destination {
            country: part("country")?,
            region: part("region").map(|region| region.trim().to_ascii_uppercase()),
            postal_code: part("postal_code"),
        })
    }

    /// What stays of the address when the buyer's account is deleted.
    #[must_use]
    pub fn anonymized(mut self) -> Option<Self> {
        self.0.retain(|name, _| KEPT_ADDRESS_FIELDS.contains(&name.as_str()));
        Self::from_stored(self.0)
    }

    /// The fields by name.
    #[must_use]
    pub const fn fields(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl From<PostalAddress> for OrderAddress {
    fn from(address: PostalAddress) -> Self {
        let PostalAddress { name, line1, line2, city, region, postal_code, country, phone } =
            address;
        let parts = [
            ("name", Some(name)),
            ("line1", Some(line1)),
            ("line2", line2),
            ("city", Some(city)),
            ("region", region),
            ("postal_code", Some(postal_code)),
            ("country", Some(country)),
            ("phone", phone),
        ];
        let given = |(part, text): (&str, Option<String>)| text.map(|text| (part.to_owned(), text));
        Self(parts.into_iter().filter_map(given).collect())
    }
}
