//! Receiving: bodies read within limits and checked strictly, and the headers that go with a change.

pub(super) mod deadline;
pub(super) mod query;
pub(super) mod read_limiter;

use std::time::Instant;

use actix_web::{
    HttpRequest,
    http::header::{self, HeaderMap},
    web::{Bytes, BytesMut, Payload},
};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use self::deadline::Deadline;
use super::state::{AppState, Caller};
use crate::{
    error::{Error, ErrorCode},
    input::json,
    messages::change::{CommandContext, IdempotencyKey, IfMatch, TraceParent},
};

/// 2^53: up to there, a whole number is the same as an integer and as a float.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Media types of JSON bodies.
pub(crate) const JSON_TYPES: &[&str] = &["application/json"];

/// Media types of patches: RFC 7396's own, and plain JSON.
pub(crate) const MERGE_PATCH_TYPES: &[&str] = &["application/merge-patch+json", "application/json"];

/// A body that was read and understood.
pub(crate) struct JsonBody<T> {
    /// What it says.
    pub(crate) value: T,
    bytes: Bytes,
}

impl<T> JsonBody<T> {
    /// What goes with the change that this body asks for. `success` is the status code it has when it is made.
    pub(crate) fn build_change(
        &self,
        request: &HttpRequest,
        caller: &Caller,
        success: u16,
    ) -> Result<CommandContext, Error> {
        change_from_request(request, caller, success, &self.bytes)
    }
}

/// Reads a JSON body.
pub(crate) async fn read_json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
) -> Result<JsonBody<T>, Error> {
    read_json_of_type(request, payload, JSON_TYPES, &[]).await
}

/// Reads a JSON body; when there is none, it is taken for an object without members.
pub(crate) async fn read_optional_json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
) -> Result<JsonBody<T>, Error> {
    let mut bytes = read_body(request, payload).await?;
    if bytes.is_empty() {
        // Also to an idempotency key the two are the same request.
        bytes = Bytes::from_static(b"{}");
        return Ok(JsonBody { value: json::parse(&bytes, &[])?, bytes });
    }
    check_content_type(request, JSON_TYPES)?;
    Ok(JsonBody { value: json::parse(&bytes, &[])?, bytes })
}

/// Reads a JSON body of one of these media types; unknown members of these names are let pass.
pub(crate) async fn read_json_of_type<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
    types: &[&str],
    let_pass: &[&str],
) -> Result<JsonBody<T>, Error> {
    check_content_type(request, types)?;
    let bytes = read_body(request, payload).await?;
    Ok(JsonBody { value: json::parse(&bytes, let_pass)?, bytes })
}

/// Checks the body's media type; parameters such as `charset=utf-8` are fine.
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
    let essence = sent.split(';').next().unwrap_or_default().trim();
    types.iter().find(|wanted| essence.eq_ignore_ascii_case(wanted)).copied().ok_or_else(|| {
        let wanted = types.join(" or ");
        Error::new(
            ErrorCode::UnsupportedMediaType,
            format!("Send the body as {wanted}, and say so in Content-Type."),
        )
    })
}

