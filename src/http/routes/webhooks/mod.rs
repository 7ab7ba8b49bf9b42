//! The routes for webhooks: endpoints, and what was delivered to them.

pub(crate) mod deliveries;
pub(crate) mod requests;

use std::sync::Arc;

use actix_web::{
    http::StatusCode,
    web::{self, Bytes},
};
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use self::requests::{CreateWebhookRequest, PatchWebhookRequest, WebhookStatus, readable_families};
use crate::{
    actors::ask::ask,
    domain::{ids::WebhookId, webhook::Webhook},
    error::Error,
    events::schema::PauseReason,
    http::{
        request::{
            extract::{ChangeRequest, ReadRequest, Staff},
            query::cut_to_page,
            scopes::{WebhooksReadScope, WebhooksScope},
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
    },
    messages::{
        command_context::Reply,
        webhooks::{ChangeWebhook, CreateWebhook, DeleteWebhook, NewSecret, RotateSecret},
    },
};

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/webhooks").get(list).post(create))
        .service(web::resource("/api/webhooks/{id}").get(show).patch(patch).delete(delete))
        .service(web::resource("/api/webhooks/{id}/rotate").post(rotate));
    deliveries::configure_routes(config);
}

/// A webhook endpoint.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookResponse<'a> {
    id: Uuid,
    /// Where events are posted to.
    #[schema(examples("https://erp.example/souk"))]
    url: &'a str,
    /// Event types, prefixes such as `order.*`, or `*` for every type.
    #[schema(value_type = Vec<String>, example = json!(["order.*"]))]
    types: &'a [String],
    /// What the endpoint is for.
    #[schema(required, examples("orders for the ERP"))]
    description: Option<&'a str>,
    #[schema(value_type = WebhookStatus)]
    status: &'static str,
    /// Why it is paused: by staff, since it has answered 410, or since nothing could be delivered
    /// for `webhooks.pause_after`. It is null while it is active.
    #[schema(required, value_type = Option<PauseReason>)]
    paused_reason: Option<&'static str>,
    /// Counts the changes of the endpoint.
    #[schema(examples(1))]
    version: u64,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

/// An endpoint with a new secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewWebhookResponse<'a> {
    #[serde(flatten)]
    webhook: WebhookResponse<'a>,
    /// The secret that signs, as Standard Webhooks has it. It is shown this once: a repeat with the
    /// same `Idempotency-Key` has null here.
    #[schema(required, examples("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="))]
    secret: Option<&'a str>,
}

/// A page of endpoints, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookPage<'a> {
    items: Vec<WebhookResponse<'a>>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required, examples("IjAxOTM2ZjVlIg"))]
    next_cursor: Option<String>,
}

impl<'a> From<&'a Webhook> for WebhookResponse<'a> {
    fn from(webhook: &'a Webhook) -> Self {
        Self {
            id: webhook.id.as_uuid(),
            url: &webhook.details.url,
            types: &webhook.details.types,
            description: webhook.details.description.as_deref(),
            status: if webhook.paused.is_none() { "active" } else { "paused" },
            paused_reason: webhook.paused.map(crate::domain::webhook::PauseReason::as_str),
            version: webhook.version,
            created_at: webhook.created_at.to_string(),
            updated_at: webhook.updated_at.to_string(),
        }
    }
}

/// The JSON of an endpoint.
#[must_use]
pub fn render_webhook(webhook: &Webhook) -> Bytes {
    // A struct of strings and lists cannot fail to serialize.
    serde_json::to_vec(&WebhookResponse::from(webhook)).unwrap_or_default().into()
}

/// The JSON of an endpoint with a new secret, without the secret: as it is remembered for repeats.
#[must_use]
pub fn render_new_webhook(webhook: &Webhook) -> Bytes {
    with_secret(webhook, None)
}

fn with_secret(webhook: &Webhook, secret: Option<&str>) -> Bytes {
    let response = NewWebhookResponse { webhook: webhook.into(), secret };
    serde_json::to_vec(&response).unwrap_or_default().into()
}

fn webhook_response(webhook: &Webhook) -> ApiResponse {
    ApiResponse::ok(render_webhook(webhook)).with_etag(webhook.version).with_no_store()
}

fn secret_response(new: &NewSecret) -> ApiResponse {
    let body = with_secret(&new.webhook, Some(new.secret.expose_secret()));
    ApiResponse::ok(body).with_etag(new.webhook.version)
}

/// Create a webhook.
///
/// Each event of these types is posted to the URL from now on, as a CloudEvent, signed as Standard
/// Webhooks has it. The maker must be able to read events of these types.
#[utoipa::path(post, path = "/api/webhooks", operation_id = "create_webhook",
tag = "Webhooks", security(("bearer" = [])), request_body = CreateWebhookRequest, params(
    ("Idempotency-Key" = Option<String>, Header),
), responses(
    (status = 201, body = NewWebhookResponse, headers(("ETag" = String), ("Location" = String))),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `webhooks` that may read the `types`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `url_not_allowed`, `idempotency_key_reused`"),
))]
async fn create(change: ChangeRequest<Staff<WebhooksScope>, CreateWebhookRequest>) -> RouteResult {
    let context = change.context()?;
    let ticket = context.ticket.clone();
    let created_by = change.caller.user_id;
    let (details, active) = change.body.parse()?;
    let readable = readable_families(&change.caller);
    let message = CreateWebhook { details, active, readable, created_by, context };
    let reply = ask(&change.state.webhooks, message, &ticket).await?;
    let render = |new: NewSecret| {
        let location = format!("/api/webhooks/{}", new.webhook.id);
        Ok(secret_response(&new).with_location(location))
    };
    Ok(ApiResponse::from_reply(StatusCode::CREATED, reply, render)?.with_no_store())
}

