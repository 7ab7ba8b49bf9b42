//! Routes for operators: liveness, readiness, and metrics.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, http::header, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::metrics::scrape_metrics;
use crate::{
    http::{
        openapi::enums::{AliveWord, Availability, NodeReadiness, NodeState},
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
        state::AppState,
    },
    store::readiness::is_available,
};

/// Registers the routes for probes and metrics.
pub(crate) fn configure_operations(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/livez").get(livez))
        .service(web::resource("/readyz").get(readyz))
        .service(web::resource("/metrics").get(scrape_metrics));
}

/// Whether a node is ready to serve requests.
#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness {
    #[schema(value_type = NodeReadiness)]
    status: &'static str,
    checks: Checks,
}

/// The state of each component.
#[derive(Serialize, ToSchema)]
pub(crate) struct Checks {
    #[schema(value_type = Availability)]
    store: &'static str,
    #[schema(value_type = NodeState)]
    node: &'static str,
    /// Absent if the node has no broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Availability, required = false)]
    broker: Option<&'static str>,
}

/// The liveness of the process.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a response that is always the same")]
pub(crate) struct Liveness {
    #[schema(value_type = AliveWord)]
    status: &'static str,
}

/// Check whether the process is alive.
///
/// The response does not depend on the store. With `ops.bind`, probes and metrics are on that port
/// only.
#[utoipa::path(get, path = "/livez", operation_id = "get_liveness",
tag = "Operations", security(()), responses(
    (status = 200, body = Liveness),
    (status = "4XX", body = ProblemDetails,
        description = "The request is rejected. `code` says why."),
))]
pub(crate) async fn livez() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .body(r#"{"status":"alive"}"#)
}

/// Check whether the node is ready to serve requests.
///
/// A load balancer sends requests to a node that answers 200.
#[utoipa::path(get, path = "/readyz", operation_id = "get_readiness",
tag = "Operations", security(()), responses(
    (status = 200, body = Readiness,
        description = "The node is ready, or degraded: the broker is unavailable or takes no \
            messages."),
    (status = "4XX", body = ProblemDetails,
        description = "The request is rejected. `code` says why."),
    (status = 503, body = Readiness,
        description = "The store is unavailable or takes no changes, for example since its disk \
            is full, or the node is starting or stopping."),
))]
async fn readyz(request: HttpRequest) -> RouteResult {
    let state = AppState::from_request(&request)?;
    let timeout = state.options.request_timeout;
    let is_available = is_available(&*state.store, &state.writer, timeout).await;
    let store = if is_available { "ok" } else { "unavailable" };
    let node = if state.is_stopping() { "stopping" } else { "running" };
    let broker = state
        .broker_status
        .as_ref()
        .map(|broker| if broker.takes_messages() { "ok" } else { "unavailable" });
    let (code, status) = match (store, node, broker) {
        ("ok", "running", None | Some("ok")) => (StatusCode::OK, "ready"),
        // Without the broker, events stay in the store and everything else works.
        ("ok", "running", _) => (StatusCode::OK, "degraded"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
    };
    let readiness = Readiness { status, checks: Checks { store, node, broker } };
    Ok(ApiResponse::json(code, &readiness)?)
}

/// The readiness of a node that waits for its store.
pub(crate) fn starting_response() -> RouteResult {
    let checks = Checks { store: "unavailable", node: "starting", broker: None };
    let readiness = Readiness { status: "not_ready", checks };
    Ok(ApiResponse::json(StatusCode::SERVICE_UNAVAILABLE, &readiness)?)
}
