//! What a node reports about each call: a span, a line in the log, and metrics.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::{Code, Status, body::Body, codegen::http::HeaderMap};
use tracing::Span;

use super::{
    call::CallContext, connection::RunningCall, methods::Method, state::GrpcState,
    status::code_name,
};
use crate::{
    admission::connection_limiter::RequestPermit,
    domain::ids::UserId,
    messages::trace_parent::TraceParent,
    telemetry::{
        logs::{logs_request, milliseconds},
        trace::{root_span, trace_parent_of},
    },
};

/// The header, or trailer, with the status code of a call.
const GRPC_STATUS: &str = "grpc-status";

/// A call whose status is not known yet. When it is dropped, its client has given up.
pub(super) struct ObservedCall {
    began: Instant,
    method: Method,
    span: Span,
    context: Arc<CallContext>,
    state: Arc<GrpcState>,
    is_reported: bool,
}

impl ObservedCall {
    pub(super) fn begin(method: Method, context: Arc<CallContext>, state: Arc<GrpcState>) -> Self {
        let (service, name) = method.parts();
        let span = root_span!(
            context.trace.as_ref(),
            "call",
            otel.name = method.name(),
            otel.kind = "server",
            otel.status_code = tracing::field::Empty,
            rpc.system = "grpc",
            rpc.service = service,
            rpc.method = name,
            rpc.grpc.status_code = tracing::field::Empty,
            user.id = tracing::field::Empty,
            request.id = context.request_id.as_str(),
        );
        Self { began: Instant::now(), method, span, context, state, is_reported: false }
    }

    /// The span in which the call is handled.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Reports the end of the call, once.
    fn report(&mut self, code: Code) {
        if std::mem::replace(&mut self.is_reported, true) {
            return;
        }
        let user = self.context.user();
        self.record(code, user);
        // As the same failure over HTTP: 5xx.
        if logs_request(if is_failure(code) { 500 } else { 200 }) {
            self.log(code, user);
        }
        let took = self.began.elapsed();
        self.state.metrics.grpc.record_call(self.method.name(), code_name(code), took);
    }

    fn record(&self, code: Code, user: Option<UserId>) {
        if self.span.is_disabled() {
            return;
        }
        self.span.record("rpc.grpc.status_code", i32::from(code));
        if let Some(user) = user {
            self.span.record("user.id", tracing::field::display(user));
        }
        if is_error_of_server(code) {
            self.span.record("otel.status_code", "ERROR");
        }
    }

    fn log(&self, code: Code, user: Option<UserId>) {
        let trace = trace_parent_of(&self.span);
        let trace_id = trace.as_ref().or(self.context.trace.as_ref()).map(TraceParent::trace_id);
        let duration_ms = milliseconds(self.began.elapsed());
        macro_rules! log_call {
            ($level:ident) => {
                tracing::$level!(
                    target: "souk::requests",
                    method = self.method.name(),
                    code = code_name(code),
                    duration_ms,
                    request_id = self.context.request_id.as_str(),
                    trace_id,
                    user_id = user.map(tracing::field::display),
                    "call"
                )
            };
        }
        // Probes repeat every few seconds, and only their failures tell something.
        if self.method.is_probe() && !is_failure(code) {
            log_call!(debug);
        } else {
            log_call!(info);
        }
    }
}

impl Drop for ObservedCall {
    fn drop(&mut self) {
        let is_late = self.context.deadline.has_caller_given_up();
        self.report(if is_late { Code::DeadlineExceeded } else { Code::Cancelled });
    }
}

/// Whether the call failed for a reason of the server's, as a 5xx does.
const fn is_failure(code: Code) -> bool {
    matches!(code, Code::Unknown | Code::Internal | Code::Unavailable | Code::DataLoss)
}

/// Whether a server's span is an error (semantic conventions for gRPC).
const fn is_error_of_server(code: Code) -> bool {
    is_failure(code) || matches!(code, Code::DeadlineExceeded | Code::Unimplemented)
}

/// The status code in the headers or trailers, if they have one.
pub(super) fn status_code(headers: &HeaderMap) -> Option<Code> {
    headers.get(GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}

/// The body of a response. It reports the call when it ends, and holds the call's places until
/// then.
pub(super) struct ObservedBody {
    body: Body,
    call: ObservedCall,
    /// Completes when the server ends the call, if its client does not.
    stop: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _running: Option<RunningCall>,
    _permit: Option<RequestPermit>,
}

impl ObservedBody {
    /// Watches the body of a response with these headers.
    pub(super) fn new(
        body: Body,
        headers: &HeaderMap,
        mut call: ObservedCall,
        places: (Option<RunningCall>, Option<RequestPermit>),
    ) -> Self {
        // Without a body, the status is in the headers.
        if let Some(code) = status_code(headers) {
            call.report(code);
        }
        let state = Arc::clone(&call.state);
        let stop: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = match call.method {
            method if method.is_open_ended() => {
                Some(Box::pin(async move { state.stopping().await }))
            }
            _ => None,
        };
        let (running, permit) = places;
        Self { body, call, stop, _running: running, _permit: permit }
    }

    /// The trailers of an open-ended call when the node stops.
    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<Option<HeaderMap>> {
        let Some(stop) = &mut self.stop else { return Poll::Pending };
        if stop.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.stop = None;
        self.body = Body::empty();
        self.call.report(Code::Unavailable);
        let mut trailers = HeaderMap::new();
        let status = Status::unavailable("The node is stopping. Call another one.");
        Poll::Ready(status.add_header(&mut trailers).ok().map(|()| trailers))
    }
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(code) = frame.trailers_ref().and_then(status_code) {
                    self.call.report(code);
                }
            }
            Poll::Ready(Some(Err(status))) => self.call.report(status.code()),
            // Only if no trailers came before.
            Poll::Ready(None) => self.call.report(Code::Unknown),
            Poll::Pending => {
                if let Poll::Ready(Some(trailers)) = self.poll_stop(cx) {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
