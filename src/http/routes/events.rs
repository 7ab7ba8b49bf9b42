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
    domain::ids::EventId,
    error::Error,
    events::{Audience, OutboxEvent},
    http::{
        request::extract::{EventSubscriber, ReadRequest},
        response::problem::{Problem, ProblemDetails},
        state::AppState,
    },
    store::StoreUnavailable,
};

/// A stream of server-sent events.
#[derive(utoipa::ToSchema)]
#[schema(
    value_type = String,
    examples("id: 01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d\nevent: cart.cleared\ndata: {}\n\n")
)]
pub(crate) struct EventStreamBody(#[expect(dead_code, reason = "describes a stream")] String);

/// How often a feed sends a keep-alive comment and checks its token.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The number of events read from the store at a time.
const PAGE_SIZE: u32 = 500;

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/events").get(feed));
}

/// Stream events.
///
/// The response is a stream of server-sent events. Anyone gets the events of catalog and stock, and
/// the bearer of a token also those of their own cart and orders. `data` is a CloudEvent, `event`
/// its type and `id` its id. With `Last-Event-ID`, the stream continues after that event if it is
/// among the newest 10,000. Otherwise it begins with the oldest event that is kept.
#[utoipa::path(get, path = "/api/events", operation_id = "stream_events",
tag = "Events", security((), ("bearer" = [])), params(
    ("Last-Event-ID" = Option<String>, Header),
), responses(
    (status = 200, content_type = "text/event-stream", body = EventStreamBody),
    (status = 401, body = ProblemDetails,
        description = "`unauthenticated`, `token_expired`: the token is not valid, or the catalog \
            needs one"),
))]
async fn feed(read: ReadRequest<EventSubscriber>) -> Result<HttpResponse, Problem> {
    read.query.reject_others(&[])?;
    let state = Arc::clone(&read.state);
    // Subscribe before reading the position, so that no event is missed. `position` removes
    // duplicates.
    let live_events = state.feed.listen();
    let position = start_position(&read).await?;
    let keep_alive_timer =
        tokio::time::interval_at(Instant::now() + KEEP_ALIVE_INTERVAL, KEEP_ALIVE_INTERVAL);
    let shutdown = state.shutdown.clone();
    let event_stream = EventStream {
        state,
        caller: read.caller,
        live_events,
        position,
        is_behind: true,
        pending_chunks: VecDeque::new(),
        shutdown,
        keep_alive_timer,
    };
    let greeting = stream::once(async { Ok(web::Bytes::from_static(b": souk\n\n")) });
    let events = stream::unfold(event_stream, async |mut events| {
        events.next_chunk().await.map(|chunk| (Ok(chunk), events))
    });
    let body = futures_util::StreamExt::chain(greeting, events);
    Ok(HttpResponse::Ok()
        .insert_header(("content-type", "text/event-stream"))
        .insert_header(("cache-control", "no-store"))
        // Proxies that buffer responses would hold events back.
        .insert_header(("x-accel-buffering", "no"))
        .streaming::<_, actix_web::Error>(Box::pin(body)))
}

/// Returns the position that the feed starts after: that of `Last-Event-ID`, or the latest event.
async fn start_position(read: &ReadRequest<EventSubscriber>) -> Result<u64, Error> {
    let (request, store) = (&read.request, &read.state.store);
    let last = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    let Some(last) = last else {
        return read.state.read_before_deadline(request, store.last_event_position()).await;
    };
    let Ok(id) = last.parse::<EventId>() else { return Ok(0) };
    let position = read.state.read_before_deadline(request, store.event_position(id)).await?;
    Ok(position.unwrap_or(0))
}

struct EventStream {
    state: Arc<AppState>,
    caller: Option<Caller>,
    live_events: Receiver<Arc<[OutboxEvent]>>,
    /// The position of the last event that was queued or skipped.
    position: u64,
    /// Whether the store may have events after `position`.
    is_behind: bool,
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
                    let keep_alive = web::Bytes::from_static(b": alive\n\n");
                    return (!self.has_session_ended()).then_some(keep_alive);
                }
                batch = self.live_events.recv() => match batch {
                    Ok(_) if self.has_session_ended() => return None,
                    Ok(batch) => self.queue_visible_events(&batch),
                    Err(RecvError::Lagged(_)) => self.is_behind = true,
                    Err(RecvError::Closed) => return None,
                },
                // The node is stopping. The client resumes on another node.
                _ = self.shutdown.changed() => return None,
            }
        }
    }

    async fn read_missed_events(&mut self) -> Result<(), StoreUnavailable> {
        let page = self.state.store.list_events_after(self.position, PAGE_SIZE).await?;
        self.is_behind = page.len() == PAGE_SIZE as usize;
        self.queue_visible_events(&page);
        Ok(())
    }

    fn queue_visible_events(&mut self, events: &[OutboxEvent]) {
        for event in events.iter().filter(|event| event.position > self.position) {
            if can_see_event(self.caller.as_ref(), event.audience) {
                self.pending_chunks.push_back(format_sse_event(event));
            }
        }
        self.position =
            events.last().map_or(self.position, |last| last.position.max(self.position));
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

fn format_sse_event(event: &OutboxEvent) -> web::Bytes {
    let head = format!("id: {}\nevent: {}\ndata: ", event.id, event.kind);
    [head.as_bytes(), &event.body, b"\n\n"].concat().into()
}
