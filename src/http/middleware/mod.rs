//! Middleware for every request: request ids, rate limits, metrics and problem details.

mod compression;
mod head_method;
pub(super) mod observation;
mod preflight;
pub(super) mod security_headers;

use std::sync::Arc;

use actix_web::{
    Error as ActixError, HttpMessage, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    error::InternalError,
    http::{
        ConnectionType, StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
    middleware::Next,
    web,
};
use tracing::Instrument as _;

pub(super) use self::compression::accepts_gzip;
use self::{
    compression::{compress_response, negotiate},
    head_method::{omit_body, take_head},
    observation::{ObservedRequest, is_operational},
    preflight::preflight_error,
    security_headers::insert_security_headers,
};
use super::{
    request::headers::RequestId,
    response::problem::{self, Problem},
    server::{
        client_stream::RunningRequest,
        request_tracking::{GuardedBody, track_request},
    },
    state::AppState,
};
use crate::{
    admission::rate_limits::RateLimited,
    domain::excerpt::excerpt,
    error::{Error, ErrorCode},
    input::request_id::{is_valid_request_id, new_request_id},
    panics::catch_panic,
};

const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
const RATELIMIT_POLICY_HEADER: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT_HEADER: HeaderName = HeaderName::from_static("ratelimit");

// Not `tracing-actix-web` (0.7): it would replace none of this. Its request id is always a new
// UUID, never the client's, its OpenTelemetry support ends at 0.32, its span stays open as long as
// a body streams, so an event feed's for hours, and it makes one for every request, recorded or
// not.

/// Handles HEAD, sets common headers, gives errors a problem body, compresses bodies, catches
/// panics, and records the request. One middleware, since each costs an allocation a request.
pub(in crate::http) async fn response_middleware(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<GuardedBody<RunningRequest>>, ActixError> {
    let running = track_request(&request);
    let is_head = take_head(&mut request);
    let encoding = negotiate(&request);
    let id = request_id_or_new(&request);
    request.extensions_mut().insert(RequestId(id.clone()));
    let state = request.app_data::<web::Data<Arc<AppState>>>().map(|data| Arc::clone(data));
    let observed = ObservedRequest::begin(&request, &id);
    let call = call_catching_panic(request, next, &id).instrument(observed.span());
    let mut response = match call.await {
        Ok(response) => response,
        Err(error) => {
            let status = error.as_response_error().status_code();
            observed.finish_failed(status, state.as_deref(), &id);
            return Err(error);
        }
    };
    set_common_headers(&mut response, &id);
    if state.as_ref().is_some_and(|state| state.is_stopping()) {
        // The client's next request goes to a node that stays.
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    let response = ensure_problem_body(response, &id);
    observed.finish(&response, state.as_deref(), &id);
    let mut response = compress_response(response, encoding);
    if is_head {
        response = omit_body(response);
    }
    Ok(response.map_body(|_, body| GuardedBody::new(body, running)))
}

/// Rejects requests over the rate limit, and catches up with other nodes if the caches are stale.
///
/// It runs inside the CORS middleware: without CORS headers, a browser hides the rejection from
/// its page.
pub(crate) async fn admission_middleware(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, ActixError> {
    let state = request.app_data::<web::Data<Arc<AppState>>>().map(|data| Arc::clone(data));
    let mut permit = None;
    if let Some(state) = state {
        if let Some(limited) = check_address_limit(&state, &request) {
            let error = Error::from(&limited);
            request.extensions_mut().insert(limited);
            return Ok(request.error_response(Problem(error)));
        }
        if let Some(client) = state.forwarded_client(request.request()) {
            permit = state.connections.admit_request(client);
            if permit.is_none() {
                return Ok(request.error_response(Problem(too_many_running_requests())));
            }
        }
        request.extensions_mut().insert(state.new_deadline());
        if !is_operational(request.path())
            && let Err(error) = state.ensure_caches_current(request.request()).await
        {
            return Ok(request.error_response(Problem(error)));
        }
    }
    let response = next.call(request).await?.map_into_boxed_body();
    Ok(match permit {
        Some(_) => response.map_body(|_, body| BoxBody::new(GuardedBody::new(body, permit))),
        None => response,
    })
}

fn too_many_running_requests() -> Error {
    let detail = "Too many requests of this address are running. Wait for one to finish.";
    Error::new(ErrorCode::RateLimited, detail).with_retry_after(1)
}

/// Calls the inner layers, and turns a panic into a 500 response.
///
/// The router needs exclusive access to the request, so it must not be cloned here. A panic is
/// therefore returned as an error that contains the whole response.
async fn call_catching_panic(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
    id: &HeaderValue,
) -> Result<ServiceResponse<BoxBody>, ActixError> {
    let path = request.path().to_owned();
    let call = async { Ok(next.call(request).await?.map_into_boxed_body()) };
    catch_panic(call, || {
        tracing::error!(path = %excerpt(&path), "a route panicked");
        let mut response = HttpResponse::new(StatusCode::INTERNAL_SERVER_ERROR);
        insert_security_headers(response.headers_mut());
        let response = into_problem_response(response, &Error::internal(), id);
        Err(InternalError::from_response("a route panicked", response).into())
    })
    .await
}

/// Returns the request id that the client sent if it is valid, or else a new one.
fn request_id_or_new(request: &ServiceRequest) -> HeaderValue {
    let is_valid = |value: &&HeaderValue| is_valid_request_id(value.as_bytes());
    request.headers().get(REQUEST_ID_HEADER).filter(is_valid).cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&new_request_id()).unwrap_or(HeaderValue::from_static("unknown"))
    })
}

fn check_address_limit(state: &AppState, request: &ServiceRequest) -> Option<RateLimited> {
    // The comparison is exact: other spellings that the router accepts do not count.
    if is_operational(request.path()) {
        return None;
    }
    state.rate_limits.check_address(state.client_address(request.request())).err()
}

fn set_common_headers(response: &mut ServiceResponse<BoxBody>, id: &HeaderValue) {
    let limited = response.request().extensions().get::<RateLimited>().cloned();
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID_HEADER, id.clone());
    insert_security_headers(headers);
    if let Some(limited) = limited {
        for (name, value) in
            [(RATELIMIT_POLICY_HEADER, limited.policy), (RATELIMIT_HEADER, limited.state)]
        {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
    }
}

/// Gives every error response a problem body, including errors from the framework.
fn ensure_problem_body(
    response: ServiceResponse<BoxBody>,
    id: &HeaderValue,
) -> ServiceResponse<BoxBody> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let error = response.response().extensions().get::<Error>().cloned();
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value == "application/json");
    if error.is_none() && is_json {
        // The route has built its own body, as /readyz does.
        return response;
    }
    let error =
        preflight_error(&response).or(error).unwrap_or_else(|| problem::error_from_status(status));
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        let path = excerpt(response.request().path());
        tracing::error!(request_id = ?id, %path, "a request failed with an internal error");
    }
    let (request, response) = response.into_parts();
    ServiceResponse::new(request, into_problem_response(response, &error, id))
}

/// Sets the status, headers and problem body of `response` from `error`.
fn into_problem_response(
    mut response: HttpResponse,
    error: &Error,
    id: &HeaderValue,
) -> HttpResponse {
    *response.status_mut() = problem::error_status(error);
    response.headers_mut().insert(REQUEST_ID_HEADER, id.clone());
    for (name, value) in problem::problem_headers(error) {
        response.headers_mut().insert(name, value);
    }
    response.set_body(BoxBody::new(problem::problem_body(error, id.to_str().unwrap_or_default())))
}
