//! What an endpoint has done and not written yet.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::Endpoint;
use crate::{
    domain::{
        clock::Timestamp,
        ids::EventId,
        webhook::{DeliveryAttempt, PendingDelivery},
    },
    events::OutboxCursor,
    store::webhook_store::{WebhookProgress, WebhookState},
};

/// The pause between two writes of an endpoint.
const SAVE_INTERVAL: Duration = Duration::from_millis(200);

/// How long a cursor that only passed events which the endpoint does not want is not written.
const IDLE_SAVE_INTERVAL: Duration = Duration::from_secs(30);

/// The attempts that are kept in memory. Beyond, no attempt begins.
const MAX_UNSAVED: usize = 256;

/// The attempts of an endpoint that the store keeps, and how long.
const MAX_ATTEMPTS: u32 = 10_000;
const ATTEMPT_RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// After this many attempts or this time, old ones are deleted.
const TRIM_ATTEMPTS: usize = 1_000;
const TRIM_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// A write in progress.
struct Saving {
    saved: oneshot::Receiver<()>,
    /// What may be read from the store again when it is written.
    held: Vec<EventId>,
    /// When the first of what was written is due.
    first_due: Option<Timestamp>,
    cursor: OutboxCursor,
}

/// What is not written yet.
pub(super) struct Unsaved {
    attempts: Vec<DeliveryAttempt>,
    pending: Vec<PendingDelivery>,
    done: Vec<(EventId, Timestamp)>,
    held: Vec<EventId>,
    saving: Option<Saving>,
    /// The cursor in the store.
    cursor: OutboxCursor,
    saved_at: Instant,
    trimmed_at: Instant,
    attempts_since_trim: usize,
}

impl Unsaved {
    pub(super) fn new(cursor: OutboxCursor) -> Self {
        let now = Instant::now();
        Self {
            attempts: Vec::new(),
            pending: Vec::new(),
            done: Vec::new(),
            held: Vec::new(),
            saving: None,
            cursor,
            saved_at: now,
            trimmed_at: now,
            attempts_since_trim: 0,
        }
    }

    /// Adds an attempt, and the event after it. An event that is delivered waits no longer, if it
    /// `may_wait` at all.
    pub(super) fn add(
        &mut self,
        attempt: DeliveryAttempt,
        after: PendingDelivery,
        is_delivered: bool,
        may_wait: bool,
    ) {
        self.held.push(after.event_id);
        match is_delivered {
            true if may_wait => self.done.push((after.event_id, attempt.at)),
            true => {}
            false => self.pending.push(after),
        }
        self.attempts.push(attempt);
    }

    /// Whether everything that was done is written.
    pub(super) fn is_empty(&self) -> bool {
        self.attempts.is_empty() && self.saving.is_none()
    }

    pub(super) fn is_full(&self) -> bool {
        self.attempts.len() >= MAX_UNSAVED
    }

    /// When the next write is due; `None` while one is in progress or there is nothing to write.
    /// `ended` is the cursor up to which everything has ended.
    pub(super) fn next_save(&self, ended: &OutboxCursor) -> Option<Instant> {
        match (&self.saving, self.attempts.is_empty()) {
            (Some(_), _) => None,
            (None, false) => Some(self.saved_at + SAVE_INTERVAL),
            (None, true) => (self.cursor != *ended).then(|| self.saved_at + IDLE_SAVE_INTERVAL),
        }
    }

    /// Waits until the write in progress has ended. Returns whether it is written. Cancel safe.
    pub(super) async fn saved(&mut self) -> bool {
        match &mut self.saving {
            Some(saving) => (&mut saving.saved).await.is_ok(),
            None => std::future::pending().await,
        }
    }
}

impl Endpoint {
    /// Hands over what was done, if it is time.
    pub(super) async fn save_if_due(&mut self) {
        let due = self.unsaved.next_save(self.window.ended());
        if due.is_some_and(|due| due <= Instant::now()) {
            self.save().await;
        }
        let since_trim = self.unsaved.attempts_since_trim;
        if since_trim >= TRIM_ATTEMPTS || self.unsaved.trimmed_at.elapsed() >= TRIM_INTERVAL {
            self.trim_attempts();
        }
    }

    async fn save(&mut self) {
        let cursor = self.window.ended().clone();
        let unsaved = &mut self.unsaved;
        unsaved.saved_at = Instant::now();
        unsaved.attempts_since_trim += unsaved.attempts.len();
        let progress = WebhookProgress {
            webhook_id: Some(self.id),
            state: WebhookState { cursor: Some(cursor.clone()), failing_since: self.failing_since },
            attempts: std::mem::take(&mut unsaved.attempts),
            pending: std::mem::take(&mut unsaved.pending),
            done: std::mem::take(&mut unsaved.done),
        };
        let first_due = progress.pending.iter().filter_map(|delivery| delivery.due_at).min();
        let saved = self.deps.recorder.record(progress).await;
        let held = std::mem::take(&mut unsaved.held);
        unsaved.saving = Some(Saving { saved, held, first_due, cursor });
    }

    /// Takes the end of a write.
    pub(super) fn on_saved(&mut self, is_saved: bool) {
        let Some(saving) = self.unsaved.saving.take() else { return };
        for event in &saving.held {
            self.held.remove(event);
        }
        if is_saved {
            self.unsaved.cursor = saving.cursor;
        }
        if let Some(due) = saving.first_due {
            self.look_at = Some(self.look_at.map_or(due, |look_at| look_at.min(due)));
        }
    }

    /// Writes everything that has ended.
    pub(super) async fn save_all(&mut self) {
        loop {
            if self.unsaved.saving.is_some() {
                let is_saved = self.unsaved.saved().await;
                self.on_saved(is_saved);
            } else if !self.unsaved.attempts.is_empty()
                || self.unsaved.cursor != *self.window.ended()
            {
                self.save().await;
            } else {
                return;
            }
        }
    }

    /// Deletes old attempts, beside the deliveries.
    pub(super) fn trim_attempts(&mut self) {
        self.unsaved.attempts_since_trim = 0;
        self.unsaved.trimmed_at = Instant::now();
        let (store, id) = (Arc::clone(&self.deps.store), self.id);
        let older_than = self.now().saturating_sub(ATTEMPT_RETENTION);
        tokio::spawn(async move {
            // The store has logged a failure; the next trim deletes more.
            let _ = store.trim_webhook_attempts(id, older_than, MAX_ATTEMPTS).await;
        });
    }
}
