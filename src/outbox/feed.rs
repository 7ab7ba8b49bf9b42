//! The live end of the event feed: reads new events from the outbox and broadcasts them to
//! listeners.
//!
//! It reads pages from the store, and neither takes events from this node's writer nor from the
//! broker: only a page has the events of all nodes in order, without gaps and repeats. It reads
//! only while somebody listens.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{Notify, broadcast};
use uuid::Uuid;

use crate::{
    domain::ids::EventId,
    events::{
        Audience, OutboxCursor, OutboxEvent, OutboxPosition, inventory, parse::parse_subject,
    },
    store::{OutboxPage, Store, StoreUnavailable},
};

/// The number of pages a listener can lag behind before it must read from the store.
const BACKLOG: usize = 256;

/// The most events to read at a time.
const PAGE_SIZE: u32 = 500;

/// The most bytes of the events of a page. With a listener that has stalled, [`BACKLOG`] pages stay
/// in memory.
const MAX_PAGE_BYTES: usize = 256 * 1024;

/// How often the outbox is read when nothing is known to be new.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A page of the outbox, and the cursor that it follows. Many readers share one.
#[derive(Debug)]
pub struct FeedPage {
    /// A listener that has not read everything up to here must read from the store first.
    pub start: OutboxCursor,
    /// What a reader of the page has read.
    pub end: OutboxCursor,
    /// Whether events before the first are missing.
    pub has_gap: bool,
    /// The events, in order.
    pub events: Vec<FeedEvent>,
}

/// An event for the readers of the feed. What only some readers need is prepared once for all.
#[derive(Debug)]
pub struct FeedEvent {
    event: OutboxEvent,
    subject: OnceLock<Option<Uuid>>,
    public_body: OnceLock<Bytes>,
}

impl FeedPage {
    /// A page that follows `start`.
    #[must_use]
    pub fn new(start: OutboxCursor, page: OutboxPage) -> Self {
        let events = page.events.into_iter().map(FeedEvent::new).collect();
        Self { start, end: page.end, has_gap: page.has_gap, events }
    }
}

impl FeedEvent {
    const fn new(event: OutboxEvent) -> Self {
        Self { event, subject: OnceLock::new(), public_body: OnceLock::new() }
    }

    /// Where the event stands in the outbox.
    #[must_use]
    pub const fn position(&self) -> OutboxPosition {
        self.event.position
    }

    /// The event's identifier.
    #[must_use]
    pub const fn id(&self) -> EventId {
        self.event.id
    }

    /// The type of the event.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.event.kind
    }

    /// Who may read the event.
    #[must_use]
    pub const fn audience(&self) -> Audience {
        self.event.audience
    }

    /// The id of what changed. `None` if the event has none, which is logged.
    #[must_use]
    pub fn subject(&self) -> Option<Uuid> {
        *self.subject.get_or_init(|| parse_subject(&self.event))
    }

    /// The whole CloudEvent as JSON.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.event.body
    }

    /// The CloudEvent of a change of stock with what anyone may know.
    #[must_use]
    pub fn public_stock_body(&self) -> &Bytes {
        self.public_body.get_or_init(|| inventory::public_stock_event(&self.event))
    }
}

/// Broadcasts new events to any number of listeners. A slow listener gets a `Lagged` error and
/// delays nobody.
pub struct Feed {
    pages: broadcast::Sender<Arc<FeedPage>>,
    /// Notified when there may be new events or the first listener.
    wakeup: Notify,
}

impl Feed {
    /// Creates a feed without listeners.
    #[must_use]
    pub fn new() -> Self {
        Self { pages: broadcast::Sender::new(BACKLOG), wakeup: Notify::new() }
    }

    /// Subscribes to the pages that are read from now on. The first one may be empty: it tells
    /// where the pages begin.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<FeedPage>> {
        let receiver = self.pages.subscribe();
        self.wakeup.notify_one();
        receiver
    }

    /// Tells the feed that there may be new events.
    pub fn wake(&self) {
        if self.has_listeners() {
            self.wakeup.notify_one();
        }
    }

    /// Reads and broadcasts. Never returns.
    pub async fn run(self: Arc<Self>, store: Arc<dyn Store>) {
        loop {
            while !self.has_listeners() {
                self.wakeup.notified().await;
            }
            if let Err(StoreUnavailable) = self.broadcast_to_listeners(&*store).await {
                // The store has logged the error.
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }

    async fn broadcast_to_listeners(&self, store: &dyn Store) -> Result<(), StoreUnavailable> {
        let start = store.outbox_heads().await?;
        let mut cursor = start.clone();
        self.broadcast_page(start, OutboxPage { end: cursor.clone(), ..OutboxPage::default() });
        while self.has_listeners() {
            let page = store.list_events_after(&cursor, PAGE_SIZE).await?;
            let has_more = page.has_more;
            let mut next = (page.end != cursor).then_some(page);
            while let Some(mut page) = next {
                next = page.split_off_after(MAX_PAGE_BYTES);
                let start = std::mem::replace(&mut cursor, page.end.clone());
                self.broadcast_page(start, page);
            }
            if !has_more {
                // A timeout only means that it is time to look again.
                drop(tokio::time::timeout(POLL_INTERVAL, self.wakeup.notified()).await);
            }
        }
        Ok(())
    }

    fn broadcast_page(&self, start: OutboxCursor, page: OutboxPage) {
        // `send` fails only if the last listener has just disconnected.
        drop(self.pages.send(Arc::new(FeedPage::new(start, page))));
    }

    fn has_listeners(&self) -> bool {
        self.pages.receiver_count() > 0
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        domain::{
            catalog::product::{Product, ProductDetails},
            clock::{SystemClock, Timestamp},
            ids::ProductId,
        },
        events::DomainEvent,
        store::{
            Commit, Write,
            sqlite::{SqliteOptions, SqliteStore},
        },
    };

    const EVENTS: usize = 100;

    /// A commit with events of 10 KiB.
    fn large_events() -> Commit {
        let details =
            ProductDetails { description: "x".repeat(10_000), ..ProductDetails::sample("Tea") };
        let now = Timestamp::from_millis(1);
        let product = Arc::new(Product::new(ProductId::new(), details, now));
        let events = vec![DomainEvent::Product(Arc::clone(&product)); EVENTS];
        Commit { writes: vec![Write::Product(product)], events, ..Commit::new(now, Instant::now()) }
    }

    #[tokio::test]
    async fn live_pages_are_bounded_in_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteOptions::sample(dir.path());
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(options, Arc::new(SystemClock)).unwrap());
        let feed = Arc::new(Feed::new());
        let mut pages = feed.listen();
        let running = tokio::spawn(Arc::clone(&feed).run(Arc::clone(&store)));
        assert!(pages.recv().await.unwrap().events.is_empty());
        assert!(store.apply(vec![large_events()].into()).await.unwrap().outcomes[0].is_ok());
        feed.wake();
        let (mut received, mut last) = (0, OutboxCursor::default());
        while received < EVENTS {
            let page = pages.recv().await.unwrap();
            let bytes: usize = page.events.iter().map(|event| event.body().len()).sum();
            assert!(bytes <= MAX_PAGE_BYTES, "{bytes}");
            assert_eq!(page.start, last);
            last = page.end.clone();
            received += page.events.len();
        }
        running.abort();
    }
}
