//! The routes for API keys.

use actix_web::{
    http::StatusCode,
    web::{self, Bytes},
};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    actors::ask::ask,
    domain::{
        account::{ApiKey, ApiKeyRequest, ScopeSet},
        clock::Timestamp,
        ids::ApiKeyId,
        validation::ValidationErrors,
    },
    events::schema::Scope,
    http::{
        request::{
            body::JsonRequest,
            extract::{Admin, ChangeRequest, ReadRequest},
            query::cut_to_page,
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
    },
    messages::{
        accounts::{CreateApiKey, DeleteApiKey, NewApiKey},
        command_context::Reply,
    },
};

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/api-keys").get(list).post(create))
        .service(web::resource("/api/api-keys/{id}").delete(delete));
}

/// A new API key.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CreateApiKeyRequest {
    /// What the key is for.
    #[schema(min_length = 1, max_length = 100, example = "warehouse")]
    name: String,
    /// What the key may do, at least one scope.
    #[schema(value_type = Vec<Scope>, min_items = 1)]
    scopes: Vec<String>,
    /// When the key ends by itself. Without it, the key is good until it is deleted.
    #[schema(format = DateTime, nullable = true)]
    expires_at: Option<String>,
}

impl JsonRequest for CreateApiKeyRequest {}

impl CreateApiKeyRequest {
    fn parse(&self) -> Result<ApiKeyRequest, ValidationErrors> {
        let mut errors = ValidationErrors::new();
        let scopes = errors.record_result(ScopeSet::parse(&self.scopes));
        let expires_at = self.expires_at.as_deref().and_then(|text| {
            let time = Timestamp::parse(text);
            if time.is_none() {
                let message = "expires_at must be a time such as 2026-12-31T23:59:59Z";
                errors.add("expires_at", "invalid", message);
            }
            time
        });
        let scopes = scopes.unwrap_or_default();
        errors.into_result(ApiKeyRequest { name: self.name.clone(), scopes, expires_at })
    }
}

/// An API key. The key itself is not kept.
#[derive(Serialize, ToSchema)]
pub(crate) struct ApiKeyResponse<'a> {
    id: Uuid,
    #[schema(examples("warehouse"))]
    name: &'a str,
    #[schema(value_type = Vec<Scope>)]
    scopes: Vec<&'static str>,
    /// The beginning of the key.
    #[schema(examples("souk_Xv3kQ9"))]
    prefix: &'a str,
    /// The admin who made it.
    created_by: Uuid,
    #[schema(format = DateTime)]
    created_at: String,
    /// When the key ends by itself.
    #[schema(required, format = DateTime)]
    expires_at: Option<String>,
    /// When it was used last, some seconds behind for uses on other nodes.
    #[schema(required, format = DateTime)]
    last_used_at: Option<String>,
}

/// A new API key, with the key.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewApiKeyResponse<'a> {
    #[serde(flatten)]
    record: ApiKeyResponse<'a>,
    /// The key. It is shown this once: a repeat with the same `Idempotency-Key` has null here.
    #[schema(required, examples("souk_Xv3kQ9mB2tYcW7rLhP4sZ8dNfG1jUaE6oTiKxVqR"))]
    key: Option<&'a str>,
}

/// A page of API keys, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct ApiKeyPage<'a> {
    items: Vec<ApiKeyResponse<'a>>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required, examples("IjAxOTM2ZjVlIg"))]
    next_cursor: Option<String>,
}

impl<'a> ApiKeyResponse<'a> {
    fn new(key: &'a ApiKey, last_used_at: Option<Timestamp>) -> Self {
        Self {
            id: key.id.as_uuid(),
            name: &key.name,
            scopes: key.scopes.names(),
            prefix: &key.prefix,
            created_by: key.created_by.as_uuid(),
            created_at: key.created_at.to_string(),
            expires_at: key.expires_at.map(|at| at.to_string()),
            last_used_at: last_used_at.max(key.last_used_at).map(|at| at.to_string()),
        }
    }
}

