//! Following the outbox of a shared store: how a node hears of what other nodes have made durable.
//!
//! Every change leaves its events in the outbox in the same transaction, in commit order and without gaps. Whoever has looked at all
//! of them up to some place knows of every change that was acknowledged before that place was read. The events come from the store,
//! or sooner from a broker that delivers them; their places say which of them were seen already, and which are missing. The place of
//! the newest is read again and again, so that a broker that is late or silent is not waited for.

mod freshness;
mod news;
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

/// How often to look for news that nobody waits for.
const PAUSE: Duration = Duration::from_millis(50);

/// Events looked at together.
const PAGE: u32 = 1000;

/// Brings this node's caches up to date with what other nodes have done.
pub struct Follower {
    store: Arc<dyn Store>,
    caches: Arc<dyn CommitObserver>,
    shelf: Arc<CatalogSnapshot>,
    feed: Arc<Feed>,
    clock: Arc<dyn Clock>,
    /// The last event that was looked at. Held by whoever looks at the next.
    position: Mutex<u64>,
    /// The same, to be read at any time.
    reached: AtomicU64,
    /// The last time that somebody asked for everything acknowledged before.
    check: Mutex<Check>,
    freshness: Freshness,
}

/// When it began, and what came of it.
struct Check {
    began: Moment,
    outcome: Result<(), StoreUnavailable>,
}

/// Makes sure that a decision not to change anything rests on what is true now, on a node that is not alone.
pub(crate) struct SecondThought<'a> {
    follower: Option<&'a Follower>,
}

impl<'a> SecondThought<'a> {
    /// One for a node that follows others, if it does.
    pub(crate) const fn of(follower: Option<&'a Follower>) -> Self {
        Self { follower }
    }

    /// Whether to decide again, since the caches were brought up to date; true once at most.
    ///
    /// # Errors
    /// The store does not answer.
    pub(crate) async fn is_due(&mut self) -> Result<bool, StoreUnavailable> {
        match self.follower.take() {
            Some(follower) => follower.catch_up().await.map(|()| true),
            None => Ok(false),
        }
    }
}

impl Follower {
    /// Follows from here on: what the caches are filled with afterwards is at least as new as this.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn begin(
        store: &Arc<dyn Store>,
        caches: &Arc<impl CommitObserver + 'static>,
        shelf: &Arc<CatalogSnapshot>,
        feed: &Arc<Feed>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StoreUnavailable> {
        let freshness = Freshness::new();
        let began = freshness.now();
        let position = store.last_event_position().await?;
        Ok(Arc::new(Self {
            store: Arc::clone(store),
            caches: Arc::clone(caches) as Arc<dyn CommitObserver>,
            shelf: Arc::clone(shelf),
            feed: Arc::clone(feed),
            clock: Arc::clone(clock),
            position: Mutex::new(position),
            reached: AtomicU64::new(position),
            check: Mutex::new(Check { began, outcome: Ok(()) }),
            freshness,
        }))
    }

    /// Looks for news for ever.
    pub async fn follow(self: Arc<Self>) {
        let mut away = false;
        let mut awaited = None;
        loop {
            tokio::time::sleep(PAUSE).await;
            match self.look(awaited).await {
                Ok(next) => (awaited, away) = (next, false),
                Err(StoreUnavailable) if !away => {
                    away = true;
                    tracing::warn!("news of other nodes cannot be read; trying again");
                }
                Err(StoreUnavailable) => {}
            }
        }
    }

    /// Whether the caches are as new as a plain read may expect. When they are not, [`Follower::catch_up`] first.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.freshness.is_current()
    }

    /// Whether a broker delivers events. While it should and does not, [`Follower::is_current`] is never true.
    #[must_use]
    pub fn is_delivered_to(&self) -> bool {
        self.freshness.is_delivered_to()
    }

    /// Says whether a broker delivers events to [`Follower::hear`] from now on. Not to be called when there is none.
    pub fn link(&self, up: bool) {
        self.freshness.link(up);
    }

    /// Takes in events that a broker has delivered: those that are next. What was seen already is passed over; where some are missing,
    /// they are read from the store.
    pub async fn hear(&self, events: Vec<OutboxEvent>) {
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
        missing |= !next.is_empty() && self.take(&mut position, next).await.is_err();
        drop(position);
        if missing && self.catch_up().await.is_err() {
            tracing::warn!("events are missing and cannot be read; trying again");
        }
    }

    /// Takes in events that this node has just made itself, after its caches were told. When they are the next, they need not be read.
    pub fn made(&self, events: &[OutboxEvent]) {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return };
        // Whoever looks at others just now finds these, too.
        let Ok(mut position) = self.position.try_lock() else { return };
        if first.position == *position + 1 {
            self.feed.apply(events);
            self.arrive(&mut position, last.position);
        }
    }

    /// Brings the caches up to everything that was acknowledged by any node before this was called. Any number of callers share the
    /// work, and its failure.
    ///
    /// # Errors
    /// The store does not answer; the caches are as they were.
    pub async fn catch_up(&self) -> Result<(), StoreUnavailable> {
        let asked = self.freshness.now();
        let mut check = self.check.lock().await;
        if check.began <= asked {
            let began = self.freshness.now();
            let outcome = self.check(began).await;
            *check = Check { began, outcome };
        }
        check.outcome
    }

    async fn check(&self, began: Moment) -> Result<(), StoreUnavailable> {
        let goal = self.store.confirmed_event_position().await?;
        self.read_up_to(goal).await?;
        self.freshness.checked(began);
        Ok(())
    }

    /// Looks whether there are news, and gives the place back up to which the broker is expected to deliver them. What was `awaited`
    /// last time and did not come is read from the store, as is everything when there is no broker.
    async fn look(&self, awaited: Option<u64>) -> Result<Option<u64>, StoreUnavailable> {
        let began = self.freshness.now();
        let goal = self.store.last_event_position().await?;
        let is_late = awaited.is_some_and(|awaited| awaited > self.reached());
        if goal > self.reached() && self.freshness.is_delivered_to() && !is_late {
            self.freshness.expect(began, goal);
            // It may have come just before it was expected.
            self.freshness.reached(self.reached());
            return Ok(Some(goal));
        }
        self.read_up_to(goal).await?;
        self.freshness.checked(began);
        Ok(None)
    }

    async fn read_up_to(&self, goal: u64) -> Result<(), StoreUnavailable> {
        if self.reached() >= goal {
            return Ok(());
        }
        let mut position = self.position.lock().await;
        while *position < goal {
            let page = self.store.list_events_after(*position, PAGE).await?;
            // The newest are always kept, so that a store which has none of them is behind itself.
            let first = page.first().ok_or(StoreUnavailable)?;
            if first.position > *position + 1 {
                self.begin_anew(first.position).await?;
            }
            self.take(&mut position, page).await?;
        }
        Ok(())
    }

    /// Tells the caches and the feed of the events that come after `position`.
    async fn take(
        &self,
        position: &mut u64,
        events: Vec<OutboxEvent>,
    ) -> Result<(), StoreUnavailable> {
        let Some(last) = events.last().map(|event| event.position) else { return Ok(()) };
        self.tell(events).await?;
        self.arrive(position, last);
        Ok(())
    }

    fn arrive(&self, position: &mut u64, last: u64) {
        *position = last;
        self.reached.store(last, Ordering::Release);
        self.freshness.reached(last);
    }

    fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire)
    }
}
