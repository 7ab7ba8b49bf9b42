//! The task of one endpoint.
//!
//! First attempts are made in the order of the outbox, several at a time, but never two of one
//! subject. An event whose first attempt failed waits in the store, and its further attempts hold
//! nothing up. The cursor passes an event when its first attempt has ended and is written.

mod pause;
mod progress;
mod retries;

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use self::progress::Unsaved;
use super::{
    attempt::{Attempt, AttemptOutcome, Origin},
    client::WebhookClient,
    endpoint_stats::EndpointStats,
    permits::AttemptPermits,
    reader::{OutboxReader, ReadPage},
    recorder::Recorder,
    window::Window,
};
use crate::{
    auth::webhook_secret::WebhookSecrets,
    domain::{
        clock::{Clock, Timestamp},
        ids::{EventId, WebhookId},
        webhook::{PendingDelivery, Webhook},
    },
    events::OutboxCursor,
    metrics::webhooks::WebhookMetrics,
    outbox::feed::{Feed, FeedEvent},
    store::{Store, writer::CommitWriter},
};

/// First attempts of an endpoint at the same time.
const MAX_FIRST_ATTEMPTS: usize = 8;

/// After this many failures in a row, attempts are made one at a time.
const FAILURES_UNTIL_SLOW: u32 = 3;

/// An endpoint that took this long shares its permits with those that fail.
const SLOW_ANSWER: Duration = Duration::from_secs(1);

/// The most events of an endpoint that wait. Beyond, its first attempts wait, too.
const MAX_WAITING: u64 = 10_000;

/// The pause after a read or a commit that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How long attempts in progress may take when the task stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// What every endpoint of a node needs.
pub(super) struct EndpointDeps {
    pub(super) node: Uuid,
    pub(super) store: Arc<dyn Store>,
    pub(super) writer: CommitWriter,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) feed: Arc<Feed>,
    pub(super) secrets: WebhookSecrets,
    pub(super) metrics: WebhookMetrics,
    pub(super) client: WebhookClient,
    pub(super) recorder: Recorder,
    pub(super) permits: AttemptPermits,
    pub(super) options: EndpointOptions,
}

/// How attempts follow each other.
pub(super) struct EndpointOptions {
    pub(super) retry_schedule: Vec<Duration>,
    pub(super) pause_after: Duration,
}

/// What the dispatcher tells a task.
pub(super) struct EndpointSignals {
    /// The endpoint as it is now. The task ends when this is closed.
    pub(super) webhook: watch::Receiver<Arc<Webhook>>,
    /// Notified when staff has asked for a delivery.
    pub(super) requested: Arc<Notify>,
    /// Until when this node may make attempts.
    pub(super) lease: watch::Receiver<Instant>,
}

/// The state of the task.
pub(super) struct Endpoint {
    deps: Arc<EndpointDeps>,
    id: WebhookId,
    webhook: Arc<Webhook>,
    /// Whether the secret can be decrypted. If not, nothing is sent.
    has_keys: bool,
    signals: EndpointSignals,
    stats: Arc<EndpointStats>,
    /// Runs from the first time that the endpoint is active.
    reader: Option<OutboxReader>,
    /// The page whose events are being delivered, and the index of the next one.
    page: Option<(ReadPage, usize)>,
    window: Window,
    attempts: JoinSet<AttemptOutcome>,
    first_attempts: usize,
    /// The subjects of first attempts.
    subjects: HashSet<Uuid>,
    /// Further attempts, and those whose outcome is not written.
    held: HashSet<EventId>,
    retries: usize,
    /// When to look for events that are due.
    look_at: Option<Timestamp>,
    waiting: u64,
    /// Since when events wait.
    waiting_since: Option<Timestamp>,
    /// When the event was made whose first attempt was begun last.
    begun_event_at: Option<Timestamp>,
    failures_in_a_row: u32,
    /// Whether the last answer took long.
    is_slow: bool,
    failing_since: Option<Timestamp>,
    /// A pause was committed that the dispatcher has not announced yet.
    is_pausing: bool,
    unsaved: Unsaved,
}

