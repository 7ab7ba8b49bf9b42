//! The routes for deliveries: tests, the log, and delivering again.

use actix_web::{HttpRequest, http::StatusCode, web};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    actors::ask::ask,
    auth::caller::Caller,
    domain::{
        ids::{AttemptId, EventId, WebhookId},
        webhook::{self, DeliveryAttempt},
    },
    error::Error,
    events::schema::{DeliveryError, DeliveryStatus},
    http::{
        request::{
            extract::{ChangeRequest, ReadRequest, Staff},
            query::cut_to_page,
            scopes::{WebhooksReadScope, WebhooksScope},
            target::Target,
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
        state::AppState,
    },
    messages::{
        command_context::Reply,
        webhooks::{RedeliverEvent, TestWebhook},
    },
};

pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/webhooks/{id}/test").post(test))
        .service(web::resource("/api/webhooks/{id}/deliveries").get(list))
        .service(
            web::resource("/api/webhooks/{id}/deliveries/{event_id}/redeliver").post(redeliver),
        );
}

/// The event that tests an endpoint.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookTestResponse {
    event_id: Uuid,
}

/// One attempt to deliver an event.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeliveryResponse<'a> {
    event_id: Uuid,
    #[serde(rename = "type")]
    #[schema(examples("order.paid"))]
    kind: &'a str,
    /// The id of what the event is about.
    subject: Uuid,
    /// Counts the attempts of the event at this endpoint.
    #[schema(examples(1))]
    attempt: u32,
    #[schema(value_type = DeliveryStatus)]
    status: &'static str,
    /// The status of the answer. It is null if none came.
    #[schema(required, examples(200))]
    status_code: Option<u16>,
    /// Why no answer came.
    #[schema(required, value_type = Option<DeliveryError>)]
    error: Option<&'static str>,
    /// How long it took.
    #[schema(examples(84))]
    duration_ms: u64,
    /// When it began.
    #[schema(format = DateTime)]
    at: String,
    /// When the next attempt is due.
    #[schema(required, format = DateTime)]
    next_at: Option<String>,
}

/// A page of attempts, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeliveryPage<'a> {
    items: Vec<DeliveryResponse<'a>>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required, examples("IjAxOTM2ZjVlIg"))]
    next_cursor: Option<String>,
}

impl<'a> From<&'a DeliveryAttempt> for DeliveryResponse<'a> {
    fn from(attempt: &'a DeliveryAttempt) -> Self {
        Self {
            event_id: attempt.event_id.as_uuid(),
            kind: &attempt.kind,
            subject: attempt.subject,
            attempt: attempt.attempt,
            status: attempt.status.as_str(),
            status_code: attempt.status_code,
            error: attempt.error.map(webhook::DeliveryError::as_str),
            duration_ms: u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
            at: attempt.at.to_string(),
            next_at: attempt.next_at.map(|at| at.to_string()),
        }
    }
}

