//! The routes for sessions: login, refresh and logout.

use actix_web::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    actors::ask::ask,
    domain::{
        account::{Email, Password},
        cart::CartOwner,
        ids::UserId,
    },
    http::{
        request::{
            body::{JsonRequest, RequestBody},
            extract::{Access, Account, Anyone, ChangeRequest},
            headers::user_agent,
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
        routes::{cart::verify_guest_token, users::UserResponse},
        state::AppState,
    },
    messages::{
        accounts::{AuthenticatedSession, Login, Logout, RefreshSession},
        cart::MergeCart,
        command_context::CommandContext,
    },
};

/// A login.
#[derive(Deserialize, ToSchema)]
pub(crate) struct LoginRequest {
    #[schema(examples("ada@example.com"))]
    email: String,
    #[schema(examples("correct horse battery"))]
    password: String,
    /// The token of a guest whose cart to merge, and whose orders become the account's.
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

impl JsonRequest for LoginRequest {}

impl JsonRequest for RefreshRequest {}

/// Log in.
///
/// The response contains the tokens of a new session. An unknown e-mail address and a wrong
/// password give the same error. After too many failed logins of one account or from one address,
/// even the right password is refused for up to a minute. An account at an address where it logged
/// in or registered within 30 days has a limit of its own, so that others cannot lock it out there.
#[utoipa::path(post, path = "/api/auth/login", operation_id = "log_in",
tag = "Auth", security(()), request_body = LoginRequest, responses(
    (status = 200, body = SessionResponse),
    (status = 401, body = ProblemDetails, description = "`invalid_credentials`"),
    (status = 403, body = ProblemDetails,
        description = "`account_blocked`: the password is right"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
    (status = 429, body = ProblemDetails, description = "`rate_limited`: too many failed logins"),
))]
pub(super) async fn login(mut change: ChangeRequest<Anyone, LoginRequest>) -> RouteResult {
    let guest = guest_id_if_valid(&change.state, change.body.guest_token.as_deref());
    let ticket = change.ticket();
    let message = Login {
        email: Email::for_login(&change.body.email),
        password: Password::unvalidated(std::mem::take(&mut change.body.password)),
        address: change.state.client_address(&change.request),
        user_agent: user_agent(change.request.headers()),
        ticket: ticket.clone(),
    };
    let session = ask(&change.state.accounts, message, &ticket)
        .await
        .map_err(|error| change.state.with_login_limit_headers(&change.request, error))?;
    session_response(&change, StatusCode::OK, session, guest).await
}

/// Get new tokens for a refresh token.
///
/// A refresh token can be used once. For `auth.refresh_grace` (30 seconds), a second use gets the
/// same new refresh token again, in case the first response was lost, unless the new token has been
/// used. Any other second use ends the session, because the token may have been stolen.
#[utoipa::path(post, path = "/api/auth/refresh", operation_id = "refresh_session",
tag = "Auth", security(()), request_body = RefreshRequest, responses(
    (status = 200, body = SessionResponse),
    (status = 401, body = ProblemDetails,
        description = "`unauthenticated`, `token_expired`, `account_blocked`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
pub(super) async fn refresh(mut change: ChangeRequest<Anyone, RefreshRequest>) -> RouteResult {
    let refresh_token = std::mem::take(&mut change.body.refresh_token);
    let ticket = change.ticket();
    let message = RefreshSession { refresh_token, ticket: ticket.clone(), trace: change.trace() };
    let session = ask(&change.state.accounts, message, &ticket).await?;
    session_response(&change, StatusCode::OK, session, None).await
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
pub(super) async fn logout(change: ChangeRequest<Account>) -> RouteResult {
    let ticket = change.ticket();
    let message = Logout {
        session_id: change.caller.session_id,
        ticket: ticket.clone(),
        trace: change.trace(),
    };
    ask(&change.state.accounts, message, &ticket).await?;
    Ok(ApiResponse::no_content().with_no_store())
}

/// Returns the guest whose cart to merge. An invalid guest token does not fail the login.
pub(super) fn guest_id_if_valid(state: &AppState, token: Option<&str>) -> Option<UserId> {
    verify_guest_token(state, token?).ok()
}

/// Builds the response with the tokens of a new or continued session, and merges the guest's cart.
pub(super) async fn session_response<A: Access, B: RequestBody>(
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
    Ok(ApiResponse::json(status, &response)?.with_no_store())
}

/// Merges the guest's cart and moves the guest's orders. The login succeeds in any case.
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
        action: None,
    };
    let owner = CartOwner { id: user, is_guest: false };
    change.state.carts.take_over_guest(owner, MergeCart { guest_id, context }).await
}
