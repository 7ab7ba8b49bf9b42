//! An open feed: what it sends next.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actix_web::web::Bytes;
use tokio::{
    sync::{
        broadcast::{Receiver, error::RecvError},
        watch,
    },
    time::{Instant, Interval, interval_at},
};

use super::{
    Start,
    audience::{Visibility, visibility},
    filter::EventFilter,
};
use crate::{
    admission::{feed_limiter::FeedPermit, stop_phase::StopPhase},
    auth::caller::Caller,
    events::OutboxCursor,
    http::state::AppState,
    outbox::feed::{FeedEvent, FeedPage},
    store::StoreUnavailable,
};

/// How often a feed sends a keep-alive comment.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// How often a silent feed checks its session. A feed ends within 15 seconds of its session.
const SESSION_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// How long a client should wait before it reconnects.
const RETRY_MILLIS: u32 = 2000;

/// Tells a client that it has missed events that are no longer kept.
const GAP_NOTICE: &[u8] = b"event: souk.gap\ndata: {}\n\n";

/// The most events read from the store at a time.
const PAGE_SIZE: u32 = 100;

/// The most bytes of events that a reader who is behind holds, except that one is held however
/// large it is.
const MAX_PAGE_BYTES: usize = 128 * 1024;

/// An open feed. It holds at most one page of events, which live readers share.
pub(super) struct EventStream {
    state: Arc<AppState>,
    _permit: FeedPermit,
    caller: Option<Caller>,
    filter: EventFilter,
    live_pages: Receiver<Arc<FeedPage>>,
    /// The events that were sent or skipped.
    cursor: OutboxCursor,
    /// Whether the store may have events after `cursor`.
    is_behind: bool,
    /// How many of them to read next: fewer after large ones, which are not all held.
    read_limit: u32,
    /// Whether the reader knows that events are missing before the next ones.
    expects_gap: bool,
    /// Chunks to send before the events of `page`.
    pending_chunks: VecDeque<Bytes>,
    /// The page in progress, and the place of its next event.
    page: Option<(Arc<FeedPage>, usize)>,
    stop_phase: watch::Receiver<StopPhase>,
    keep_alive_timer: Interval,
    session_timer: Interval,
}

impl EventStream {
    pub(super) fn new(
        state: Arc<AppState>,
        permit: FeedPermit,
        caller: Option<Caller>,
        filter: EventFilter,
        live_pages: Receiver<Arc<FeedPage>>,
        start: Start,
    ) -> Self {
        let (cursor, gap) = match start {
            Start::After(cursor) => (cursor, None),
            Start::Oldest => (OutboxCursor::default(), Some(Bytes::from_static(GAP_NOTICE))),
        };
        // A client that hears nothing before the connection breaks resumes with this id.
        let opening = format!(": souk\nid: {cursor}\nretry: {RETRY_MILLIS}\n\n").into();
        let timer = |period| interval_at(Instant::now() + period, period);
        Self {
            stop_phase: state.stop_phase.clone(),
            state,
            _permit: permit,
            caller,
            filter,
            live_pages,
            cursor,
            is_behind: true,
            read_limit: PAGE_SIZE,
            expects_gap: gap.is_some(),
            pending_chunks: [opening].into_iter().chain(gap).collect(),
            page: None,
            keep_alive_timer: timer(KEEP_ALIVE_INTERVAL),
            session_timer: timer(SESSION_CHECK_INTERVAL),
        }
    }

