//! Accounts and sessions.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::cart::verify_guest_token;
use crate::http::{
    request,
    response::{self, RouteResult, problem::ProblemDetails},
    state::AppState,
};
use crate::{
    actors::ask::ask,
    domain::{
        account::{Email, Password, Role, User, validate_account_name},
        cart::CartOwner,
        ids::UserId,
        validation::ValidationErrors,
    },
    error::Error,
    messages::{
        accounts::{
            AuthenticatedSession, ChangePassword, GetUser, Login, Logout, RefreshSession,
            RegisterUser,
        },
        cart::MergeCart,
        change::CommandContext,
    },
};

/// The routes.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/auth/register").post(register))
        .service(web::resource("/api/auth/login").post(login))
        .service(web::resource("/api/auth/refresh").post(refresh))
        .service(web::resource("/api/auth/logout").post(logout))
        .service(web::resource("/api/auth/validate").post(validate))
        .service(web::resource("/api/auth/me").get(me))
        .service(web::resource("/api/auth/password").post(password))
        .service(web::resource("/.well-known/jwks.json").get(jwks));
}

/// A new account.
#[derive(Deserialize, ToSchema)]
pub(crate) struct RegisterRequest {
    #[schema(example = "ada@example.com")]
    email: String,
    /// 8 characters to 71 bytes.
    #[schema(min_length = 8, max_length = 71)]
    password: String,
    #[schema(min_length = 1, max_length = 100, example = "Ada")]
    name: String,
    /// A guest's cart to take over.
    guest_token: Option<String>,
}

/// A login.
#[derive(Deserialize, ToSchema)]
pub(crate) struct LoginRequest {
    email: String,
    password: String,
    /// A guest's cart to take over.
    guest_token: Option<String>,
}

/// A session to go on with.
#[derive(Deserialize, ToSchema)]
pub(crate) struct RefreshRequest {
    /// Used up by this; the answer has the next one.
    refresh_token: String,
}

/// A token to look at.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ValidateRequest {
    token: String,
}

/// A new password.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PasswordRequest {
    current_password: String,
    /// 8 characters to 71 bytes.
    #[schema(min_length = 8, max_length = 71)]
    new_password: String,
}

/// The tokens of a session.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionResponse<'a> {
    /// The access token, for `Authorization: Bearer`.
    token: String,
    refresh_token: String,
    /// Seconds until the access token ends.
    expires_in: u64,
    user: UserResponse<'a>,
    /// Whether a guest's cart was taken over.
    cart_merged: bool,
}

/// An account.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserResponse<'a> {
    id: Uuid,
    email: &'a str,
    name: &'a str,
    /// `customer` or `admin`.
    role: &'static str,
    #[schema(format = DateTime)]
    created_at: String,
}

/// What a token is worth.
#[derive(Serialize, ToSchema)]
pub(crate) struct ValidateResponse {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// Why it is not valid: `unauthenticated` or `token_expired`.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

impl<'a> From<&'a User> for UserResponse<'a> {
    fn from(user: &'a User) -> Self {
        Self {
            id: user.id.as_uuid(),
            email: user.email.as_str(),
            name: &user.name,
            role: user.role.as_str(),
            created_at: user.created_at.to_string(),
        }
    }
}

/// Open an account.
#[utoipa::path(post, path = "/api/auth/register", tag = "Auth", request_body = RegisterRequest, responses(
    (status = 201, body = SessionResponse),
    (status = 409, body = ProblemDetails, description = "`email_taken`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn register(request: HttpRequest, payload: web::Payload) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let body = request::read_json::<RegisterRequest>(&request, payload).await?.value;
    let mut faults = ValidationErrors::new();
    let email = faults.record_result(Email::parse(&body.email));
    let password = faults.record_result(Password::parse("password", body.password));
    faults.record_result(validate_account_name(&body.name));
    let (Some(email), Some(password), true) = (email, password, faults.is_empty()) else {
        return Err(faults.into());
    };
    let guest = guest_id_if_valid(services, body.guest_token.as_deref());
    let ticket = services.request_ticket(&request);
    let message = RegisterUser {
        email,
        password,
        name: body.name,
        role: Role::Customer,
        ticket: ticket.clone(),
        trace: request::trace_parent(request.headers()),
    };
    let login = ask(&services.accounts, message, &ticket).await?;
    session_response(&request, services, StatusCode::CREATED, login, guest).await
}

/// Begin a session.
#[utoipa::path(post, path = "/api/auth/login", tag = "Auth", request_body = LoginRequest, responses(
    (status = 200, body = SessionResponse),
    (status = 401, body = ProblemDetails, description = "`invalid_credentials`"),
    (status = 429, body = ProblemDetails, description = "`rate_limited`: too many failed logins"),
))]
async fn login(request: HttpRequest, payload: web::Payload) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let body = request::read_json::<LoginRequest>(&request, payload).await?.value;
    let guest = guest_id_if_valid(services, body.guest_token.as_deref());
    let ticket = services.request_ticket(&request);
    let message = Login {
        email: Email::parse(&body.email).ok(),
        password: Password::unvalidated(body.password),
        address: services.client_address(&request),
        ticket: ticket.clone(),
    };
    let login = ask(&services.accounts, message, &ticket)
        .await
        .map_err(|error| services.with_login_limit_headers(&request, error))?;
    session_response(&request, services, StatusCode::OK, login, guest).await
}

