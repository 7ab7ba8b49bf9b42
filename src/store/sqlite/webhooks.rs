//! The trait [`WebhookStore`].

mod retention;
mod rows;
mod write;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rusqlite::params;
use uuid::Uuid;

use self::rows::{attempt_from_row, pending_from_row, state_from_row, webhook_from_row};
pub(super) use self::{retention::last_event_nobody_needs, write::write_webhooks};
use super::{
    SqliteStore, read,
    rows::{UuidText, id_column},
};
use crate::{
    domain::{
        clock::Timestamp,
        ids::{AttemptId, EventId, WebhookId},
        webhook::{DeliveryAttempt, DeliveryStatus, PendingDelivery, Webhook},
    },
    store::{
        StoreUnavailable,
        webhook_store::{
            WEBHOOK_SHARDS, WebhookHeads, WebhookLeases, WebhookProgress, WebhookState,
            WebhookStore,
        },
    },
};

macro_rules! pending {
    ($rest:literal) => {
        concat!(
            "SELECT webhook_id, event_id, type, subject, body, attempts, due_at, requested, \
             updated_at FROM webhook_deliveries WHERE webhook_id = ?1 ",
            $rest
        )
    };
}

macro_rules! attempts {
    ($rest:literal) => {
        concat!(
            "SELECT webhook_id, id, event_id, type, subject, attempt, status, status_code, error, \
             duration_ms, at, next_at, position FROM webhook_attempts WHERE webhook_id = ?1 ",
            $rest
        )
    };
}

#[async_trait]
impl WebhookStore for SqliteStore {
    async fn find_webhook(&self, id: WebhookId) -> Result<Option<Webhook>, StoreUnavailable> {
        self.run_read(move |connection| {
            let sql = "SELECT id, version, record FROM webhooks WHERE id = ?1";
            read::find_one(connection, sql, &[&UuidText::new(id.as_uuid())], webhook_from_row)
        })
        .await
    }

    async fn list_webhooks(
        &self,
        before: Option<WebhookId>,
        limit: u32,
    ) -> Result<Vec<Webhook>, StoreUnavailable> {
        self.run_read(move |connection| {
            let before = before.map(|id| UuidText::new(id.as_uuid()));
            let sql = "SELECT id, version, record FROM webhooks WHERE ?1 IS NULL OR id < ?1 \
                       ORDER BY id DESC LIMIT ?2";
            read::find_many(connection, sql, &[&before, &limit], webhook_from_row)
        })
        .await
    }

    async fn list_webhook_heads(&self) -> Result<WebhookHeads, StoreUnavailable> {
        self.run_read(|connection| {
            let sql = "SELECT id, version FROM webhooks";
            let webhooks =
                read::find_many(connection, sql, &[], |row| Ok((id_column(row, 0)?, row.get(1)?)))?;
            if webhooks.is_empty() {
                return Ok(WebhookHeads::default());
            }
            let sql = "SELECT DISTINCT webhook_id FROM webhook_deliveries WHERE requested = 1";
            let requested = read::find_many(connection, sql, &[], |row| id_column(row, 0))?;
            Ok(WebhookHeads { webhooks, requested })
        })
        .await
    }

    async fn renew_webhook_leases(
        &self,
        _: Uuid,
        _: Duration,
    ) -> Result<WebhookLeases, StoreUnavailable> {
        // No other process has the store.
        let shards: Vec<u32> = (0..WEBHOOK_SHARDS).collect();
        Ok(WebhookLeases { fair_share: shards.len(), shards })
    }

    async fn release_webhook_leases(&self, _: Uuid, _: Vec<u32>) -> Result<(), StoreUnavailable> {
        Ok(())
    }