    /// Returns the next chunk of the feed. `None` ends the feed.
    pub(super) async fn next_chunk(&mut self) -> Option<Bytes> {
        loop {
            // Here, since a slow reader can be busy with one page for long.
            if !self.refresh_caller() || *self.stop_phase.borrow() == StopPhase::Draining {
                return None;
            }
            if let Some(chunk) = self.pending_chunks.pop_front().or_else(|| self.next_event()) {
                return Some(chunk);
            }
            if self.is_behind {
                self.read_missed_events().await.ok()?;
                continue;
            }
            tokio::select! {
                // Poll the timers first: a busy feed must not outlive its token.
                biased;
                _ = self.session_timer.tick() => {}
                _ = self.keep_alive_timer.tick() => {
                    // The id lets a client resume that has seen no event so far.
                    let keep_alive = format!(": alive\nid: {}\n\n", self.cursor).into();
                    return self.refresh_caller().then_some(keep_alive);
                }
                live = self.live_pages.recv() => match live {
                    Ok(live) if self.cursor.covers(&live.start) => {
                        self.begin_page(live).await.ok()?;
                    }
                    Ok(_) => self.is_behind = true,
                    Err(RecvError::Lagged(_)) => self.is_behind = true,
                    Err(RecvError::Closed) => return None,
                },
                // The node is stopping. The client resumes on another node.
                changed = self.stop_phase.changed() => changed.ok()?,
            }
        }
    }

    async fn read_missed_events(&mut self) -> Result<(), StoreUnavailable> {
        let page = {
            let _permit = self.state.feed_limiter.read_permit().await;
            let store = &self.state.store;
            let mut page = store.list_events_after(&self.cursor, self.read_limit).await?;
            self.read_limit = match page.split_off_after(MAX_PAGE_BYTES) {
                Some(_) => u32::try_from(page.events.len()).unwrap_or(PAGE_SIZE),
                None => self.read_limit.saturating_mul(2).min(PAGE_SIZE),
            };
            page
        };
        self.is_behind = page.has_more;
        self.begin_page(Arc::new(FeedPage::new(self.cursor.clone(), page))).await
    }

    /// Begins to send the events of `page`. What the reader then reads from this node is at least
    /// as new.
    async fn begin_page(&mut self, page: Arc<FeedPage>) -> Result<(), StoreUnavailable> {
        if let Some(follower) = &self.state.follower {
            follower.catch_up_to(&page.end).await?;
        }
        if page.has_gap && !self.expects_gap {
            self.pending_chunks.push_back(Bytes::from_static(GAP_NOTICE));
        }
        self.expects_gap = false;
        self.page = Some((page, 0));
        Ok(())
    }

    /// The next event of the page that the reader may see, wants, and does not have. `None` after
    /// the last one.
    fn next_event(&mut self) -> Option<Bytes> {
        let (page, mut place) = self.page.take()?;
        while let Some(event) = page.events.get(place) {
            place += 1;
            if self.cursor.has_read(event.position()) {
                continue;
            }
            self.cursor.advance_to(event.position());
            if let Some(body) = self.visible_body(event) {
                let chunk = format_sse_event(event, body, &self.cursor);
                self.page = Some((page, place));
                return Some(chunk);
            }
        }
        self.cursor.merge(&page.end);
        None
    }

    fn visible_body<'a>(&self, event: &'a FeedEvent) -> Option<&'a Bytes> {
        // Most events are another's, which is cheaper to see than whether the filter matches.
        let body = match visibility(self.caller.as_ref(), event) {
            Visibility::Hidden => return None,
            Visibility::Reduced => FeedEvent::public_stock_body,
            Visibility::Full => FeedEvent::body,
        };
        self.filter.matches(event).then(|| body(event))
    }

    /// Takes over the rights that the reader has now. Returns whether the token that opened the
    /// feed is still valid.
    fn refresh_caller(&mut self) -> bool {
        let Some(caller) = &self.caller else { return true };
        self.caller = self.state.authenticator.reauthenticate(caller);
        self.caller.is_some()
    }
}

/// `cursor` is that of a reader that has read the event.
fn format_sse_event(event: &FeedEvent, body: &Bytes, cursor: &OutboxCursor) -> Bytes {
    let head = format!("id: {cursor}\nevent: {}\ndata: ", event.kind());
    [head.as_bytes(), body, b"\n\n"].concat().into()
}
