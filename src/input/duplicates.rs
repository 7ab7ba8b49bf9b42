//! Finds names that occur twice in one JSON object.
//!
//! Parsers disagree on which of the two counts (RFC 8259, section 4), so what another program has
//! checked may not be what Souk would use. `serde` reports duplicate fields of a struct, but the
//! last entry of a map wins silently.

use std::{collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// The most duplicates that are listed.
const MAX_LISTED: usize = 50;

/// Returns the path of each name that its object contains more than once, at any depth.
///
/// # Errors
/// The text is not JSON, or its values are nested too deeply.
pub(super) fn find_duplicates(json: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    let mut search = Search { path: String::new(), found: Vec::new() };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Value(&mut search).deserialize(&mut deserializer)?;
    Ok(search.found)
}

struct Search {
    /// Where the value is that is read now.
    path: String,
    found: Vec<String>,
}

impl Search {
    fn record(&mut self) {
        if self.found.len() < MAX_LISTED {
            self.found.push(self.path.clone());
        }
    }
}

/// Any JSON value.
struct Value<'a>(&'a mut Search);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let Self(search) = self;
        let parent = search.path.len();
        let mut index = 0;
        loop {
            search.path.push_str(&format!("[{index}]"));
            let value = values.next_element_seed(Value(&mut *search))?;
            search.path.truncate(parent);
            if value.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self(search) = self;
        let parent = search.path.len();
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if parent > 0 {
                search.path.push('.');
            }
            search.path.push_str(&name);
            if !names.insert(name) {
                search.record();
            }
            members.next_value_seed(Value(&mut *search))?;
            search.path.truncate(parent);
        }
        Ok(())
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
    fn long_list_is_cut() {
        let json = format!("{{{}\"a\": 1}}", "\"a\": 1, ".repeat(10_000));
        assert_eq!(find_duplicates(json.as_bytes()).unwrap().len(), MAX_LISTED);
    }
}
