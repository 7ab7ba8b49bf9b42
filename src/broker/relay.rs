//! Publishes the outbox: one node at a time, in commit order, everything at least once.
//!
//! The node that has the queue [`RELAY`], which the broker gives to one connection only and takes away when that ends, is the relay.
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
    BrokerError, Session, Status,
    connection::survive,
    publisher::Publisher,
    queues::{self, Subscription},
    step,
};
use crate::store::{Store, Unavailable};

/// The queue that is the relay's.
const RELAY: &str = "souk.relay";

/// How often a node that is not the relay looks whether there is one.
const LOOK: Duration = Duration::from_millis(500);

/// How often the relay looks for events that nobody has told it of.
const POLL: Duration = Duration::from_millis(100);

/// Events read together.
const PAGE: u32 = 500;

/// Between two notes of how far everything was published. A relay that takes over begins there, and repeats what came after.
const BETWEEN_NOTES: Duration = Duration::from_millis(200);

/// How long the relay does without its store before it leaves its place to a node that may have one.
const WITHOUT_STORE: Duration = Duration::from_secs(2);

/// The relay of this node, whether it is the one that publishes or not.
pub(super) struct Relay {
    pub(super) store: Arc<dyn Store>,
    /// Rung when this node has committed events.
    pub(super) bell: Arc<Notify>,
    pub(super) status: Arc<Status>,
    /// How far everything was published and confirmed by this node.
    pub(super) confirmed: watch::Sender<u64>,
    /// True when the node stops.
    pub(super) stopping: watch::Receiver<bool>,
    /// True when nothing is left to do before that.
    pub(super) done: watch::Sender<bool>,
    /// The place of the event that the broker has last not taken; 0 when it has taken all.
    pub(super) doubtful: AtomicU64,
    /// Queues that are there before anything is published.
    pub(super) subscriptions: Vec<Subscription>,
}

/// What woke the relay.
enum Woken {
    /// There may be news.
    Bell,
    /// Everything up to a place is confirmed.
    Confirmed(u64),
}

/// Says that this node is the relay as long as it lives.
struct Reign<'a>(&'a Status);

impl<'a> Reign<'a> {
    fn begin(status: &'a Status) -> Self {
        tracing::info!("this node publishes the events");
        status.set_relay(true);
        Self(status)
    }
}

impl Drop for Reign<'_> {
    fn drop(&mut self) {
        self.0.set_relay(false);
    }
}

