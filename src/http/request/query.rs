//! Query parameters, and pages of lists.

use actix_web::{HttpRequest, web::Query};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    domain::{money::Money, validation::ValidationErrors},
    error::Error,
};

/// A request's query parameters. Those nobody asks for are ignored.
pub(crate) struct QueryParams(Vec<(String, String)>);

impl QueryParams {
    /// The parameters of `request`.
    pub(crate) fn from_request(request: &HttpRequest) -> Self {
        Self(
            Query::<Vec<(String, String)>>::from_query(request.query_string())
                .map(Query::into_inner)
                .unwrap_or_default(),
        )
    }

    /// The last value of a parameter that was given and is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// `limit`: how many items a page shall have.
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

    /// `cursor`: where the page begins, as [`cursor`] wrote it.
    pub(crate) fn parse_cursor<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        let Some(text) = self.get("cursor") else { return Ok(None) };
        let decoded =
            URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let fault = || {
            Error::invalid_field(
                "cursor",
                "invalid",
                "cursor must be the next_cursor of a page with the same parameters",
            )
        };
        decoded.map(Some).ok_or_else(fault)
    }

    /// A price bound, in minor units.
    pub(crate) fn price_bound(
        &self,
        name: &str,
        currency: crate::domain::money::Currency,
        faults: &mut ValidationErrors,
    ) -> Option<i64> {
        match Money::parse(self.get(name)?, currency) {
            Ok(money) => Some(money.minor_units()),
            Err(error) => {
                faults.add(name, "invalid", format!("{name} is no amount: {error}"));
                None
            }
        }
    }
}

/// Writes down where the next page begins.
pub(crate) fn encode_cursor<T: Serialize>(place: Option<T>) -> Option<String> {
    let place = place?;
    serde_json::to_vec(&place).ok().map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
}
