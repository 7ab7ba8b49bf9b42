//! The routes for accounts, sessions, and tokens.

use actix_web::{http::StatusCode, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::cart::verify_guest_token;
use crate::{
    actors::ask::ask,
    domain::{
        account::{Email, Password, Role, User, validate_account_name},
        cart::CartOwner,
        ids::UserId,
        validation::ValidationErrors,
    },
    error::Error,
    events::schema::AccountRole,
    http::{
        openapi::enums::{self, TokenFault},
        request::{
            body::{JsonRequest, RequestBody},
            extract::{Access, Account, Anyone, ChangeRequest, ReadRequest},
        },
        response::{Answer, RouteResult, problem::ProblemDetails},
        state::AppState,
    },
    messages::{
        accounts::{
            AuthenticatedSession, ChangePassword, GetUser, Login, Logout, RefreshSession,
            RegisterUser,
        },
        cart::MergeCart,
        change::CommandContext,
    },
};

/// Registers the routes of this module.
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

/// An account to register.
#[derive(Deserialize, ToSchema)]
pub(crate) struct RegisterRequest {
    #[schema(example = "ada@example.com")]
    email: String,
    /// 8 characters to 71 bytes.
    #[schema(min_length = 8, max_length = 71, examples("correct horse battery"))]
    password: String,
    #[schema(min_length = 1, max_length = 100, example = "Ada")]
    name: String,
    /// The token of a guest whose cart to merge.
    #[schema(examples("eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"))]
    guest_token: Option<String>,
}

/// A login.
#[derive(Deserialize, ToSchema)]
pub(crate) struct LoginRequest {
    #[schema(examples("ada@example.com"))]
    email: String,
    #[schema(examples("correct horse battery"))]
    password: String,
    /// The token of a guest whose cart to merge.
    #[schema(examples("eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"))]
    guest_token: Option<String>,
}

/// A session to continue.
#[derive(Deserialize, ToSchema)]
pub(crate) struct RefreshRequest {
    /// The refresh token. It is replaced by the one in the response.
    #[schema(examples("rt_5vXcQ2o8tYkq1nWmZpL7"))]
    refresh_token: String,
}

/// A token to check.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ValidateRequest {
    #[schema(examples("eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"))]
    token: String,
}

/// A new password.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PasswordRequest {
    #[schema(examples("correct horse battery"))]
    current_password: String,
    /// 8 characters to 71 bytes.
    #[schema(min_length = 8, max_length = 71, examples("staple correct horse"))]
    new_password: String,
}

/// The tokens of a session.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionResponse<'a> {
    /// The access token, for `Authorization: Bearer`.
    #[schema(examples("eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"))]
    token: String,
    #[schema(examples("rt_5vXcQ2o8tYkq1nWmZpL7"))]
    refresh_token: String,
    /// The number of seconds until the access token expires.
    #[schema(examples(900))]
    expires_in: u64,
    user: UserResponse<'a>,
    /// Whether a guest's cart was merged.
    cart_merged: bool,
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
    #[schema(format = DateTime)]
    created_at: String,
}

/// Whether a token is valid. A valid one has `user_id`, `role` and `expires_at`, another `code`.
#[derive(Serialize, ToSchema)]
#[schema(examples(
    json!({"valid": true, "user_id": "01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d", "role": "customer",
        "expires_at": "2026-03-14T09:41:53.000Z"}),
    json!({"valid": false, "code": "token_expired"})
))]
pub(crate) struct ValidateResponse {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = enums::Role, required = false)]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = TokenFault, required = false)]
    code: Option<&'static str>,
}

/// A JSON Web Key Set (RFC 7517).
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `token` publishes")]
pub(crate) struct KeySetResponse {
    keys: Vec<KeyResponse>,
}

/// A public key (RFC 8037). It is the only one, of the kind `OKP`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as with `KeySetResponse`")]
pub(crate) struct KeyResponse {
    #[schema(examples("OKP"))]
    kty: String,
    #[schema(examples("Ed25519"))]
    crv: String,
    /// The key itself.
    #[schema(examples("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"))]
    x: String,
    #[schema(examples("EdDSA"))]
    alg: String,
    /// The thumbprint of the key (RFC 7638).
    #[schema(examples("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"))]
    kid: String,
    #[serde(rename = "use")]
    #[schema(examples("sig"))]
    usage: String,
}

impl JsonRequest for RegisterRequest {}

impl JsonRequest for LoginRequest {}