impl Relay {
    /// Becomes the relay when there is none, else wakes it up when this node has events for it.
    pub(super) async fn work(&self, session: Session) -> Result<(), BrokerError> {
        queues::declare_subscriptions(&session, &self.subscriptions).await?;
        let channel = session.channel().await?;
        step(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let mut stopping = self.stopping.clone();
        let mut working = None;
        loop {
            if ring(&channel).await? {
                working.get_or_insert_with(|| session.working());
            } else if self.store.ping().await.is_ok()
                && let Some((channel, rings)) = stand(&session).await?
            {
                working.get_or_insert_with(|| session.working());
                return self.lead(channel, rings).await;
            }
            if *stopping.borrow_and_update() {
                self.done.send_replace(true);
            }
            tokio::select! {
                () = self.bell.notified() => {}
                () = sleep(LOOK) => {}
                _ = stopping.changed() => {}
            }
        }
    }

    /// Publishes as long as it can, and then lets another node.
    async fn lead(&self, channel: Channel, mut rings: Consumer) -> Result<(), BrokerError> {
        let _reign = Reign::begin(&self.status);
        let mut publisher =
            Publisher::new(channel.clone(), self.doubtful.load(Ordering::Relaxed)).await?;
        let ended = self.publish_all(&mut publisher, &mut rings).await;
        if let (Err(BrokerError::NotTaken(_) | BrokerError::Late), Some(oldest)) =
            (&ended, publisher.oldest())
        {
            self.doubtful.store(oldest, Ordering::Relaxed);
        }
        // Nobody consumes the relay's queue then, and so the broker deletes it. The connection, which it belongs to, may live on.
        drop(step(channel.close(200, "souk is the relay no longer".into())).await);
        ended
    }

    /// Publishes as long as channel and store last, or until the node stops and everything is published.
    async fn publish_all(
        &self,
        publisher: &mut Publisher,
        rings: &mut Consumer,
    ) -> Result<(), BrokerError> {
        let mut position = wait_for(|| self.store.published_up_to()).await?;
        loop {
            while let Some(ring) = rings.next().now_or_never() {
                ring.ok_or(BrokerError::Lost)??;
            }
            // Commits have ended before the node tells the relay to stop: what is there from then on is all there will be.
            let is_last = *self.stopping.borrow();
            let page = wait_for(|| self.store.events_after(position, PAGE)).await?;
            for event in &page {
                publisher.publish(event, |position| self.note(position)).await?;
            }
            match page.last() {
                Some(last) => position = last.position,
                None => self.rest(publisher, rings, is_last).await?,
            }
        }
    }

    /// Waits until there may be more to publish. When there never will be, and the broker has everything, the work is done.
    async fn rest(
        &self,
        publisher: &mut Publisher,
        rings: &mut Consumer,
        is_last: bool,
    ) -> Result<(), BrokerError> {
        let mut stopping = self.stopping.clone();
        loop {
            if is_last && !publisher.is_waiting() {
                self.done.send_replace(true);
            }
            let woken = tokio::select! {
                confirmed = publisher.confirmed() => Woken::Confirmed(confirmed?),
                () = self.bell.notified() => Woken::Bell,
                ring = rings.next() => ring.ok_or(BrokerError::Lost)?.map(|_| Woken::Bell)?,
                () = sleep(POLL) => Woken::Bell,
                _ = stopping.changed(), if !is_last => Woken::Bell,
            };
            match woken {
                Woken::Confirmed(position) => self.note(position),
                Woken::Bell => return Ok(()),
            }
        }
    }

    fn note(&self, position: u64) {
        self.status.count_published();
        self.confirmed.send_replace(position);
    }

    /// Notes in the store how far everything was published, now and then, for ever.
    pub(super) async fn keep_notes(store: Arc<dyn Store>, mut confirmed: watch::Receiver<u64>) {
        while confirmed.changed().await.is_ok() {
            let position = *confirmed.borrow_and_update();
            let noted = survive(async {
                persist(|| store.note_published(position)).await;
                Ok(())
            });
            if noted.await.is_err() {
                tracing::error!(
                    "noting what was published panicked, which is a fault in souk; beginning anew"
                );
            }
            sleep(BETWEEN_NOTES).await;
        }
    }
}

/// Asks the store until it answers, or has not for too long, also when it is silent instead of away.
async fn wait_for<T, F: Future<Output = Result<T, Unavailable>>>(
    ask: impl Fn() -> F,
) -> Result<T, BrokerError> {
    timeout(WITHOUT_STORE, persist(ask)).await.map_err(|_| BrokerError::NoStore)
}

/// Asks the store until it answers.
async fn persist<T, F: Future<Output = Result<T, Unavailable>>>(ask: impl Fn() -> F) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(Unavailable) => sleep(LOOK).await,
        }
    }
}

/// Wakes the relay; false when there is none.
async fn ring(channel: &Channel) -> Result<bool, BrokerError> {
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let sent = step(channel.basic_publish(
        "".into(),
        RELAY.into(),
        mandatory,
        &[],
        BasicProperties::default(),
    ))
    .await?;
    Ok(!matches!(step(sent).await?, Confirmation::Ack(Some(_)) | Confirmation::Nack(_)))
}

/// Becomes the relay, unless another is faster. What is published on the channel ends before the queue is free again.
async fn stand(session: &Session) -> Result<Option<(Channel, Consumer)>, BrokerError> {
    let channel = session.channel().await?;
    let alone = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    // One ring is as good as many.
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    match step(channel.queue_declare(RELAY.into(), alone, arguments)).await {
        Ok(_) => {}
        Err(error) if is_locked(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    let options =
        BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
    match step(channel.basic_consume(RELAY.into(), "".into(), options, FieldTable::default())).await
    {
        Ok(rings) => Ok(Some((channel, rings))),
        Err(error) => {
            // As long as the queue is there, all take it that there is a relay.
            let channel = session.channel().await?;
            step(channel.queue_delete(RELAY.into(), QueueDeleteOptions::default())).await?;
            Err(error)
        }
    }
}

fn is_locked(error: &BrokerError) -> bool {
    let BrokerError::Refused(error) = error else { return false };
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_store_that_is_silent_is_not_waited_for_longer_than_one_that_is_away() {
        let begun = std::time::Instant::now();
        let asked = wait_for(pending::<Result<(), Unavailable>>).await;
        assert!(matches!(asked, Err(BrokerError::NoStore)));
        assert!(begun.elapsed() >= WITHOUT_STORE);
        assert!(matches!(wait_for(async || Ok(7)).await, Ok(7)));
    }
}
