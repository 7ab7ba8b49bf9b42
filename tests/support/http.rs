//! Requests and responses. Every response is checked for what all responses have in common.

use std::{
    collections::BTreeSet,
    future::{Future, IntoFuture},
    panic::Location,
    pin::Pin,
};

use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::Value;

use super::TestApp;

/// A request under construction; awaiting it sends it.
#[must_use = "a request is sent when it is awaited"]
pub(crate) struct Call {
    name: String,
    builder: RequestBuilder,
    location: &'static Location<'static>,
}

/// A response with its complete body.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    name: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl TestApp {
    #[track_caller]
    pub(crate) fn call(&self, method: &str, path: &str) -> Call {
        let name = format!("{method} {path}");
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let builder = self.http.request(method, format!("{}{path}", self.url()));
        Call { name, builder, location: Location::caller() }
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Call {
        self.call("POST", path).json(body)
    }

    #[track_caller]
    pub(crate) fn put(&self, path: &str, body: &Value) -> Call {
        self.call("PUT", path).json(body)
    }

    #[track_caller]
    pub(crate) fn patch(&self, path: &str, body: &Value) -> Call {
        self.call("PATCH", path)
            .header("content-type", "application/merge-patch+json")
            .body(body.to_string())
    }

    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Call {
        self.call("DELETE", path)
    }
}

impl Call {
    /// Adds an access token.
    pub(crate) fn token(self, token: impl AsRef<str>) -> Self {
        self.header("authorization", format!("Bearer {}", token.as_ref()))
    }

    /// Adds an `Idempotency-Key`.
    pub(crate) fn key(self, key: impl AsRef<str>) -> Self {
        self.header("idempotency-key", key.as_ref())
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.builder = self.builder.header(name, value.as_ref());
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    pub(crate) fn body(mut self, body: impl Into<reqwest::Body>) -> Self {
        self.builder = self.builder.body(body);
        self
    }

    /// Sends the request; a transport failure is an error.
    pub(crate) async fn attempt(self) -> reqwest::Result<Response> {
        let response = self.builder.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let name = format!("{} (at {})", self.name, self.location);
        let response = Response { name, status, headers, body: response.bytes().await?.to_vec() };
        response.assert_well_formed();
        Ok(response)
    }

    /// Sends the request and returns the response before its body is read.
    pub(crate) async fn send_streaming(self) -> reqwest::Response {
        self.builder.send().await.unwrap()
    }
}

impl IntoFuture for Call {
    type Output = Response;
    type IntoFuture = Pin<Box<dyn Future<Output = Response> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let name = format!("{} (at {})", self.name, self.location);
            self.attempt().await.unwrap_or_else(|error| panic!("{name}: {error:?}"))
        })
    }
}

impl Response {
    /// Asserts what holds for every response: it has an id and the security headers, and an error
    /// is a problem document with that id and no unknown members.
    fn assert_well_formed(&self) {
        let id = self.header("x-request-id").unwrap_or_else(|| panic!("{self}: without an id"));
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", "default-src 'none'; "),
        ] {
            let found = self.header(name).unwrap_or_default();
            assert!(found.starts_with(value), "{self}: {name}: {found}");
        }
        // The 503 of a readiness probe is not a problem document, and HEAD has no body.
        if self.status < 400
            || self.name.starts_with("HEAD ")
            || self.header("content-type") == Some("application/json")
                && self.name.contains("/readyz")
        {
            return;
        }
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self}");
        let problem = self.json();
        for member in ["type", "title", "detail", "code"] {
            assert!(
                problem[member].as_str().is_some_and(|text| !text.is_empty()),
                "{self}: {member}"
            );
        }
        assert_eq!(problem["status"], self.status, "{self}");
        assert_eq!(problem["request_id"], id, "{self}");
        for error in problem["errors"].as_array().into_iter().flatten() {
            assert!(
                ["field", "code", "message"].iter().all(|name| error[name].is_string()),
                "{self}"
            );
        }
        let known = [
            "type",
            "title",
            "status",
            "detail",
            "code",
            "request_id",
            "errors",
            "lines",
            "total_amount",
            "reason",
            "refused_code",
        ];
        assert!(
            problem.as_object().unwrap().keys().all(|name| known.contains(&name.as_str())),
            "{self}"
        );
    }

    /// Asserts the status code.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// Asserts status 200; returns the JSON body.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        self.is(200).json()
    }

    /// Asserts an error; returns the problem document.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, code: &str) -> Value {
        let problem = self.json();
        assert_eq!((self.status, problem["code"].as_str()), (status, Some(code)), "{self}");
        problem
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{self}: {error}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn etag(&self) -> String {
        self.header("etag").unwrap_or_else(|| panic!("{self}: without an ETag")).to_owned()
    }

    /// Whether the response is marked as a replay.
    pub(crate) fn is_replayed(&self) -> bool {
        self.header("idempotency-replayed") == Some("true")
    }
}

impl std::fmt::Display for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} returned {}: {}", self.name, self.status, self.text())
    }
}

/// The status codes in ascending order.
pub(crate) fn sorted_statuses(responses: &[Response]) -> Vec<u16> {
    let mut statuses: Vec<_> = responses.iter().map(|response| response.status).collect();
    statuses.sort_unstable();
    statuses
}

/// Asserts that one response is original and all others are replays of it.
pub(crate) fn assert_one_change(responses: Vec<Response>, status: u16) {
    let bodies: BTreeSet<String> = responses.iter().map(Response::text).collect();
    assert_eq!(bodies.len(), 1, "{bodies:#?}");
    assert_eq!(responses.iter().filter(|response| !response.is_replayed()).count(), 1);
    for response in responses {
        response.is(status);
    }
}
