//! The routes for accounts as staff sees them.

use actix_web::{
    http::StatusCode,
    web::{self, Bytes},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    actors::ask::ask,
    domain::{
        account::{Email, RightsChange, Role, ScopeSet, User, UserFilter},
        ids::UserId,
        validation::ValidationErrors,
    },
    error::Error,
    events::schema::{AccountRole, Scope},
    http::{
        request::{
            body::JsonRequest,
            extract::{Admin, ChangeRequest, ReadRequest, Staff},
            query::{QueryParams, cut_to_page},
            scopes::CustomersReadScope,
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
    },
    messages::{accounts::ChangeRights, command_context::Reply},
};

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/users").get(list))
        .service(web::resource("/api/users/{id}").get(show).patch(patch));
}

/// An account.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserResponse<'a> {
    id: Uuid,
    #[schema(examples("ada@example.com"))]
    email: &'a str,
    #[schema(examples("Ada"))]
    name: &'a str,
    #[schema(value_type = AccountRole)]
    role: &'static str,
    /// What a member of staff may do. Empty for every other role; an admin may do everything.
    #[schema(value_type = Vec<Scope>)]
    scopes: Vec<&'static str>,
    /// Whether the account can neither log in nor use a token.
    #[schema(examples(false))]
    blocked: bool,
    /// Whether the account has shown that the e-mail address is its own.
    #[schema(examples(false))]
    email_verified: bool,
    /// Counts the changes of the account, logins included.
    #[schema(examples(3))]
    version: u64,
    #[schema(format = DateTime)]
    created_at: String,
    /// When a session was last started.
    #[schema(format = DateTime)]
    last_login_at: Option<String>,
}

impl<'a> From<&'a User> for UserResponse<'a> {
    fn from(user: &'a User) -> Self {
        Self {
            id: user.id.as_uuid(),
            email: user.email.as_str(),
            name: &user.name,
            role: user.role.as_str(),
            scopes: user.scopes.names(),
            blocked: user.blocked,
            email_verified: user.email_verified,
            version: user.version,
            created_at: user.created_at.to_string(),
            last_login_at: user.last_login_at.map(|at| at.to_string()),
        }
    }
}

/// A page of accounts.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserPage<'a> {
    items: Vec<UserResponse<'a>>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required, examples("IjAxOTM2ZjVlIg"))]
    next_cursor: Option<String>,
}

/// A change of an account's rights. What is absent stays as it is.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PatchUserRequest {
    /// The new role. Leaving `staff` removes all scopes.
    #[schema(value_type = Option<AccountRole>)]
    role: Option<String>,
    /// All scopes that the account then has. Only for the role `staff`.
    #[schema(value_type = Option<Vec<Scope>>)]
    scopes: Option<Vec<String>>,
    /// Whether the account is blocked. Either change ends all of its sessions.
    #[schema(examples(true))]
    blocked: Option<bool>,
}

impl JsonRequest for PatchUserRequest {
    const MEDIA_TYPES: &'static [&'static str] =
        &["application/merge-patch+json", "application/json"];
}

impl PatchUserRequest {
    fn parse(self) -> Result<RightsChange, ValidationErrors> {
        let mut errors = ValidationErrors::new();
        let role = self.role.and_then(|role| parse_role(&role, &mut errors));
        let scopes = self.scopes.and_then(|names| errors.record_result(ScopeSet::parse(&names)));
        errors.into_result(RightsChange { role, scopes, blocked: self.blocked })
    }
}

/// The role of an account. A guest has none.
fn parse_role(text: &str, errors: &mut ValidationErrors) -> Option<Role> {
    let role = text.parse::<Role>().ok().filter(|role| *role != Role::Guest);
    if role.is_none() {
        errors.add("role", "invalid", "role must be customer, staff or admin".to_owned());
    }
    role
}

/// The response with one account.
pub(super) fn user_response(user: &User) -> ApiResponse {
    ApiResponse::ok(render_user(user)).with_etag(user.version).with_no_store()
}

/// The JSON of an account.
#[must_use]
pub fn render_user(user: &User) -> Bytes {
    // A struct of strings, numbers and lists cannot fail to serialize.
    serde_json::to_vec(&UserResponse::from(user)).unwrap_or_default().into()
}

