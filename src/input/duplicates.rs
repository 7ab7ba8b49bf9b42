//! Finds names that occur twice in one JSON object.
//!
//! Parsers disagree on which of the two counts (RFC 8259, section 4), so what another program has
//! checked may not be what Souk would use. `serde` reports duplicate fields of a struct, but the
//! last entry of a map wins silently.

use std::{collections::HashSet, fmt};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The most duplicates that are listed.
const MAX_LISTED: usize = 50;

/// How deep objects and arrays may be nested: deeper than in any request. Each level is scanned
/// once more than the one around it, so this also bounds the time.
const MAX_DEPTH: usize = 16;

/// Returns the path of each name that its object contains more than once, at any depth.
///
/// # Errors
/// The text is not JSON, or its values are nested too deeply.
pub(super) fn find_duplicates(json: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    let mut search = Search { path: String::new(), depth: 0, found: Vec::new() };
    search.visit(serde_json::from_slice(json)?)?;
    Ok(search.found)
}

struct Search {
    /// Where the value is that is read now.
    path: String,
    depth: usize,
    found: Vec<String>,
}

impl Search {
    /// Searches a value. Other values than objects and arrays are not parsed: a number that is too
    /// large for a float can be right where it is.
    fn visit(&mut self, value: &RawValue) -> Result<(), serde_json::Error> {
        let text = value.get();
        if !is_container(text) {
            return Ok(());
        }
        if self.depth == MAX_DEPTH {
            return Err(serde_json::Error::custom("values are nested too deeply"));
        }
        self.depth += 1;
        let parent = self.path.len();
        if text.starts_with('{') {
            let mut names = HashSet::new();
            for (name, member) in serde_json::from_str::<Members<'_>>(text)?.0 {
                if parent > 0 {
                    self.path.push('.');
                }
                self.path.push_str(&name);
                if !names.insert(name) && self.found.len() < MAX_LISTED {
                    self.found.push(self.path.clone());
                }
                self.visit(member)?;
                self.path.truncate(parent);
            }
        } else {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            let containers = items.iter().enumerate().filter(|(_, item)| is_container(item.get()));
            for (index, item) in containers {
                self.path.push_str(&format!("[{index}]"));
                self.visit(item)?;
                self.path.truncate(parent);
            }
        }
        self.depth -= 1;
        Ok(())
    }
}

/// Whether the JSON text is an object or an array.
fn is_container(text: &str) -> bool {
    text.starts_with(['{', '['])
}

/// The members of an object in their order, duplicates included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_found_at_any_depth() {
        for (json, paths) in [
            (r#"{"a": 1, "b": {"a": 2}, "c": [{"a": 1}, {"a": 1}]}"#, &[][..]),
            (r#"{"a": 1, "a": 1}"#, &["a"]),
            (r#"{"a": {"b": 1, "c": null, "b": "x"}}"#, &["a.b"]),
            (r#"{"a": {"b": 1, "\u0062": 2}}"#, &["a.b"]),
            (
                r#"[{}, {"a": [[], [true, {"b": 1.5, "b": -1, "b": []}]]}]"#,
                &["[1].a[1][1].b", "[1].a[1][1].b"],
            ),
            (r#"{"a": {"x": 1, "x": 1}, "b": {"x": 1, "x": 1}}"#, &["a.x", "b.x"]),
        ] {
            assert_eq!(find_duplicates(json.as_bytes()).unwrap(), paths, "{json}");
        }
    }

    #[test]
    fn numbers_of_any_size_are_skipped() {
        let json = br#"{"price": 1e999, "attributes": {"a": 1e999, "a": 2}}"#;
        assert_eq!(find_duplicates(json).unwrap(), ["attributes.a"]);
    }

    #[test]
    fn deep_values_are_an_error() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(find_duplicates(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(find_duplicates(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(find_duplicates(nested(20_000).as_bytes()).is_err());
    }

    #[test]
    fn long_list_is_cut() {
        let json = format!("{{{}\"a\": 1}}", "\"a\": 1, ".repeat(10_000));
        assert_eq!(find_duplicates(json.as_bytes()).unwrap().len(), MAX_LISTED);
    }
}
