//! Parses the idempotency, conditional and trace headers of requests.

use actix_web::{
    HttpMessage, HttpRequest,
    http::header::{self, EntityTag, Header, HeaderMap, HeaderValue},
};

use crate::{
    auth::caller::Caller,
    domain::{account::MAX_USER_AGENT_CHARS, clock::Timestamp},
    error::Error,
    input::{fingerprint::request_fingerprint, idempotency_key::parse_idempotency_key},
    messages::command_context::{IdempotencyKey, IfMatch, TraceParent},
};

/// The id of a request, which the middleware notes: the client's, or a new one.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) HeaderValue);

/// The id of the request. `None` outside of the middleware, as in some tests.
pub(crate) fn request_id(request: &HttpRequest) -> Option<Box<str>> {
    let extensions = request.extensions();
    let RequestId(id) = extensions.get::<RequestId>()?;
    Some(id.to_str().ok()?.into())
}

/// The `traceparent` of the request, if it is well-formed.
pub(crate) fn trace_parent(headers: &HeaderMap) -> Option<TraceParent> {
    TraceParent::parse(headers.get("traceparent")?.to_str().ok()?)
}

/// The `Idempotency-Key` of the request, bound to its caller and its fingerprint.
pub(crate) fn idempotency_key(
    request: &HttpRequest,
    received_at: Timestamp,
    caller: &Caller,
    body: &[u8],
) -> Result<Option<IdempotencyKey>, Error> {
    let mut values = request.headers().get_all("idempotency-key");
    let Some(value) = values.next() else { return Ok(None) };
    // Two keys are as invalid as an empty one.
    let key = parse_idempotency_key(values.next().map_or(value.as_bytes(), |_| b""))?;
    let fingerprint = request_fingerprint(request.method().as_str(), request.path(), body);
    Ok(Some(IdempotencyKey { owner: caller.user_id, key, fingerprint, received_at }))
}

/// The `If-Match` of the request.
///
/// A weak tag counts as the version it names, since compressing proxies weaken the tags that they
/// pass on. (In RFC 9110, it matches nothing.)
pub(crate) fn parse_if_match(request: &HttpRequest) -> Option<IfMatch> {
    request.headers().contains_key(header::IF_MATCH).then(|| {
        match header::IfMatch::parse(request) {
            Ok(header::IfMatch::Any) => IfMatch::Any,
            Ok(header::IfMatch::Items(tags)) => {
                IfMatch::Tags(tags.iter().map(|tag| tag.tag().to_owned()).collect())
            }
            // A header that cannot be read matches no version.
            Err(_) => IfMatch::Tags(Vec::new()),
        }
    })
}

/// Whether the `If-None-Match` of the request names `etag`, so that the client has the response.
pub(crate) fn matches_if_none_match(request: &HttpRequest, etag: &EntityTag) -> bool {
    request.headers().contains_key(header::IF_NONE_MATCH)
        && match header::IfNoneMatch::parse(request) {
            Ok(header::IfNoneMatch::Any) => true,
            Ok(header::IfNoneMatch::Items(tags)) => tags.iter().any(|tag| tag.weak_eq(etag)),
            Err(_) => false,
        }
}

/// What the client says of itself, cut to a length that is worth keeping.
pub(crate) fn user_agent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::USER_AGENT)?.to_str().ok()?.trim();
    let text: String = value.chars().take(MAX_USER_AGENT_CHARS).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn if_match(value: &str) -> Option<IfMatch> {
        parse_if_match(
            &TestRequest::default().insert_header((header::IF_MATCH, value)).to_http_request(),
        )
    }

    #[test]
    fn weak_if_match_counts_as_its_version() {
        assert_eq!(if_match("W/\"3\", \"4\""), Some(IfMatch::Tags(vec!["3".into(), "4".into()])));
        assert_eq!(if_match("*"), Some(IfMatch::Any));
        assert_eq!(parse_if_match(&TestRequest::default().to_http_request()), None);
    }

    #[test]
    fn unreadable_if_match_matches_nothing() {
        for value in ["3", "", "\"3", "w/\"3\""] {
            assert_eq!(if_match(value), Some(IfMatch::Tags(Vec::new())), "{value}");
        }
    }
}