/// List accounts, newest first.
///
/// Each parameter narrows the list. Guests have no account.
#[utoipa::path(get, path = "/api/users", operation_id = "list_users",
tag = "Users", security(("bearer" = [])), params(
    ("q" = Option<String>, Query, example = "ada",
        description = "Words, each the beginning of a word of the name or the e-mail address"),
    ("email" = Option<String>, Query, example = "ada@example.com",
        description = "The e-mail address, in upper or lower case"),
    ("role" = Option<AccountRole>, Query, description = "Only accounts with this role"),
    ("blocked" = Option<bool>, Query, example = false,
        description = "Only accounts that are blocked, or only those that are not"),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of items on a page. The default is 20."),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
), responses(
    (status = 200, body = UserPage),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `customers:read`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn list(read: ReadRequest<Staff<CustomersReadScope>>) -> RouteResult {
    let (state, query) = (&read.state, &read.query);
    query.reject_others(&["q", "email", "role", "blocked", "limit", "cursor"])?;
    let filter = parse_filter(query).map_err(Error::from)?;
    let (limit, before) = (query.page_limit()?, query.parse_cursor::<UserId>()?);
    let users = state.store.list_users(filter, before, limit + 1);
    let mut found = state.read_before_deadline(&read.request, users).await?;
    let next_cursor = cut_to_page(&mut found, limit, |user| user.id);
    let page = UserPage { items: found.iter().map(UserResponse::from).collect(), next_cursor };
    Ok(ApiResponse::json(StatusCode::OK, &page)?.with_no_store())
}

fn parse_filter(query: &QueryParams) -> Result<UserFilter, ValidationErrors> {
    let mut errors = ValidationErrors::new();
    let filter = UserFilter {
        words: query.get("q").map(UserFilter::split_words).unwrap_or_default(),
        email: query.get("email").and_then(|text| errors.record_result(Email::parse(text))),
        role: query.get("role").and_then(|role| parse_role(role, &mut errors)),
        blocked: query.flag("blocked", &mut errors),
    };
    if query.get("q").is_some() && filter.words.is_empty() {
        errors.add("q", "required", "q must have a letter or a digit".to_owned());
    }
    errors.into_result(filter)
}

/// Get an account.
///
/// Its owner gets the same with `GET /api/auth/me`.
#[utoipa::path(get, path = "/api/users/{id}", operation_id = "get_user",
tag = "Users", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the account."),
    ("If-None-Match" = Option<String>, Header),
), responses(
    (status = 200, body = UserResponse),
    (status = 304, description = "`If-None-Match` names the current ETag."),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `customers:read`"),
    (status = 404, body = ProblemDetails, description = "`user_not_found`"),
))]
async fn show(read: ReadRequest<Staff<CustomersReadScope>, UserId>) -> RouteResult {
    let found = read.state.store.find_user(read.target);
    let user = read.state.read_before_deadline(&read.request, found).await?;
    let user = user.ok_or_else(Error::user_not_found)?;
    read.query.reject_others(&[])?;
    Ok(user_response(&user))
}

/// Change what an account may do.
///
/// When the response arrives, every node goes by the change: the account's tokens go on with the
/// new rights. A blocked account can neither log in nor use a token, and all of its sessions end.
/// One admin that is not blocked always remains.
#[utoipa::path(patch, path = "/api/users/{id}", operation_id = "patch_user",
tag = "Users", security(("bearer" = [])), request_body(content(
    (PatchUserRequest = "application/json"), (PatchUserRequest = "application/merge-patch+json"),
)), params(
    ("id" = Uuid, Path, description = "The id of the account."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = UserResponse),
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for admins"),
    (status = 404, body = ProblemDetails, description = "`user_not_found`"),
    (status = 409, body = ProblemDetails,
        description = "`last_admin`: no other admin would remain that is not blocked"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`: also `scopes` without the role `staff`; \
            `idempotency_key_reused`"),
))]
async fn patch(mut change: ChangeRequest<Admin, PatchUserRequest, UserId>) -> RouteResult {
    let context = change.context()?;
    let body = std::mem::replace(
        &mut change.body,
        PatchUserRequest { role: None, scopes: None, blocked: None },
    );
    let message = ChangeRights { user_id: change.target, change: body.parse()?, context };
    let ticket = message.context.ticket.clone();
    let reply: Reply<User> = ask(&change.state.accounts, message, &ticket).await?;
    let render = |user: User| Ok(user_response(&user));
    Ok(ApiResponse::from_reply(StatusCode::OK, reply, render)?.with_no_store())
}
