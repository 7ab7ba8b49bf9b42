//! The routes for the caller's sessions: where the account is logged in.

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    actors::ask::ask,
    domain::{account::Session, ids::SessionId},
    http::{
        request::{
            extract::{Account, ChangeRequest, ReadRequest},
            query::cut_to_page,
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
    },
    messages::accounts::{EndOtherSessions, EndSession},
};

/// The most active sessions of an account that are listed. `auth.max_sessions` is far lower.
pub(super) const MAX_LISTED_SESSIONS: u32 = 10_000;

/// A session of the caller's account.
#[derive(Serialize, ToSchema)]
pub(crate) struct AccountSessionResponse<'a> {
    id: Uuid,
    /// Whether it is the session of the request.
    current: bool,
    #[schema(format = DateTime)]
    created_at: String,
    /// When it last got new tokens.
    #[schema(format = DateTime)]
    last_used_at: String,
    /// When it ends unless it gets new tokens.
    #[schema(format = DateTime)]
    expires_at: String,
    /// The client's address at the login.
    #[schema(examples("192.0.2.1"))]
    address: Option<String>,
    /// What the client said of itself at the login, at most 200 characters.
    #[schema(examples("Mozilla/5.0"))]
    user_agent: Option<&'a str>,
}

/// A page of sessions.
#[derive(Serialize, ToSchema)]
pub(crate) struct AccountSessionPage<'a> {
    items: Vec<AccountSessionResponse<'a>>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required, examples("IjAxOTM2ZjVlIg"))]
    next_cursor: Option<String>,
}

impl<'a> AccountSessionResponse<'a> {
    /// A session as the caller with the session `current` sees it.
    pub(super) fn new(session: &'a Session, current: SessionId) -> Self {
        Self {
            id: session.id.as_uuid(),
            current: session.id == current,
            created_at: session.created_at.to_string(),
            last_used_at: session.last_used_at().to_string(),
            expires_at: session.expires_at.to_string(),
            address: session.address.map(|address| address.to_string()),
            user_agent: session.user_agent.as_deref(),
        }
    }
}

/// List the caller's active sessions, newest first.
///
/// Each login starts a session. It ends at a logout, or when it is not used for 30 days.
#[utoipa::path(get, path = "/api/auth/sessions", operation_id = "list_sessions",
tag = "Auth", security(("bearer" = [])), params(
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of items on a page. The default is 20."),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
), responses(
    (status = 200, body = AccountSessionPage),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no account"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
pub(super) async fn list(read: ReadRequest<Account>) -> RouteResult {
    let (state, caller) = (&read.state, read.caller);
    read.query.reject_others(&["limit", "cursor"])?;
    let (limit, before) = (read.query.page_limit()?, read.query.parse_cursor::<SessionId>()?);
    let sessions =
        state.store.list_active_sessions(caller.user_id, state.clock.now(), MAX_LISTED_SESSIONS);
    let mut sessions = state.read_before_deadline(&read.request, sessions).await?;
    sessions.retain(|session| before.is_none_or(|before| session.id < before));
    sessions.sort_by_key(|session| std::cmp::Reverse(session.id));
    let next_cursor = cut_to_page(&mut sessions, limit, |session| session.id);
    let items = sessions
        .iter()
        .map(|session| AccountSessionResponse::new(session, caller.session_id))
        .collect();
    let page = AccountSessionPage { items, next_cursor };
    Ok(ApiResponse::json(StatusCode::OK, &page)?.with_no_store())
}

/// End all of the caller's sessions but the current one.
///
/// Their tokens stop working on every node.
#[utoipa::path(delete, path = "/api/auth/sessions", operation_id = "end_other_sessions",
tag = "Auth", security(("bearer" = [])), responses(
    (status = 204),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no account"),
))]
pub(super) async fn end_others(change: ChangeRequest<Account>) -> RouteResult {
    let ticket = change.ticket();
    let message = EndOtherSessions {
        user_id: change.caller.user_id,
        session_id: change.caller.session_id,
        ticket: ticket.clone(),
        trace: change.trace(),
    };
    ask(&change.state.accounts, message, &ticket).await?;
    Ok(ApiResponse::no_content().with_no_store())
}

/// End one of the caller's sessions.
///
/// Its tokens stop working on every node. It may be the current one.
#[utoipa::path(delete, path = "/api/auth/sessions/{id}", operation_id = "end_session",
tag = "Auth", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the session."),
), responses(
    (status = 204),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no account"),
    (status = 404, body = ProblemDetails,
        description = "`session_not_found`: the account has no active session with this id"),
))]
pub(super) async fn end(change: ChangeRequest<Account, (), SessionId>) -> RouteResult {
    let ticket = change.ticket();
    let message = EndSession {
        user_id: change.caller.user_id,
        session_id: change.target,
        ticket: ticket.clone(),
        trace: change.trace(),
    };
    ask(&change.state.accounts, message, &ticket).await?;
    Ok(ApiResponse::no_content().with_no_store())
}