/// Go on with a session: new tokens for the refresh token.
///
/// A refresh token is good once. One that is used again ends its session, for it may have been stolen.
#[utoipa::path(post, path = "/api/auth/refresh", tag = "Auth", request_body = RefreshRequest, responses(
    (status = 200, body = SessionResponse),
    (status = 401, body = ProblemDetails, description = "`unauthenticated`, `token_expired`"),
))]
async fn refresh(request: HttpRequest, payload: web::Payload) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let body = request::read_json::<RefreshRequest>(&request, payload).await?.value;
    let ticket = services.request_ticket(&request);
    let trace = request::trace_parent(request.headers());
    let message =
        RefreshSession { refresh_token: body.refresh_token, ticket: ticket.clone(), trace };
    let login = ask(&services.accounts, message, &ticket).await?;
    session_response(&request, services, StatusCode::OK, login, None).await
}

/// End the session: its tokens stop working everywhere.
#[utoipa::path(post, path = "/api/auth/logout", tag = "Auth", security(("bearer" = [])), responses(
    (status = 204), (status = 401, body = ProblemDetails, description = "`unauthenticated`, `token_expired`"),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no session to end"),
))]
async fn logout(request: HttpRequest) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let caller = services.require_account(&request)?;
    let ticket = services.request_ticket(&request);
    let trace = request::trace_parent(request.headers());
    ask(
        &services.accounts,
        Logout { session_id: caller.session_id, ticket: ticket.clone(), trace },
        &ticket,
    )
    .await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What an access token is worth, for services that cannot check one themselves.
#[utoipa::path(post, path = "/api/auth/validate", tag = "Auth", request_body = ValidateRequest, responses(
    (status = 200, body = ValidateResponse),
))]
async fn validate(request: HttpRequest, payload: web::Payload) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let body = request::read_json::<ValidateRequest>(&request, payload).await?.value;
    let response = match services.caller_from_token(&body.token) {
        Ok(caller) => ValidateResponse {
            valid: true,
            user_id: Some(caller.user_id.as_uuid()),
            role: Some(caller.role.as_str()),
            expires_at: Some(caller.expires_at.to_string()),
            code: None,
        },
        Err(error) => ValidateResponse {
            valid: false,
            user_id: None,
            role: None,
            expires_at: None,
            code: Some(error.code.as_str()),
        },
    };
    response::json_response(StatusCode::OK, &response)
}

/// The caller's account.
#[utoipa::path(get, path = "/api/auth/me", tag = "Auth", security(("bearer" = [])), responses(
    (status = 200, body = UserResponse),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no account"),
))]
async fn me(request: HttpRequest) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let caller = services.require_account(&request)?;
    let user = ask(
        &services.accounts,
        GetUser { user_id: caller.user_id },
        &services.request_ticket(&request),
    )
    .await?;
    response::json_response(StatusCode::OK, &UserResponse::from(&user))
}

/// Choose a new password. The account's other sessions end.
#[utoipa::path(post, path = "/api/auth/password", tag = "Auth", security(("bearer" = [])), request_body = PasswordRequest, responses(
    (status = 204),
    (status = 401, body = ProblemDetails, description = "`invalid_credentials`: the current password is wrong"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
    (status = 429, body = ProblemDetails, description = "`rate_limited`: too many failed logins"),
))]
async fn password(request: HttpRequest, payload: web::Payload) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let caller = services.require_account(&request)?;
    let body = request::read_json::<PasswordRequest>(&request, payload).await?.value;
    let ticket = services.request_ticket(&request);
    let message = ChangePassword {
        user_id: caller.user_id,
        session_id: caller.session_id,
        current: Password::unvalidated(body.current_password),
        new: Password::parse("new_password", body.new_password)?,
        address: services.client_address(&request),
        ticket: ticket.clone(),
        trace: request::trace_parent(request.headers()),
    };
    ask(&services.accounts, message, &ticket)
        .await
        .map_err(|error| services.with_login_limit_headers(&request, error))?;
    Ok(HttpResponse::NoContent().finish())
}

/// The public keys that access tokens can be checked with (RFC 7517); none when they are signed with a shared secret.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "Auth", responses((status = 200)))]
async fn jwks(request: HttpRequest) -> RouteResult {
    response::json_response(StatusCode::OK, AppState::from_request(&request)?.tokens.jwks())
}

/// The guest whose cart shall be taken over. A token that is not good, or not any more, keeps nobody from logging in.
fn guest_id_if_valid(services: &AppState, token: Option<&str>) -> Option<UserId> {
    verify_guest_token(services, token?).ok()
}

async fn session_response(
    request: &HttpRequest,
    services: &AppState,
    status: StatusCode,
    login: AuthenticatedSession,
    guest: Option<UserId>,
) -> RouteResult {
    let AuthenticatedSession { user, session_id, refresh_token } = login;
    let access = services.tokens.issue_session_token(user.id, user.role, session_id)?;
    let cart_merged = match guest {
        Some(guest) => merge_guest_cart(request, services, user.id, guest).await,
        None => false,
    };
    let (token, expires_in) = (access.token, access.expires_in);
    response::uncached_json_response(
        status,
        &SessionResponse { token, refresh_token, expires_in, user: (&user).into(), cart_merged },
    )
}

/// Takes the guest's cart over. A cart that cannot be merged is left alone; the login stands.
async fn merge_guest_cart(
    request: &HttpRequest,
    services: &AppState,
    user: UserId,
    guest: UserId,
) -> bool {
    let change = CommandContext {
        idempotency_key: None,
        if_match: None,
        ticket: services.request_ticket(request),
        trace: request::trace_parent(request.headers()),
    };
    let merged = services
        .carts
        .merge_guest_cart(
            CartOwner { id: user, is_guest: false },
            MergeCart { guest_id: guest, context: change },
        )
        .await;
    if let Err(Error { code, .. }) = &merged {
        tracing::info!(%user, %guest, code = code.as_str(), "a guest's cart was not merged at login");
    }
    merged.is_ok()
}
