//! For operators: is it alive, is it ready, how is it doing.

use std::sync::atomic::Ordering;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, http::header, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    answer::{self, Answer},
    metrics::Levels,
    services::Services,
};

/// The routes.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/livez").get(livez))
        .service(web::resource("/readyz").get(readyz))
        .service(web::resource("/metrics").get(metrics))
        .service(web::resource("/").get(to_docs))
        .service(web::resource("/docs").get(to_docs));
}

/// How the node is.
#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready`, `degraded` or `not_ready`.
    status: &'static str,
    checks: Checks,
}

/// What was looked at.
#[derive(Serialize, ToSchema)]
pub(crate) struct Checks {
    /// `ok` or `unavailable`.
    store: &'static str,
    /// `starting`, `running` or `stopping`.
    node: &'static str,
}

/// Whether the process answers at all.
#[utoipa::path(get, path = "/livez", tag = "Operations", responses((status = 200)))]
pub(super) async fn livez() -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, "application/json")).body(r#"{"status":"alive"}"#)
}

/// Whether the node can do its work.
#[utoipa::path(get, path = "/readyz", tag = "Operations", responses(
    (status = 200, body = Readiness), (status = 503, body = Readiness, description = "The store is away, or the node is stopping"),
))]
async fn readyz(request: HttpRequest) -> Answer {
    let services = Services::of(&request)?;
    let answered = tokio::time::timeout(services.options.request_timeout, services.store.ping()).await;
    let store = if matches!(answered, Ok(Ok(()))) && services.writer.is_running() { "ok" } else { "unavailable" };
    let node = if services.is_stopping() { "stopping" } else { "running" };
    let ready = store == "ok" && node == "running";
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if ready { "ready" } else { "not_ready" };
    readiness(status, word, store, node)
}

/// How the node is, in these words.
pub(super) fn readiness(code: StatusCode, status: &'static str, store: &'static str, node: &'static str) -> Answer {
    answer::json(code, &Readiness { status, checks: Checks { store, node } })
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "Operations", responses((status = 200, content_type = "text/plain", body = String)))]
async fn metrics(request: HttpRequest) -> Answer {
    let services = Services::of(&request)?;
    let stats = services.writer.stats();
    let levels = Levels {
        carts: services.carts.active() as u64,
        products: services.shelf.len() as u64,
        waiting: services.writer.waiting() as u64,
        batches: stats.batches.load(Ordering::Relaxed),
        commits: stats.commits.load(Ordering::Relaxed),
    };
    let text = services.metrics.text(&levels);
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8"))
        .body(text))
}

async fn to_docs() -> HttpResponse {
    HttpResponse::TemporaryRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}
