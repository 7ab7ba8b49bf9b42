//! Errors in the settings, each as one line.
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::toml_writer::format_duration;

/// Why the settings are invalid. Its text is one line that names the setting, where it is set, and
/// what to do. It never contains a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read or parsed.
    #[error("{file}: {problem}")]
    File {
        /// The path of the file, relative to the directory of the sources.
        file: String,
        /// What is wrong and what to use.
        problem: String,
    },
    /// An environment variable that is not a setting is invalid.
    #[error("{name}: {problem}")]
    Variable {
        /// The name of the variable.
        name: String,
        /// What is wrong and what to use.
        problem: String,
    },
    /// The setting does not exist.
    #[error("unknown setting {key}{}{}", origin_suffix(.origin), suggestion_suffix(.suggestion))]
    Unknown {
        /// The setting with its section.
        key: String,
        /// The file or variable that sets it.
        origin: Option<String>,
        /// A known setting with a similar name.
        suggestion: Option<String>,
    },
    /// A setting has an invalid value, or a required one is missing.
    #[error("{key}{}: {problem}", origin_suffix(.origin))]
    Invalid {
        /// The setting with its section.
        key: String,
        /// The file or variable that sets it, if any.
        origin: Option<String>,
        /// What is wrong and what to use.
        problem: String,
    },
}

fn origin_suffix(origin: &Option<String>) -> String {
    origin.as_ref().map_or_else(String::new, |origin| format!(" ({origin})"))
}

fn suggestion_suffix(suggestion: &Option<String>) -> String {
    suggestion
        .as_ref()
        .map_or_else(String::new, |suggestion| format!("; did you mean {suggestion}?"))
}

impl ConfigError {
    pub(super) fn in_file(file: &str, problem: impl Display) -> Self {
        Self::File { file: file.to_owned(), problem: problem.to_string() }
    }

    pub(super) fn in_variable(name: &str, problem: impl Display) -> Self {
        Self::Variable { name: name.to_owned(), problem: problem.to_string() }
    }
}

/// An invalid setting whose origin is not known yet.
#[derive(Debug)]
pub(super) struct InvalidSetting {
    pub(super) key: &'static str,
    pub(super) message: String,
}

impl InvalidSetting {
    pub(super) fn new(key: &'static str, text: impl Into<String>) -> Self {
        Self { key, message: text.into() }
    }
}

/// A name more edits away is not worth suggesting.
const MAX_EDITS: usize = 2;

/// Longest period of a deadline, which keeps timestamps far from overflowing.
pub(super) const MAX_PERIOD: Duration = Duration::from_secs(366 * 24 * 60 * 60);

pub(super) fn check_range<T: PartialOrd + Display>(
    key: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), InvalidSetting> {
    if range.contains(&value) {
        return Ok(());
    }
    let text = format!("{value} is out of range; use {} to {}", range.start(), range.end());
    Err(InvalidSetting::new(key, text))
}

/// Requires a duration of more than 0 and at most `max`.
pub(super) fn check_duration(
    key: &'static str,
    value: Duration,
    max: Duration,
) -> Result<(), InvalidSetting> {
    if value > Duration::ZERO && value <= max {
        return Ok(());
    }
    let text = format!(
        "{} is out of range; use more than 0s and at most {}",
        format_duration(value),
        format_duration(max)
    );
    Err(InvalidSetting::new(key, text))
}

/// Joins the text of other crates into one line without control characters.
pub(super) fn to_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "?")
}

/// The name closest to `name`, if it is at most two edits away.
pub(super) fn closest_name<'a>(
    name: &str,
    known: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::levenshtein(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= MAX_EDITS)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_similar_name_is_suggested() {
        assert_eq!(closest_name("workes", ["bind", "workers"].into_iter()), Some("workers"));
        assert_eq!(closest_name("colour", ["bind", "workers"].into_iter()), None);
    }
}
