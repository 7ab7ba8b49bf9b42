//! What a node reports about each request: a span, a line in the log, and metrics.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpMessage, HttpRequest,
    dev::{ServiceRequest, ServiceResponse},
    http::{StatusCode, header::HeaderValue},
};
use tracing::Span;

use crate::{
    auth::caller::Caller,
    domain::{excerpt::excerpt, ids::UserId},
    http::{request::headers::trace_parent, state::AppState},
    messages::trace_parent::TraceParent,
    metrics::requests::method_label,
    telemetry::{
        logs::{logs_request, milliseconds},
        trace::{rename, root_span, trace_parent_of},
    },
};

/// The route of requests that match none.
const NO_ROUTE: &str = "unmatched";

/// The account or guest that a request was authenticated for.
#[derive(Debug, Clone, Copy)]
struct AuthenticatedUser(UserId);

/// Notes whose request it is, for its line in the log.
pub(in crate::http) fn note_caller(request: &HttpRequest, caller: &Caller) {
    request.extensions_mut().insert(AuthenticatedUser(caller.user_id));
}

/// A request whose response is not known yet.
pub(super) struct ObservedRequest {
    began: Instant,
    method: &'static str,
    span: Span,
    /// The trace that the caller sent.
    caller: Option<TraceParent>,
}

/// How a request was answered.
struct RequestOutcome {
    route: String,
    status: StatusCode,
    user: Option<UserId>,
    took: Duration,
}

impl ObservedRequest {
    pub(super) fn begin(request: &ServiceRequest, id: &HeaderValue) -> Self {
        let caller = trace_parent(request.headers());
        let method = method_label(request.method().as_str());
        let span = root_span!(
            caller.as_ref(),
            "request",
            otel.name = method,
            otel.kind = "server",
            otel.status_code = tracing::field::Empty,
            http.request.method = method,
            http.route = tracing::field::Empty,
            http.response.status_code = tracing::field::Empty,
            url.path = %excerpt(request.path()),
            user.id = tracing::field::Empty,
            request.id = id.to_str().unwrap_or_default(),
        );
        Self { began: Instant::now(), method, span, caller }
    }

    /// The span in which the request is handled.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Reports the response. The time is that until its head; a body may stream for hours.
    pub(super) fn finish<B>(
        self,
        response: &ServiceResponse<B>,
        state: Option<&Arc<AppState>>,
        id: &HeaderValue,
    ) {
        let request = response.request();
        // The pattern instead of the path, so that clients cannot create labels.
        let route = request.match_pattern().unwrap_or_else(|| NO_ROUTE.to_owned());
        let user = request.extensions().get::<AuthenticatedUser>().map(|user| user.0);
        self.report(route, response.status(), user, state, id);
    }

    /// Reports a request that ended without a response, as one whose route panics does. Its route
    /// is not known.
    pub(super) fn finish_failed(
        self,
        status: StatusCode,
        state: Option<&Arc<AppState>>,
        id: &HeaderValue,
    ) {
        self.report(NO_ROUTE.to_owned(), status, None, state, id);
    }

    fn report(
        self,
        route: String,
        status: StatusCode,
        user: Option<UserId>,
        state: Option<&Arc<AppState>>,
        id: &HeaderValue,
    ) {
        let outcome = RequestOutcome { route, status, user, took: self.began.elapsed() };
        if !self.span.is_disabled() {
            self.record(&outcome);
        }
        if logs_request(status.as_u16()) {
            self.log(&outcome, id);
        }
        if let Some(state) = state {
            let RequestOutcome { route, took, .. } = outcome;
            state.metrics.http.record_request(self.method, route, status.as_u16(), took);
        }
    }

    fn record(&self, outcome: &RequestOutcome) {
        rename(&self.span, format!("{} {}", self.method, outcome.route));
        self.span.record("http.route", outcome.route.as_str());
        self.span.record("http.response.status_code", outcome.status.as_u16());
        if let Some(user) = outcome.user {
            self.span.record("user.id", tracing::field::display(user));
        }
        // An error of the client is none of the server (semantic conventions for HTTP).
        if outcome.status.is_server_error() {
            self.span.record("otel.status_code", "ERROR");
        }
    }

    fn log(&self, outcome: &RequestOutcome, id: &HeaderValue) {
        let RequestOutcome { route, status, user, took } = outcome;
        let trace = trace_parent_of(&self.span);
        let trace_id = trace.as_ref().or(self.caller.as_ref()).map(TraceParent::trace_id);
        let duration_ms = milliseconds(*took);
        macro_rules! log_request {
            ($level:ident) => {
                tracing::$level!(
                    target: "souk::requests",
                    method = self.method,
                    route,
                    status = status.as_u16(),
                    duration_ms,
                    request_id = id.to_str().unwrap_or_default(),
                    trace_id,
                    user_id = user.map(tracing::field::display),
                    "request"
                )
            };
        }
        // Probes and scrapes repeat every few seconds, and only their failures tell something.
        if is_operational(route) && !status.is_server_error() {
            log_request!(debug);
        } else {
            log_request!(info);
        }
    }
}

/// Whether a route is for probes and scrapes, which must work under any load and without the
/// store.
pub(super) fn is_operational(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/metrics")
}
