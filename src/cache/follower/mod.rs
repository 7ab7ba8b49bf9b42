//! The follower applies changes that other nodes commit to a shared store.
//!
//! Each transaction writes its events to a partition of the outbox, without gaps. A node that has
//! applied the events of all partitions up to their heads therefore has every change that was
//! acknowledged before the heads were read. Events come from the store, or sooner from a broker.
//! Their positions identify repeated and missing events. The follower polls the heads continuously,
//! so a slow or silent broker delays nothing.
//!
//! The order in which events are applied does not matter, because caches ignore a version that is
//! older than the one they have.

mod apply;
mod freshness;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Mutex;

pub use self::freshness::MAX_STALENESS;
use self::freshness::{Freshness, Moment};
use super::{
    account_rights::AccountRights, catalog_cache::CatalogCache, pricing_rules::PricingRulesCache,
};
use crate::{
    domain::clock::Clock,
    events::{
        OutboxCursor, OutboxEvent,
        parse::{CacheChange, parse_or_log},
    },
    store::{Store, StoreUnavailable, writer::CommitObserver},
};

/// The pause between two polls of the outbox's heads.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The number of events to read at a time.
const PAGE_SIZE: u32 = 1000;

/// Keeps the caches of this node current with the commits of other nodes.
pub struct Follower {
    store: Arc<dyn Store>,
    caches: Arc<dyn CommitObserver>,
    catalog_cache: Arc<CatalogCache>,
    account_rights: Arc<AccountRights>,
    pricing_rules: Arc<PricingRulesCache>,
    clock: Arc<dyn Clock>,
    /// The events that were applied. Locked while events are applied.
    cursor: Mutex<OutboxCursor>,
    /// A copy of `cursor` that is readable meanwhile.
    reached: std::sync::Mutex<OutboxCursor>,
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
        catalog_cache: &Arc<CatalogCache>,
        account_rights: &Arc<AccountRights>,
        pricing_rules: &Arc<PricingRulesCache>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreUnavailable> {
        let freshness = Freshness::new();
        let began = freshness.now();
        let cursor = store.outbox_heads().await?;
        Ok(Arc::new(Self {
            store: Arc::clone(store),
            caches: Arc::clone(caches) as Arc<dyn CommitObserver>,
            catalog_cache: Arc::clone(catalog_cache),
            account_rights: Arc::clone(account_rights),
            pricing_rules: Arc::clone(pricing_rules),
            clock: Arc::clone(clock),
            reached: std::sync::Mutex::new(cursor.clone()),
            cursor: Mutex::new(cursor),
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
            match self.poll(awaited.take()).await {
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

    /// Applies events from a broker. Skips repeated events, and reads missing events from the
    /// store.
    pub async fn receive(&self, events: Vec<OutboxEvent>) {
        let mut cursor = self.cursor.lock().await;
        let mut next = Vec::with_capacity(events.len());
        let mut end = cursor.clone();
        let mut missing = false;
        for event in events {
            if end.is_next(event.position) {
                end.advance_to(event.position);
                next.extend(parse_or_log(&event));
            } else {
                missing |= !end.has_read(event.position);
            }
        }
        missing |= end != *cursor && self.apply_next(&mut cursor, next, end).await.is_err();
        drop(cursor);
        if missing && self.catch_up().await.is_err() {
            tracing::warn!("failed to read missing events; trying again");
        }
    }

    /// Records events that this node has committed and applied to its caches. If they are next, the
    /// follower need not read them.
    pub fn observe_local(&self, events: &[OutboxEvent]) {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return };
        // The holder of the lock is reading events, and reads these, too.
        let Ok(mut cursor) = self.cursor.try_lock() else { return };
        if cursor.is_next(first.position) {
            let mut end = cursor.clone();
            end.advance_to(last.position);
            self.advance_to(&mut cursor, end);
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
            let outcome = self.catch_up_to_linearizable_heads(began).await;
            *last = CatchUp { began, outcome };
        }
        last.outcome
    }

    /// Applies every change up to `goal`, which the store has.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn catch_up_to(&self, goal: &OutboxCursor) -> Result<(), StoreUnavailable> {
        if self.has_reached(goal) {
            return Ok(());
        }
        let mut cursor = self.cursor.lock().await;
        while !cursor.covers(goal) {
            if !self.read_next(&mut cursor).await? && !cursor.covers(goal) {
                // The events up to `goal` are stored, so the replica that answered lags behind.
                return Err(StoreUnavailable);
            }
        }
        Ok(())
    }

    async fn catch_up_to_linearizable_heads(&self, began: Moment) -> Result<(), StoreUnavailable> {
        let goal = self.store.linearizable_outbox_heads().await?;
        self.catch_up_to(&goal).await?;
        self.freshness.confirm(began);
        Ok(())
    }

    /// Reads what other nodes have committed, unless the broker delivers it: then, returns the
    /// cursor that the broker is expected to reach. A broker that has not reached the `awaited`
    /// cursor of the last poll is not waited for again.
    async fn poll(
        &self,
        awaited: Option<OutboxCursor>,
    ) -> Result<Option<OutboxCursor>, StoreUnavailable> {
        let began = self.freshness.now();
        let is_late = awaited.is_some_and(|awaited| !self.has_reached(&awaited));
        if self.freshness.is_broker_connected() && !is_late {
            let goal = self.store.outbox_heads().await?;
            if !self.has_reached(&goal) {
                self.freshness.expect_delivery(began, goal.clone());
                // The events may have arrived just before `expect_delivery`.
                self.freshness.record_reached(&self.lock_reached());
                return Ok(Some(goal));
            }
        } else {
            let mut cursor = self.cursor.lock().await;
            while self.read_next(&mut cursor).await? {}
        }
        self.freshness.confirm(began);
        Ok(None)
    }

    /// Reads and applies the next changes. Returns whether there are more.
    async fn read_next(&self, cursor: &mut OutboxCursor) -> Result<bool, StoreUnavailable> {
        let found = self.store.list_changes_after(cursor, PAGE_SIZE).await?;
        if found.has_gap {
            self.reload_caches(cursor).await?;
        } else if found.end != *cursor {
            self.apply_next(cursor, found.changes, found.end).await?;
        }
        Ok(found.has_more)
    }

    /// Applies `events`, the events between `cursor` and `end`.
    async fn apply_next(
        &self,
        cursor: &mut OutboxCursor,
        events: Vec<CacheChange>,
        end: OutboxCursor,
    ) -> Result<(), StoreUnavailable> {
        self.apply_events(events).await?;
        self.advance_to(cursor, end);
        Ok(())
    }

    fn advance_to(&self, cursor: &mut OutboxCursor, end: OutboxCursor) {
        *cursor = end;
        let mut reached = self.lock_reached();
        reached.clone_from(cursor);
        self.freshness.record_reached(&reached);
    }

    fn has_reached(&self, goal: &OutboxCursor) -> bool {
        self.lock_reached().covers(goal)
    }

    fn lock_reached(&self) -> MutexGuard<'_, OutboxCursor> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