impl Endpoint {
    /// Takes over an endpoint. `None` if it is to stop before that succeeds.
    pub(super) async fn open(
        deps: Arc<EndpointDeps>,
        mut signals: EndpointSignals,
        stats: Arc<EndpointStats>,
    ) -> Option<Self> {
        let webhook = Arc::clone(&signals.webhook.borrow_and_update());
        let id = webhook.id;
        let (state, waiting) = loop {
            let open = async {
                let state = deps.store.open_webhook(id, deps.node).await?;
                Ok::<_, crate::store::StoreUnavailable>((
                    state,
                    deps.store.count_waiting_deliveries(id).await?,
                ))
            };
            if let Ok(opened) = open.await {
                break opened;
            }
            tokio::select! {
                changed = signals.webhook.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep(RETRY_PAUSE) => {}
            }
        };
        let start = || webhook.start.parse::<OutboxCursor>().unwrap_or_default();
        let cursor = state.cursor.unwrap_or_else(start);
        let mut endpoint = Self {
            id,
            has_keys: false,
            signals,
            stats,
            reader: None,
            page: None,
            window: Window::new(cursor.clone()),
            attempts: JoinSet::new(),
            first_attempts: 0,
            subjects: HashSet::new(),
            held: HashSet::new(),
            retries: 0,
            look_at: Some(deps.clock.now()),
            waiting,
            waiting_since: (waiting > 0).then(|| deps.clock.now()),
            begun_event_at: None,
            failures_in_a_row: 0,
            is_slow: false,
            // Whoever changed the endpoint since has given it another chance.
            failing_since: state.failing_since.filter(|since| *since > webhook.updated_at),
            is_pausing: false,
            unsaved: Unsaved::new(cursor),
            webhook: Arc::clone(&webhook),
            deps,
        };
        endpoint.open_keys();
        Some(endpoint)
    }

    /// Delivers until the dispatcher stops the task.
    pub(super) async fn run(mut self) {
        self.trim_attempts();
        loop {
            self.start_first_attempts();
            self.save_if_due().await;
            self.report();
            let may_start = self.may_start();
            let wants_page = may_start && self.page.is_none() && !self.window.is_full();
            if wants_page && self.reader.is_none() {
                self.start_reader();
            }
            let look = self.next_look().filter(|_| may_start);
            let next_save = self.unsaved.next_save(self.window.ended());
            tokio::select! {
                changed = self.signals.webhook.changed() => match changed {
                    Ok(()) => self.take_update(),
                    Err(_) => break,
                },
                Some(outcome) = self.attempts.join_next() => {
                    // A task that was aborted or panicked has no outcome: the event is delivered
                    // again by whoever takes over, since the cursor stays before it.
                    if let Ok(outcome) = outcome { self.finish(outcome).await }
                }
                is_saved = self.unsaved.saved() => self.on_saved(is_saved),
                page = next_page(&mut self.reader), if wants_page => {
                    self.page = page.map(|page| (page, 0));
                }
                () = self.signals.requested.notified() => self.look_at = Some(self.now()),
                () = sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => {
                    self.start_retries().await;
                }
                () = sleep_until(next_save.unwrap_or_else(Instant::now)), if next_save.is_some() =>
                    {}
                changed = self.signals.lease.changed() => if changed.is_err() { break },
                // The lease may have ended.
                () = tokio::time::sleep(RETRY_PAUSE), if !may_start => {}
            }
        }
        self.stop().await;
    }

