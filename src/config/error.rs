//! What can be wrong with the settings, each in one line.
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::text::format_duration;

/// Why the settings cannot be used. Its text is one line that names the setting, where it was
/// set, and what to do; values of secrets are not in it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read, or is not TOML.
    #[error("{file}: {problem}")]
    File {
        /// Which file, relative to the directory of the sources.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// An environment variable that is no setting cannot be used.
    #[error("{name}: {problem}")]
    Variable {
        /// Which variable.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// There is no such setting.
    #[error("unknown setting {key}{}{}", origin_suffix(.origin), suggestion_suffix(.near))]
    Unknown {
        /// The setting with its section.
        key: String,
        /// The file or variable that names it.
        origin: Option<String>,
        /// A known setting with a similar name.
        near: Option<String>,
    },
    /// A setting has a value that cannot be used, or lacks one.
    #[error("{key}{}: {problem}", origin_suffix(.origin))]
    Invalid {
        /// The setting with its section.
        key: String,
        /// The file or variable that sets it; none when nothing does.
        origin: Option<String>,
        /// What is wrong and what to use.
        problem: String,
    },
}

fn origin_suffix(origin: &Option<String>) -> String {
    origin.as_ref().map_or_else(String::new, |origin| format!(" ({origin})"))
}

fn suggestion_suffix(near: &Option<String>) -> String {
    near.as_ref().map_or_else(String::new, |near| format!("; did you mean {near}?"))
}

impl ConfigError {
    pub(super) fn in_file(file: &str, problem: impl Display) -> Self {
        Self::File { file: file.to_owned(), problem: problem.to_string() }
    }

    pub(super) fn in_variable(name: &str, problem: impl Display) -> Self {
        Self::Variable { name: name.to_owned(), problem: problem.to_string() }
    }
}

/// A setting that cannot be used, before it is known who set it.
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

/// Longest period that a deadline may lie ahead; far enough from the ends of time.
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

/// More than 0 and at most `max`.
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

/// Text of other crates in one line: theirs may quote whole lines of a file.
pub(super) fn to_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "?")
}

/// The name closest to `name`, if it is at most two edits away.
pub(super) fn closest_name<'a>(
    name: &str,
    known: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= 2)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, row by row.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let above = *cell;
            left = (diagonal + usize::from(from != to)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_and_closest_name() {
        for (a, b, edits) in [
            ("bind", "bind", 0),
            ("bnd", "bind", 1),
            ("uri", "url", 1),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edit_distance(a, b), edits, "{a} {b}");
        }
        assert_eq!(closest_name("workes", ["bind", "workers"].into_iter()), Some("workers"));
        assert_eq!(closest_name("colour", ["bind", "workers"].into_iter()), None);
    }
}
