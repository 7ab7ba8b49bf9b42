//! The event feed: server-sent events that a client can resume after the last one it received.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actix_web::{HttpResponse, web};
use futures_util::stream;
use tokio::{
    sync::{
        broadcast::{Receiver, error::RecvError},
        watch,
    },
    time::{Instant, Interval},
};

use crate::{
    auth::caller::Caller,
    error::Error,
    events::{Audience, OutboxCursor, OutboxEvent},
    http::{
        feed_limiter::FeedPermit,
        request::extract::{EventSubscriber, ReadRequest},
        response::problem::{Problem, ProblemDetails},
        state::AppState,
    },
    outbox::feed::FeedPage,
    store::{OutboxPage, StoreUnavailable},
};

/// A stream of server-sent events.
#[derive(utoipa::ToSchema)]
#[schema(
    value_type = String,
    examples("id: 0.17-1.4\nevent: cart.cleared\ndata: {}\n\n")
)]
pub(crate) struct EventStreamBody(#[expect(dead_code, reason = "describes a stream")] String);

/// How often a feed sends a keep-alive comment and checks its token.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// How long a client should wait before it reconnects.
const RETRY_MILLIS: u32 = 2000;

/// Tells a client that it has missed events that are no longer kept.
const GAP_NOTICE: &[u8] = b"event: souk.gap\ndata: {}\n\n";

/// The number of events read from the store at a time. A reader that stalls holds so many.
const PAGE_SIZE: u32 = 100;

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/events").get(feed));
}

/// Stream events.
///
/// The response is a stream of server-sent events. Anyone gets the events of catalog and stock, and
/// the bearer of a token also those of their own cart and orders. `data` is a CloudEvent, `event`
/// its type. With the `id` of an earlier stream as `Last-Event-ID` or `last_event_id`, the stream
/// continues there, on any node. An id has no other meaning. If events in between are no longer
/// kept, or the id is unknown, the event `souk.gap` comes first, then the oldest events that are
/// kept. The newest 10,000 events are always kept.
#[utoipa::path(get, path = "/api/events", operation_id = "stream_events",
tag = "Events", security((), ("bearer" = [])), params(
    ("Last-Event-ID" = Option<String>, Header),
    ("last_event_id" = Option<String>, Query,
        description = "For clients that cannot send `Last-Event-ID`, which wins if both are sent"),
), responses(
    (status = 200, content_type = "text/event-stream", body = EventStreamBody),
    (status = 401, body = ProblemDetails,
        description = "`unauthenticated`, `token_expired`: the token is not valid, or the catalog \
            needs one"),
    (status = 429, body = ProblemDetails,
        description = "`too_many_feeds`: of this address or user; `rate_limited`"),
))]
async fn feed(read: ReadRequest<EventSubscriber>) -> Result<HttpResponse, Problem> {
    read.query.reject_others(&["last_event_id"])?;
    let state = Arc::clone(&read.state);
    let permit = state.admit_feed(&read.request, read.caller.map(|caller| caller.user_id))?;
    // Subscribe before reading the heads, so that no event is missed. The cursor removes
    // duplicates.
    let live_pages = state.feed.listen();
    let start = find_start(&read).await?;
    let keep_alive_timer =
        tokio::time::interval_at(Instant::now() + KEEP_ALIVE_INTERVAL, KEEP_ALIVE_INTERVAL);
    let shutdown = state.shutdown.clone();
    let event_stream = EventStream {
        state,
        _permit: permit,
        caller: read.caller,
        live_pages,
        pending_chunks: start.first_chunks().collect(),
        expects_gap: matches!(start, Start::Oldest),
        cursor: start.into_cursor(),
        is_behind: true,
        shutdown,
        keep_alive_timer,
    };
    let body = stream::unfold(event_stream, async |mut events| {
        events.next_chunk().await.map(|chunk| (Ok(chunk), events))
    });
    Ok(HttpResponse::Ok()
        .insert_header(("content-type", "text/event-stream"))
        .insert_header(("cache-control", "no-store"))
        // Proxies that buffer responses would hold events back.
        .insert_header(("x-accel-buffering", "no"))
        .streaming::<_, actix_web::Error>(Box::pin(body)))
}

/// Where a feed starts.
enum Start {
    /// After what the cursor has read.
    After(OutboxCursor),
    /// With the oldest event, after a notice that events are missing.
    Oldest,
}

