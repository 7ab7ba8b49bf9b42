//! Spans and metrics of every read of a store, whatever its engine.
//!
//! The transactions of batches have their spans in the engines, and on a shared store their
//! metrics, too: an engine knows how often it tries one.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tracing::{Instrument as _, field::Empty};
use uuid::Uuid;

use super::{
    ActionPosition, AppliedBatch, ApplyError, Commit, CommitError, CommitOutcome, OrderIdStore,
    OutboxChanges, OutboxPage, PaymentStore, PricingStore, StaffStore, Store, StoreUnavailable,
    StoredReplyUsage,
    commit::outcome_name,
    forwarding::ForwardingOptions,
    webhook_store::{WebhookHeads, WebhookLeases, WebhookProgress, WebhookState, WebhookStore},
    writer::CommitWriter,
};
use crate::{
    domain::{
        account::{
            AddressBook, ApiKey, Email, Session, User, UserFilter, VersionedRights,
            login_failures::{FailureWindow, LoginKey},
        },
        action::{Action, ActionFilter},
        audit::{AuditPage, EventAudit, IdRange, OrderAudit, ProductAudit},
        cart::{Cart, CartOwner},
        catalog::product::Product,
        clock::Timestamp,
        ids::{
            ApiKeyId, AttemptId, EventId, OrderId, ProductId, PromotionId, RuleId, SessionId,
            UserId, WebhookId,
        },
        inventory::{StockLevel, StockMovement},
        mail::Mail,
        order::{Buyer, BuyerKey, Order, OrderFilter, OrderIdLease},
        pricing::{PromotionUses, RuleRecord},
        webhook::{DeliveryAttempt, DeliveryStatus, PendingDelivery, Webhook},
    },
    events::OutboxCursor,
    messages::command_context::{IdempotencyKey, StoredReply},
    metrics::store::{StockConflict, StoreMetrics},
};

/// A store whose reads are traced and measured.
pub struct ObservedStore {
    store: Arc<dyn Store>,
    metrics: StoreMetrics,
}

impl ObservedStore {
    /// Observes a store.
    #[must_use]
    pub const fn new(store: Arc<dyn Store>, metrics: StoreMetrics) -> Self {
        Self { store, metrics }
    }

    async fn observe<T>(
        &self,
        operation: &'static str,
        read: impl Future<Output = Result<T, StoreUnavailable>>,
    ) -> Result<T, StoreUnavailable> {
        let began = Instant::now();
        let span = tracing::info_span!(
            "store",
            otel.name = operation,
            otel.kind = "client",
            otel.status_code = Empty,
            db.operation.name = operation,
        );
        let result = read.instrument(span.clone()).await;
        if result.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        self.metrics.record_operation(operation, result.is_ok(), began.elapsed());
        result
    }
}

impl ObservedStore {
    fn record_outcome(&self, outcome: &CommitOutcome) {
        self.metrics.record_outcome(outcome_name(outcome));
        let conflict = match outcome {
            Err(CommitError::InsufficientStock(_)) => StockConflict::InsufficientStock,
            Err(CommitError::StockVersionMismatch(_)) => StockConflict::Version,
            _ => return,
        };
        self.metrics.record_stock_conflict(conflict);
    }
}

/// Implements the trait by the operations that are observed, and the methods that are not.
macro_rules! observe {
    (
        $trait:ident;
        operations { $($operation:ident($($name:ident: $type:ty),*) -> $result:ty;)+ }
        others { $($other:tt)* }
    ) => {
        #[async_trait]
        impl $trait for ObservedStore {
            $(async fn $operation(
                &self,
                $($name: $type),*
            ) -> Result<$result, StoreUnavailable> {
                self.observe(stringify!($operation), self.store.$operation($($name),*)).await
            })+

            $($other)*
        }
    };
}

observe! {
    StaffStore;
    operations {
        find_api_key(id: ApiKeyId) -> Option<ApiKey>;
        list_api_keys(before: Option<ApiKeyId>, limit: u32) -> Vec<ApiKey>;
        record_api_key_uses(uses: Vec<(ApiKeyId, Timestamp)>) -> ();
        list_actions(
            filter: ActionFilter, after: Option<ActionPosition>, limit: u32
        ) -> Vec<Action>;
    }
    others {}
}

observe! {
    PaymentStore;
    operations {
        find_order_by_intent(intent: String) -> Option<Order>;
        list_due_payments(now: Timestamp, limit: u32) -> Vec<Order>;
        count_due_payments(now: Timestamp) -> u64;
        move_payment_due(order: OrderId, from: Timestamp, to: Timestamp) -> bool;
    }
    others {}
}

observe! {
    OrderIdStore;
    operations {
        lease_order_ids(from: Timestamp) -> OrderIdLease;
    }
    others {}
}

observe! {
    WebhookStore;
    operations {
        find_webhook(id: WebhookId) -> Option<Webhook>;
        list_webhooks(before: Option<WebhookId>, limit: u32) -> Vec<Webhook>;
        list_webhook_heads() -> WebhookHeads;
        renew_webhook_leases(node: Uuid, lifetime: Duration) -> WebhookLeases;
        release_webhook_leases(node: Uuid, shards: Vec<u32>) -> ();
        open_webhook(id: WebhookId, node: Uuid) -> WebhookState;
        save_webhook_progress(node: Uuid, progress: Arc<[WebhookProgress]>) -> ();
        list_waiting_deliveries(id: WebhookId, limit: u32) -> Vec<PendingDelivery>;
        count_waiting_deliveries(id: WebhookId) -> u64;
        find_delivery(
            id: WebhookId, event: EventId
        ) -> (Option<DeliveryAttempt>, Option<PendingDelivery>);
        list_delivery_attempts(
            id: WebhookId, status: Option<DeliveryStatus>, before: Option<AttemptId>, limit: u32
        ) -> Vec<DeliveryAttempt>;
        trim_webhook_attempts(id: WebhookId, older_than: Timestamp, kept: u32) -> ();
        delete_webhook_remains() -> u64;
    }
    others {}
}

