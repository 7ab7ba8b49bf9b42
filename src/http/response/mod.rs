//! Responses: JSON bytes with their status, tags and caching rules.

pub(super) mod problem;
pub(super) mod views;

use actix_web::{
    HttpRequest, HttpResponse, Responder,
    body::BoxBody,
    http::{
        StatusCode,
        header::{self, ETag, EntityTag},
    },
    web::Bytes,
};
use serde::Serialize;

use self::problem::Problem;
use super::request::headers::matches_if_none_match;
use crate::{error::Error, messages::command_context::Reply};

/// The result of a route: a response or a problem.
pub(crate) type RouteResult = Result<ApiResponse, Problem>;

/// A response with its status, JSON body and headers, before it is sent.
pub(crate) struct ApiResponse {
    status: StatusCode,
    body: Bytes,
    etag: Option<EntityTag>,
    location: Option<String>,
    is_replayed: bool,
    no_store: bool,
}

impl ApiResponse {
    /// A response with JSON that is already encoded.
    pub(crate) const fn new(status: StatusCode, body: Bytes) -> Self {
        Self { status, body, etag: None, location: None, is_replayed: false, no_store: false }
    }

    /// A 200 response with JSON that is already encoded.
    pub(crate) const fn ok(body: Bytes) -> Self {
        Self::new(StatusCode::OK, body)
    }

    /// A 204 response.
    pub(crate) const fn no_content() -> Self {
        Self::new(StatusCode::NO_CONTENT, Bytes::new())
    }

    /// A response with `value` as JSON.
    ///
    /// # Errors
    /// `value` cannot be encoded.
    pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Result<Self, Error> {
        let body = serde_json::to_vec(value).map_err(|error| {
            tracing::error!(%error, "failed to encode a response as JSON");
            Error::internal()
        })?;
        Ok(Self::new(status, body.into()))
    }

    /// The response to a command. `render` builds the response to the first request; a repeat
    /// gets the stored body with the same status.
    pub(crate) fn from_reply<T>(
        status: StatusCode,
        reply: Reply<T>,
        render: impl FnOnce(T) -> Result<Self, Error>,
    ) -> Result<Self, Error> {
        Ok(match reply {
            Reply::Completed(value) => Self { status, ..render(value)? },
            Reply::Replayed(first) => Self { is_replayed: true, ..Self::new(status, first.body) },
        })
    }

    /// Replaces the status.
    pub(crate) const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Adds an `ETag`. A read gets a 304 if the client already has this version.
    pub(crate) fn with_etag(mut self, version: impl ToString) -> Self {
        self.etag = Some(EntityTag::new_strong(version.to_string()));
        self
    }

    /// Adds a `Location`.
    pub(crate) fn with_location(mut self, location: String) -> Self {
        self.location = Some(location);
        self
    }

    /// Forbids caches to store the response, since only the caller may see it.
    pub(crate) const fn with_no_store(mut self) -> Self {
        self.no_store = true;
        self
    }
}

impl Responder for ApiResponse {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        let is_known = request.method().is_safe()
            && self.etag.as_ref().is_some_and(|etag| matches_if_none_match(request, etag));
        let status = if is_known { StatusCode::NOT_MODIFIED } else { self.status };
        let mut response = HttpResponse::build(status);
        if let Some(etag) = self.etag {
            response.insert_header(ETag(etag));
        }
        if let Some(location) = self.location {
            response.insert_header((header::LOCATION, location));
        }
        if self.is_replayed {
            response.insert_header(("idempotency-replayed", "true"));
        }
        if self.no_store {
            response.insert_header((header::CACHE_CONTROL, "no-store"));
        }
        if is_known || self.body.is_empty() {
            return response.finish();
        }
        response.insert_header((header::CONTENT_TYPE, "application/json")).body(self.body)
    }
}
