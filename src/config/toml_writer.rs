//! A writer of settings as TOML, for `souk config`.
use std::fmt::{Display, Write as _};
use std::time::Duration;

use jiff::SignedDuration;
use secrecy::SecretString;

/// Replaces a secret that is set.
const REDACTED: &str = "<hidden>";

/// Builds a TOML document. Unset settings become comments, and secrets are never written.
#[derive(Default)]
pub(super) struct TomlWriter(String);

impl TomlWriter {
    pub(super) fn write_section(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.push_line(format_args!("[{name}]"));
    }

    /// Starts one of several sections with the same name.
    pub(super) fn write_array_section(&mut self, name: &str) {
        self.push_line(format_args!("\n[[{name}]]"));
    }

    /// Writes a number or a boolean.
    pub(super) fn write_literal(&mut self, key: &str, value: impl Display) {
        self.push_line(format_args!("{key} = {value}"));
    }

    pub(super) fn write_string(&mut self, key: &str, value: &str) {
        self.write_literal(key, quote_string(value));
    }

    pub(super) fn write_duration(&mut self, key: &str, value: Duration) {
        self.write_string(key, &format_duration(value));
    }

    pub(super) fn write_list(&mut self, key: &str, values: &[impl Display]) {
        let values: Vec<String> =
            values.iter().map(|value| quote_string(&value.to_string())).collect();
        self.push_line(format_args!("{key} = [{}]", values.join(", ")));
    }

    pub(super) fn write_optional(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.write_string(key, value),
            None => self.push_line(format_args!("# {key} is not set")),
        }
    }

    pub(super) fn write_redacted(&mut self, key: &str, value: Option<&SecretString>) {
        self.write_optional(key, value.map(|_| REDACTED));
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    fn push_line(&mut self, text: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{text}");
    }
}

/// Quotes and escapes a TOML basic string.
fn quote_string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The duration as it is written in a settings file.
pub(super) fn format_duration(duration: Duration) -> String {
    SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |signed| format!("{signed:#}"))
}

/// The exact size as it is written in a settings file.
pub(super) fn format_size(bytes: usize) -> String {
    const KIB: usize = 1024;
    const MIB: usize = KIB * KIB;
    if bytes > 0 && bytes.is_multiple_of(MIB) {
        format!("{}MiB", bytes / MIB)
    } else if bytes > 0 && bytes.is_multiple_of(KIB) {
        format!("{}KiB", bytes / KIB)
    } else {
        format!("{bytes}B")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_round_trip() {
        for (bytes, text) in [(0, "0B"), (1500, "1500B"), (65536, "64KiB"), (2 << 20, "2MiB")] {
            assert_eq!(format_size(bytes), text);
        }
        for (millis, text) in [(0, "0s"), (500, "500ms"), (900_000, "15m"), (5_400_000, "1h 30m")] {
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quote_string("a\"b\\c\n\u{7f}é"), r#""a\"b\\c\u000A\u007Fé""#);
    }
}