/// List webhooks, newest first.
///
/// Their secrets are not shown.
#[utoipa::path(get, path = "/api/webhooks", operation_id = "list_webhooks",
tag = "Webhooks", security(("bearer" = [])), params(
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of items on a page. The default is 20."),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
), responses(
    (status = 200, body = WebhookPage),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `webhooks:read`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn list(read: ReadRequest<Staff<WebhooksReadScope>>) -> RouteResult {
    let (state, query) = (&read.state, &read.query);
    query.reject_others(&["limit", "cursor"])?;
    let (limit, before) = (query.page_limit()?, query.parse_cursor::<WebhookId>()?);
    let found = state.store.list_webhooks(before, limit + 1);
    let mut found = state.read_before_deadline(&read.request, found).await?;
    let next_cursor = cut_to_page(&mut found, limit, |webhook| webhook.id);
    let page = WebhookPage { items: found.iter().map(Into::into).collect(), next_cursor };
    Ok(ApiResponse::json(StatusCode::OK, &page)?.with_no_store())
}

/// Get a webhook.
///
/// Its secret is not shown.
#[utoipa::path(get, path = "/api/webhooks/{id}", operation_id = "get_webhook",
tag = "Webhooks", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the webhook."),
    ("If-None-Match" = Option<String>, Header),
), responses(
    (status = 200, body = WebhookResponse),
    (status = 304, description = "`If-None-Match` names the current ETag."),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `webhooks:read`"),
    (status = 404, body = ProblemDetails, description = "`webhook_not_found`"),
))]
async fn show(read: ReadRequest<Staff<WebhooksReadScope>, WebhookId>) -> RouteResult {
    let found = read.state.store.find_webhook(read.target);
    let webhook = read.state.read_before_deadline(&read.request, found).await?;
    let webhook = webhook.ok_or_else(Error::webhook_not_found)?;
    read.query.reject_others(&[])?;
    Ok(webhook_response(&webhook))
}

/// Change a webhook.
///
/// The body is a merge patch (RFC 7396). Made active again, a webhook goes on where it stopped, as
/// far as events are held: 72 hours at least.
#[utoipa::path(patch, path = "/api/webhooks/{id}", operation_id = "patch_webhook",
tag = "Webhooks", security(("bearer" = [])), request_body(content(
    (PatchWebhookRequest = "application/json"),
    (PatchWebhookRequest = "application/merge-patch+json"),
)), params(
    ("id" = Uuid, Path, description = "The id of the webhook."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = WebhookResponse),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `webhooks` that may read the `types`"),
    (status = 404, body = ProblemDetails, description = "`webhook_not_found`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `url_not_allowed`, `idempotency_key_reused`"),
))]
async fn patch(
    change: ChangeRequest<Staff<WebhooksScope>, PatchWebhookRequest, WebhookId>,
) -> RouteResult {
    let context = change.context()?;
    let ticket = context.ticket.clone();
    let patch = change.body.parse()?;
    let readable = readable_families(&change.caller);
    let message = ChangeWebhook { id: change.target, patch, readable, context };
    let reply = ask(&change.state.webhooks, message, &ticket).await?;
    let render = |webhook: Arc<Webhook>| Ok(webhook_response(&webhook));
    Ok(ApiResponse::from_reply(StatusCode::OK, reply, render)?.with_no_store())
}

/// Delete a webhook.
///
/// What waits for it is not delivered any more.
#[utoipa::path(delete, path = "/api/webhooks/{id}", operation_id = "delete_webhook",
tag = "Webhooks", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the webhook."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 204),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `webhooks`"),
    (status = 404, body = ProblemDetails, description = "`webhook_not_found`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn delete(change: ChangeRequest<Staff<WebhooksScope>, (), WebhookId>) -> RouteResult {
    let context = change.context()?;
    let ticket = context.ticket.clone();
    let message = DeleteWebhook { id: change.target, context };
    let reply: Reply<()> = ask(&change.state.webhooks, message, &ticket).await?;
    let render = |()| Ok(ApiResponse::no_content());
    Ok(ApiResponse::from_reply(StatusCode::NO_CONTENT, reply, render)?.with_no_store())
}

/// Give a webhook a new secret.
///
/// For `webhooks.rotation_overlap` (24 hours), each delivery is signed with the old secret, too.
#[utoipa::path(post, path = "/api/webhooks/{id}/rotate", operation_id = "rotate_webhook_secret",
tag = "Webhooks", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the webhook."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = NewWebhookResponse),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `webhooks`"),
    (status = 404, body = ProblemDetails, description = "`webhook_not_found`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn rotate(change: ChangeRequest<Staff<WebhooksScope>, (), WebhookId>) -> RouteResult {
    let context = change.context()?;
    let ticket = context.ticket.clone();
    let message = RotateSecret { id: change.target, context };
    let reply = ask(&change.state.webhooks, message, &ticket).await?;
    let render = |new: NewSecret| Ok(secret_response(&new));
    Ok(ApiResponse::from_reply(StatusCode::OK, reply, render)?.with_no_store())
}
