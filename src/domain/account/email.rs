//! E-mail addresses.

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory},
};
use serde::{Deserialize, Serialize};

use crate::domain::validation::ValidationErrors;

/// The longest address in bytes (RFC 5321, section 4.5.3.1.3).
const MAX_BYTES: usize = 254;

/// The longest part before the `@` in bytes (RFC 5321, section 4.5.3.1.1).
const MAX_LOCAL_BYTES: usize = 64;

/// The braille pattern without dots looks like a space, but is a symbol to Unicode.
const BRAILLE_BLANK: char = '\u{2800}';

/// An email address. Addresses that differ only in case are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Email(String);

impl Email {
    /// Parses the address of a new account, as typed.
    ///
    /// # Errors
    /// It lacks the form `name@domain`, exceeds 254 bytes, has an empty label, as in
    /// `name@mail..example`, or contains a character that nobody sees: two accounts must not have
    /// addresses that look the same.
    pub fn parse(text: &str) -> Result<Self, ValidationErrors> {
        let Some(email) = Self::for_login(text) else {
            return Err(ValidationErrors::single(
                "email",
                "invalid_email",
                "email must be an address like name@example.com, of at most 254 bytes",
            ));
        };
        if email.0.contains(is_invisible) {
            return Err(ValidationErrors::single(
                "email",
                "invalid_character",
                "email must not contain invisible characters",
            ));
        }
        if email.0.split('@').flat_map(|part| part.split('.')).any(str::is_empty) {
            return Err(ValidationErrors::single(
                "email",
                "invalid_email",
                "email must not have a dot at the start or end of its name or domain, nor two dots \
                 in a row",
            ));
        }
        Ok(email)
    }

    /// The address to look up at a login. Less strict than [`Self::parse`], since accounts were
    /// registered before some of its rules. `None` if no account can have it.
    #[must_use]
    pub fn for_login(text: &str) -> Option<Self> {
        let address = text.trim().to_lowercase();
        let (local, domain) = address.split_once('@')?;
        let is_well_formed = !local.is_empty()
            && local.len() <= MAX_LOCAL_BYTES
            && !domain.is_empty()
            && !domain.contains('@')
            && address.len() <= MAX_BYTES
            && !address.contains(char::is_whitespace);
        is_well_formed.then_some(Self(address))
    }

    /// Creates an address from the store, where every address is already parsed.
    #[must_use]
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The address, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a character is a control or format character, such as those for bidirectional text, or
/// one that is not displayed, such as a zero-width space.
fn is_invisible(c: char) -> bool {
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    matches!(category, GeneralCategory::Control | GeneralCategory::Format)
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || c == BRAILLE_BLANK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn email_is_lowercased_and_malformed_is_rejected() {
        assert_eq!(Email::parse(" Ada@Example.COM ").unwrap().as_str(), "ada@example.com");
        assert_eq!(Email::parse("zo\u{eb}.l+x@b\u{fc}cher.example").unwrap().0.len(), 24);
        for bad in [
            "",
            "ada",
            "@example.com",
            "ada@",
            "a@b@c",
            "a b@c.d",
            "a\u{a0}b@c.d",
            "ada@.com",
            "ada@example.",
            "a@mail..example",
            ".ada@example.com",
            "ada.@example.com",
            "a..b@example.com",
            "ada@example.com.",
            "ada\n@example.com",
        ] {
            assert!(Email::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Email::parse(&format!("a@{}", "b".repeat(260))).is_err());
    }

    #[test]
    fn invisible_characters_are_rejected() {
        for c in [
            '\0',
            '\u{7f}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{180e}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2800}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{e0041}',
            '\u{e0100}',
        ] {
            for address in [format!("ad{c}a@example.com"), format!("ada@exam{c}ple.com")] {
                let errors = Email::parse(&address).unwrap_err().into_vec();
                assert_eq!(errors[0].code, "invalid_character", "{address:?}");
            }
        }
        for c in ['\u{e9}', '\u{5d0}', '\u{4e2d}', '\u{1f600}', '\u{301}'] {
            assert!(Email::parse(&format!("a{c}da@example.com")).is_ok(), "{c:?}");
        }
    }

    #[test]
    fn accounts_with_older_addresses_are_still_found() {
        for (typed, address) in [
            ("A@mail..example", "a@mail..example"),
            ("a\u{200b}da@example.com", "a\u{200b}da@example.com"),
        ] {
            assert!(Email::parse(typed).is_err());
            assert_eq!(Email::for_login(typed).unwrap().as_str(), address);
        }
        assert_eq!(Email::for_login("nobody"), None);
    }
}
