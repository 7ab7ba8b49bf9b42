//! The event feed: server-sent events that a client can resume after the last one it received.

pub(crate) mod audience;
mod filter;
mod stream;

use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use futures_util::stream as streams;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use self::{filter::EventFilter, stream::EventStream};
use crate::{
    actors::commit_error::map_commit_error,
    auth::event_ticket::{EventTicket, TICKET_LIFETIME},
    error::{Error, ErrorCode},
    events::OutboxCursor,
    http::{
        request::{
            deadline::Deadline,
            extract::{Authenticated, ChangeRequest, EventSubscriber, ReadRequest},
        },
        response::{
            ApiResponse, RouteResult,
            problem::{Problem, ProblemDetails},
        },
        state::AppState,
    },
    store::{Commit, CommitError, INBOX_RETENTION},
};

/// A stream of server-sent events.
#[derive(utoipa::ToSchema)]
#[schema(
    value_type = String,
    examples("id: 0.17-1.4\nevent: cart.cleared\ndata: {}\n\n")
)]
pub(crate) struct EventStreamBody(#[expect(dead_code, reason = "describes a stream")] String);

/// A ticket that opens one event feed.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventTicketResponse {
    /// For the query parameter `ticket` of `GET /api/events`.
    #[schema(examples("q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k"))]
    ticket: String,
    /// The lifetime in seconds.
    #[schema(examples(60))]
    expires_in: u64,
}

/// How long the id of a used ticket is kept. That is longer than the ticket is good, by what the
/// clocks of two nodes may differ.
const USED_TICKET_RETENTION: Duration = Duration::from_secs(5 * 60);

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/events").get(feed))
        .service(web::resource("/api/events/ticket").post(create_ticket));
}

/// Create a ticket for an event feed.
///
/// A browser's `EventSource` can send no header. Its page gets a ticket with its token, and opens
/// `GET /api/events?ticket=...` with it, within a minute and once. The feed is that of the token.
#[utoipa::path(post, path = "/api/events/ticket", operation_id = "create_event_ticket",
tag = "Events", security(("bearer" = [])), responses(
    (status = 201, body = EventTicketResponse),
))]
async fn create_ticket(change: ChangeRequest<Authenticated>) -> RouteResult {
    let state = &change.state;
    let response = EventTicketResponse {
        ticket: state.event_tickets.issue(&change.caller, state.clock.now()),
        expires_in: TICKET_LIFETIME.as_secs(),
    };
    Ok(ApiResponse::json(StatusCode::CREATED, &response)?.with_no_store())
}

