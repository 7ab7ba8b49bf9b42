//! Rate, errors and duration of requests: by route over HTTP, and by method over gRPC.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use super::register;

/// Upper bounds in seconds, from 0.5 ms to 15 s, each about three times the one before.
const DURATION_BOUNDS: [f64; 10] = [0.0005, 0.0015, 0.005, 0.015, 0.05, 0.15, 0.5, 1.5, 5.0, 15.0];

/// The metrics of requests over HTTP. Clones share their values.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: Family<HttpRequestLabels, Counter>,
    request_seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpRequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

impl HttpMetrics {
    /// Counts a request and its response. `route` must be a pattern: every value is kept for good.
    pub(crate) fn record_request(
        &self,
        method: &'static str,
        route: String,
        status: u16,
        took: Duration,
    ) {
        let labels = RouteLabels { method, route: route.clone() };
        self.request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        let labels = HttpRequestLabels { method, route, status };
        self.requests.get_or_create(&labels).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        register(registry, "http_requests", "Requests answered", &self.requests);
        let help = "Time from the head of a request to its response";
        register(registry, "http_request_seconds", help, &self.request_seconds);
    }
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(DURATION_BOUNDS)),
        }
    }
}

/// The metrics of calls over gRPC. Clones share their values.
#[derive(Clone, Debug)]
pub struct GrpcMetrics {
    requests: Family<GrpcRequestLabels, Counter>,
    request_seconds: Family<GrpcMethodLabel, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GrpcMethodLabel {
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GrpcRequestLabels {
    method: &'static str,
    code: &'static str,
}

impl GrpcMetrics {
    /// Counts a call and its status. `method` is the full name, such as
    /// `souk.v1.CatalogService/GetProduct`, and `code` the status in capitals, such as `NOT_FOUND`.
    /// The time of a streaming call is that until its end.
    pub fn record_call(&self, method: &'static str, code: &'static str, took: Duration) {
        let labels = GrpcMethodLabel { method };
        self.request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        self.requests.get_or_create(&GrpcRequestLabels { method, code }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        register(registry, "grpc_requests", "Calls answered", &self.requests);
        let help = "Time from the head of a call to its status";
        register(registry, "grpc_request_seconds", help, &self.request_seconds);
    }
}

impl Default for GrpcMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(DURATION_BOUNDS)),
        }
    }
}

/// Returns a common method by name and any other as `other`, so that clients cannot create labels.
pub(crate) fn method_label(method: &str) -> &'static str {
    let common = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    common.into_iter().find(|name| *name == method).unwrap_or("other")
}
