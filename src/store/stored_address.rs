//! Addresses as both engines store them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::domain::{
    account::{AddressBook, PostalAddress, SavedAddress},
    ids::{AddressId, UserId},
};

/// An address of a customer.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredAddress<'a> {
    id: Cow<'a, str>,
    version: u64,
    name: Cow<'a, str>,
    line1: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line2: Option<Cow<'a, str>>,
    city: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Cow<'a, str>>,
    postal_code: Cow<'a, str>,
    country: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<Cow<'a, str>>,
}

impl<'a> StoredAddress<'a> {
    /// The addresses of a book, in its order.
    pub(super) fn list_of(book: &'a AddressBook) -> Vec<Self> {
        book.addresses.iter().map(Self::from).collect()
    }

    /// The book with these addresses.
    ///
    /// # Errors
    /// An address has no valid id.
    pub(super) fn into_book(
        user_id: UserId,
        addresses: Vec<Self>,
    ) -> Result<AddressBook, uuid::Error> {
        let addresses = addresses.into_iter().map(SavedAddress::try_from).collect::<Result<_, _>>();
        Ok(AddressBook { user_id, addresses: addresses? })
    }
}

impl<'a> From<&'a SavedAddress> for StoredAddress<'a> {
    fn from(saved: &'a SavedAddress) -> Self {
        let address = &saved.address;
        Self {
            id: saved.id.to_string().into(),
            version: saved.version,
            name: Cow::Borrowed(&address.name),
            line1: Cow::Borrowed(&address.line1),
            line2: address.line2.as_deref().map(Cow::Borrowed),
            city: Cow::Borrowed(&address.city),
            region: address.region.as_deref().map(Cow::Borrowed),
            postal_code: Cow::Borrowed(&address.postal_code),
            country: Cow::Borrowed(&address.country),
            phone: address.phone.as_deref().map(Cow::Borrowed),
        }
    }
}

impl TryFrom<StoredAddress<'_>> for SavedAddress {
    type Error = uuid::Error;

    fn try_from(stored: StoredAddress<'_>) -> Result<Self, uuid::Error> {
        Ok(Self {
            id: stored.id.parse::<AddressId>()?,
            version: stored.version,
            address: PostalAddress {
                name: stored.name.into_owned(),
                line1: stored.line1.into_owned(),
                line2: stored.line2.map(Cow::into_owned),
                city: stored.city.into_owned(),
                region: stored.region.map(Cow::into_owned),
                postal_code: stored.postal_code.into_owned(),
                country: stored.country.into_owned(),
                phone: stored.phone.map(Cow::into_owned),
            },
        })
    }
}
