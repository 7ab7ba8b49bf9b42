//! Publishes the outbox: one node at a time, in commit order, everything at least once.
//!
//! The node that has the queue [`LEADER_QUEUE`], which the broker gives to one connection only and takes away when that ends, is the relay.
//! What the others put into it wakes the relay up, and that it cannot be delivered tells them that there is none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, StreamExt};
use lapin::{
    BasicProperties, Channel, Confirmation, Consumer, ErrorKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable},
};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::{
    BrokerError, BrokerSession, BrokerStatus,
    connection::catch_panic,
    publisher::Publisher,
    queues::{self, Subscription},
    with_timeout,
};
use crate::store::{Store, StoreUnavailable};

/// The queue that is the relay's.
const LEADER_QUEUE: &str = "souk.relay";

/// How often a node that is not the relay looks whether there is one.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// How often the relay looks for events that nobody has told it of.
const OUTBOX_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Events read together.
const PAGE_SIZE: u32 = 500;

/// Between two notes of how far everything was published. A relay that takes over begins there, and repeats what came after.
const POSITION_SAVE_INTERVAL: Duration = Duration::from_millis(200);

/// How long the relay does without its store before it leaves its place to a node that may have one.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// The relay of this node, whether it is the one that publishes or not.
pub(super) struct Relay {
    pub(super) store: Arc<dyn Store>,
    /// Rung when this node has committed events.
    pub(super) outbox_notify: Arc<Notify>,
    pub(super) status: Arc<BrokerStatus>,
    /// How far everything was published and confirmed by this node.
    pub(super) confirmed_position: watch::Sender<u64>,
    /// True when the node stops.
    pub(super) stopping: watch::Receiver<bool>,
    /// True when nothing is left to do before that.
    pub(super) drained: watch::Sender<bool>,
    /// The place of the event that the broker has last not taken; 0 when it has taken all.
    pub(super) last_rejected: AtomicU64,
    /// Queues that are there before anything is published.
    pub(super) subscriptions: Vec<Subscription>,
}

/// What woke the relay.
enum WakeReason {
    /// There may be news.
    NewEvents,
    /// Everything up to a place is confirmed.
    Confirmed(u64),
}

/// Says that this node is the relay as long as it lives.
struct LeaderGuard<'a>(&'a BrokerStatus);