impl JsonRequest for RefreshRequest {}

impl JsonRequest for ValidateRequest {}

impl JsonRequest for PasswordRequest {}

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

/// Register an account.
///
/// The response contains the tokens of a new session. With `guest_token`, the guest's cart is
/// merged into the account's. `cart_merged` says whether it was.
#[utoipa::path(post, path = "/api/auth/register", operation_id = "register_account",
tag = "Auth", security(()), request_body = RegisterRequest, responses(
    (status = 201, body = SessionResponse),
    (status = 409, body = ProblemDetails, description = "`email_taken`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn register(mut change: ChangeRequest<Anyone, RegisterRequest>) -> RouteResult {
    let body = &mut change.body;
    let mut errors = ValidationErrors::new();
    let email = errors.record_result(Email::parse(&body.email));
    let password = std::mem::take(&mut body.password);
    let password = errors.record_result(Password::parse("password", password));
    errors.record_result(validate_account_name(&body.name));
    let (Some(email), Some(password), true) = (email, password, errors.is_empty()) else {
        return Err(errors.into());
    };
    let name = std::mem::take(&mut body.name);
    let guest = guest_id_if_valid(&change.state, change.body.guest_token.as_deref());
    let ticket = change.ticket();
    let message = RegisterUser {
        email,
        password,
        name,
        role: Role::Customer,
        ticket: ticket.clone(),
        trace: change.trace(),
    };
    let session = ask(&change.state.accounts, message, &ticket).await?;
    session_answer(&change, StatusCode::CREATED, session, guest).await
}

/// Log in.
///
/// The response contains the tokens of a new session. An unknown e-mail address and a wrong
/// password give the same error.
#[utoipa::path(post, path = "/api/auth/login", operation_id = "log_in",
tag = "Auth", security(()), request_body = LoginRequest, responses(
    (status = 200, body = SessionResponse),
    (status = 401, body = ProblemDetails, description = "`invalid_credentials`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
    (status = 429, body = ProblemDetails, description = "`rate_limited`: too many failed logins"),
))]
async fn login(mut change: ChangeRequest<Anyone, LoginRequest>) -> RouteResult {
    let guest = guest_id_if_valid(&change.state, change.body.guest_token.as_deref());
    let ticket = change.ticket();
    let message = Login {
        email: Email::parse(&change.body.email).ok(),
        password: Password::unvalidated(std::mem::take(&mut change.body.password)),
        address: change.state.client_address(&change.request),
        ticket: ticket.clone(),
    };
    let session = ask(&change.state.accounts, message, &ticket)
        .await
        .map_err(|error| change.state.with_login_limit_headers(&change.request, error))?;
    session_answer(&change, StatusCode::OK, session, guest).await
}

/// Get new tokens for a refresh token.
///
/// A refresh token can be used once. A second use ends the session, because the token may have
/// been stolen.
#[utoipa::path(post, path = "/api/auth/refresh", operation_id = "refresh_session",
tag = "Auth", security(()), request_body = RefreshRequest, responses(
    (status = 200, body = SessionResponse),
    (status = 401, body = ProblemDetails, description = "`unauthenticated`, `token_expired`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn refresh(mut change: ChangeRequest<Anyone, RefreshRequest>) -> RouteResult {
    let refresh_token = std::mem::take(&mut change.body.refresh_token);
    let ticket = change.ticket();
    let message = RefreshSession { refresh_token, ticket: ticket.clone(), trace: change.trace() };
    let session = ask(&change.state.accounts, message, &ticket).await?;
    session_answer(&change, StatusCode::OK, session, None).await
}

/// Log out.
///
/// The tokens of the session stop working on every node.
#[utoipa::path(post, path = "/api/auth/logout", operation_id = "log_out",
tag = "Auth", security(("bearer" = [])), responses(
    (status = 204),
    (status = 401, body = ProblemDetails, description = "`unauthenticated`, `token_expired`"),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no session"),
))]
async fn logout(change: ChangeRequest<Account>) -> RouteResult {
    let ticket = change.ticket();
    let message = Logout {
        session_id: change.caller.session_id,
        ticket: ticket.clone(),
        trace: change.trace(),
    };
    ask(&change.state.accounts, message, &ticket).await?;
    Ok(Answer::no_content().private())
}