/// The JSON of a new API key, without the key: as it is remembered for repeats.
#[must_use]
pub fn render_api_key(key: &ApiKey) -> Bytes {
    to_json(key, None)
}

fn to_json(key: &ApiKey, secret: Option<&str>) -> Bytes {
    let response = NewApiKeyResponse { record: ApiKeyResponse::new(key, None), key: secret };
    // A struct of strings and lists cannot fail to serialize.
    serde_json::to_vec(&response).unwrap_or_default().into()
}

/// Create an API key.
///
/// Another program sends the key as a bearer token. It may do what a member of staff with its
/// scopes may do, over HTTP, gRPC and the event feed, until it expires or is deleted, even when its
/// maker is gone. It has no account and no cart. One admin may have made 100 keys that are not
/// deleted.
#[utoipa::path(post, path = "/api/api-keys", operation_id = "create_api_key",
tag = "API keys", security(("bearer" = [])), request_body = CreateApiKeyRequest, params(
    ("Idempotency-Key" = Option<String>, Header),
), responses(
    (status = 201, body = NewApiKeyResponse),
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for admins"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`: also without a scope, or with an `expires_at` that \
            has passed; `api_key_limit`; `idempotency_key_reused`"),
))]
async fn create(change: ChangeRequest<Admin, CreateApiKeyRequest>) -> RouteResult {
    let context = change.context()?;
    let ticket = context.ticket.clone();
    let created_by = change.caller.user_id;
    let message = CreateApiKey { request: change.body.parse()?, created_by, context };
    let reply: Reply<NewApiKey> = ask(&change.state.accounts, message, &ticket).await?;
    let render = |new: NewApiKey| {
        let body = to_json(&new.key, Some(new.secret.expose_secret()));
        Ok(ApiResponse::ok(body))
    };
    Ok(ApiResponse::from_reply(StatusCode::CREATED, reply, render)?.with_no_store())
}

/// List API keys, newest first.
///
/// Expired keys are listed, deleted ones are not.
#[utoipa::path(get, path = "/api/api-keys", operation_id = "list_api_keys",
tag = "API keys", security(("bearer" = [])), params(
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of items on a page. The default is 20."),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
), responses(
    (status = 200, body = ApiKeyPage),
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for admins"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn list(read: ReadRequest<Admin>) -> RouteResult {
    let (state, query) = (&read.state, &read.query);
    query.reject_others(&["limit", "cursor"])?;
    let (limit, before) = (query.page_limit()?, query.parse_cursor::<ApiKeyId>()?);
    let keys = state.store.list_api_keys(before, limit + 1);
    let mut found = state.read_before_deadline(&read.request, keys).await?;
    let next_cursor = cut_to_page(&mut found, limit, |key| key.id);
    let last_use = |key: &ApiKey| state.authenticator.last_use_of_key(key.id);
    let items = found.iter().map(|key| ApiKeyResponse::new(key, last_use(key))).collect();
    let page = ApiKeyPage { items, next_cursor };
    Ok(ApiResponse::json(StatusCode::OK, &page)?.with_no_store())
}

/// Delete an API key.
///
/// When the response arrives, every node refuses the key.
#[utoipa::path(delete, path = "/api/api-keys/{id}", operation_id = "delete_api_key",
tag = "API keys", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the key, which is not the key itself."),
    ("Idempotency-Key" = Option<String>, Header),
), responses(
    (status = 204),
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for admins"),
    (status = 404, body = ProblemDetails, description = "`api_key_not_found`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn delete(change: ChangeRequest<Admin, (), ApiKeyId>) -> RouteResult {
    let context = change.context()?;
    let ticket = context.ticket.clone();
    let message = DeleteApiKey { id: change.target, context };
    let reply: Reply<()> = ask(&change.state.accounts, message, &ticket).await?;
    let response =
        ApiResponse::from_reply(StatusCode::NO_CONTENT, reply, |()| Ok(ApiResponse::no_content()));
    Ok(response?.with_no_store())
}
