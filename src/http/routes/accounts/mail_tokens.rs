//! The routes for tokens in mails: a forgotten password, and the verification of an address.

use actix_web::{http::StatusCode, web::Bytes};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    actors::ask::ask,
    domain::account::{Email, Password},
    error::Error,
    http::{
        request::{
            body::JsonRequest,
            extract::{Account, Anyone, ChangeRequest},
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
    },
    messages::accounts::{RequestPasswordReset, RequestVerification, ResetPassword, VerifyEmail},
};

/// The address of an account whose password is lost.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ForgottenPasswordRequest {
    #[schema(examples("ada@example.com"))]
    email: String,
}

/// A new password, instead of a lost one.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ResetPasswordRequest {
    /// The token in the link of the mail.
    #[schema(examples("AZNvXoo7fEGdUm8OGyo8TZ1c0kqTg5VbQm3uR7sXy2LwPpA9eHhJtN4fKzGdUi6o"))]
    token: String,
    /// 8 characters to 71 bytes, after Unicode normalization (NFKC). The 10,000 most common
    /// passwords are refused (`errors[].code` `too_common`).
    #[schema(min_length = 8, max_length = 71, examples("staple correct horse"))]
    new_password: String,
}

/// The proof that an address is the caller's.
#[derive(Deserialize, ToSchema)]
pub(crate) struct VerifyEmailRequest {
    /// The token in the link of the mail.
    #[schema(examples("AZNvXoo7fEGdUm8OGyo8TZ1c0kqTg5VbQm3uR7sXy2LwPpA9eHhJtN4fKzGdUi6o"))]
    token: String,
}

impl JsonRequest for ForgottenPasswordRequest {}

impl JsonRequest for ResetPasswordRequest {}

impl JsonRequest for VerifyEmailRequest {}

/// Ask for a mail with a link to choose a new password.
///
/// The response is the same whether the address has an account or not, and so is the time that it
/// takes. One address gets a limited number of such mails an hour (`limits.mail`); beyond that, the
/// response is still the same. A blocked account gets none.
#[utoipa::path(post, path = "/api/auth/password/forgot", operation_id = "request_password_reset",
tag = "Auth", security(()), request_body = ForgottenPasswordRequest, responses(
    (status = 202),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
pub(super) async fn forgot(change: ChangeRequest<Anyone, ForgottenPasswordRequest>) -> RouteResult {
    let email = Email::for_login(&change.body.email).ok_or_else(|| {
        let message = "email must be an address like name@example.com, of at most 254 bytes";
        Error::invalid_field("email", "invalid_email", message)
    })?;
    let ticket = change.ticket();
    let message = RequestPasswordReset { email, ticket: ticket.clone() };
    ask(&change.state.accounts, message, &ticket).await?;
    Ok(accepted())
}

/// Choose a new password with the token of a mail.
///
/// Each token of the last hour works, until one of them is used or the password or the e-mail
/// address is changed. All sessions of the account end, and its address is verified. Log in with
/// the new password afterward.
#[utoipa::path(post, path = "/api/auth/password/reset", operation_id = "reset_password",
tag = "Auth", security(()), request_body = ResetPasswordRequest, responses(
    (status = 204),
    (status = 401, body = ProblemDetails, description = "`token_invalid`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`; the token still works"),
))]
pub(super) async fn reset(mut change: ChangeRequest<Anyone, ResetPasswordRequest>) -> RouteResult {
    let ticket = change.ticket();
    let new = std::mem::take(&mut change.body.new_password);
    let message = ResetPassword {
        token: std::mem::take(&mut change.body.token).into(),
        new: Password::parse("new_password", new)?,
        address: change.state.client_address(&change.request),
        ticket: ticket.clone(),
        trace: change.trace(),
    };
    ask(&change.state.accounts, message, &ticket).await?;
    Ok(ApiResponse::no_content().with_no_store())
}

/// Ask for a mail with a link to verify the caller's e-mail address.
///
/// An account whose address is verified already gets no mail. One address gets a limited number of
/// such mails an hour (`limits.mail`); beyond that, the response is the same.
#[utoipa::path(post, path = "/api/auth/email/verification", operation_id = "request_verification",
tag = "Auth", security(("bearer" = [])), responses(
    (status = 202),
    (status = 401, body = ProblemDetails, description = "`unauthenticated`, `token_expired`"),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no address"),
))]
pub(super) async fn request_verification(change: ChangeRequest<Account>) -> RouteResult {
    let ticket = change.ticket();
    let user_id = change.caller.user_id;
    let message = RequestVerification { user_id, ticket: ticket.clone() };
    ask(&change.state.accounts, message, &ticket).await?;
    Ok(accepted())
}

/// Verify an e-mail address with the token of a mail.
///
/// A token works once, within 24 hours, for the address that it was sent to.
#[utoipa::path(post, path = "/api/auth/email/verify", operation_id = "verify_email",
tag = "Auth", security(()), request_body = VerifyEmailRequest, responses(
    (status = 204),
    (status = 401, body = ProblemDetails, description = "`token_invalid`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
pub(super) async fn verify(mut change: ChangeRequest<Anyone, VerifyEmailRequest>) -> RouteResult {
    let ticket = change.ticket();
    let token = std::mem::take(&mut change.body.token).into();
    ask(&change.state.accounts, VerifyEmail { token, ticket: ticket.clone() }, &ticket).await?;
    Ok(ApiResponse::no_content().with_no_store())
}

/// The response to a request for a mail.
fn accepted() -> ApiResponse {
    ApiResponse::new(StatusCode::ACCEPTED, Bytes::new()).with_no_store()
}
