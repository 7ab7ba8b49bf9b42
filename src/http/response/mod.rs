//! Answers: bytes that were rendered elsewhere, with their tags.

pub(super) mod problem;
pub(super) mod views;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, http::header, web::Bytes};
use serde::Serialize;

use self::problem::Problem;
use super::request::matches_if_none_match;
use crate::{error::Error, messages::change::StoredResponse};

/// What every route answers.
pub(crate) type RouteResult = Result<HttpResponse, Problem>;

/// A value as JSON.
pub(crate) fn json_response<T: Serialize>(status: StatusCode, value: &T) -> RouteResult {
    let body = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer could not be written as JSON");
        Error::internal()
    })?;
    Ok(response_builder(status, body.into()).finish())
}

/// A value with tokens in it as JSON, which nobody keeps on the way (RFC 6749, section 5.1).
pub(crate) fn uncached_json_response<T: Serialize>(status: StatusCode, value: &T) -> RouteResult {
    let mut response = json_response(status, value)?;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    Ok(response)
}

/// JSON that is rendered already.
pub(crate) fn response_builder(status: StatusCode, body: Bytes) -> ResponseBuilder {
    ResponseBuilder { status, body, etag: None, replayed: false, location: None }
}

/// An answer being put together.
pub(crate) struct ResponseBuilder {
    status: StatusCode,
    body: Bytes,
    etag: Option<String>,
    replayed: bool,
    location: Option<String>,
}

impl ResponseBuilder {
    /// With an `ETag`.
    pub(crate) fn with_etag(mut self, tag: &str) -> Self {
        self.etag = Some(format!("\"{tag}\""));
        self
    }

    /// With a `Location`.
    pub(crate) fn with_location(mut self, location: String) -> Self {
        self.location = Some(location);
        self
    }

    /// The response.
    pub(crate) fn finish(self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(etag) = self.etag {
            response.insert_header((header::ETAG, etag));
        }
        if let Some(location) = self.location {
            response.insert_header((header::LOCATION, location));
        }
        if self.replayed {
            response.insert_header(("idempotency-replayed", "true"));
        }
        if self.body.is_empty() {
            return response.finish();
        }
        response.insert_header((header::CONTENT_TYPE, "application/json")).body(self.body)
    }
}

/// A resource that was read: 304 when the caller has it already.
pub(crate) fn conditional_response(request: &HttpRequest, body: Bytes, etag: &str) -> HttpResponse {
    let quoted = format!("\"{etag}\"");
    if matches_if_none_match(request.headers(), etag) {
        return HttpResponse::NotModified().insert_header((header::ETAG, quoted)).finish();
    }
    HttpResponse::Ok()
        .insert_header((header::ETAG, quoted))
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .body(body)
}

/// The first answer again.
pub(crate) fn replayed_response(answer: StoredResponse) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    ResponseBuilder { replayed: true, ..response_builder(status, answer.body) }.finish()
}