/// Stream events.
///
/// The response is a stream of server-sent events. `data` is a CloudEvent, `event` its type.
/// Anyone gets the events of the catalog, and of stock those with `product_id`, `available` and
/// `version` as their data. The bearer of a token also gets the events of their own cart and
/// orders. Staff gets all events, with all of their data, of what its scopes read: `inventory.*`
/// with `stock:read`, `order.*` with `orders:read`, `cart.*` and `auth.*` with `customers:read`. An
/// admin gets all. `types` and `subject` narrow that.
///
/// With the `id` of an earlier stream as `Last-Event-ID` or `last_event_id`, the stream continues
/// there, on any node. An id has no other meaning. If events in between are no longer kept, or the
/// id is unknown, the event `souk.gap` comes first, then the oldest events that are kept. The
/// newest 10,000 events are always kept. The stream begins with an id, and sends one every 15
/// seconds. It ends within 15 seconds of its session.
#[utoipa::path(get, path = "/api/events", operation_id = "stream_events",
tag = "Events", security((), ("bearer" = [])), params(
    ("Last-Event-ID" = Option<String>, Header),
    ("last_event_id" = Option<String>, Query,
        description = "For clients that cannot send `Last-Event-ID`, which wins if both are sent"),
    ("types" = Option<String>, Query, example = "cart.*,order.paid",
        description = "Only events of these types, comma-separated. `cart.*` is every type that \
            begins with `cart.`, and `*` is every type."),
    ("subject" = Option<String>, Query,
        description = "Only events of this product, user, guest or order"),
    ("ticket" = Option<String>, Query,
        description = "From `POST /api/events/ticket`, for clients that cannot send \
            `Authorization`, which wins if both are sent"),
), responses(
    (status = 200, content_type = "text/event-stream", body = EventStreamBody),
    (status = 401, body = ProblemDetails,
        description = "`unauthenticated`, `token_expired`: the token is not valid, or the catalog \
            needs one; `ticket_invalid`: the ticket is not valid, has expired, or was used"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`: an unknown query parameter, or a type that no event \
            has"),
    (status = 429, body = ProblemDetails,
        description = "`too_many_feeds`: of this address or user; `rate_limited`"),
))]
async fn feed(read: ReadRequest<EventSubscriber>) -> Result<HttpResponse, Problem> {
    let state = &read.state;
    let ticket = match (read.caller, read.query.get("ticket")) {
        (None, Some(ticket)) => Some(check_ticket(state, &read.request, ticket)?),
        _ => None,
    };
    read.query.reject_others(&["last_event_id", "subject", "ticket", "types"])?;
    let filter = EventFilter::parse(&read.query).map_err(Error::from)?;
    let caller = read.caller.or(ticket.map(|ticket| ticket.caller));
    let permit = state.admit_feed(&read.request, caller.map(|caller| caller.user_id))?;
    // Subscribe before reading the heads, so that no event is missed. The cursor removes
    // duplicates.
    let live_pages = state.feed.listen();
    let start = find_start(&read).await?;
    // Last, so that a request that is refused for another reason does not use up its ticket.
    if let Some(ticket) = ticket {
        use_ticket(state, &read.request, &ticket).await?;
    }
    let stream = EventStream::new(Arc::clone(state), permit, caller, filter, live_pages, start);
    let body = streams::unfold(stream, async |mut events| {
        events.next_chunk().await.map(|chunk| (Ok(chunk), events))
    });
    Ok(HttpResponse::Ok()
        .insert_header(("content-type", "text/event-stream"))
        .insert_header(("cache-control", "no-store"))
        // Proxies that buffer responses would hold events back.
        .insert_header(("x-accel-buffering", "no"))
        .streaming::<_, actix_web::Error>(Box::pin(body)))
}

/// Checks everything of a ticket but its single use, and counts the request for its user.
fn check_ticket(
    state: &AppState,
    request: &HttpRequest,
    ticket: &str,
) -> Result<EventTicket, Error> {
    let ticket =
        state.event_tickets.verify(ticket, state.clock.now()).ok_or_else(ticket_invalid)?;
    let caller = state.authenticator.reauthenticate(&ticket.caller).ok_or_else(ticket_invalid)?;
    state.admit_caller(request, &caller)?;
    Ok(EventTicket { caller, ..ticket })
}

/// Records that a ticket is used. The store has its id only once, so a ticket opens one feed on all
/// nodes, and after a restart.
///
/// The inbox holds such ids already. It forgets an id by its age, so the id of a ticket is dated
/// back: it matters for minutes, and not for as long as that of a command.
async fn use_ticket(
    state: &AppState,
    request: &HttpRequest,
    ticket: &EventTicket,
) -> Result<(), Error> {
    let timeout = Deadline::remaining(request).unwrap_or(state.options.request_timeout);
    let age = INBOX_RETENTION.saturating_sub(USED_TICKET_RETENTION);
    let deadline = (Instant::now() + timeout).into_std();
    let commit = Commit {
        inbox_message_id: Some(format!("event ticket {}", ticket.id).into()),
        ..Commit::new(state.clock.now().saturating_sub(age), deadline)
    };
    match state.writer.commit(commit).await {
        Ok(_) => Ok(()),
        Err(CommitError::AlreadyApplied) => Err(ticket_invalid()),
        Err(error) => Err(map_commit_error(error)),
    }
}

fn ticket_invalid() -> Error {
    Error::new(
        ErrorCode::TicketInvalid,
        "The ticket is not valid, has expired, or was used. Get a new one with \
         POST /api/events/ticket.",
    )
}

/// Where a feed starts.
enum Start {
    /// After what the cursor has read.
    After(OutboxCursor),
    /// With the oldest event, after a notice that events are missing.
    Oldest,
}

/// A feed without a last event id starts after the newest event. An id that is not known starts it
/// with the oldest.
async fn find_start(read: &ReadRequest<EventSubscriber>) -> Result<Start, Error> {
    let (request, store) = (&read.request, &read.state.store);
    let header = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    let last = header.or_else(|| read.query.get("last_event_id"));
    let heads = read.state.read_before_deadline(request, store.outbox_heads()).await?;
    let Some(last) = last else { return Ok(Start::After(heads)) };
    let Ok(cursor) = last.parse::<OutboxCursor>() else { return Ok(Start::Oldest) };
    if heads.covers(&cursor) {
        return Ok(Start::After(cursor));
    }
    // A new primary may not know the newest events yet. Beyond durable heads, the cursor is of
    // another database.
    let heads = read.state.read_before_deadline(request, store.linearizable_outbox_heads()).await?;
    Ok(if heads.covers(&cursor) { Start::After(cursor) } else { Start::Oldest })
}
