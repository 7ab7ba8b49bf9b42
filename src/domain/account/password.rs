//! Passwords: which ones an account may have, and which forms of one a login may try.

use std::{collections::HashSet, fmt, sync::LazyLock};

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::domain::validation::ValidationErrors;

/// The fewest characters of a new password.
const MIN_CHARACTERS: usize = 8;

/// bcrypt reads 72 bytes including the terminator, and ignores the rest.
const MAX_BYTES: usize = 71;

/// The 10,000 most common passwords that are long enough, in lower case and sorted. Merged by rank
/// from the lists of Django 5.1 (BSD-3-Clause) and zxcvbn 4.5 (MIT).
static COMMON_PASSWORDS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

/// A password. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Normalizes and validates a new password. The same word typed on another keyboard is the
    /// same: normalization form NFKC (as NIST SP 800-63B recommends) merges composed and decomposed
    /// letters, and those of different widths.
    ///
    /// # Errors
    /// After normalization: fewer than 8 characters, more than 71 bytes (bcrypt reads at most 72,
    /// including the terminator), a NUL, at which bcrypt stops, or one of the most common
    /// passwords, in whatever case.
    pub fn parse(field: &str, text: String) -> Result<Self, ValidationErrors> {
        let mut errors = ValidationErrors::new();
        let text = normalize(text);
        if text.chars().count() < MIN_CHARACTERS {
            errors.add(field, "too_short", format!("{field} must have at least 8 characters"));
        }
        if text.len() > MAX_BYTES {
            errors.add(
                field,
                "too_long",
                format!("{field} has {} bytes; at most 71 are allowed", text.len()),
            );
        }
        if text.contains('\0') {
            errors.add(
                field,
                "invalid_character",
                format!("{field} must not contain a NUL character"),
            );
        }
        if text.len() <= MAX_BYTES && COMMON_PASSWORDS.contains(text.to_lowercase().as_str()) {
            errors.add(
                field,
                "too_common",
                format!("{field} is one of the most common passwords; choose another one"),
            );
        }
        errors.into_result(Self(text))
    }

    /// A password to check at login, as typed. It need not be valid as a new password.
    #[must_use]
    pub const fn unvalidated(text: String) -> Self {
        Self(text)
    }

    /// The forms to compare with a stored hash: normalized, and then as typed if that differs,
    /// since older hashes are of the password as typed. Leaves out what no hash can be of, because
    /// bcrypt would cut it.
    #[must_use]
    pub fn forms(&self) -> Vec<Self> {
        let normalized = Self(normalize(self.0.clone()));
        let as_typed = (normalized != *self).then(|| self.clone());
        let can_be_hashed = |form: &Self| form.0.len() <= MAX_BYTES && !form.0.contains('\0');
        [normalized].into_iter().chain(as_typed).filter(can_be_hashed).collect()
    }

    /// The password itself.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

fn normalize(text: String) -> String {
    if text.is_ascii() {
        return text;
    }
    ComposingNormalizerBorrowed::new_nfkc().normalize(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Password, ValidationErrors> {
        Password::parse("password", text.into())
    }

    fn codes(text: &str) -> Vec<&'static str> {
        let errors = parse(text).err().map(ValidationErrors::into_vec).unwrap_or_default();
        errors.into_iter().map(|error| error.code).collect()
    }

    #[test]
    fn password_length_is_bounded() {
        assert!(parse("8 chars!").is_ok());
        assert!(parse(&"x".repeat(71)).is_ok());
        for bad in ["1234567", &"x".repeat(72), &"é".repeat(36), "1234567\0"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(format!("{:?}", parse("8 chars!").unwrap()), "Password(hidden)");
    }

    #[test]
    fn password_is_normalized_before_it_is_measured() {
        let composed = parse("P\u{e4}ssw\u{f6}rt-1").unwrap();
        assert_eq!(parse("Pa\u{308}sswo\u{308}rt-1").unwrap(), composed);
        // 8 characters as typed, 7 after normalization.
        assert_eq!(codes("qu\u{e4}lena\u{308}"), ["too_short"]);
        // Full-width letters have three bytes as typed, and one after normalization.
        assert_eq!(parse(&"\u{ff58}".repeat(71)).unwrap().expose_secret(), "x".repeat(71));
        // A ligature is one character as typed, and 18 after normalization.
        assert_eq!(codes(&"\u{fdfa}".repeat(8)), ["too_long"]);
        assert_eq!(codes("password\0"), ["invalid_character"]);
    }

    #[test]
    fn common_passwords_are_rejected_in_any_case() {
        assert_eq!(COMMON_PASSWORDS.len(), 10_000);
        for common in ["password", "12345678", "iloveyou", "PassWord1", "QWERTYUI", "trustno1"] {
            assert_eq!(codes(common), ["too_common"], "{common}");
        }
        assert_eq!(codes("\u{ff50}\u{ff41}ssword"), ["too_common"], "full-width letters");
        assert!(parse("correct horse").is_ok());
    }

    #[test]
    fn forms_are_the_normalized_one_and_the_typed_one() {
        let forms = |text: &str| {
            let forms = Password::unvalidated(text.into()).forms().into_iter();
            forms.map(|form| form.0).collect::<Vec<_>>()
        };
        assert_eq!(forms("correct horse"), ["correct horse"]);
        assert_eq!(forms("a\u{308}"), ["\u{e4}", "a\u{308}"]);
        assert_eq!(forms(&"\u{ff58}".repeat(71)), ["x".repeat(71)], "too long as typed");
        assert_eq!(forms(&"\u{fdfa}".repeat(8)), ["\u{fdfa}".repeat(8)], "only as typed");
        assert!(forms(&"x".repeat(72)).is_empty() && forms("correct\0horse").is_empty());
    }
}
