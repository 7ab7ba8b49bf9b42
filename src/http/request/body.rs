//! Reads request bodies within the size and time limits, and parses them strictly.

use std::time::Instant;

use actix_web::{
    HttpRequest,
    dev::Payload,
    http::header,
    web::{Bytes, BytesMut},
};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::deadline::Deadline;
use crate::{
    error::{Error, ErrorCode},
    http::state::AppState,
    input::json,
};

/// A JSON body, and the rules for sending it.
pub(crate) trait JsonRequest: DeserializeOwned {
    /// The media types that the route accepts.
    const MEDIA_TYPES: &'static [&'static str] = &["application/json"];

    /// Unknown members that are ignored instead of rejected.
    const IGNORED_FIELDS: &'static [&'static str] = &[];

    /// Whether a request without a body counts as one with an empty object.
    const OPTIONAL: bool = false;
}

/// What a route reads from the body of a request.
pub(crate) trait RequestBody: Sized {
    /// The query parameters that the route takes.
    const QUERY_PARAMETERS: &'static [&'static str] = &[];

    /// Reads the body, and returns it with the bytes that go into the request's fingerprint.
    async fn read(request: &HttpRequest, payload: Payload) -> Result<(Self, Bytes), Error>;
}

/// A route without a body ignores whatever is sent.
impl RequestBody for () {
    async fn read(_: &HttpRequest, _: Payload) -> Result<(Self, Bytes), Error> {
        Ok(((), Bytes::new()))
    }
}

impl<T: JsonRequest> RequestBody for T {
    async fn read(request: &HttpRequest, payload: Payload) -> Result<(Self, Bytes), Error> {
        if !T::OPTIONAL {
            check_content_type(request, T::MEDIA_TYPES)?;
        }
        let mut bytes = read_bytes(request, payload).await?;
        if T::OPTIONAL && bytes.is_empty() {
            // Also gives the request the fingerprint of an empty object.
            bytes = Bytes::from_static(b"{}");
        } else if T::OPTIONAL {
            check_content_type(request, T::MEDIA_TYPES)?;
        }
        Ok((json::parse(&bytes, T::IGNORED_FIELDS)?, bytes))
    }
}

/// Returns the media type of the body, without parameters such as `charset=utf-8`.
pub(crate) fn check_content_type<'a>(
    request: &HttpRequest,
    types: &[&'a str],
) -> Result<&'a str, Error> {
    if request.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Error::new(
            ErrorCode::UnsupportedMediaType,
            "Send the body as it is, without a Content-Encoding.",
        ));
    }
    let sent = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = sent.split(';').next().unwrap_or_default().trim();
    types.iter().find(|accepted| media_type.eq_ignore_ascii_case(accepted)).copied().ok_or_else(
        || {
            let accepted = types.join(" or ");
            Error::new(
                ErrorCode::UnsupportedMediaType,
                format!("Send the body as {accepted}, and say so in Content-Type."),
            )
        },
    )
}

/// Reads a body up to `http.max_body`, within `http.request_timeout`.
pub(crate) async fn read_bytes(
    request: &HttpRequest,
    mut payload: Payload,
) -> Result<Bytes, Error> {
    let options = &AppState::from_request(request)?.options;
    let limit = options.max_body;
    let too_large = || {
        Error::new(
            ErrorCode::PayloadTooLarge,
            format!("The body is larger than {limit} bytes, the most allowed."),
        )
    };
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let read_all = async {
        let mut body = BytesMut::with_capacity(announced.unwrap_or(0));
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| incomplete_body_error())?;
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    let began = Instant::now();
    let body = tokio::time::timeout(options.request_timeout, read_all)
        .await
        .unwrap_or_else(|_| Err(body_timeout_error()));
    Deadline::extend(request, began.elapsed());
    body
}

pub(crate) fn body_timeout_error() -> Error {
    Error::new(
        ErrorCode::RequestTimeout,
        "The body did not arrive in time. Send it faster, or in smaller parts.",
    )
}

pub(crate) fn incomplete_body_error() -> Error {
    Error::new(ErrorCode::MalformedJson, "The body is incomplete.")
}
