//! The route with which a customer deletes the account.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    actors::ask::ask,
    domain::account::Password,
    http::{
        request::{
            body::JsonRequest,
            extract::{Account, ChangeRequest},
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
    },
    messages::accounts::DeleteAccount,
};

/// The proof that it is the owner who deletes the account.
#[derive(Deserialize, ToSchema)]
pub(crate) struct DeleteAccountRequest {
    #[schema(examples("correct horse battery"))]
    current_password: String,
}

impl JsonRequest for DeleteAccountRequest {}

/// Delete the caller's account.
///
/// Its sessions, cart and addresses are gone, and its e-mail address can be registered again. Its
/// unpaid orders are cancelled, and so are those of guests with its e-mail address, if that was
/// verified; all its orders stay, with the country and the region of their addresses alone. When
/// the response arrives, no node takes a token of the account any more, and nothing tells whose it
/// was.
#[utoipa::path(delete, path = "/api/auth/me", operation_id = "delete_account",
tag = "Auth", security(("bearer" = [])), request_body = DeleteAccountRequest, responses(
    (status = 204),
    (status = 401, body = ProblemDetails,
        description = "`invalid_credentials`: the current password is wrong; `unauthenticated`, \
            `token_expired`"),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no account"),
    (status = 409, body = ProblemDetails,
        description = "`orders_open`: its order is paid and not shipped; `last_admin`: no other \
            admin would remain that is not blocked"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
    (status = 429, body = ProblemDetails, description = "`rate_limited`: too many failed logins"),
))]
pub(super) async fn delete(
    mut change: ChangeRequest<Account, DeleteAccountRequest>,
) -> RouteResult {
    let ticket = change.ticket();
    let password = std::mem::take(&mut change.body.current_password);
    let message = DeleteAccount {
        user_id: change.caller.user_id,
        current_password: Password::unvalidated(password),
        address: change.state.client_address(&change.request),
        ticket: ticket.clone(),
        trace: change.trace(),
    };
    ask(&change.state.accounts, message, &ticket)
        .await
        .map_err(|error| change.state.with_login_limit_headers(&change.request, error))?;
    Ok(ApiResponse::no_content().with_no_store())
}
