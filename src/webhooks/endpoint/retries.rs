//! Further attempts: those that are due, and those that staff has asked for.

use std::time::Duration;

use tokio::time::Instant;

use super::{Endpoint, RETRY_PAUSE};
use crate::webhooks::attempt::Origin;

/// Further attempts of an endpoint at the same time.
const MAX_RETRIES: usize = 4;

/// The waiting events that are read at a time, besides those that are being tried.
const PAGE: usize = 16;

impl Endpoint {
    /// When to look for events that are due; `None` while there is no room for their attempts.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let look_at = self.look_at.filter(|_| self.retries < self.max_retries())?;
        let millis = look_at.as_millis().saturating_sub(self.now().as_millis());
        Some(Instant::now() + Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
    }

    const fn max_retries(&self) -> usize {
        if self.is_failing() { 1 } else { MAX_RETRIES }
    }

    /// Begins attempts of events that are due, as many as there is room for.
    pub(super) async fn start_retries(&mut self) {
        let limit = PAGE + self.held.len();
        let page = u32::try_from(limit).unwrap_or(u32::MAX);
        let Ok(waiting) = self.deps.store.list_waiting_deliveries(self.id, page).await else {
            // The store has logged the error.
            self.look_at = Some(self.now().saturating_add(RETRY_PAUSE));
            return;
        };
        let is_complete = waiting.len() < limit;
        let now = self.now();
        self.look_at = (!is_complete).then_some(now);
        if is_complete && self.unsaved.is_empty() {
            // The count may be off after a takeover, when events were begun again.
            self.waiting = waiting.len() as u64;
        }
        for event in waiting {
            if self.held.contains(&event.event_id) {
                continue;
            }
            let due_at = event.due_at.unwrap_or(now);
            if due_at > now || self.retries >= self.max_retries() {
                self.look_at = Some(due_at);
                return;
            }
            self.held.insert(event.event_id);
            self.retries += 1;
            self.start(Origin::Waiting, event);
        }
    }
}
