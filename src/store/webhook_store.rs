//! What a store keeps for webhooks: endpoints, how far each has come, the events that wait for
//! another attempt, and the attempts that were made.
//!
//! Commits write endpoints, and the deliveries that staff asks for. All else is written outside of
//! commits, by the one node that delivers to an endpoint, and costs no commit anything. It may lose
//! the last moments in a failure of the power or of the primary, but never a part of them: an event
//! that a cursor has passed was delivered or waits. So such a failure leads to repeats alone.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::StoreUnavailable;
use crate::{
    domain::{
        clock::Timestamp,
        ids::{AttemptId, EventId, WebhookId},
        webhook::{DeliveryAttempt, DeliveryStatus, PendingDelivery, Webhook},
    },
    events::OutboxCursor,
};

/// The shards that endpoints are divided into. A node delivers to the endpoints of whole shards.
pub const WEBHOOK_SHARDS: u32 = 16;

/// The shard of an endpoint.
#[must_use]
pub fn webhook_shard(id: WebhookId) -> u32 {
    // The end of an id is random.
    u32::try_from(id.as_uuid().as_u128() % u128::from(WEBHOOK_SHARDS)).unwrap_or(0)
}

/// What the nodes that deliver need to look at often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookHeads {
    /// Every endpoint, with its version.
    pub webhooks: Vec<(WebhookId, u64)>,
    /// Endpoints with deliveries that staff has asked for and no node has seen.
    pub requested: Vec<WebhookId>,
}

/// Which shards of the endpoints a node delivers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookLeases {
    /// The shards that the node has until its leases end.
    pub shards: Vec<u32>,
    /// The number of shards that the node should have, so that all nodes have as many. It should
    /// release the others.
    pub fair_share: usize,
}

/// How far an endpoint has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookState {
    /// Every event up to here was delivered or waits; `None` if nothing was read yet.
    pub cursor: Option<OutboxCursor>,
    /// Since when every attempt has failed.
    pub failing_since: Option<Timestamp>,
}

/// What a node has done for an endpoint since it last said so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookProgress {
    /// The endpoint.
    pub webhook_id: Option<WebhookId>,
    /// The state after it. The store keeps it only if the node still delivers to the endpoint.
    pub state: WebhookState,
    /// The attempts.
    pub attempts: Vec<DeliveryAttempt>,
    /// Events that wait, or whose last attempt has failed. One that staff has asked for since that
    /// attempt began stays due.
    pub pending: Vec<PendingDelivery>,
    /// Events that wait no longer, with the time at which their last attempt began. One that staff
    /// has asked for since goes on waiting.
    pub done: Vec<(EventId, Timestamp)>,
}

/// The reads and writes of webhooks that are no commits.
#[async_trait]
pub trait WebhookStore: Send + Sync {
    /// The endpoint with this id.
    async fn find_webhook(&self, id: WebhookId) -> Result<Option<Webhook>, StoreUnavailable>;

    /// Up to `limit` endpoints, newest first, with ids below `before`.
    async fn list_webhooks(
        &self,
        before: Option<WebhookId>,
        limit: u32,
    ) -> Result<Vec<Webhook>, StoreUnavailable>;

    /// All endpoints, and those with deliveries that were asked for.
    async fn list_webhook_heads(&self) -> Result<WebhookHeads, StoreUnavailable>;

    /// Renews the leases of `node` by `lifetime` from now on, by the store's clock, and takes free
    /// shards up to its fair share.
    async fn renew_webhook_leases(
        &self,
        node: Uuid,
        lifetime: Duration,
    ) -> Result<WebhookLeases, StoreUnavailable>;

    /// Releases these shards for other nodes. A node that releases all its shards no longer counts
    /// as delivering.
    async fn release_webhook_leases(
        &self,
        node: Uuid,
        shards: Vec<u32>,
    ) -> Result<(), StoreUnavailable>;

    /// Makes `node` the one whose progress for the endpoint is kept, and reads how far it has come.
    async fn open_webhook(
        &self,
        id: WebhookId,
        node: Uuid,
    ) -> Result<WebhookState, StoreUnavailable>;

    /// Records what `node` has done. The attempts and what waits are written before the states, or
    /// together with them.
    async fn save_webhook_progress(
        &self,
        node: Uuid,
        progress: Arc<[WebhookProgress]>,
    ) -> Result<(), StoreUnavailable>;

    /// Up to `limit` events that wait, the first due first.
    async fn list_waiting_deliveries(
        &self,
        id: WebhookId,
        limit: u32,
    ) -> Result<Vec<PendingDelivery>, StoreUnavailable>;

    /// How many events wait.
    async fn count_waiting_deliveries(&self, id: WebhookId) -> Result<u64, StoreUnavailable>;

    /// The last attempt to deliver an event, with the position that any attempt has, and the event
    /// itself if it was not delivered.
    async fn find_delivery(
        &self,
        id: WebhookId,
        event: EventId,
    ) -> Result<(Option<DeliveryAttempt>, Option<PendingDelivery>), StoreUnavailable>;

    /// Up to `limit` attempts, newest first, with ids below `before`.
    async fn list_delivery_attempts(
        &self,
        id: WebhookId,
        status: Option<DeliveryStatus>,
        before: Option<AttemptId>,
        limit: u32,
    ) -> Result<Vec<DeliveryAttempt>, StoreUnavailable>;

    /// Deletes the attempts that began before `older_than`, and all but the newest `kept`. Events
    /// whose last attempt is deleted go with it, unless they wait.
    async fn trim_webhook_attempts(
        &self,
        id: WebhookId,
        older_than: Timestamp,
        kept: u32,
    ) -> Result<(), StoreUnavailable>;

    /// Deletes some of what is left of deleted endpoints, and returns how much; 0 if nothing was
    /// left.
    async fn delete_webhook_remains(&self) -> Result<u64, StoreUnavailable>;
}
