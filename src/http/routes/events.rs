//! The event feed: server-sent events, from where the listener left off.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream;
use tokio::{
    sync::{
        broadcast::{Receiver, error::RecvError},
        watch,
    },
    time::{Instant, Interval},
};

use crate::http::{
    response::{RouteResult, problem::ProblemDetails},
    state::{AppState, Caller},
};
use crate::{
    domain::ids::EventId,
    events::{Audience, OutboxEvent},
    store::StoreUnavailable,
};

/// A stream of server-sent events.
#[derive(utoipa::ToSchema)]
#[schema(
    value_type = String,
    examples("id: 01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d\nevent: cart.cleared\ndata: {}\n\n")
)]
pub(crate) struct EventStreamBody(#[expect(dead_code, reason = "describes a stream")] String);

/// How often a quiet feed shows that it is alive, and looks whether its token still is.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Events read from the store at a time.
const PAGE_SIZE: u32 = 500;

/// The routes.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/events").get(feed));
}

/// Listen to events.
///
/// The answer is a stream of server-sent events. Anyone gets the events of catalog and stock, and
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
async fn feed(request: HttpRequest) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let has_token = request.headers().contains_key(actix_web::http::header::AUTHORIZATION);
    let caller = has_token.then(|| services.authenticate(&request)).transpose()?;
    if caller.is_none() {
        // Events of the catalog say what the catalog says.
        services.authorize_catalog_read(&request)?;
    }
    // Listen first, then look where the feed stands: what happens in between is seen twice and told once.
    let live = services.feed.listen();
    let last = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    let position = match last {
        None => {
            services.read_before_deadline(&request, services.store.last_event_position()).await?
        }
        Some(id) => match id.parse::<EventId>() {
            Ok(id) => services
                .read_before_deadline(&request, services.store.event_position(id))
                .await?
                .unwrap_or(0),
            Err(_) => 0,
        },
    };
    let clock = tokio::time::interval_at(Instant::now() + KEEP_ALIVE_INTERVAL, KEEP_ALIVE_INTERVAL);
    let (services, stopping) = (Arc::clone(services), services.shutdown.clone());
    let listener = EventStream {
        services,
        caller,
        live_events: live,
        position,
        is_behind: true,
        pending_chunks: VecDeque::new(),
        shutdown: stopping,
        keep_alive_timer: clock,
    };
    let greeting = stream::once(async { Ok(web::Bytes::from_static(b": souk\n\n")) });
    let events = stream::unfold(listener, async |mut listener| {
        listener.next_chunk().await.map(|text| (Ok(text), listener))
    });
    let body = futures_util::StreamExt::chain(greeting, events);
    Ok(HttpResponse::Ok()
        .insert_header(("content-type", "text/event-stream"))
        .insert_header(("cache-control", "no-store"))
        // Proxies that gather responses would hold events back.
        .insert_header(("x-accel-buffering", "no"))
        .streaming::<_, actix_web::Error>(Box::pin(body)))
}

struct EventStream {
    services: Arc<AppState>,
    caller: Option<Caller>,
    live_events: Receiver<Arc<[OutboxEvent]>>,
    /// The last event that was looked at.
    position: u64,
    /// Whether the store may have events that were not looked at.
    is_behind: bool,
    pending_chunks: VecDeque<web::Bytes>,
    shutdown: watch::Receiver<bool>,
    keep_alive_timer: Interval,
}

impl EventStream {
    /// The next piece of the feed; `None` ends it.
    async fn next_chunk(&mut self) -> Option<web::Bytes> {
        loop {
            if let Some(text) = self.pending_chunks.pop_front() {
                return Some(text);
            }
            if self.is_behind {
                // Whoever reads slowly is behind for long.
                if self.has_session_ended() || *self.shutdown.borrow() {
                    return None;
                }
                self.read_missed_events().await.ok()?;
                continue;
            }
            tokio::select! {
                // The clock first: a feed that is never quiet must not outlive its token.
                biased;
                _ = self.keep_alive_timer.tick() => {
                    return (!self.has_session_ended()).then(|| web::Bytes::from_static(b": alive\n\n"));
                }
                batch = self.live_events.recv() => match batch {
                    Ok(_) if self.has_session_ended() => return None,
                    Ok(batch) => self.queue_visible_events(&batch),
                    Err(RecvError::Lagged(_)) => self.is_behind = true,
                    Err(RecvError::Closed) => return None,
                },
                // The node stops; whoever listens goes on at another one.
                _ = self.shutdown.changed() => return None,
            }
        }
    }

    async fn read_missed_events(&mut self) -> Result<(), StoreUnavailable> {
        let page = self.services.store.list_events_after(self.position, PAGE_SIZE).await?;
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

    /// Whether the token that opened the feed is no longer good.
    fn has_session_ended(&self) -> bool {
        let ended = |caller: &Caller| {
            caller.expires_at <= self.services.clock.now()
                || self.services.revoked_sessions.contains(caller.session_id)
        };
        self.caller.as_ref().is_some_and(ended)
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
