//! The route that audits the stock.

use std::sync::Arc;

use actix_web::{http::StatusCode, web};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    audit::Auditor,
    domain::audit::Finding,
    error::Error,
    http::{
        openapi::enums::FindingKind,
        request::{
            body::JsonRequest,
            extract::{Admin, ChangeRequest},
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
    },
};

/// The maximum number of findings in a response. `found` counts all of them.
const MAX_LISTED_FINDINGS: usize = 1000;

/// Allows one audit at a time: a second one would only repeat its work.
static AUDIT_PERMIT: Semaphore = Semaphore::const_new(1);

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/admin/audit").post(run));
}

/// The options of an audit.
#[derive(Deserialize, ToSchema)]
pub(crate) struct AuditRequest {
    /// Whether to repair what is found. The default is `false`.
    #[schema(examples(false))]
    repair: Option<bool>,
}

/// The result of an audit.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditResponse {
    /// Whether nothing was found.
    #[schema(examples(false))]
    clean: bool,
    /// The number of products checked, deleted ones included.
    #[schema(examples(340))]
    products: u64,
    /// The number of orders checked.
    #[schema(examples(1200))]
    orders: u64,
    /// The number of stock movements checked.
    #[schema(examples(5100))]
    movements: u64,
    /// The number of findings.
    #[schema(examples(1))]
    found: u64,
    /// The number of findings that were repaired.
    #[schema(examples(1))]
    repaired: u64,
    /// The first 1,000 findings.
    findings: Vec<FindingResponse>,
}

/// A finding of an audit.
#[derive(Serialize, ToSchema)]
pub(crate) struct FindingResponse {
    #[schema(value_type = FindingKind)]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    product_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    order_id: Option<Uuid>,
    /// What was found and what was expected. It also says what to do if a repair cannot help.
    #[schema(examples("on_hand is 7, but its movements add up to 8"))]
    message: String,
    /// Whether it was repaired.
    repaired: bool,
}

impl JsonRequest for AuditRequest {
    const OPTIONAL: bool = true;
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

/// Audit the stock.
///
/// An audit compares the stock with its movements and with the orders. The shop stays open during
/// the audit. With `repair`, an `adjusted` movement corrects `on_hand`, `reserved` is set to what
/// open orders need, and missing movements of an order are added. Their reason is `audit`. A node
/// runs one audit at a time.
#[utoipa::path(post, path = "/api/admin/audit", operation_id = "audit_stock",
tag = "Operations", security(("bearer" = [])), request_body = Option<AuditRequest>, responses(
    (status = 200, body = AuditResponse),
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for admins"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
    (status = 503, body = ProblemDetails,
        description = "`overloaded`: another audit is running; `store_unavailable`: repairs made \
            so far stay"),
))]
async fn run(change: ChangeRequest<Admin, AuditRequest>) -> RouteResult {
    let state = &change.state;
    let _permit = AUDIT_PERMIT.try_acquire().map_err(|_| Error::overloaded())?;
    let auditor = Auditor::new(
        Arc::clone(&state.store),
        state.writer.clone(),
        Arc::clone(&state.clock),
        change.origin(),
    );
    let mut findings = Vec::new();
    let list_finding = |finding: &Finding| {
        if findings.len() < MAX_LISTED_FINDINGS {
            findings.push(FindingResponse::from(finding));
        }
    };
    let summary = auditor.run(change.body.repair.unwrap_or(false), list_finding).await?;
    let response = AuditResponse {
        clean: summary.found == 0,
        products: summary.products,
        orders: summary.orders,
        movements: summary.movements,
        found: summary.found,
        repaired: summary.repaired,
        findings,
    };
    Ok(ApiResponse::json(StatusCode::OK, &response)?)
}
