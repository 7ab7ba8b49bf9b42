//! Publishes the outbox: one node at a time, and each event at least once. Events are read in the
//! order of [`OutboxPage`](crate::store::OutboxPage), in which every subject's sequence rises;
//! [`Publisher`] keeps that order for each sequence. On [MongoDB](crate::store::mongo), where many
//! writers append events at once, the order is that of their commit times. The private method
//! `ClaimedPartition::next_commit_time` there says why that is the order of cause and effect.
//!
//! # Takeover
//!
//! The leader saves the cursor up to which the broker has confirmed all events. A new leader
//! starts there, so it may publish some events twice, but it skips none. A leader that fails, for
//! example because its store does not respond, closes its channel. The queue goes with it, and a
//! node whose store responds takes over.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use backon::{ConstantBuilder, Retryable};
use futures_util::{FutureExt, StreamExt};
use lapin::{Channel, Consumer, options::ConfirmSelectOptions};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::{
    BrokerError, BrokerSession, BrokerStatus, ManagedConnection,
    leader_election::{try_lead, wake_leader},
    publisher::Publisher,
    queues::{self, Subscription},
    with_timeout,
};
use crate::{
    events::{OutboxCursor, OutboxPosition},
    panics::catch_panic,
    store::{Store, StoreUnavailable},
};

/// How often a node that is not the leader checks that there is one.
const LEADER_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// How often the leader reads the outbox when no wakeup arrives.
const OUTBOX_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Most events in one read of the outbox.
const PAGE_SIZE: u32 = 500;

/// Shortest time between two saves of the confirmed cursor.
const CURSOR_SAVE_INTERVAL: Duration = Duration::from_millis(200);

/// How long the leader waits for its store before it lets another node lead.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Delays between attempts to reach a store that is unavailable.
const STORE_BACKOFF: ConstantBuilder =
    ConstantBuilder::new().with_delay(Duration::from_millis(500)).without_max_times();

/// What the relay needs from the rest of the node.
pub(super) struct RelayDeps {
    pub(super) store: Arc<dyn Store>,
    /// Notified when this node has committed events.
    pub(super) outbox_notify: Arc<Notify>,
    pub(super) status: Arc<BrokerStatus>,
    /// Becomes true when the node stops, after its last commit.
    pub(super) stopping: watch::Receiver<bool>,
    /// Queues that must exist before the first event is published.
    pub(super) subscriptions: Vec<Subscription>,
}

/// This node's relay. It publishes while the node is the leader, and wakes the leader otherwise.
pub(super) struct Relay {
    deps: RelayDeps,
    /// The broker has confirmed all events up to this cursor. Empty until this node leads.
    confirmed_cursor: watch::Sender<OutboxCursor>,
    /// Becomes true when the node stops and this relay has nothing left to publish.
    drained: watch::Sender<bool>,
    /// The last event that the broker rejected.
    last_rejected: Mutex<Option<OutboxPosition>>,
}

/// Why the leader stopped waiting.
enum WakeReason {
    /// There may be new events.
    NewEvents,
    /// The broker has confirmed this event and all that were published before it.
    Confirmed(OutboxPosition),
}

/// Shows this node as the leader until it is dropped.
struct LeaderGuard<'a>(&'a BrokerStatus);

impl<'a> LeaderGuard<'a> {
    fn new(status: &'a BrokerStatus) -> Self {
        tracing::info!("this node is now the leader and publishes events");
        status.set_leader(true);
        Self(status)
    }
}

impl Drop for LeaderGuard<'_> {
    fn drop(&mut self) {
        self.0.set_leader(false);
    }
}

impl Relay {
    pub(super) fn new(deps: RelayDeps) -> Self {
        Self {
            deps,
            confirmed_cursor: watch::Sender::new(OutboxCursor::default()),
            drained: watch::Sender::new(false),
            last_rejected: Mutex::default(),
        }
    }

    /// The cursor up to which the broker has confirmed all events. Empty until this node leads.
    pub(super) fn confirmed_cursor(&self) -> watch::Receiver<OutboxCursor> {
        self.confirmed_cursor.subscribe()
    }

