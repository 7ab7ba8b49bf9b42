//! The audit of a shop while it is open.

use std::sync::Arc;

use actix_web::{HttpRequest, http::StatusCode, web};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::{
    request,
    response::{self, RouteResult, problem::ProblemDetails},
    state::AppState,
};
use crate::{audit::Auditor, domain::audit::Finding, error::Error};

/// Findings listed in the answer; `found` counts them all.
const MAX_LISTED_FINDINGS: usize = 1000;

/// A process audits once at a time: two would read everything twice, and find the same.
static AUDIT_PERMIT: Semaphore = Semaphore::const_new(1);

/// The routes.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/admin/audit").post(run));
}

/// How to audit.
#[derive(Deserialize, ToSchema)]
pub(crate) struct AuditRequest {
    /// Write movements that make things agree again; `false` when not given.
    repair: Option<bool>,
}

/// What an audit came to.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditResponse {
    /// Whether nothing was off.
    clean: bool,
    /// Products looked at, deleted ones included.
    products: u64,
    /// Orders looked at.
    orders: u64,
    /// Movements of stock looked at.
    movements: u64,
    /// How much was off.
    found: u64,
    /// How much of that is corrected now.
    repaired: u64,
    /// What was off: the first 1,000 of it.
    findings: Vec<FindingResponse>,
}

/// Something that was off.
#[derive(Serialize, ToSchema)]
pub(crate) struct FindingResponse {
    /// `on_hand_mismatch`, `reserved_mismatch`, `open_orders_mismatch`, `reserved_out_of_range`, `movement_sequence`,
    /// `unknown_product`, `order_movements`, `unknown_order` or `event_positions`.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    product_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<Uuid>,
    /// What is, and what should be; what to do, when a repair does not correct it.
    message: String,
    /// Whether it is corrected now.
    repaired: bool,
}

impl From<&Finding> for FindingResponse {
    fn from(finding: &Finding) -> Self {
        Self {
            kind: finding.kind.as_str(),
            product_id: finding.product_id.map(|id| id.as_uuid()),
            order_id: finding.order_id.map(|id| id.as_uuid()),
            message: finding.to_string(),
            repaired: finding.repaired,
        }
    }
}

/// Compare stock with its movements and with the orders.
///
/// Runs beside everything else, takes as long as it takes, and reads each page of the shop from one moment. With `repair`, where they
/// disagree, `on_hand` is what the stock says, and its ledger gets an `adjusted` movement; `reserved` is what open orders need; and what
/// is missing of an order's movements is written in its name. Their reason is `audit`. One audit a node at a time.
#[utoipa::path(post, path = "/api/admin/audit", tag = "Operations", security(("bearer" = [])), request_body = Option<AuditRequest>, responses(
    (status = 200, body = AuditResponse),
    (status = 403, body = ProblemDetails, description = "`forbidden`: admins only"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
    (status = 503, body = ProblemDetails, description = "`overloaded`: another audit runs; `store_unavailable`: what was corrected stays"),
))]
async fn run(request: HttpRequest, payload: web::Payload) -> RouteResult {
    let services = AppState::from_request(&request)?;
    services.require_admin(&request)?;
    let body = request::read_optional_json::<AuditRequest>(&request, payload).await?;
    let _turn = AUDIT_PERMIT.try_acquire().map_err(|_| Error::overloaded())?;
    let auditor = Auditor::new(
        Arc::clone(&services.store),
        services.writer.clone(),
        Arc::clone(&services.clock),
    );
    let mut findings = Vec::new();
    let note = |finding: &Finding| {
        if findings.len() < MAX_LISTED_FINDINGS {
            findings.push(FindingResponse::from(finding));
        }
    };
    let summary = auditor.run(body.value.repair.unwrap_or(false), note).await?;
    let response = AuditResponse {
        clean: summary.found == 0,
        products: summary.products,
        orders: summary.orders,
        movements: summary.movements,
        found: summary.found,
        repaired: summary.repaired,
        findings,
    };
    response::json_response(StatusCode::OK, &response)
}
