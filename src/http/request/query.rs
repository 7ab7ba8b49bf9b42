//! Query parameters, and the cursors of paged lists.

use std::collections::HashMap;

use actix_web::web::Query;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    domain::{
        excerpt::excerpt,
        money::{Currency, Money},
        validation::ValidationErrors,
    },
    error::Error,
};

/// The most parameters that a response lists as unknown or duplicate.
const MAX_LISTED_ERRORS: usize = 50;

/// The query parameters of a request.
pub(crate) struct QueryParams(Vec<(String, String)>);

/// The parameters of a route.
pub(crate) struct KnownParams {
    /// Those with one value.
    pub(crate) single: &'static [&'static str],
    /// Those that may be repeated.
    pub(crate) repeated: &'static [&'static str],
    /// What the names of further ones begin with that may be repeated.
    pub(crate) repeated_prefix: Option<&'static str>,
}

/// How often a parameter may be given.
enum Occurrence {
    Unknown,
    Single,
    Repeated,
}

impl KnownParams {
    fn occurrence(&self, name: &str) -> Occurrence {
        let has_prefix = |prefix: &str| name.strip_prefix(prefix).is_some_and(|n| !n.is_empty());
        if self.single.contains(&name) {
            Occurrence::Single
        } else if self.repeated.contains(&name) || self.repeated_prefix.is_some_and(has_prefix) {
            Occurrence::Repeated
        } else {
            Occurrence::Unknown
        }
    }
}

impl QueryParams {
    /// Decodes the part of a URL after `?`.
    pub(crate) fn parse(query: &str) -> Self {
        if query.is_empty() {
            return Self(Vec::new());
        }
        let pairs = Query::<Vec<(String, String)>>::from_query(query).map(Query::into_inner);
        Self(pairs.unwrap_or_default())
    }

    /// Whether there are none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the values of `name` is `value`.
    pub(crate) fn has(&self, name: &str, value: &str) -> bool {
        self.0.iter().any(|(key, given)| key == name && given == value)
    }

    /// Rejects parameters that are not in `known` and those that are given twice: a filter that is
    /// not understood must not return everything.
    ///
    /// # Errors `validation_failed` with `unknown_parameter` or `duplicate_parameter` for each of
    /// them, up to 50.
    pub(crate) fn reject_others(&self, known: &'static [&'static str]) -> Result<(), Error> {
        self.reject_unknown(&KnownParams { single: known, repeated: &[], repeated_prefix: None })
    }

    /// As [`Self::reject_others`], for a route with parameters that may be repeated.
    pub(crate) fn reject_unknown(&self, known: &KnownParams) -> Result<(), Error> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let rejected = self.0.iter().filter_map(|(name, _)| {
            let count = counts.entry(name).or_default();
            *count += 1;
            let (is_known, count) = (known.occurrence(name), *count);
            let name = excerpt(name);
            match (is_known, count) {
                (Occurrence::Unknown, 1) => {
                    let message = unknown_parameter(&name, known);
                    Some((name, "unknown_parameter", message))
                }
                (Occurrence::Single, 2) => {
                    let message = format!("{name} is given more than once; send it once");
                    Some((name, "duplicate_parameter", message))
                }
                _ => None,
            }
        });
        let mut errors = ValidationErrors::new();
        for (name, code, message) in rejected.take(MAX_LISTED_ERRORS) {
            errors.add(name, code, message);
        }
        Ok(errors.into_result(())?)
    }

    /// The names and values in the order of the URL.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// All values of a parameter that may be repeated.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs().filter(move |(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The rest of the names that begin with `prefix`, with their values.
    pub(crate) fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.pairs().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value)))
    }

    /// The value of a parameter. An empty value is a value, too.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that is `true` or `false`.
    pub(crate) fn flag(&self, name: &str, errors: &mut ValidationErrors) -> Option<bool> {
        match self.get(name)? {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                errors.add(name, "invalid", format!("{name} must be true or false"));
                None
            }
        }
    }

    /// `limit`: the number of items on a page.
    pub(crate) fn page_limit(&self) -> Result<u32, Error> {
        match self.get("limit").map(str::parse) {
            None => Ok(20),
            Some(Ok(limit @ 1..=100)) => Ok(limit),
            Some(_) => Err(Error::invalid_field(
                "limit",
                "out_of_range",
                "limit must be a whole number from 1 to 100",
            )),
        }
    }

    /// `cursor`: where the page begins, as [`encode_cursor`] wrote it.
    pub(crate) fn parse_cursor<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        let Some(text) = self.get("cursor") else { return Ok(None) };
        let decoded =
            URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        decoded.map(Some).ok_or_else(|| {
            Error::invalid_field(
                "cursor",
                "invalid",
                "cursor must be the next_cursor of a page with the same parameters",
            )
        })
    }

    /// A price bound, in minor units.
    pub(crate) fn price_bound(
        &self,
        name: &str,
        currency: Currency,
        errors: &mut ValidationErrors,
    ) -> Option<i64> {
        match Money::parse(self.get(name)?, currency) {
            Ok(money) => Some(money.minor_units()),
            Err(error) => {
                let message = format!("{name} is not a valid amount: {error}");
                errors.add(name, "invalid", message);
                None
            }
        }
    }
}

/// Says that a parameter is unknown, and names the most similar one.
fn unknown_parameter(name: &str, known: &KnownParams) -> String {
    let score = |candidate: &str| strsim::jaro_winkler(name, candidate);
    let names = known.single.iter().chain(known.repeated);
    let nearest = names.max_by(|a, b| score(a).total_cmp(&score(b)));
    match nearest {
        Some(nearest) => {
            format!("{name} is not a parameter of this route; did you mean {nearest}?")
        }
        None => format!("{name} is unknown; this route takes no query parameters"),
    }
}

/// Cuts `found` to a page of `limit` items, and returns the cursor of the next page, which begins
/// after `place_of` the last item. There is one if more than `limit` were found: read one more.
pub(crate) fn cut_to_page<T, P: Serialize>(
    found: &mut Vec<T>,
    limit: u32,
    place_of: impl FnOnce(&T) -> P,
) -> Option<String> {
    let limit = limit as usize;
    let has_more = found.len() > limit;
    found.truncate(limit);
    encode_cursor(found.last().filter(|_| has_more).map(place_of))
}

/// Encodes where the next page begins.
pub(crate) fn encode_cursor<T: Serialize>(place: Option<T>) -> Option<String> {
    let place = place?;
    serde_json::to_vec(&place).ok().map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn longest_query_is_judged_quickly_and_answered_briefly() {
        let same = "a&".repeat(32_000);
        let different: String = (0..12_000).map(|number| format!("{number}&")).collect();
        for query in [same, different] {
            let query = QueryParams::parse(&query);
            let began = Instant::now();
            let error = query.reject_others(&["limit", "cursor"]).unwrap_err();
            assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
            assert!((1..=MAX_LISTED_ERRORS).contains(&error.field_errors.len()));
        }
    }
}