/// Reads a body up to the largest size, within the longest time.
async fn read_body(request: &HttpRequest, mut payload: Payload) -> Result<Bytes, Error> {
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
    let whole = async {
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
    let read = tokio::time::timeout(options.request_timeout, whole)
        .await
        .unwrap_or_else(|_| Err(body_timeout_error()));
    Deadline::extend(request, began.elapsed());
    read
}

pub(crate) fn body_timeout_error() -> Error {
    Error::new(
        ErrorCode::RequestTimeout,
        "The body did not arrive in time. Send it faster, or in smaller parts.",
    )
}

pub(crate) fn incomplete_body_error() -> Error {
    Error::new(ErrorCode::MalformedJson, "The body broke off before its end.")
}

/// What goes with a change whose body is `bytes`; none for methods without one.
pub(crate) fn change_from_request(
    request: &HttpRequest,
    caller: &Caller,
    success: u16,
    bytes: &[u8],
) -> Result<CommandContext, Error> {
    Ok(CommandContext {
        idempotency_key: parse_idempotency_key(request, caller, success, bytes)?,
        if_match: parse_if_match(request.headers()),
        ticket: AppState::from_request(request)?.request_ticket(request),
        trace: trace_parent(request.headers()),
    })
}

/// The request's `traceparent`.
pub(crate) fn trace_parent(headers: &HeaderMap) -> Option<TraceParent> {
    TraceParent::parse(headers.get("traceparent")?.to_str().ok()?)
}

/// The request's `Idempotency-Key`, with what tells its request from others.
pub(crate) fn parse_idempotency_key(
    request: &HttpRequest,
    caller: &Caller,
    success: u16,
    bytes: &[u8],
) -> Result<Option<IdempotencyKey>, Error> {
    let mut values = request.headers().get_all("idempotency-key");
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.as_bytes();
    if values.next().is_some()
        || key.is_empty()
        || key.len() > 255
        || !key.iter().all(u8::is_ascii_graphic)
    {
        return Err(Error::new(
            ErrorCode::IdempotencyKeyInvalid,
            "Send one Idempotency-Key of 1 to 255 visible ASCII characters.",
        ));
    }
    let key = String::from_utf8_lossy(key).into();
    let fingerprint = request_fingerprint(request.method().as_str(), request.path(), bytes);
    Ok(Some(IdempotencyKey { owner: caller.user_id, key, fingerprint, status: success }))
}

/// Equal for requests with the same method, path and JSON value, however that is written.
pub(crate) fn request_fingerprint(method: &str, path: &str, body: &[u8]) -> [u8; 32] {
    // A map of serde_json is sorted by key, so that equal values have equal texts.
    let canonical =
        serde_json::from_slice::<Value>(body).map(|value| normalize_numbers(value).to_string());
    let mut hash = Sha256::new();
    for part in [method.as_bytes(), path.as_bytes()] {
        hash.update(part);
        hash.update([0]);
    }
    match &canonical {
        Ok(text) => hash.update(text.as_bytes()),
        Err(_) => hash.update(body),
    }
    hash.finalize().into()
}

/// The same value with each whole number written without a fraction or an exponent: `20.0` and `2e1` are `20`.
fn normalize_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            // Beyond, not every whole number is one of its own.
            #[expect(
                clippy::cast_possible_truncation,
                reason = "whole, and within what both can hold"
            )]
            Some(float) if float.fract() == 0.0 && float.abs() < MAX_SAFE_INTEGER => {
                Value::from(float as i64)
            }
            _ => Value::Number(number),
        },
        Value::Array(values) => values.into_iter().map(normalize_numbers).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, normalize_numbers(value))).collect()
        }
        other => other,
    }
}

/// The request's `If-Match`. A weak tag matches nothing (RFC 9110, section 13.1.1).
fn parse_if_match(headers: &HeaderMap) -> Option<IfMatch> {
    let tags = parse_entity_tags(headers, &header::IF_MATCH)?;
    Some(if tags.iter().any(|tag| tag == "*") {
        IfMatch::Any
    } else {
        IfMatch::Tags(
            tags.iter().filter_map(|tag| unquote_entity_tag(tag)).map(str::to_owned).collect(),
        )
    })
}

/// Whether the request's `If-None-Match` names `etag`, so that the caller has the answer already.
pub(crate) fn matches_if_none_match(headers: &HeaderMap, etag: &str) -> bool {
    let matches = |tag: &String| {
        tag == "*" || unquote_entity_tag(tag.strip_prefix("W/").unwrap_or(tag)) == Some(etag)
    };
    parse_entity_tags(headers, &header::IF_NONE_MATCH).is_some_and(|tags| tags.iter().any(matches))
}

fn parse_entity_tags(headers: &HeaderMap, name: &header::HeaderName) -> Option<Vec<String>> {
    headers.contains_key(name).then(|| {
        let lists = headers.get_all(name).filter_map(|value| value.to_str().ok());
        lists.flat_map(|list| list.split(',')).map(|tag| tag.trim().to_owned()).collect()
    })
}

fn unquote_entity_tag(tag: &str) -> Option<&str> {
    tag.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_ignores_json_formatting() {
        let print = |body: &[u8]| request_fingerprint("POST", "/x", body);
        assert_eq!(print(br#"{"a":1,"b":[2]}"#), print(b"{ \"b\" : [2], \"a\":1}"));
        assert_eq!(print(br#"{"a":[20]}"#), print(br#"{"a":[2e1]}"#));
        assert_eq!(print(br#"{"a":-0.0,"b":20.10}"#), print(br#"{"a":0,"b":201e-1}"#));
        assert_ne!(print(br#"{"a":1}"#), print(br#"{"a":2}"#));
        assert_ne!(print(br#"{"a":9007199254740993}"#), print(br#"{"a":9007199254740992}"#));
        assert_ne!(print(b""), request_fingerprint("DELETE", "/x", b""));
        assert_ne!(print(b""), request_fingerprint("POST", "/y", b""));
    }
}
