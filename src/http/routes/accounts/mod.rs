//! The routes for accounts: registration, the caller's account and its password.

pub(crate) mod addresses;
pub(crate) mod deletion;
pub(crate) mod devices;
pub(crate) mod export;
pub(crate) mod mail_tokens;
pub(crate) mod sessions;
pub(crate) mod tokens;

use actix_web::{http::StatusCode, web};
use serde::Deserialize;
use utoipa::ToSchema;

use self::sessions::{SessionResponse, guest_id_if_valid, session_response};
use crate::{
    actors::ask::ask,
    domain::{
        account::{Email, Password, Role, validate_account_name},
        validation::ValidationErrors,
    },
    error::ErrorCode,
    http::{
        request::{
            body::JsonRequest,
            extract::{Account, Anyone, ChangeRequest, ReadRequest},
            headers::{parse_if_match, user_agent},
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
        routes::users::{UserResponse, user_response},
    },
    messages::{
        accounts::{ChangePassword, GetUser, RegisterUser, UpdateProfile},
        command_context::CommandContext,
    },
};

/// Registers the routes of accounts, sessions and tokens.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/auth/register").post(register))
        .service(web::resource("/api/auth/login").post(sessions::login))
        .service(web::resource("/api/auth/refresh").post(sessions::refresh))
        .service(web::resource("/api/auth/logout").post(sessions::logout))
        .service(web::resource("/api/auth/validate").post(tokens::validate))
        .service(web::resource("/api/auth/me").get(me).patch(update).delete(deletion::delete))
        .service(web::resource("/api/auth/me/export").get(export::export))
        .service(web::resource("/api/auth/me/addresses").get(addresses::list).post(addresses::add))
        .service(
            web::resource("/api/auth/me/addresses/{id}")
                .put(addresses::replace)
                .delete(addresses::delete),
        )
        .service(web::resource("/api/auth/sessions").get(devices::list).delete(devices::end_others))
        .service(web::resource("/api/auth/sessions/{id}").delete(devices::end))
        .service(web::resource("/api/auth/password").post(change_password))
        .service(web::resource("/api/auth/password/forgot").post(mail_tokens::forgot))
        .service(web::resource("/api/auth/password/reset").post(mail_tokens::reset))
        .service(
            web::resource("/api/auth/email/verification").post(mail_tokens::request_verification),
        )
        .service(web::resource("/api/auth/email/verify").post(mail_tokens::verify))
        .service(web::resource("/.well-known/jwks.json").get(tokens::jwks));
}

/// An account to register.
#[derive(Deserialize, ToSchema)]
pub(crate) struct RegisterRequest {
    #[schema(example = "ada@example.com")]
    email: String,
    /// 8 characters to 71 bytes, after Unicode normalization (NFKC). The 10,000 most common
    /// passwords are refused (`errors[].code` `too_common`).
    #[schema(min_length = 8, max_length = 71, examples("correct horse battery"))]
    password: String,
    #[schema(min_length = 1, max_length = 100, example = "Ada")]
    name: String,
    /// The token of a guest whose cart to merge, and whose orders become the account's.
    #[schema(examples("eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"))]
    guest_token: Option<String>,
}

/// A new password.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PasswordRequest {
    #[schema(examples("correct horse battery"))]
    current_password: String,
    /// 8 characters to 71 bytes, after Unicode normalization (NFKC). The 10,000 most common
    /// passwords are refused (`errors[].code` `too_common`).
    #[schema(min_length = 8, max_length = 71, examples("staple correct horse"))]
    new_password: String,
}

impl JsonRequest for RegisterRequest {}

/// A change of the caller's account. What is absent stays as it is.
#[derive(Deserialize, ToSchema)]
pub(crate) struct UpdateAccountRequest {
    #[schema(min_length = 1, max_length = 100, examples("Ada"))]
    name: Option<String>,
    /// The new address. It needs `current_password`.
    #[schema(examples("ada@example.com"))]
    email: Option<String>,
    #[schema(examples("correct horse battery"))]
    current_password: Option<String>,
}

impl JsonRequest for UpdateAccountRequest {
    /// The media type of RFC 7396, and plain JSON.
    const MEDIA_TYPES: &'static [&'static str] =
        &["application/merge-patch+json", "application/json"];
}

