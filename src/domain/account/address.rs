//! The addresses that a customer keeps.

use crate::domain::{
    ids::{AddressId, UserId},
    validation::ValidationErrors,
};

/// The most addresses of one account.
pub const MAX_ADDRESSES: usize = 50;

/// The most characters in a part of an address.
pub const MAX_ADDRESS_TEXT: usize = 200;

/// The countries and territories of ISO 3166-1, in upper case.
const COUNTRIES: &str = "\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR \
    BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ \
    EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW \
    GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY \
    KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV \
    MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY \
    QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG \
    TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM \
    ZW";

/// Whether `text` is a country code of ISO 3166-1, in upper case.
#[must_use]
pub fn is_country_code(text: &str) -> bool {
    COUNTRIES.split(' ').any(|code| code == text)
}

/// A postal address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostalAddress {
    /// Who lives there.
    pub name: String,
    /// The street and the number.
    pub line1: String,
    /// What `line1` has no room for.
    pub line2: Option<String>,
    /// The town.
    pub city: String,
    /// The state or province.
    pub region: Option<String>,
    /// The postal code.
    pub postal_code: String,
    /// Two capital letters of ISO 3166-1.
    pub country: String,
    /// A telephone number for the carrier.
    pub phone: Option<String>,
}

impl PostalAddress {
    /// Returns the address if every part of it is valid. `path` comes before the names of parts in
    /// errors, as in `shipping_address.`.
    ///
    /// # Errors
    /// A part is empty, above [`MAX_ADDRESS_TEXT`] characters or has control characters, or the
    /// country is unknown.
    pub fn validate(self, path: &str) -> Result<Self, ValidationErrors> {
        let mut errors = ValidationErrors::new();
        let parts = [
            ("name", Some(&self.name)),
            ("line1", Some(&self.line1)),
            ("line2", self.line2.as_ref()),
            ("city", Some(&self.city)),
            ("region", self.region.as_ref()),
            ("postal_code", Some(&self.postal_code)),
            ("phone", self.phone.as_ref()),
        ];
        for (field, text) in parts {
            if let Some(text) = text {
                errors.check_text(&format!("{path}{field}"), text, 1, MAX_ADDRESS_TEXT);
            }
        }
        if !is_country_code(&self.country) {
            let message =
                format!("{path}country must be two capital letters of ISO 3166-1, like FR");
            errors.add(format!("{path}country"), "unknown", message);
        }
        errors.into_result(self)
    }
}

/// An address that a customer keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedAddress {
    /// The address's identifier.
    pub id: AddressId,
    /// Counts changes, from 1.
    pub version: u64,
    /// The address.
    pub address: PostalAddress,
}

/// All addresses of an account. Whoever writes it also writes the account, whose version guards it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressBook {
    /// The account.
    pub user_id: UserId,
    /// The addresses, the oldest first.
    pub addresses: Vec<SavedAddress>,
}

/// The account has as many addresses as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressLimitReached;

impl AddressBook {
    /// An account without addresses.
    #[must_use]
    pub const fn empty(user_id: UserId) -> Self {
        Self { user_id, addresses: Vec::new() }
    }

    /// The address with this id.
    #[must_use]
    pub fn find(&self, id: AddressId) -> Option<&SavedAddress> {
        self.addresses.iter().find(|saved| saved.id == id)
    }

    /// The addresses with a new one.
    ///
    /// # Errors
    /// There are [`MAX_ADDRESSES`] already.
    pub fn with_new(
        &self,
        id: AddressId,
        address: PostalAddress,
    ) -> Result<(Self, SavedAddress), AddressLimitReached> {
        if self.addresses.len() >= MAX_ADDRESSES {
            return Err(AddressLimitReached);
        }
        let saved = SavedAddress { id, version: 1, address };
        let mut book = self.clone();
        book.addresses.push(saved.clone());
        Ok((book, saved))
    }

    /// The addresses with another in place of `replaced`.
    #[must_use]
    pub fn with_replaced(
        &self,
        replaced: &SavedAddress,
        address: PostalAddress,
    ) -> (Self, SavedAddress) {
        let saved = SavedAddress { version: replaced.version + 1, address, ..replaced.clone() };
        let replace = |old: &SavedAddress| match old.id == saved.id {
            true => saved.clone(),
            false => old.clone(),
        };
        let addresses = self.addresses.iter().map(replace).collect();
        (Self { user_id: self.user_id, addresses }, saved)
    }

    /// The addresses without this one.
    #[must_use]
    pub fn without(&self, id: AddressId) -> Self {
        let others = self.addresses.iter().filter(|saved| saved.id != id);
        Self { user_id: self.user_id, addresses: others.cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> PostalAddress {
        PostalAddress {
            name: "Ada".into(),
            line1: "12 Mint Street".into(),
            line2: None,
            city: "Paris".into(),
            region: None,
            postal_code: "75001".into(),
            country: "FR".into(),
            phone: None,
        }
    }

    #[test]
    fn address_has_bounded_parts_and_a_country() {
        assert_eq!(address().validate(""), Ok(address()));
        let longest = Some("é".repeat(MAX_ADDRESS_TEXT));
        let full = PostalAddress { line2: longest, phone: Some("+33 1".into()), ..address() };
        assert!(full.validate("").is_ok());
        let fields = |address: PostalAddress| {
            let errors = address.validate("").unwrap_err().into_vec();
            errors.into_iter().map(|error| error.field).collect::<Vec<_>>()
        };
        for country in ["fr", "XX", "F", "", "FR ", "FRA", "FR DE"] {
            assert_eq!(fields(PostalAddress { country: country.into(), ..address() }), ["country"]);
        }
        let empty = PostalAddress {
            name: " ".into(),
            line1: "x".repeat(MAX_ADDRESS_TEXT + 1),
            line2: Some(String::new()),
            region: Some("a\0b".into()),
            ..address()
        };
        assert_eq!(fields(empty), ["name", "line1", "line2", "region"]);
        let nested = PostalAddress { city: String::new(), ..address() };
        let nested = nested.validate("shipping_address.").unwrap_err().into_vec();
        assert_eq!(nested[0].field, "shipping_address.city");
        assert_eq!(COUNTRIES.split(' ').count(), 249);
    }

    #[test]
    fn book_counts_its_addresses_and_their_versions() {
        let mut book = AddressBook::empty(UserId::new());
        for _ in 0..MAX_ADDRESSES {
            book = book.with_new(AddressId::new(), address()).unwrap().0;
        }
        assert_eq!(book.with_new(AddressId::new(), address()), Err(AddressLimitReached));
        let first = book.addresses[0].clone();
        let moved = PostalAddress { city: "Lyon".into(), ..address() };
        let (book, changed) = book.with_replaced(&first, moved);
        assert_eq!((changed.version, changed.id), (2, first.id));
        assert_eq!(book.find(first.id), Some(&changed));
        assert_eq!(book.addresses.len(), MAX_ADDRESSES);
        let book = book.without(first.id);
        assert_eq!((book.find(first.id), book.addresses.len()), (None, MAX_ADDRESSES - 1));
    }
}
