//! The follower: how a node of a shared store learns what other nodes have committed.
//!
//! Every change leaves its events in the outbox in the same transaction, in commit order and
//! without gaps. A node that has seen all events up to a position therefore knows every change that
//! was acknowledged before that position was read. Events are read from the store, or come sooner
//! from a broker; their positions tell which were seen already and which are missing. The newest
//! position is polled all the time, so that a late or silent broker holds nothing up.

mod apply;
mod freshness;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Mutex;

use self::freshness::{Freshness, Moment};
use super::catalog_snapshot::CatalogSnapshot;
use crate::{
    domain::clock::Clock,
    events::OutboxEvent,
    outbox::feed::Feed,
    store::{Store, StoreUnavailable, writer::CommitObserver},
};

/// The pause between two polls of the newest position.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How many events are read at a time.
const PAGE_SIZE: u32 = 1000;

/// Keeps the caches of this node current with what other nodes commit.
pub struct Follower {
    store: Arc<dyn Store>,
    caches: Arc<dyn CommitObserver>,
    catalog_snapshot: Arc<CatalogSnapshot>,
    feed: Arc<Feed>,
    clock: Arc<dyn Clock>,
    /// The position of the last event that was applied. Locked while events are applied.
    position: Mutex<u64>,
    /// The same, readable without the lock.
    reached: AtomicU64,
    /// The last catch-up, which its callers share.
    last_catch_up: Mutex<CatchUp>,
    freshness: Freshness,
}

/// When a catch-up began, and its outcome.
struct CatchUp {
    began: Moment,
    outcome: Result<(), StoreUnavailable>,
}

impl Follower {
    /// Creates a follower that applies the events from now on. Load the caches after this, so that
    /// nothing is missed in between.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn new(
        store: &Arc<dyn Store>,
        caches: &Arc<impl CommitObserver + 'static>,
        catalog_snapshot: &Arc<CatalogSnapshot>,
        feed: &Arc<Feed>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreUnavailable> {
        let freshness = Freshness::new();
        let began = freshness.now();
        let position = store.last_event_position().await?;
        Ok(Arc::new(Self {
            store: Arc::clone(store),
            caches: Arc::clone(caches) as Arc<dyn CommitObserver>,
            catalog_snapshot: Arc::clone(catalog_snapshot),
            feed: Arc::clone(feed),
            clock: Arc::clone(clock),
            position: Mutex::new(position),
            reached: AtomicU64::new(position),
            last_catch_up: Mutex::new(CatchUp { began, outcome: Ok(()) }),
            freshness,
        }))
    }

    /// Polls for new events; never returns.
    pub async fn run(self: Arc<Self>) {
        let mut is_failing = false;
        let mut awaited = None;
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            match self.poll(awaited).await {
                Ok(next) => (awaited, is_failing) = (next, false),
                Err(StoreUnavailable) if !is_failing => {
                    is_failing = true;
                    tracing::warn!("failed to read the events of other nodes; trying again");
                }
                Err(StoreUnavailable) => {}
            }
        }
    }

    /// Whether the caches are as new as a plain read may expect. If not, call
    /// [`Follower::catch_up`] first.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.freshness.is_current()
    }

    /// Whether a broker delivers events. While a configured broker does not, the caches are never
    /// [current](Follower::is_current).
    #[must_use]
    pub fn is_broker_connected(&self) -> bool {
        self.freshness.is_broker_connected()
    }

    /// Sets whether a broker delivers events to [`Follower::receive`] from now on. Must not be
    /// called when no broker is configured.
    pub fn set_broker_connected(&self, connected: bool) {
        self.freshness.set_broker_connected(connected);
    }

    /// Applies events that a broker has delivered, if they are next. Events seen already are passed
    /// over; missing ones are read from the store.
    pub async fn receive(&self, events: Vec<OutboxEvent>) {
        let mut position = self.position.lock().await;
        let mut next = Vec::with_capacity(events.len());
        let mut last = *position;
        let mut missing = false;
        for event in events {
            missing |= event.position > last + 1;
            if event.position == last + 1 {
                last = event.position;
                next.push(event);
            }
        }
        missing |= !next.is_empty() && self.apply_next(&mut position, next).await.is_err();
        drop(position);
        if missing && self.catch_up().await.is_err() {
            tracing::warn!("failed to read missing events; trying again");
        }
    }

    /// Notes events that this node has just committed, and applied to its caches, itself. If they are
    /// next, they need not be read.
    pub fn observe_local(&self, events: &[OutboxEvent]) {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return };
        // Whoever holds the lock is reading events, and will read these, too.
        let Ok(mut position) = self.position.try_lock() else { return };
        if first.position == *position + 1 {
            self.feed.apply(events);
            self.advance_to(&mut position, last.position);
        }
    }

    /// Brings the caches up to everything that any node acknowledged before the call. Callers share
    /// the work, and its failure.
    ///
    /// # Errors
    /// The store is unavailable; the caches are as they were.
    pub async fn catch_up(&self) -> Result<(), StoreUnavailable> {
        let called = self.freshness.now();
        let mut last = self.last_catch_up.lock().await;
        // One that began after the call, while it waited for the lock, serves it as well.
        if last.began <= called {
            let began = self.freshness.now();
            let outcome = self.read_confirmed_events(began).await;
            *last = CatchUp { began, outcome };
        }
        last.outcome
    }

    async fn read_confirmed_events(&self, began: Moment) -> Result<(), StoreUnavailable> {
        let goal = self.store.confirmed_event_position().await?;
        self.read_up_to(goal).await?;
        self.freshness.confirm(began);
        Ok(())
    }

    /// Looks for new events, and returns the position up to which the broker is expected to deliver
    /// them. What was `awaited` since the last poll and did not come is read from the store, as is
    /// everything when there is no broker.
    async fn poll(&self, awaited: Option<u64>) -> Result<Option<u64>, StoreUnavailable> {
        let began = self.freshness.now();
        let goal = self.store.last_event_position().await?;
        let is_late = awaited.is_some_and(|awaited| awaited > self.reached());
        if goal > self.reached() && self.freshness.is_broker_connected() && !is_late {
            self.freshness.expect_delivery(began, goal);
            // The events may have come just before they were expected.
            self.freshness.on_reached(self.reached());
            return Ok(Some(goal));
        }
        self.read_up_to(goal).await?;
        self.freshness.confirm(began);
        Ok(None)
    }

    async fn read_up_to(&self, goal: u64) -> Result<(), StoreUnavailable> {
        if self.reached() >= goal {
            return Ok(());
        }
        let mut position = self.position.lock().await;
        while *position < goal {
            let page = self.store.list_events_after(*position, PAGE_SIZE).await?;
            // The newest events are always kept. A member of the store that has none of them lags.
            let first = page.first().ok_or(StoreUnavailable)?;
            if first.position > *position + 1 {
                self.reload_caches(first.position).await?;
            }
            self.apply_next(&mut position, page).await?;
        }
        Ok(())
    }

    /// Applies the events that come next after `position`.
    async fn apply_next(
        &self,
        position: &mut u64,
        events: Vec<OutboxEvent>,
    ) -> Result<(), StoreUnavailable> {
        let Some(last) = events.last().map(|event| event.position) else { return Ok(()) };
        self.apply_events(events).await?;
        self.advance_to(position, last);
        Ok(())
    }

    fn advance_to(&self, position: &mut u64, last: u64) {
        *position = last;
        self.reached.store(last, Ordering::Release);
        self.freshness.on_reached(last);
    }

    fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire)
    }
}