    /// Runs until the connection is closed, or the node stops and everything is published.
    pub(super) async fn run(self, connection: Arc<ManagedConnection>) {
        let mut drained = self.drained.subscribe();
        tokio::select! {
            () = connection.supervise("relay", |session| self.run_session(session)) => {}
            _ = drained.wait_for(|drained| *drained) => {}
        }
    }

    /// Wakes the leader when this node has events for it. Becomes the leader when there is none.
    async fn run_session(&self, session: BrokerSession) -> Result<(), BrokerError> {
        queues::declare_subscriptions(&session, &self.deps.subscriptions).await?;
        let channel = session.open_channel().await?;
        with_timeout(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let mut stopping = self.deps.stopping.clone();
        // Held until the session ends, once this node leads or has reached a leader.
        let mut ready_guard = None;
        loop {
            if wake_leader(&channel).await? {
                // Another node publishes, and knows whether the broker confirms that.
                self.deps.status.set_refusing(false);
                ready_guard.get_or_insert_with(|| session.mark_ready());
            } else if self.deps.store.ping().await.is_ok()
                && let Some((channel, wakeups)) = try_lead(&session).await?
            {
                ready_guard.get_or_insert_with(|| session.mark_ready());
                return self.run_as_leader(channel, wakeups).await;
            }
            if *stopping.borrow_and_update() {
                self.drained.send_replace(true);
            }
            tokio::select! {
                () = self.deps.outbox_notify.notified() => {}
                () = sleep(LEADER_CHECK_INTERVAL) => {}
                _ = stopping.changed() => {}
            }
        }
    }

    /// Publishes until it fails, then gives up the leadership.
    async fn run_as_leader(
        &self,
        channel: Channel,
        mut wakeups: Consumer,
    ) -> Result<(), BrokerError> {
        let _leader_guard = LeaderGuard::new(&self.deps.status);
        let result = self.publish_all(channel.clone(), &mut wakeups).await;
        // The connection may live on, and the exclusive queue with it. Closing the channel ends
        // the queue's only consumer, and the broker deletes an auto-delete queue without one.
        drop(with_timeout(channel.close(200, "souk gives up leadership".into())).await);
        result
    }

    /// Publishes until the channel or the store fails.
    async fn publish_all(
        &self,
        channel: Channel,
        wakeups: &mut Consumer,
    ) -> Result<(), BrokerError> {
        let mut cursor = read_with_retries(|| self.deps.store.published_cursor()).await?;
        // What was confirmed while this node led before may not be saved yet.
        cursor.merge(&self.confirmed_cursor.borrow());
        self.confirmed_cursor.send_replace(cursor.clone());
        // Another leader may have published the rejected event in the meantime.
        let last_rejected =
            self.lock_last_rejected().filter(|position| !cursor.has_read(*position));
        let mut publisher = Publisher::new(channel, last_rejected).await?;
        let result = self.publish_after(cursor, &mut publisher, wakeups).await;
        if let (Err(BrokerError::EventRejected(_) | BrokerError::Timeout), Some(oldest)) =
            (&result, publisher.oldest_unconfirmed())
        {
            *self.lock_last_rejected() = Some(oldest);
            self.deps.status.set_refusing(true);
        }
        result
    }

    async fn publish_after(
        &self,
        mut cursor: OutboxCursor,
        publisher: &mut Publisher,
        wakeups: &mut Consumer,
    ) -> Result<(), BrokerError> {
        let store = &self.deps.store;
        loop {
            // One read of the outbox answers all wakeups that came before it.
            while let Some(wakeup) = wakeups.next().now_or_never() {
                wakeup.ok_or(BrokerError::ConnectionLost)??;
            }
            // Read before the outbox is: the node commits nothing after it reports that it stops,
            // so a page that is empty then stays empty.
            let is_stopping = *self.deps.stopping.borrow();
            let page = read_with_retries(|| store.list_events_after(&cursor, PAGE_SIZE)).await?;
            if page.has_gap {
                // A shop that had no broker before kept only the newest ones.
                tracing::warn!(%cursor, "some events are no longer stored and are not published");
            }
            for event in &page.events {
                publisher.publish(event, |position| self.record_confirmed(position)).await?;
            }
            let is_last = page.events.is_empty() && !page.has_more;
            cursor = page.end;
            if is_last {
                self.wait_for_events(publisher, wakeups, is_stopping).await?;
            }
        }
    }

    /// Waits until there may be new events. When the node stops, there will be none: then it
    /// reports that the relay is drained, once the broker has confirmed everything.
    async fn wait_for_events(
        &self,
        publisher: &mut Publisher,
        wakeups: &mut Consumer,
        is_stopping: bool,
    ) -> Result<(), BrokerError> {
        let mut stopping = self.deps.stopping.clone();
        loop {
            if is_stopping && !publisher.has_unconfirmed() {
                self.drained.send_replace(true);
            }
            let reason = tokio::select! {
                confirmed = publisher.next_confirmed() => WakeReason::Confirmed(confirmed?),
                () = self.deps.outbox_notify.notified() => WakeReason::NewEvents,
                wakeup = wakeups.next() => {
                    wakeup.ok_or(BrokerError::ConnectionLost)??;
                    WakeReason::NewEvents
                }
                () = sleep(OUTBOX_POLL_INTERVAL) => WakeReason::NewEvents,
                _ = stopping.changed(), if !is_stopping => WakeReason::NewEvents,
            };
            match reason {
                WakeReason::Confirmed(position) => self.record_confirmed(position),
                WakeReason::NewEvents => return Ok(()),
            }
        }
    }

    fn record_confirmed(&self, position: OutboxPosition) {
        self.deps.status.count_published();
        self.deps.status.set_refusing(false);
        self.confirmed_cursor.send_modify(|cursor| cursor.advance_to(position));
    }

    fn lock_last_rejected(&self) -> MutexGuard<'_, Option<OutboxPosition>> {
        self.last_rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Saves the confirmed cursor to the store whenever it has advanced, until it is aborted.
pub(super) async fn save_confirmed_cursors(
    store: Arc<dyn Store>,
    mut confirmed_cursor: watch::Receiver<OutboxCursor>,
) {
    while confirmed_cursor.changed().await.is_ok() {
        let cursor = confirmed_cursor.borrow_and_update().clone();
        let save = async {
            let save = || store.mark_published(&cursor);
            save.retry(STORE_BACKOFF).await.map_err(|_| BrokerError::StoreUnavailable)
        };
        if let Err(error) = catch_panic(save, || Err(BrokerError::Panicked)).await {
            tracing::error!(%error, %cursor, "failed to save the publish cursor; continuing");
        }
        sleep(CURSOR_SAVE_INTERVAL).await;
    }
}

/// Reads from the store with retries, for at most [`STORE_TIMEOUT`]. A store that hangs counts as
/// one that is unavailable.
async fn read_with_retries<T, F: Future<Output = Result<T, StoreUnavailable>>>(
    read: impl FnMut() -> F,
) -> Result<T, BrokerError> {
    timeout(STORE_TIMEOUT, read.retry(STORE_BACKOFF))
        .await
        .ok()
        .and_then(Result::ok)
        .ok_or(BrokerError::StoreUnavailable)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn silent_store_times_out_like_an_unavailable_one() {
        let started = std::time::Instant::now();
        let read = read_with_retries(pending::<Result<(), StoreUnavailable>>).await;
        assert!(matches!(read, Err(BrokerError::StoreUnavailable)));
        assert!(started.elapsed() >= STORE_TIMEOUT);
        assert!(matches!(read_with_retries(async || Ok(7)).await, Ok(7)));
    }

    #[tokio::test]
    async fn read_is_retried_while_the_store_is_unavailable() {
        let mut failures = 2;
        let read = read_with_retries(|| {
            let result = if failures > 0 { Err(StoreUnavailable) } else { Ok(7) };
            failures -= i32::from(result.is_err());
            async move { result }
        });
        assert!(matches!(read.await, Ok(7)));
    }
}
