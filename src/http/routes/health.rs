//! Routes for operators: liveness, readiness, and metrics.

use std::sync::atomic::Ordering;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, http::header, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::{
    middleware::metrics::{BrokerStats, NodeStats},
    openapi::enums::{AliveWord, Availability, NodeReadiness, NodeState},
    response::{
        ApiResponse, RouteResult,
        problem::{Problem, ProblemDetails},
    },
    state::AppState,
};
use crate::{broker, store::StoreUnavailable};

/// Registers the routes for probes and metrics.
pub(crate) fn configure_operations(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/livez").get(livez))
        .service(web::resource("/readyz").get(readyz))
        .service(web::resource("/metrics").get(metrics));
}

/// Registers the AsyncAPI document.
pub(super) fn configure_documents(config: &mut web::ServiceConfig) {
    config.service(web::resource("/asyncapi.json").get(asyncapi_document));
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

/// Metrics as text.
#[derive(ToSchema)]
#[schema(value_type = String,
    examples("# TYPE souk_carts_active gauge\nsouk_carts_active 3\n# EOF\n"))]
pub(crate) struct MetricsText(#[expect(dead_code, reason = "describes a text")] String);

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

/// The AsyncAPI 3.0 document of the messages that Souk publishes and consumes.
async fn asyncapi_document() -> HttpResponse {
    HttpResponse::Ok().json(broker::asyncapi::build_document())
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
    let reads_and_writes = async {
        state.store.ping().await?;
        state.store.check_writable().await
    };
    let checked = tokio::time::timeout(state.options.request_timeout, reads_and_writes).await;
    let is_available = matches!(checked, Ok(Ok(()))) && state.writer.is_running();
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

/// Get metrics for Prometheus.
///
/// The text follows OpenMetrics 1.0.
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics",
tag = "Operations", security(()), responses(
    (status = 200, content_type = "application/openmetrics-text", body = MetricsText),
    (status = "4XX", body = ProblemDetails,
        description = "The request is rejected. `code` says why."),
))]
async fn metrics(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let state = AppState::from_request(&request)?;
    let writer = state.writer.stats();
    let stats = NodeStats {
        active_carts: state.carts.active_count() as u64,
        products: state.catalog_cache.len() as u64,
        waiting_commits: state.writer.queued_count() as u64,
        writer_transactions: writer.batches.load(Ordering::Relaxed),
        writer_commits: writer.commits.load(Ordering::Relaxed),
        broker: read_broker_stats(state).await,
    };
    let text = state.metrics.encode_openmetrics(&stats);
    Ok(HttpResponse::Ok()
        .insert_header((
            header::CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ))
        .body(text))
}

async fn read_broker_stats(state: &AppState) -> Option<BrokerStats> {
    let broker = state.broker_status.as_ref()?;
    let counts = async {
        let published = state.store.published_cursor().await?;
        Ok::<_, StoreUnavailable>(state.store.outbox_heads().await?.count_since(&published))
    };
    let unpublished = tokio::time::timeout(state.options.request_timeout, counts).await;
    Some(BrokerStats {
        connected: broker.is_connected(),
        peer_events_connected: state
            .follower
            .as_ref()
            .is_some_and(|follower| follower.is_broker_connected()),
        relay_active: broker.is_leader(),
        events_published: broker.published_count(),
        events_unpublished: unpublished.ok().and_then(Result::ok),
    })
}