impl JsonRequest for PasswordRequest {}

/// Register an account.
///
/// The response contains the tokens of a new session. With `guest_token`, the guest's cart is
/// merged into the account's, and the guest's orders become the account's. `cart_merged` says
/// whether the cart was.
#[utoipa::path(post, path = "/api/auth/register", operation_id = "register_account",
tag = "Auth", security(()), request_body = RegisterRequest, responses(
    (status = 201, body = SessionResponse),
    (status = 409, body = ProblemDetails, description = "`email_taken`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
    (status = 429, body = ProblemDetails,
        description = "`rate_limited`: too many new accounts from this address within an hour"),
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
    let counted = change.state.admit_registration(&change.request)?;
    let ticket = change.ticket();
    let address = change.state.client_address(&change.request);
    let message = RegisterUser {
        email,
        password,
        name,
        role: Role::Customer,
        address,
        user_agent: user_agent(change.request.headers()),
        ticket: ticket.clone(),
        trace: change.trace(),
    };
    let session = ask(&change.state.accounts, message, &ticket).await.inspect_err(|error| {
        // Then there may be an account.
        if error.code != ErrorCode::OutcomeUnknown {
            change.state.rate_limits.remove_registration(counted);
        }
    })?;
    session_response(&change, StatusCode::CREATED, session, guest).await
}

/// Get the caller's account.
///
/// A guest has no account and is refused.
#[utoipa::path(get, path = "/api/auth/me", operation_id = "get_account",
tag = "Auth", security(("bearer" = [])), params(
    ("If-None-Match" = Option<String>, Header),
), responses(
    (status = 200, body = UserResponse),
    (status = 304, description = "`If-None-Match` names the current ETag."),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no account"),
))]
async fn me(read: ReadRequest<Account>) -> RouteResult {
    read.query.reject_others(&[])?;
    let message = GetUser { user_id: read.caller.user_id };
    let user = ask(&read.state.accounts, message, &read.ticket()).await?;
    Ok(user_response(&user))
}

/// Change the caller's name or e-mail address.
///
/// Another e-mail address needs the current password. It is in force at once, and has to be
/// verified anew; the former one is told by mail. The sessions stay.
#[utoipa::path(patch, path = "/api/auth/me", operation_id = "update_account",
tag = "Auth", security(("bearer" = [])),
request_body(content = UpdateAccountRequest, content_type = "application/merge-patch+json"),
params(("If-Match" = Option<String>, Header)), responses(
    (status = 200, body = UserResponse),
    (status = 401, body = ProblemDetails,
        description = "`invalid_credentials`: the current password is wrong; `unauthenticated`, \
            `token_expired`"),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no account"),
    (status = 409, body = ProblemDetails, description = "`email_taken`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
    (status = 429, body = ProblemDetails, description = "`rate_limited`: too many failed logins"),
))]
async fn update(mut change: ChangeRequest<Account, UpdateAccountRequest>) -> RouteResult {
    let mut errors = ValidationErrors::new();
    let name = change.body.name.take();
    if let Some(name) = &name {
        errors.record_result(validate_account_name(name));
    }
    let email = change.body.email.take();
    let email = email.and_then(|email| errors.record_result(Email::parse(&email)));
    errors.into_result(())?;
    let ticket = change.ticket();
    let message = UpdateProfile {
        user_id: change.caller.user_id,
        name,
        email,
        current_password: change.body.current_password.take().map(Password::unvalidated),
        address: change.state.client_address(&change.request),
        // As everywhere under /api/auth, keys are not honored.
        context: CommandContext {
            idempotency_key: None,
            if_match: parse_if_match(&change.request),
            ticket: ticket.clone(),
            trace: change.trace(),
            action: None,
        },
    };
    let user = ask(&change.state.accounts, message, &ticket)
        .await
        .map_err(|error| change.state.with_login_limit_headers(&change.request, error))?;
    Ok(user_response(&user))
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
async fn change_password(mut change: ChangeRequest<Account, PasswordRequest>) -> RouteResult {
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
    Ok(ApiResponse::no_content().with_no_store())
}
