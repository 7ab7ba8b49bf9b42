//! A problem body for the responses that the HTTP library writes itself.
//!
//! The library answers a head that is malformed, too large or too slow before there is a request,
//! so past all middleware, and without a body. It offers no place to change that, so this looks at
//! the bytes that it writes. Such a response is the last of its connection. One that follows
//! another response in the same write, which only a client that pipelines requests can get, keeps
//! its empty body.

use actix_web::http::header::HeaderMap;

use crate::{
    domain::ids::EventId,
    error::{Error, ErrorCode},
    http::{
        middleware::security_headers::insert_security_headers,
        response::problem::{problem_body, problem_headers},
    },
};

/// How the library's responses begin, and what they mean.
const BARE_RESPONSES: [(&[u8], ErrorCode, &str); 3] = [
    (
        b"HTTP/1.1 400 ",
        ErrorCode::MalformedRequest,
        "The head of the request is not valid HTTP/1.1.",
    ),
    (
        b"HTTP/1.1 408 ",
        ErrorCode::RequestTimeout,
        "The head of the request did not arrive in time.",
    ),
    (
        b"HTTP/1.1 431 ",
        ErrorCode::HeadersTooLarge,
        "The head of the request is too large. Send fewer or shorter headers, or a shorter path.",
    ),
];

const NO_BODY: &str = "content-length: 0\r\n";

/// A bare response with a body, while it is written.
pub(super) struct ProblemResponse {
    pub(super) bytes: Vec<u8>,
    /// How many of the bytes have been written.
    pub(super) written: usize,
    /// How many bytes of the library's response it replaces.
    pub(super) replaces: usize,
}

impl ProblemResponse {
    /// The response to write instead of `response`, if that is a bare one.
    pub(super) fn replacing(response: &[u8]) -> Option<Self> {
        let (_, code, detail) =
            BARE_RESPONSES.into_iter().find(|(start, ..)| response.starts_with(start))?;
        let head = std::str::from_utf8(response.strip_suffix(b"\r\n")?).ok()?;
        if !head.ends_with("\r\n") {
            return None;
        }
        let (before, after) = head.split_once(NO_BODY)?;
        let error = Error::new(code, detail);
        let request_id = EventId::new().as_uuid().to_string();
        let body = problem_body(&error, &request_id);
        let mut headers = HeaderMap::new();
        for (name, value) in problem_headers(&error) {
            headers.insert(name, value);
        }
        insert_security_headers(&mut headers);
        let mut text = format!(
            "{before}{after}content-length: {}\r\nx-request-id: {request_id}\r\n",
            body.len()
        );
        for (name, value) in &headers {
            text += &format!("{name}: {}\r\n", value.to_str().ok()?);
        }
        text += "\r\n";
        let bytes = [text.as_bytes(), &body].concat();
        Some(Self { bytes, written: 0, replaces: response.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_responses_are_replaced() {
        let bare = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: now\r\n\r\n";
        let problem = ProblemResponse::replacing(bare).expect("a bare response");
        let text = String::from_utf8(problem.bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\ndate: now\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        assert!(head.contains("content-type: application/problem+json"), "{head}");
        assert_eq!(problem.replaces, bare.len());

        for other in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 4",
            b"",
        ] {
            assert!(ProblemResponse::replacing(other).is_none());
        }
    }
}
