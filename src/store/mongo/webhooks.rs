//! The trait [`WebhookStore`], and the writes of commits to webhooks.

mod documents;
mod leases;
mod progress;
mod reads;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use self::documents::{PendingDocument, WebhookDocument, delivery_id_to_binaries};
pub(super) use self::{leases::create_leases, reads::read_by_all_endpoints};
use super::{
    MongoStore,
    collection_writes::CollectionWrites,
    flush::ExistingRecords,
    schema::{WEBHOOK_DELIVERIES, WEBHOOKS},
    transaction_error::TransactionError,
};
use crate::{
    domain::{
        clock::Timestamp,
        ids::{AttemptId, EventId, WebhookId},
        webhook::{DeliveryAttempt, DeliveryStatus, PendingDelivery, Webhook},
    },
    store::{
        StoreUnavailable,
        plan::WriteSet,
        webhook_store::{WebhookHeads, WebhookLeases, WebhookProgress, WebhookState, WebhookStore},
    },
};

pub(super) fn webhook_writes(
    writes: &WriteSet,
    existing: &ExistingRecords,
    commit_time: i64,
) -> Result<CollectionWrites, TransactionError> {
    let mut webhooks = CollectionWrites::for_records(WEBHOOKS, commit_time);
    for (id, webhook) in &writes.webhooks {
        let exists = existing.webhooks.contains(id);
        if !webhook.deleted {
            webhooks.add_document(id.as_uuid(), exists, &WebhookDocument::from(&**webhook))?;
        } else if exists {
            webhooks.delete_document(id.as_uuid());
        }
    }
    Ok(webhooks)
}

/// The deliveries that were asked for.
pub(super) fn delivery_writes(writes: &WriteSet) -> Result<CollectionWrites, TransactionError> {
    let mut deliveries = CollectionWrites::for_collection(WEBHOOK_DELIVERIES);
    for delivery in &writes.webhook_deliveries {
        let id = delivery_id_to_binaries(delivery.webhook_id, delivery.event_id);
        let record = delivery.webhook_id.as_uuid();
        deliveries.put_document_with_id(record, id, &PendingDocument::from(&**delivery))?;
    }
    Ok(deliveries)
}

#[async_trait]
impl WebhookStore for MongoStore {
    async fn find_webhook(&self, id: WebhookId) -> Result<Option<Webhook>, StoreUnavailable> {
        self.run_read(|database| reads::find_webhook(database, id)).await
    }

    async fn list_webhooks(
        &self,
        before: Option<WebhookId>,
        limit: u32,
    ) -> Result<Vec<Webhook>, StoreUnavailable> {
        self.run_read(|database| reads::list_webhooks(database, before, limit)).await
    }

    async fn list_webhook_heads(&self) -> Result<WebhookHeads, StoreUnavailable> {
        self.run_read(reads::list_heads).await
    }

    async fn renew_webhook_leases(
        &self,
        node: Uuid,
        lifetime: Duration,
    ) -> Result<WebhookLeases, StoreUnavailable> {
        self.run_update(|database| leases::renew(database, node, lifetime)).await
    }

    async fn release_webhook_leases(
        &self,
        node: Uuid,
        shards: Vec<u32>,
    ) -> Result<(), StoreUnavailable> {
        self.run_update(|database| leases::release(database, node, shards)).await
    }

    async fn open_webhook(
        &self,
        id: WebhookId,
        node: Uuid,
    ) -> Result<WebhookState, StoreUnavailable> {
        self.run_update(|database| progress::open(database, id, node)).await
    }

    async fn save_webhook_progress(
        &self,
        node: Uuid,
        progress: Arc<[WebhookProgress]>,
    ) -> Result<(), StoreUnavailable> {
        self.run_update(|database| progress::save(database, node, progress)).await
    }

    async fn list_waiting_deliveries(
        &self,
        id: WebhookId,
        limit: u32,
    ) -> Result<Vec<PendingDelivery>, StoreUnavailable> {
        self.run_read(|database| reads::list_waiting(database, id, limit)).await
    }

    async fn count_waiting_deliveries(&self, id: WebhookId) -> Result<u64, StoreUnavailable> {
        self.run_read(|database| reads::count_waiting(database, id)).await
    }

    async fn find_delivery(
        &self,
        id: WebhookId,
        event: EventId,
    ) -> Result<(Option<DeliveryAttempt>, Option<PendingDelivery>), StoreUnavailable> {
        self.run_read(|database| reads::find_delivery(database, id, event)).await
    }

    async fn list_delivery_attempts(
        &self,
        id: WebhookId,
        status: Option<DeliveryStatus>,
        before: Option<AttemptId>,
        limit: u32,
    ) -> Result<Vec<DeliveryAttempt>, StoreUnavailable> {
        self.run_read(|database| reads::list_attempts(database, id, status, before, limit)).await
    }

    async fn trim_webhook_attempts(
        &self,
        id: WebhookId,
        older_than: Timestamp,
        kept: u32,
    ) -> Result<(), StoreUnavailable> {
        self.run_update(|database| progress::trim(database, id, older_than, kept)).await
    }

    async fn delete_webhook_remains(&self) -> Result<u64, StoreUnavailable> {
        self.run_update(progress::delete_remains).await
    }
}