    async fn open_webhook(
        &self,
        id: WebhookId,
        node: Uuid,
    ) -> Result<WebhookState, StoreUnavailable> {
        self.run_update("open a webhook", move |connection| {
            let sql = "INSERT INTO webhook_states (webhook_id, node) VALUES (?1, ?2) \
                       ON CONFLICT (webhook_id) DO UPDATE SET node = excluded.node \
                       RETURNING cursor, failing_since";
            let ids = params![UuidText::new(id.as_uuid()), UuidText::new(node)];
            connection.prepare_cached(sql)?.query_row(ids, state_from_row)
        })
        .await
    }

    async fn save_webhook_progress(
        &self,
        node: Uuid,
        progress: Arc<[WebhookProgress]>,
    ) -> Result<(), StoreUnavailable> {
        let save = move |connection: &mut _| write::save_progress(connection, node, &progress);
        self.run_lazy_update("record deliveries", save).await
    }

    async fn list_waiting_deliveries(
        &self,
        id: WebhookId,
        limit: u32,
    ) -> Result<Vec<PendingDelivery>, StoreUnavailable> {
        self.run_read(move |connection| {
            let sql = pending!("AND due_at IS NOT NULL ORDER BY due_at LIMIT ?2");
            let id = UuidText::new(id.as_uuid());
            read::find_many(connection, sql, &[&id, &limit], pending_from_row)
        })
        .await
    }

    async fn count_waiting_deliveries(&self, id: WebhookId) -> Result<u64, StoreUnavailable> {
        self.run_read(move |connection| {
            let sql = "SELECT count(*) FROM webhook_deliveries \
                       WHERE webhook_id = ?1 AND due_at IS NOT NULL";
            let id = UuidText::new(id.as_uuid());
            connection.prepare_cached(sql)?.query_row([id], |row| row.get(0))
        })
        .await
    }

    async fn find_delivery(
        &self,
        id: WebhookId,
        event: EventId,
    ) -> Result<(Option<DeliveryAttempt>, Option<PendingDelivery>), StoreUnavailable> {
        self.run_read(move |connection| {
            let (id, event) = (UuidText::new(id.as_uuid()), UuidText::new(event.as_uuid()));
            let sql = attempts!("AND event_id = ?2 ORDER BY id DESC LIMIT 1");
            let attempt = read::find_one(connection, sql, &[&id, &event], attempt_from_row)?;
            let sql = attempts!("AND event_id = ?2 AND position IS NOT NULL LIMIT 1");
            let first = read::find_one(connection, sql, &[&id, &event], attempt_from_row)?;
            let position = first.and_then(|first| first.position);
            let attempt = attempt.map(|attempt| DeliveryAttempt { position, ..attempt });
            let sql = pending!("AND event_id = ?2");
            let pending = read::find_one(connection, sql, &[&id, &event], pending_from_row)?;
            Ok((attempt, pending))
        })
        .await
    }

    async fn list_delivery_attempts(
        &self,
        id: WebhookId,
        status: Option<DeliveryStatus>,
        before: Option<AttemptId>,
        limit: u32,
    ) -> Result<Vec<DeliveryAttempt>, StoreUnavailable> {
        self.run_read(move |connection| {
            let id = UuidText::new(id.as_uuid());
            let before = before.map(|id| UuidText::new(id.as_uuid()));
            let status = status.map(DeliveryStatus::as_str);
            let sql = attempts!(
                "AND (?2 IS NULL OR id < ?2) AND (?3 IS NULL OR status = ?3) \
                 ORDER BY id DESC LIMIT ?4"
            );
            read::find_many(connection, sql, &[&id, &before, &status, &limit], attempt_from_row)
        })
        .await
    }

    async fn trim_webhook_attempts(
        &self,
        id: WebhookId,
        older_than: Timestamp,
        kept: u32,
    ) -> Result<(), StoreUnavailable> {
        let trim = move |connection: &mut _| write::trim(connection, id, older_than, kept);
        self.run_update("trim deliveries", trim).await
    }

    async fn delete_webhook_remains(&self) -> Result<u64, StoreUnavailable> {
        self.run_update("delete what is left of webhooks", |connection| {
            write::delete_remains(connection)
        })
        .await
    }
}
