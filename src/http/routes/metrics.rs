//! The route for Prometheus.

use std::sync::atomic::Ordering;

use actix_web::{HttpRequest, HttpResponse, http::header};
use utoipa::ToSchema;

use crate::{
    http::{
        response::problem::{Problem, ProblemDetails},
        state::AppState,
    },
    metrics::{
        node::{BrokerStats, NodeStats},
        text::{CLASSIC_TYPE, OPENMETRICS_TYPE},
    },
    outbox::backlog::read_partitions,
    telemetry::{dropped_log_lines, span_counts},
};

/// Metrics as text.
#[derive(ToSchema)]
#[schema(value_type = String,
    examples("# TYPE souk_carts_active gauge\nsouk_carts_active 3\n"))]
pub(crate) struct MetricsText(#[expect(dead_code, reason = "describes a text")] String);

/// Get metrics for Prometheus.
///
/// The text has the classic format of Prometheus, or that of OpenMetrics 1.0 if `Accept` names it.
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics",
tag = "Operations", security(()), responses(
    (status = 200, content(
        (MetricsText = "text/plain"),
        (MetricsText = "application/openmetrics-text"),
    )),
    (status = "4XX", body = ProblemDetails,
        description = "The request is rejected. `code` says why."),
))]
pub(crate) async fn scrape_metrics(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let state = AppState::from_request(&request)?;
    let writer = state.writer.stats();
    let partitions =
        read_partitions(&*state.store, state.broker_status.is_some(), state.clock.now());
    let partitions = tokio::time::timeout(state.options.request_timeout, partitions).await;
    let stats = NodeStats {
        active_carts: state.carts.active_count() as u64,
        products: state.catalog_cache.len() as u64,
        waiting_commits: state.writer.queued_count() as u64,
        writer_transactions: writer.batches.load(Ordering::Relaxed),
        writer_commits: writer.commits.load(Ordering::Relaxed),
        outbox: partitions.ok().and_then(Result::ok),
        broker: broker_stats(state),
        log_lines_dropped: dropped_log_lines(),
        trace_spans: span_counts(),
    };
    let is_openmetrics = accepts_openmetrics(&request);
    let media_type = if is_openmetrics { OPENMETRICS_TYPE } else { CLASSIC_TYPE };
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, media_type))
        .body(state.metrics.encode(&stats, is_openmetrics)))
}

/// Whether the client names OpenMetrics, as Prometheus does. `*/*` gets the format that every tool
/// reads.
fn accepts_openmetrics(request: &HttpRequest) -> bool {
    request
        .headers()
        .get_all(header::ACCEPT)
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("application/openmetrics-text"))
}

fn broker_stats(state: &AppState) -> Option<BrokerStats> {
    let broker = state.broker_status.as_ref()?;
    Some(BrokerStats {
        connected: broker.is_connected(),
        peer_events_connected: state
            .follower
            .as_ref()
            .is_some_and(|follower| follower.is_broker_connected()),
        relay_active: broker.is_leader(),
        events_published: broker.published_count(),
    })
}