/// Check an access token.
///
/// This is for services that cannot check a token themselves. For an invalid token, the response is
/// 200 with `valid: false`.
#[utoipa::path(post, path = "/api/auth/validate", operation_id = "validate_token",
tag = "Auth", security(()), request_body = ValidateRequest, responses(
    (status = 200, body = ValidateResponse),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn validate(change: ChangeRequest<Anyone, ValidateRequest>) -> RouteResult {
    let response = match change.state.authenticator.authenticate(&change.body.token) {
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
    Ok(Answer::json(StatusCode::OK, &response)?.private())
}

/// Get the caller's account.
///
/// A guest has no account and is refused.
#[utoipa::path(get, path = "/api/auth/me", operation_id = "get_account",
tag = "Auth", security(("bearer" = [])), responses(
    (status = 200, body = UserResponse),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no account"),
))]
async fn me(read: ReadRequest<Account>) -> RouteResult {
    read.query.reject_others(&[])?;
    let message = GetUser { user_id: read.caller.user_id };
    let user = ask(&read.state.accounts, message, &read.ticket()).await?;
    Ok(Answer::json(StatusCode::OK, &UserResponse::from(&user))?.private())
}

/// Change the caller's password.
///
/// The other sessions of the account end.
#[utoipa::path(post, path = "/api/auth/password", operation_id = "change_password",
tag = "Auth", security(("bearer" = [])), request_body = PasswordRequest, responses(
    (status = 204),
    (status = 401, body = ProblemDetails,
        description = "`invalid_credentials`: the current password is wrong; `unauthenticated`, \
            `token_expired`"),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no password"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
    (status = 429, body = ProblemDetails, description = "`rate_limited`: too many failed logins"),
))]
async fn password(mut change: ChangeRequest<Account, PasswordRequest>) -> RouteResult {
    let ticket = change.ticket();
    let current = std::mem::take(&mut change.body.current_password);
    let new = std::mem::take(&mut change.body.new_password);
    let message = ChangePassword {
        user_id: change.caller.user_id,
        session_id: change.caller.session_id,
        current: Password::unvalidated(current),
        new: Password::parse("new_password", new)?,
        address: change.state.client_address(&change.request),
        ticket: ticket.clone(),
        trace: change.trace(),
    };
    ask(&change.state.accounts, message, &ticket)
        .await
        .map_err(|error| change.state.with_login_limit_headers(&change.request, error))?;
    Ok(Answer::no_content().private())
}

/// Get the keys that access tokens can be checked with.
///
/// This is a JSON Web Key Set (RFC 7517). It is empty when tokens are signed with a shared secret.
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "get_signing_keys",
tag = "Auth", security(()), responses((status = 200, body = KeySetResponse)))]
async fn jwks(read: ReadRequest<Anyone>) -> RouteResult {
    Ok(Answer::json(StatusCode::OK, read.state.authenticator.tokens().jwks())?)
}

/// Returns the guest whose cart to merge. An invalid guest token does not fail the login.
fn guest_id_if_valid(state: &AppState, token: Option<&str>) -> Option<UserId> {
    verify_guest_token(state, token?).ok()
}

async fn session_answer<A: Access, B: RequestBody>(
    change: &ChangeRequest<A, B>,
    status: StatusCode,
    session: AuthenticatedSession,
    guest: Option<UserId>,
) -> RouteResult {
    let AuthenticatedSession { user, session_id, refresh_token } = session;
    let tokens = change.state.authenticator.tokens();
    let access = tokens.issue_session_token(user.id, user.role, session_id)?;
    let cart_merged = match guest {
        Some(guest) => merge_guest_cart(change, user.id, guest).await,
        None => false,
    };
    let response = SessionResponse {
        token: access.token,
        refresh_token,
        expires_in: access.expires_in,
        user: (&user).into(),
        cart_merged,
    };
    Ok(Answer::json(status, &response)?.private())
}

/// Merges the guest's cart. If that fails, the cart stays as it is and the login succeeds.
async fn merge_guest_cart<A: Access, B: RequestBody>(
    change: &ChangeRequest<A, B>,
    user: UserId,
    guest_id: UserId,
) -> bool {
    let context = CommandContext {
        idempotency_key: None,
        if_match: None,
        ticket: change.ticket(),
        trace: change.trace(),
    };
    let owner = CartOwner { id: user, is_guest: false };
    let message = MergeCart { guest_id, context };
    let merged = change.state.carts.merge_guest_cart(owner, message).await;
    if let Err(Error { code, .. }) = &merged {
        let code = code.as_str();
        tracing::info!(%user, guest = %guest_id, code, "failed to merge a guest's cart at login");
    }
    merged.is_ok()
}