observe! {
    PricingStore;
    operations {
        list_pricing_rules() -> Vec<RuleRecord>;
        find_pricing_rule(id: RuleId) -> Option<RuleRecord>;
        list_promotion_uses(ids: Option<BTreeSet<PromotionId>>) -> Vec<PromotionUses>;
        count_buyer_uses(
            buyer: Buyer, promotions: BTreeSet<PromotionId>
        ) -> HashMap<PromotionId, u32>;
    }
    others {}
}

observe! {
    Store;
    operations {
        find_cart(owner: UserId) -> Option<Cart>;
        list_idle_carts(before: Timestamp, limit: u32) -> Vec<CartOwner>;
        list_products(after: Option<ProductId>, limit: u32) -> Vec<(Product, StockLevel)>;
        find_product(id: ProductId) -> Option<(Product, StockLevel)>;
        find_products_by_id(ids: Vec<ProductId>) -> Vec<(Product, StockLevel)>;
        find_products_by_sku(skus: Vec<String>) -> Vec<(Product, StockLevel)>;
        list_movements(id: ProductId, before: Option<u64>, limit: u32) -> Vec<StockMovement>;
        find_order(id: OrderId) -> Option<Order>;
        list_orders(filter: OrderFilter, before: Option<OrderId>, limit: u32) -> Vec<Order>;
        list_overdue_orders(
            now: Timestamp, after: Option<(Timestamp, OrderId)>, limit: u32
        ) -> Vec<Order>;
        list_unfinished_orders(key: BuyerKey, limit: u32) -> Vec<Order>;
        find_address_book(user: UserId) -> AddressBook;
        find_user(id: UserId) -> Option<User>;
        find_emails(users: Vec<UserId>) -> HashMap<UserId, Email>;
        find_user_by_email(email: &Email) -> Option<User>;
        list_users(filter: UserFilter, before: Option<UserId>, limit: u32) -> Vec<User>;
        list_special_rights() -> Vec<VersionedRights>;
        greatest_password_hash() -> Option<String>;
        has_admin() -> bool;
        find_session(id: SessionId) -> Option<Session>;
        list_active_sessions(user: UserId, now: Timestamp, limit: u32) -> Vec<Session>;
        list_stale_sessions(user: UserId, now: Timestamp, kept: u32, limit: u32) -> Vec<Session>;
        list_sessions_revoked_since(since: Timestamp) -> Vec<SessionId>;
        find_login_failures(keys: Vec<LoginKey>) -> Vec<Option<FailureWindow>>;
        count_login_failure(keys: Vec<LoginKey>, now: Timestamp) -> Vec<FailureWindow>;
        list_due_mails(now: Timestamp, limit: u32) -> Vec<Mail>;
        find_stored_reply(key: &IdempotencyKey) -> Option<([u8; 32], StoredReply)>;
        stored_reply_usage(owner: UserId) -> StoredReplyUsage;
        is_in_inbox(id: &str) -> bool;
        list_events_after(cursor: &OutboxCursor, limit: u32) -> OutboxPage;
        list_changes_after(cursor: &OutboxCursor, limit: u32) -> OutboxChanges;
        delete_ended_records() -> u64;
        outbox_heads() -> OutboxCursor;
        linearizable_outbox_heads() -> OutboxCursor;
        published_cursor() -> OutboxCursor;
        mark_published(cursor: &OutboxCursor) -> ();
        audit_products(range: IdRange, limit: u32) -> AuditPage<ProductAudit>;
        audit_orders(range: IdRange, limit: u32) -> AuditPage<OrderAudit>;
        audit_events() -> Vec<EventAudit>;
        ping() -> ();
        check_writable() -> ();
        find_damage() -> Vec<String>;
    }
    others {
        fn is_shared(&self) -> bool {
            self.store.is_shared()
        }

        fn write_lanes(&self) -> usize {
            self.store.write_lanes()
        }

        async fn wait_for_turn(&self, lane: usize) {
            self.store.wait_for_turn(lane).await;
        }

        fn start_forwarding(&self, options: ForwardingOptions, writer: CommitWriter) {
            self.store.start_forwarding(options, writer);
        }

        async fn forward(&self, commit: &Commit, has_priority: bool) -> Option<CommitOutcome> {
            let outcome = self.store.forward(commit, has_priority).await?;
            // The other node counts its outcome.
            self.metrics.record_forwarded_commit();
            Some(outcome)
        }

        async fn apply_in_lane(
            &self,
            lane: usize,
            batch: Arc<[Commit]>,
        ) -> Result<AppliedBatch, ApplyError> {
            self.metrics.record_batch(batch.len());
            let began = Instant::now();
            let applied = self.store.apply_in_lane(lane, batch).await;
            // An engine that is not shared tries a batch once.
            if !self.store.is_shared() {
                let abort = applied.as_ref().err().map(|error| error.name());
                self.metrics.record_transaction("all", began.elapsed(), abort);
            }
            if let Ok(applied) = &applied {
                applied.outcomes.iter().for_each(|outcome| self.record_outcome(outcome));
            }
            applied
        }

        async fn close(&self) {
            self.store.close().await;
        }
    }
}
