//! Which accounts a list is narrowed to.

use super::{Email, Role, User};

/// The accounts that a list shows. What is `None` or empty restricts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// Each is the beginning of a word of the name or of the e-mail address, in lower case.
    pub words: Vec<String>,
    /// The e-mail address.
    pub email: Option<Email>,
    /// The role.
    pub role: Option<Role>,
    /// Whether the account is blocked.
    pub blocked: Option<bool>,
}

impl UserFilter {
    /// The words of a search text.
    #[must_use]
    pub fn split_words(text: &str) -> Vec<String> {
        words(&text.to_lowercase()).map(str::to_owned).collect()
    }

    /// Whether the name and the e-mail address have all of the [words](Self::words).
    #[must_use]
    pub fn matches_words(&self, user: &User) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let text = format!("{} {}", user.name.to_lowercase(), user.email.as_str().to_lowercase());
        self.words.iter().all(|start| words(&text).any(|word| word.starts_with(start.as_str())))
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}
