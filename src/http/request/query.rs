//! Query parameters, and the cursors of paged lists.

use actix_web::web::Query;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    domain::{
        money::{Currency, Money},
        validation::ValidationErrors,
    },
    error::Error,
};

/// The query parameters of a request.
pub(crate) struct QueryParams(Vec<(String, String)>);

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
    /// # Errors
    /// `validation_failed` with `unknown_parameter` or `duplicate_parameter` for each of them.
    pub(crate) fn reject_others(&self, known: &[&str]) -> Result<(), Error> {
        let mut errors = ValidationErrors::new();
        for (index, (name, _)) in self.0.iter().enumerate() {
            let earlier = self.0.iter().take(index).filter(|(key, _)| key == name).count();
            if !known.contains(&name.as_str()) {
                if earlier == 0 {
                    errors.add(name, "unknown_parameter", unknown_parameter(name, known));
                }
            } else if earlier == 1 {
                let message = format!("{name} is given more than once; send it once");
                errors.add(name, "duplicate_parameter", message);
            }
        }
        Ok(errors.into_result(())?)
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
fn unknown_parameter(name: &str, known: &[&str]) -> String {
    let score = |candidate: &str| strsim::jaro_winkler(name, candidate);
    let nearest = known.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
    match nearest {
        Some(nearest) => {
            format!("{name} is not a parameter of this route; did you mean {nearest}?")
        }
        None => format!("{name} is unknown; this route takes no query parameters"),
    }
}

/// Encodes where the next page begins.
pub(crate) fn encode_cursor<T: Serialize>(place: Option<T>) -> Option<String> {
    let place = place?;
    serde_json::to_vec(&place).ok().map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
}