impl<'a> LeaderGuard<'a> {
    fn new(status: &'a BrokerStatus) -> Self {
        tracing::info!("this node publishes the events");
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
    /// Becomes the relay when there is none, else wakes it up when this node has events for it.
    pub(super) async fn run(&self, session: BrokerSession) -> Result<(), BrokerError> {
        queues::declare_subscriptions(&session, &self.subscriptions).await?;
        let channel = session.open_channel().await?;
        with_timeout(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let mut stopping = self.stopping.clone();
        let mut working = None;
        loop {
            if wake_leader(&channel).await? {
                working.get_or_insert_with(|| session.mark_ready());
            } else if self.store.ping().await.is_ok()
                && let Some((channel, rings)) = try_lead(&session).await?
            {
                working.get_or_insert_with(|| session.mark_ready());
                return self.run_as_leader(channel, rings).await;
            }
            if *stopping.borrow_and_update() {
                self.drained.send_replace(true);
            }
            tokio::select! {
                () = self.outbox_notify.notified() => {}
                () = sleep(CHECK_INTERVAL) => {}
                _ = stopping.changed() => {}
            }
        }
    }

    /// Publishes as long as it can, and then lets another node.
    async fn run_as_leader(
        &self,
        channel: Channel,
        mut rings: Consumer,
    ) -> Result<(), BrokerError> {
        let _reign = LeaderGuard::new(&self.status);
        let mut publisher =
            Publisher::new(channel.clone(), self.last_rejected.load(Ordering::Relaxed)).await?;
        let ended = self.publish_all(&mut publisher, &mut rings).await;
        if let (Err(BrokerError::EventRejected(_) | BrokerError::Timeout), Some(oldest)) =
            (&ended, publisher.oldest_unconfirmed())
        {
            self.last_rejected.store(oldest, Ordering::Relaxed);
        }
        // Nobody consumes the relay's queue then, and so the broker deletes it. The connection, which it belongs to, may live on.
        drop(with_timeout(channel.close(200, "souk is the relay no longer".into())).await);
        ended
    }

    /// Publishes as long as channel and store last, or until the node stops and everything is published.
    async fn publish_all(
        &self,
        publisher: &mut Publisher,
        rings: &mut Consumer,
    ) -> Result<(), BrokerError> {
        let mut position = query_store_with_timeout(|| self.store.published_position()).await?;
        loop {
            while let Some(ring) = rings.next().now_or_never() {
                ring.ok_or(BrokerError::ConnectionLost)??;
            }
            // Commits have ended before the node tells the relay to stop: what is there from then on is all there will be.
            let is_last = *self.stopping.borrow();
            let page =
                query_store_with_timeout(|| self.store.list_events_after(position, PAGE_SIZE))
                    .await?;
            for event in &page {
                publisher.publish(event, |position| self.record_confirmed(position)).await?;
            }
            match page.last() {
                Some(last) => position = last.position,
                None => self.wait_for_events(publisher, rings, is_last).await?,
            }
        }
    }

    /// Waits until there may be more to publish. When there never will be, and the broker has everything, the work is done.
    async fn wait_for_events(
        &self,
        publisher: &mut Publisher,
        rings: &mut Consumer,
        is_last: bool,
    ) -> Result<(), BrokerError> {
        let mut stopping = self.stopping.clone();
        loop {
            if is_last && !publisher.has_unconfirmed() {
                self.drained.send_replace(true);
            }
            let woken = tokio::select! {
                confirmed = publisher.next_confirmed() => WakeReason::Confirmed(confirmed?),
                () = self.outbox_notify.notified() => WakeReason::NewEvents,
                ring = rings.next() => ring.ok_or(BrokerError::ConnectionLost)?.map(|_| WakeReason::NewEvents)?,
                () = sleep(OUTBOX_POLL_INTERVAL) => WakeReason::NewEvents,
                _ = stopping.changed(), if !is_last => WakeReason::NewEvents,
            };
            match woken {
                WakeReason::Confirmed(position) => self.record_confirmed(position),
                WakeReason::NewEvents => return Ok(()),
            }
        }
    }

    fn record_confirmed(&self, position: u64) {
        self.status.count_published();
        self.confirmed_position.send_replace(position);
    }

    /// Notes in the store how far everything was published, now and then, for ever.
    pub(super) async fn save_confirmed_positions(
        store: Arc<dyn Store>,
        mut confirmed: watch::Receiver<u64>,
    ) {
        while confirmed.changed().await.is_ok() {
            let position = *confirmed.borrow_and_update();
            let noted = catch_panic(async {
                retry_until_available(|| store.mark_published(position)).await;
                Ok(())
            });
            if noted.await.is_err() {
                tracing::error!(
                    "noting what was published panicked, which is a fault in souk; beginning anew"
                );
            }
            sleep(POSITION_SAVE_INTERVAL).await;
        }
    }
}

/// Asks the store until it answers, or has not for too long, also when it is silent instead of away.
async fn query_store_with_timeout<T, F: Future<Output = Result<T, StoreUnavailable>>>(
    ask: impl Fn() -> F,
) -> Result<T, BrokerError> {
    timeout(STORE_TIMEOUT, retry_until_available(ask))
        .await
        .map_err(|_| BrokerError::StoreUnavailable)
}

/// Asks the store until it answers.
async fn retry_until_available<T, F: Future<Output = Result<T, StoreUnavailable>>>(
    ask: impl Fn() -> F,
) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(StoreUnavailable) => sleep(CHECK_INTERVAL).await,
        }
    }
}

/// Wakes the relay; false when there is none.
async fn wake_leader(channel: &Channel) -> Result<bool, BrokerError> {
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let sent = with_timeout(channel.basic_publish(
        "".into(),
        LEADER_QUEUE.into(),
        mandatory,
        &[],
        BasicProperties::default(),
    ))
    .await?;
    Ok(!matches!(with_timeout(sent).await?, Confirmation::Ack(Some(_)) | Confirmation::Nack(_)))
}

/// Becomes the relay, unless another is faster. What is published on the channel ends before the queue is free again.
async fn try_lead(session: &BrokerSession) -> Result<Option<(Channel, Consumer)>, BrokerError> {
    let channel = session.open_channel().await?;
    let alone = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    // One ring is as good as many.
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    match with_timeout(channel.queue_declare(LEADER_QUEUE.into(), alone, arguments)).await {
        Ok(_) => {}
        Err(error) if is_resource_locked(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    let options =
        BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
    match with_timeout(channel.basic_consume(
        LEADER_QUEUE.into(),
        "".into(),
        options,
        FieldTable::default(),
    ))
    .await
    {
        Ok(rings) => Ok(Some((channel, rings))),
        Err(error) => {
            // As long as the queue is there, all take it that there is a relay.
            let channel = session.open_channel().await?;
            with_timeout(channel.queue_delete(LEADER_QUEUE.into(), QueueDeleteOptions::default()))
                .await?;
            Err(error)
        }
    }
}

fn is_resource_locked(error: &BrokerError) -> bool {
    let BrokerError::Amqp(error) = error else { return false };
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn silent_store_times_out_like_an_unavailable_one() {
        let begun = std::time::Instant::now();
        let asked = query_store_with_timeout(pending::<Result<(), StoreUnavailable>>).await;
        assert!(matches!(asked, Err(BrokerError::StoreUnavailable)));
        assert!(begun.elapsed() >= STORE_TIMEOUT);
        assert!(matches!(query_store_with_timeout(async || Ok(7)).await, Ok(7)));
    }
}