/// Send a test to a webhook.
///
/// The event `webhook.test` goes to this webhook alone, whatever its `types`. Its deliveries are
/// listed like others.
#[utoipa::path(post, path = "/api/webhooks/{id}/test", operation_id = "test_webhook",
tag = "Webhooks", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the webhook."),
    ("Idempotency-Key" = Option<String>, Header),
), responses(
    (status = 202, body = WebhookTestResponse),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `webhooks`"),
    (status = 404, body = ProblemDetails, description = "`webhook_not_found`"),
    (status = 409, body = ProblemDetails, description = "`webhook_paused`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn test(change: ChangeRequest<Staff<WebhooksScope>, (), WebhookId>) -> RouteResult {
    let context = change.context()?;
    let ticket = context.ticket.clone();
    let message = TestWebhook { id: change.target, context };
    let reply: Reply<EventId> = ask(&change.state.webhooks, message, &ticket).await?;
    let render = |event_id: EventId| {
        let response = WebhookTestResponse { event_id: event_id.as_uuid() };
        ApiResponse::json(StatusCode::ACCEPTED, &response)
    };
    Ok(ApiResponse::from_reply(StatusCode::ACCEPTED, reply, render)?.with_no_store())
}

/// List what was delivered to a webhook, newest first.
///
/// Each attempt is one item. Attempts of the last 30 days are kept, and at most the newest 10,000.
#[utoipa::path(get, path = "/api/webhooks/{id}/deliveries",
operation_id = "list_webhook_deliveries",
tag = "Webhooks", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the webhook."),
    ("status" = Option<DeliveryStatus>, Query, description = "Only attempts with this status"),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of items on a page. The default is 20."),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
), responses(
    (status = 200, body = DeliveryPage),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `webhooks:read`"),
    (status = 404, body = ProblemDetails, description = "`webhook_not_found`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn list(read: ReadRequest<Staff<WebhooksReadScope>, WebhookId>) -> RouteResult {
    let (state, query, id) = (&read.state, &read.query, read.target);
    let webhook = state.read_before_deadline(&read.request, state.store.find_webhook(id)).await?;
    webhook.ok_or_else(Error::webhook_not_found)?;
    query.reject_others(&["status", "limit", "cursor"])?;
    let parse = |text: &str| {
        text.parse::<webhook::DeliveryStatus>().map_err(|_| {
            let message = "status must be delivered, retrying or failed";
            Error::invalid_field("status", "invalid", message)
        })
    };
    let status = query.get("status").map(parse).transpose()?;
    let (limit, before) = (query.page_limit()?, query.parse_cursor::<AttemptId>()?);
    let found = state.store.list_delivery_attempts(id, status, before, limit + 1);
    let mut found = state.read_before_deadline(&read.request, found).await?;
    let next_cursor = cut_to_page(&mut found, limit, |attempt| attempt.id);
    let page = DeliveryPage { items: found.iter().map(Into::into).collect(), next_cursor };
    Ok(ApiResponse::json(StatusCode::OK, &page)?.with_no_store())
}

/// A delivery: an event at an endpoint.
pub(crate) struct DeliveryTarget {
    webhook: WebhookId,
    event: EventId,
}

impl Target for DeliveryTarget {
    fn parse(request: &HttpRequest) -> Result<Self, Error> {
        let path = request.match_info();
        let webhook = path.query("id").parse().map_err(|_| Error::webhook_not_found())?;
        let event = path.query("event_id").parse().map_err(|_| Error::delivery_not_found())?;
        Ok(Self { webhook, event })
    }

    async fn ensure_exists(
        &self,
        state: &AppState,
        request: &HttpRequest,
        _: Option<Caller>,
    ) -> Result<(), Error> {
        let found = state.store.find_delivery(self.webhook, self.event);
        match state.read_before_deadline(request, found).await? {
            (None, None) => Err(Error::delivery_not_found()),
            _ => Ok(()),
        }
    }
}

/// Deliver an event again.
///
/// Attempts go on counting. An event that was not delivered is held as long as its attempts are
/// listed, a delivered one as long as the shop holds it: at least the newest 20,000 events.
#[utoipa::path(post, path = "/api/webhooks/{id}/deliveries/{event_id}/redeliver",
operation_id = "redeliver_webhook_event",
tag = "Webhooks", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the webhook."),
    ("event_id" = Uuid, Path, description = "The id of the event."),
    ("Idempotency-Key" = Option<String>, Header),
), responses(
    (status = 202),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `webhooks`"),
    (status = 404, body = ProblemDetails,
        description = "`webhook_not_found`, `delivery_not_found`"),
    (status = 409, body = ProblemDetails,
        description = "`event_not_held`: it was delivered, and is not held any more"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn redeliver(change: ChangeRequest<Staff<WebhooksScope>, (), DeliveryTarget>) -> RouteResult {
    let context = change.context()?;
    let ticket = context.ticket.clone();
    let DeliveryTarget { webhook, event } = change.target;
    let message = RedeliverEvent { id: webhook, event_id: event, context };
    let reply: Reply<()> = ask(&change.state.webhooks, message, &ticket).await?;
    let render = |()| Ok(ApiResponse::new(StatusCode::ACCEPTED, web::Bytes::new()));
    Ok(ApiResponse::from_reply(StatusCode::ACCEPTED, reply, render)?.with_no_store())
}
