//! The follower applies changes that other nodes commit to a shared store.
//!
//! Each transaction writes its events to the outbox, in commit order and without gaps. A node that
//! has applied all events up to a position therefore has every change that was acknowledged before
//! that position was read. Events come from the store, or sooner from a broker. Their positions
//! identify repeated and missing events. The follower polls the newest position continuously, so a
//! slow or silent broker delays nothing.

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

/// The number of events to read at a time.
const PAGE_SIZE: u32 = 1000;

/// Keeps the caches of this node current with the commits of other nodes.
pub struct Follower {
    store: Arc<dyn Store>,
    caches: Arc<dyn CommitObserver>,
    catalog_snapshot: Arc<CatalogSnapshot>,
    feed: Arc<Feed>,
    clock: Arc<dyn Clock>,
    /// The position of the last applied event. Locked while events are applied.
    position: Mutex<u64>,
    /// A copy of `position` that is readable without the lock.
    reached: AtomicU64,
    /// The last catch-up. Concurrent callers share it.
    last_catch_up: Mutex<CatchUp>,
    freshness: Freshness,
}

/// The start and outcome of a catch-up.
struct CatchUp {
    began: Moment,
    outcome: Result<(), StoreUnavailable>,
}

impl Follower {
    /// Creates a follower that starts at the newest event. Load the caches after this call, so that
    /// no change is missed in between.
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

    /// Polls for new events. Never returns.
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

    /// Whether the caches are current enough to serve a read. If not, call
    /// [`Follower::catch_up`] first.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.freshness.is_current()
    }

    /// Whether a broker delivers events. While a configured broker is disconnected, the caches are
    /// never [current](Follower::is_current).
    #[must_use]
    pub fn is_broker_connected(&self) -> bool {
        self.freshness.is_broker_connected()
    }

    /// Sets whether a broker delivers events to [`Follower::receive`]. Must not be called if no
    /// broker is configured.
    pub fn set_broker_connected(&self, connected: bool) {
        self.freshness.set_broker_connected(connected);
    }

    /// Applies events from a broker in order of position. Skips repeated events, and reads missing
    /// events from the store.
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

    /// Records events that this node has committed and applied to its caches. If they are next, the
    /// follower need not read them.
    pub fn observe_local(&self, events: &[OutboxEvent]) {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return };
        // The holder of the lock is reading events, and reads these, too.
        let Ok(mut position) = self.position.try_lock() else { return };
        if first.position == *position + 1 {
            self.feed.apply(events);
            self.advance_to(&mut position, last.position);
        }
    }

    /// Applies every change that any node acknowledged before the call. Concurrent callers share
    /// one catch-up and its outcome.
    ///
    /// # Errors
    /// The store is unavailable. The caches may still be outdated.
    pub async fn catch_up(&self) -> Result<(), StoreUnavailable> {
        let called = self.freshness.now();
        let mut last = self.last_catch_up.lock().await;
        // A catch-up that began after this call, while it waited for the lock, covers it.
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

    /// Polls the newest position. Returns the position that the broker is expected to reach, if
    /// any. Reads events from the store if the broker is not connected, or has not reached the
    /// `awaited` position of the last poll.
    async fn poll(&self, awaited: Option<u64>) -> Result<Option<u64>, StoreUnavailable> {
        let began = self.freshness.now();
        let goal = self.store.last_event_position().await?;
        let is_late = awaited.is_some_and(|awaited| awaited > self.reached());
        if goal > self.reached() && self.freshness.is_broker_connected() && !is_late {
            self.freshness.expect_delivery(began, goal);
            // The events may have arrived just before `expect_delivery`.
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
            // The outbox always keeps the newest events, so an empty page means a lagging replica.
            let first = page.first().ok_or(StoreUnavailable)?;
            if first.position > *position + 1 {
                self.reload_caches(first.position).await?;
            }
            self.apply_next(&mut position, page).await?;
        }
        Ok(())
    }

    /// Applies `events`, which directly follow `position`.
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
