//! The language of the catalog: how words are stemmed and names are sorted.

use std::{cmp::Ordering, fmt, str::FromStr};

use icu_collator::{CollatorBorrowed, CollatorPreferences, options::CollatorOptions};
use icu_locale_core::Locale;
use quick_cache::sync::Cache;
use rust_stemmers::{Algorithm, Stemmer};

/// Languages with a stemmer.
const STEMMED: &[(&str, Algorithm)] = &[
    ("ar", Algorithm::Arabic),
    ("da", Algorithm::Danish),
    ("de", Algorithm::German),
    ("el", Algorithm::Greek),
    ("en", Algorithm::English),
    ("es", Algorithm::Spanish),
    ("fi", Algorithm::Finnish),
    ("fr", Algorithm::French),
    ("hu", Algorithm::Hungarian),
    ("it", Algorithm::Italian),
    ("nb", Algorithm::Norwegian),
    ("nl", Algorithm::Dutch),
    ("no", Algorithm::Norwegian),
    ("pt", Algorithm::Portuguese),
    ("ro", Algorithm::Romanian),
    ("ru", Algorithm::Russian),
    ("sv", Algorithm::Swedish),
    ("ta", Algorithm::Tamil),
    ("tr", Algorithm::Turkish),
];

/// Languages without a stemmer. Their words are found as they are written.
const UNSTEMMED: &[&str] = &[
    "af", "am", "az", "be", "bg", "bn", "bs", "ca", "cs", "cy", "et", "eu", "fa", "fil", "ga",
    "gl", "gu", "he", "hi", "hr", "hy", "id", "is", "ja", "ka", "kk", "km", "kn", "ko", "ky", "lo",
    "lt", "lv", "mk", "ml", "mn", "mr", "ms", "my", "ne", "pa", "pl", "ps", "si", "sk", "sl", "sq",
    "sr", "sw", "te", "th", "uk", "ur", "uz", "vi", "zh",
];

/// English words that a query need not find, unless they are all of it.
const ENGLISH_STOP_WORDS: &[&str] =
    &["a", "an", "and", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"];

/// The language of a catalog, such as `en` or `pt-BR`.
#[derive(Clone, PartialEq, Eq)]
pub struct CatalogLanguage(Locale);

/// The text is not the tag of a known language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a known language, such as en or pt-BR")]
pub struct UnknownLanguage;

impl FromStr for CatalogLanguage {
    type Err = UnknownLanguage;

    fn from_str(tag: &str) -> Result<Self, Self::Err> {
        let locale = Locale::try_from_str(tag).map_err(|_| UnknownLanguage)?;
        let language = Self(locale);
        let known = language.algorithm().is_some() || UNSTEMMED.contains(&language.code().as_str());
        known.then_some(language).ok_or(UnknownLanguage)
    }
}

impl CatalogLanguage {
    fn code(&self) -> String {
        self.0.id.language.to_string()
    }

    fn algorithm(&self) -> Option<Algorithm> {
        let code = self.code();
        STEMMED.iter().find(|(known, _)| *known == code).map(|(_, algorithm)| *algorithm)
    }
}

impl Default for CatalogLanguage {
    /// English.
    fn default() -> Self {
        Self(icu_locale_core::locale!("en"))
    }
}

impl fmt::Display for CatalogLanguage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CatalogLanguage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CatalogLanguage({})", self.0)
    }
}

/// The words whose stems are kept. Texts repeat few words often.
const MAX_KNOWN_STEMS: usize = 8192;

/// The rules of a language, ready for use.
pub struct TextRules {
    stemmer: Option<Stemmer>,
    /// The stems of common words.
    stems: Cache<String, Box<str>>,
    collator: Option<CollatorBorrowed<'static>>,
    stop_words: &'static [&'static str],
}

impl Default for TextRules {
    /// The rules of English.
    fn default() -> Self {
        Self::new(&CatalogLanguage::default())
    }
}

impl TextRules {
    /// The rules of `language`.
    #[must_use]
    pub fn new(language: &CatalogLanguage) -> Self {
        let preferences = CollatorPreferences::from(&language.0);
        Self {
            stemmer: language.algorithm().map(Stemmer::create),
            stems: Cache::new(MAX_KNOWN_STEMS),
            collator: CollatorBorrowed::try_new(preferences, CollatorOptions::default()).ok(),
            stop_words: if language.code() == "en" { ENGLISH_STOP_WORDS } else { &[] },
        }
    }

    /// The stem of a folded word, in a language that has stems.
    pub(super) fn stem(&self, word: &str) -> Option<String> {
        // A part number is no word that could be inflected.
        let stemmer = self.stemmer.as_ref().filter(|_| !word.contains(char::is_numeric))?;
        if let Some(known) = self.stems.get(word) {
            return Some(known.into_string());
        }
        let stem = stemmer.stem(word).into_owned();
        self.stems.insert(word.to_owned(), stem.as_str().into());
        Some(stem)
    }

    pub(super) fn is_stop_word(&self, word: &str) -> bool {
        self.stop_words.contains(&word)
    }

    /// Compares texts in the order of the language, as their sort keys compare.
    #[must_use]
    pub fn compare(&self, a: &str, b: &str) -> Ordering {
        self.collator.as_ref().map_or_else(|| a.cmp(b), |collator| collator.compare(a, b))
    }

    /// A key whose byte order is the order of `text` in the language.
    #[must_use]
    pub fn sort_key(&self, text: &str) -> Box<[u8]> {
        let mut key = Vec::with_capacity(text.len() * 2);
        match &self.collator {
            Some(collator) => {
                let Ok(()) = collator.write_sort_key_to(text, &mut key);
            }
            None => key.extend(text.bytes()),
        }
        key.into_boxed_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(tag: &str) -> TextRules {
        TextRules::new(&tag.parse().unwrap())
    }

    fn sorted(tag: &str, names: &[&str]) -> Vec<String> {
        let rules = rules(tag);
        let mut names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        names.sort_by_key(|name| rules.sort_key(name));
        assert!(names.is_sorted_by(|a, b| rules.compare(a, b).is_lt()), "{names:?}");
        names
    }

    #[test]
    fn names_are_sorted_as_the_language_does() {
        let names = ["zoo", "Äpfel", "Zebra", "apple", "Öl", "orange"];
        assert_eq!(sorted("en", &names), ["Äpfel", "apple", "Öl", "orange", "Zebra", "zoo"]);
        assert_eq!(sorted("sv", &names), ["apple", "orange", "Zebra", "zoo", "Äpfel", "Öl"]);
    }

    #[test]
    fn words_are_stemmed_as_the_language_does() {
        assert_eq!(rules("en").stem("mugs").unwrap(), rules("en").stem("mug").unwrap());
        assert_eq!(rules("de").stem("tassen").unwrap(), rules("de").stem("tasse").unwrap());
        assert_eq!(rules("ja").stem("mugs"), None);
        assert_eq!(rules("en").stem("b2s"), None);
    }

    #[test]
    fn only_known_languages_are_accepted() {
        for tag in ["en", "de-AT", "pt-BR", "ja", "zh-Hant"] {
            assert_eq!(tag.parse::<CatalogLanguage>().unwrap().to_string(), tag);
        }
        for tag in ["", "english", "xx", "e", "en_", "de AT"] {
            assert!(tag.parse::<CatalogLanguage>().is_err(), "{tag}");
        }
        assert_eq!(CatalogLanguage::default().to_string(), "en");
    }
}
