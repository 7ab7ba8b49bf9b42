//! What every call passes before and after its service: request ids, limits, deadlines, panics and
//! errors. It is for gRPC what `http/middleware` is for HTTP.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tonic::{
    Code,
    body::Body,
    codegen::{
        Service,
        http::{HeaderMap, HeaderValue, Request, Response},
    },
};
use tower::Layer;
use tracing::Instrument as _;

use super::{
    call::{CallContext, Deadline, deadline_error},
    connection::ConnectionInfo,
    methods::Method,
    observation::{ObservedBody, ObservedCall, status_code},
    state::GrpcState,
    status::{error_status, unimplemented_status},
};
use crate::{
    admission::{connection_limiter::RequestPermit, find_client_address},
    error::{Error, ErrorCode},
    input::request_id::{is_valid_request_id, new_request_id},
    messages::trace_parent::TraceParent,
    panics::catch_panic,
};

const REQUEST_ID: &str = "x-request-id";

/// The header with the details of an error. Every error of this server's services has it.
const STATUS_DETAILS: &str = "grpc-status-details-bin";

/// How much longer than its deadline a call may take. What a service waits for ends at the
/// deadline; messages that arrive slowly end here.
const GRACE: Duration = Duration::from_secs(1);

/// Wraps the services.
#[derive(Clone)]
pub(super) struct CallLayer(pub(super) Arc<GrpcState>);

/// A service with all that a call passes.
#[derive(Clone)]
pub(super) struct CallService<S> {
    inner: S,
    state: Arc<GrpcState>,
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService { inner, state: Arc::clone(&self.0) }
    }
}

impl<S> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that is ready handles the call, and its clone the next one.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let state = Arc::clone(&self.state);
        let method = Method::from_path(request.uri().path());
        let connection = request.extensions().get::<ConnectionInfo>().cloned();
        let context = Arc::new(call_context(&state, request.headers(), connection.as_ref()));
        request.extensions_mut().insert(Arc::clone(&context));
        let call = ObservedCall::begin(method, Arc::clone(&context), Arc::clone(&state));
        let span = call.span();
        let handled = async move {
            let running = connection.map(|connection| connection.begin_call());
            let (response, permit) = match admit(&state, method, &context).await {
                Ok(permit) => (run(inner.call(request), method, &context).await, permit),
                Err(error) => (context.status(&error).into_http(), None),
            };
            let (mut head, body) = response.into_parts();
            if let Ok(id) = HeaderValue::from_str(&context.request_id) {
                head.headers.insert(REQUEST_ID, id);
            }
            let body = ObservedBody::new(body, &head.headers, call, (running, permit));
            Ok(Response::from_parts(head, Body::new(body)))
        };
        Box::pin(handled.instrument(span))
    }
}

/// What the head of a call says.
fn call_context(
    state: &GrpcState,
    headers: &HeaderMap,
    connection: Option<&ConnectionInfo>,
) -> CallContext {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let sent_id = text(REQUEST_ID).filter(|id| is_valid_request_id(id.as_bytes()));
    let peer = connection.map_or(IpAddr::from([0, 0, 0, 0]), |connection| connection.peer.ip());
    let forwarded = headers.get_all("x-forwarded-for").iter();
    let address =
        find_client_address(peer, forwarded.filter_map(|value| value.to_str().ok()), |address| {
            state.connections.is_trusted_proxy(address)
        });
    CallContext::new(
        sent_id.map_or_else(new_request_id, str::to_owned),
        address,
        text("traceparent").and_then(TraceParent::parse),
        Deadline::new(text("grpc-timeout").and_then(parse_timeout), state.options.request_timeout),
    )
}

/// Reads a `grpc-timeout`: at most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 60 * 60),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Admits a call, and catches up with other nodes if the caches are stale.
async fn admit(
    state: &GrpcState,
    method: Method,
    context: &CallContext,
) -> Result<Option<RequestPermit>, Error> {
    if method.is_probe() {
        return Ok(None);
    }
    let address = context.address;
    state.rate_limits.check_address(address).map_err(|limited| Error::from(&limited))?;
    let permit = state.connections.admit_request(address).ok_or_else(|| {
        let detail = "Too many calls of this address are running. Wait for one to end.";
        Error::new(ErrorCode::RateLimited, detail).with_retry_after(1)
    })?;
    if context.deadline.has_caller_given_up() {
        return Err(deadline_error());
    }
    if method.is_of_shop() {
        state.current_caches.ensure_current(context.deadline.remaining()).await?;
    }
    Ok(Some(permit))
}

/// Runs a call until its deadline, and gives every error its details.
async fn run(
    call: impl Future<Output = Result<Response<Body>, Infallible>>,
    method: Method,
    context: &CallContext,
) -> Response<Body> {
    let Deadline { at, of_caller } = context.deadline;
    // A caller that has given up learns nothing, so nothing is waited for.
    let limit = if of_caller == Some(at) { at } else { at + GRACE };
    let guarded = catch_panic(call, || {
        tracing::error!(method = method.name(), "a call panicked");
        Ok(error_status(&Error::internal(), &context.request_id).into_http())
    });
    match tokio::time::timeout_at(limit.into(), guarded).await {
        Ok(Ok(response)) => with_details(response, method, context),
        Err(_) => error_status(&deadline_error(), &context.request_id).into_http(),
    }
}

/// Replaces an error of the framework, which has no details.
fn with_details(response: Response<Body>, method: Method, context: &CallContext) -> Response<Body> {
    let headers = response.headers();
    let code = status_code(headers);
    if headers.contains_key(STATUS_DETAILS) || method.is_probe() {
        return response;
    }
    let id = &context.request_id;
    let status = match code {
        None | Some(Code::Ok) => return response,
        Some(Code::Unimplemented) if method.is_unmatched() => unimplemented_status(id),
        Some(Code::OutOfRange) => {
            let detail = "The message is larger than allowed.";
            error_status(&Error::new(ErrorCode::PayloadTooLarge, detail), id)
        }
        // The message cannot be decoded. The services' own errors have details.
        Some(Code::Internal) => {
            let detail = "The message cannot be decoded.";
            error_status(&Error::new(ErrorCode::MalformedRequest, detail), id)
        }
        // An encoding that is not known. The headers say which are.
        Some(_) => return response,
    };
    status.into_http()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_those_of_the_protocol() {
        for (text, time) in [
            ("1n", Duration::from_nanos(1)),
            ("20u", Duration::from_micros(20)),
            ("300m", Duration::from_millis(300)),
            ("4S", Duration::from_secs(4)),
            ("5M", Duration::from_secs(300)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(parse_timeout(text), Some(time), "{text}");
        }
        for bad in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1é", "1.5S"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }
}