impl Start {
    fn first_chunks(&self) -> impl Iterator<Item = web::Bytes> + use<> {
        let opening = match self {
            Self::After(cursor) => {
                format!(": souk\nid: {cursor}\nretry: {RETRY_MILLIS}\n\n").into()
            }
            Self::Oldest => format!(": souk\nretry: {RETRY_MILLIS}\n\n").into(),
        };
        let gap = matches!(self, Self::Oldest).then(|| web::Bytes::from_static(GAP_NOTICE));
        [opening].into_iter().chain(gap)
    }

    fn into_cursor(self) -> OutboxCursor {
        match self {
            Self::After(cursor) => cursor,
            Self::Oldest => OutboxCursor::default(),
        }
    }
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

struct EventStream {
    state: Arc<AppState>,
    _permit: FeedPermit,
    caller: Option<Caller>,
    live_pages: Receiver<Arc<FeedPage>>,
    /// The events that were queued or skipped.
    cursor: OutboxCursor,
    /// Whether the store may have events after `cursor`.
    is_behind: bool,
    /// Whether the reader knows that events are missing before the next ones.
    expects_gap: bool,
    pending_chunks: VecDeque<web::Bytes>,
    shutdown: watch::Receiver<bool>,
    keep_alive_timer: Interval,
}

impl EventStream {
    /// Returns the next chunk of the feed. `None` ends the feed.
    async fn next_chunk(&mut self) -> Option<web::Bytes> {
        loop {
            if let Some(chunk) = self.pending_chunks.pop_front() {
                return Some(chunk);
            }
            if self.is_behind {
                // A slow reader can stay behind for long, so check its session here too.
                if self.has_session_ended() || *self.shutdown.borrow() {
                    return None;
                }
                self.read_missed_events().await.ok()?;
                continue;
            }
            tokio::select! {
                // Poll the timer first: a busy feed must not outlive its token.
                biased;
                _ = self.keep_alive_timer.tick() => {
                    // The id lets a client resume that has seen no event so far.
                    let keep_alive = format!(": alive\nid: {}\n\n", self.cursor).into();
                    return (!self.has_session_ended()).then_some(keep_alive);
                }
                live = self.live_pages.recv() => match live {
                    Ok(_) if self.has_session_ended() => return None,
                    Ok(live) if self.cursor.covers(&live.start) => {
                        self.queue_page(&live.page).await.ok()?;
                    }
                    Ok(_) => self.is_behind = true,
                    Err(RecvError::Lagged(_)) => self.is_behind = true,
                    Err(RecvError::Closed) => return None,
                },
                // The node is stopping. The client resumes on another node.
                _ = self.shutdown.changed() => return None,
            }
        }
    }

    async fn read_missed_events(&mut self) -> Result<(), StoreUnavailable> {
        let page = {
            let _permit = self.state.feed_limiter.read_permit().await;
            self.state.store.list_events_after(&self.cursor, PAGE_SIZE).await?
        };
        self.is_behind = page.has_more;
        self.queue_page(&page).await
    }

    /// Queues the events of `page` that the reader may see and does not have. What the reader then
    /// reads from this node is at least as new.
    async fn queue_page(&mut self, page: &OutboxPage) -> Result<(), StoreUnavailable> {
        if let Some(follower) = &self.state.follower {
            follower.catch_up_to(&page.end).await?;
        }
        if page.has_gap && !self.expects_gap {
            self.pending_chunks.push_back(web::Bytes::from_static(GAP_NOTICE));
        }
        self.expects_gap = false;
        for event in &page.events {
            if self.cursor.has_read(event.position) {
                continue;
            }
            self.cursor.advance_to(event.position);
            if can_see_event(self.caller.as_ref(), event.audience) {
                self.pending_chunks.push_back(format_sse_event(event, &self.cursor));
            }
        }
        self.cursor.merge(&page.end);
        Ok(())
    }

    /// Whether the token that opened the feed is no longer valid.
    fn has_session_ended(&self) -> bool {
        self.caller.as_ref().is_some_and(|caller| self.state.authenticator.has_ended(caller))
    }
}

fn can_see_event(caller: Option<&Caller>, audience: Audience) -> bool {
    match audience {
        Audience::Everyone => true,
        Audience::Owner(owner) => caller.is_some_and(|caller| caller.user_id == owner),
        Audience::BrokerOnly => false,
    }
}

/// `cursor` is that of a reader that has read the event.
fn format_sse_event(event: &OutboxEvent, cursor: &OutboxCursor) -> web::Bytes {
    let head = format!("id: {cursor}\nevent: {}\ndata: ", event.kind);
    [head.as_bytes(), &event.body, b"\n\n"].concat().into()
}