    /// Waits for the attempts in progress, and writes what came of them.
    async fn stop(mut self) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        let finish = async {
            while let Some(outcome) = self.attempts.join_next().await {
                if let Ok(outcome) = outcome {
                    self.finish(outcome).await;
                }
            }
        };
        // The others are made again by the node that takes over.
        drop(tokio::time::timeout_at(deadline, finish).await);
        drop(tokio::time::timeout_at(deadline + STOP_TIMEOUT, self.save_all()).await);
    }

    fn now(&self) -> Timestamp {
        self.deps.clock.now()
    }

    /// Whether attempts may begin: the endpoint is active, this node delivers to it, and what was
    /// done before is being written.
    fn may_start(&self) -> bool {
        self.webhook.paused.is_none()
            && !self.is_pausing
            && self.has_keys
            // Closed when the task is to stop: then another node may deliver already.
            && self.signals.webhook.has_changed().is_ok()
            && Instant::now() < *self.signals.lease.borrow()
            && !self.unsaved.is_full()
    }

    const fn is_failing(&self) -> bool {
        self.failures_in_a_row >= FAILURES_UNTIL_SLOW
    }

    fn start_reader(&mut self) {
        let cursor = self.window.ended().clone();
        let (store, feed) = (Arc::clone(&self.deps.store), Arc::clone(&self.deps.feed));
        self.reader = Some(OutboxReader::start(self.id, store, feed, cursor));
    }

    /// Begins first attempts until one has to wait.
    fn start_first_attempts(&mut self) {
        while self.may_start()
            && let Some((read, index)) = self.page.take()
        {
            let Some(event) = read.page.events.get(index) else {
                self.window.end_page(read.page.end.clone());
                continue;
            };
            let is_wanted =
                !read.after.has_read(event.position()) && self.webhook.details.wants(event.kind());
            if is_wanted && !self.has_room_for(event) {
                self.page = Some((read, index));
                return;
            }
            if is_wanted {
                self.start_first_attempt(event);
            }
            self.page = Some((read, index + 1));
        }
    }

    /// Whether the first attempt of `event` may begin now. A subject's events go one by one.
    fn has_room_for(&self, event: &FeedEvent) -> bool {
        let most = if self.is_failing() { 1 } else { MAX_FIRST_ATTEMPTS };
        self.first_attempts < most
            && !self.window.is_full()
            && self.waiting + (self.first_attempts as u64) < MAX_WAITING
            && event.subject().is_none_or(|subject| !self.subjects.contains(&subject))
    }

    fn start_first_attempt(&mut self, event: &FeedEvent) {
        // An event without a subject was logged; it is delivered all the same.
        let subject = event.subject().unwrap_or_default();
        let number = self.window.begin(event.position());
        self.subjects.insert(subject);
        self.first_attempts += 1;
        self.begun_event_at = Some(event.id().created_at());
        let pending = PendingDelivery {
            webhook_id: self.id,
            event_id: event.id(),
            kind: event.kind().to_owned(),
            subject,
            body: event.body().clone(),
            attempts: 0,
            due_at: None,
            requested: false,
            updated_at: self.now(),
        };
        self.start(Origin::Outbox { number, position: event.position().to_i64() }, pending);
    }

    fn start(&mut self, origin: Origin, event: PendingDelivery) {
        let (webhook, lease) = (self.signals.webhook.clone(), self.signals.lease.clone());
        let is_slow = self.is_failing() || self.is_slow;
        let attempt = Attempt { origin, webhook, lease, event, is_slow };
        self.attempts.spawn(attempt.make(Arc::clone(&self.deps)));
    }

    /// Takes what an attempt has led to.
    async fn finish(&mut self, outcome: AttemptOutcome) {
        let now = self.now();
        let (attempt, after) = outcome.record(now, &self.deps.options.retry_schedule);
        self.deps.metrics.record_attempt(attempt.status.as_str(), attempt.duration);
        self.is_slow = attempt.duration >= SLOW_ANSWER;
        match outcome.origin {
            Origin::Outbox { number, .. } => {
                self.first_attempts -= 1;
                self.subjects.remove(&outcome.event.subject);
                self.window.end(number);
                self.waiting += u64::from(after.due_at.is_some());
                self.waiting_since.get_or_insert(outcome.event.event_id.created_at());
            }
            Origin::Waiting => {
                self.retries -= 1;
                self.waiting = self.waiting.saturating_sub(u64::from(after.due_at.is_none()));
            }
        }
        if outcome.is_delivered() {
            self.failures_in_a_row = 0;
            self.failing_since = None;
        } else {
            self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
            self.failing_since.get_or_insert(attempt.at);
        }
        // What waits may be the same event, if it was begun again after a failure of the node.
        let may_wait = matches!(outcome.origin, Origin::Waiting) || self.waiting > 0;
        let is_gone = outcome.is_gone();
        self.unsaved.add(attempt, after, outcome.is_delivered(), may_wait);
        self.pause_if_due(is_gone, now).await;
    }

    fn report(&mut self) {
        self.waiting_since = self.waiting_since.filter(|_| self.waiting > 0);
        let begun = self.begun_event_at.filter(|_| self.window.has_open());
        let since = [self.waiting_since, begun, self.failing_since].into_iter().flatten().min();
        self.stats.set(self.waiting, since);
    }
}

/// The next page, or nothing as long as there is no reader.
async fn next_page(reader: &mut Option<OutboxReader>) -> Option<ReadPage> {
    match reader {
        Some(reader) => reader.next().await,
        None => std::future::pending().await,
    }
}
