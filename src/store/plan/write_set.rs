//! The planner's output: the records to write.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::OwnedIdempotencyKey;
use crate::{
    domain::{
        account::{AddressBook, ApiKey, Rights, Role, Session, User, VersionedRights},
        action::Action,
        cart::Cart,
        catalog::product::Product,
        clock::Timestamp,
        ids::{
            ApiKeyId, MailId, OrderId, ProductId, PromotionId, RuleId, SessionId, UserId, WebhookId,
        },
        inventory::{StockLevel, StockMovement},
        mail::Mail,
        order::Order,
        pricing::{PromotionUses, RuleRecord},
        webhook::{PendingDelivery, Webhook},
    },
    events::{DomainEvent, EventEnvelope, OutboxEvent, OutboxPosition},
    messages::command_context::{IdempotencyKey, StoredReply},
    store::commit::CommittedChanges,
};

/// A response to store.
#[derive(Debug)]
pub struct ReplyToStore {
    /// The key to store it under.
    pub key: IdempotencyKey,
    /// The response.
    pub reply: StoredReply,
    /// The time that the key expires from.
    pub at: Timestamp,
    /// The account that the response is about, if it is not the key's owner.
    pub about: Option<UserId>,
}

/// The records to write, each once, in its final state.
#[derive(Debug, Default)]
pub struct WriteSet {
    /// Carts, by owner.
    pub carts: BTreeMap<UserId, Arc<Cart>>,
    /// Products. A deleted product releases its sku.
    pub products: BTreeMap<ProductId, Arc<Product>>,
    /// Orders. Their units and promotions are counted in `stock` and `promotion_uses`.
    pub orders: BTreeMap<OrderId, Arc<Order>>,
    /// The new levels of the products whose stock moved.
    pub stock: BTreeMap<ProductId, StockLevel>,
    /// Movements of stock, in commit order.
    pub movements: Vec<StockMovement>,
    /// Accounts, by id.
    pub users: BTreeMap<UserId, Arc<User>>,
    /// The addresses of accounts. Their documents may not exist yet.
    pub address_books: BTreeMap<UserId, Arc<AddressBook>>,
    /// Accounts to erase, in their last state. What there is of them has to be erased after
    /// everything else is written, and their e-mail addresses are free before.
    pub erased_accounts: BTreeMap<UserId, Arc<User>>,
    /// Guests, and the accounts that their stored replies are about from now on. The engine applies
    /// them after it writes replies and before it erases accounts.
    pub reply_reassignments: BTreeMap<UserId, UserId>,
    /// Sessions, by id.
    pub sessions: BTreeMap<SessionId, Arc<Session>>,
    /// API keys, by id.
    pub api_keys: BTreeMap<ApiKeyId, Arc<ApiKey>>,
    /// Actions, in commit order.
    pub actions: Vec<Action>,
    /// Mails that wait, by id. Those that have ended are to be removed.
    pub mails: BTreeMap<MailId, Arc<Mail>>,
    /// Webhook endpoints, by id. Deleted ones are to be removed.
    pub webhooks: BTreeMap<WebhookId, Arc<Webhook>>,
    /// Events that wait to be delivered to an endpoint, in commit order.
    pub webhook_deliveries: Vec<Arc<PendingDelivery>>,
    /// Responses to store.
    pub stored_replies: Vec<ReplyToStore>,
    /// When the latest refused request with the key was received. An engine that only one node can
    /// use need not write it: on one node, a repeat waits for the first attempt.
    pub refused_keys: BTreeMap<OwnedIdempotencyKey, Timestamp>,
    /// Ids of applied messages, with the time.
    pub inbox: Vec<(Box<str>, Timestamp)>,
    /// Events, in commit order.
    pub events: Vec<EventEnvelope>,
    /// Whether a commit depends on which admins or API keys there are. An engine that several nodes
    /// share then writes a record that all such transactions write.
    pub depends_on_admins: bool,
    /// Pricing rules, by id.
    pub rules: BTreeMap<RuleId, Arc<RuleRecord>>,
    /// How many versions of rules the batch adds. An engine that several nodes share then writes a
    /// record that all such transactions write.
    pub new_rule_versions: u64,
    /// How often promotions are used, by id.
    pub promotion_uses: BTreeMap<PromotionId, PromotionUses>,
}

impl WriteSet {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.carts.is_empty()
            && self.products.is_empty()
            && self.orders.is_empty()
            && self.users.is_empty()
            && self.address_books.is_empty()
            && self.erased_accounts.is_empty()
            && self.reply_reassignments.is_empty()
            && self.sessions.is_empty()
            && self.api_keys.is_empty()
            && self.mails.is_empty()
            && self.webhooks.is_empty()
            && self.webhook_deliveries.is_empty()
            && self.movements.is_empty()
            && self.stored_replies.is_empty()
            && self.refused_keys.is_empty()
            && self.inbox.is_empty()
            && self.events.is_empty()
            && self.rules.is_empty()
            && self.promotion_uses.is_empty()
    }

    /// The events with their positions, of which the first is `first`.
    #[must_use]
    pub fn to_outbox_events(&self, first: OutboxPosition) -> Vec<OutboxEvent> {
        let to_outbox_event = |(event, offset): (&EventEnvelope, u64)| OutboxEvent {
            position: OutboxPosition { offset, ..first },
            id: event.id,
            kind: event.payload.event_type().as_str().to_owned(),
            audience: event.payload.audience(),
            body: event.to_json(),
        };
        self.events.iter().zip(first.offset..).map(to_outbox_event).collect()
    }

    /// The accounts whose rights changed, and new ones that are no customers, in their final state.
    fn users_with_changed_rights(&self) -> impl Iterator<Item = &Arc<User>> {
        let changed: BTreeSet<UserId> = self
            .events
            .iter()
            .filter_map(|event| match &event.payload {
                DomainEvent::RightsChanged(user) => Some(user.id),
                DomainEvent::UserRegistered(user) if user.role != Role::Customer => Some(user.id),
                _ => None,
            })
            .collect();
        changed.into_iter().filter_map(|id| self.users.get(&id))
    }

    /// The rights of the accounts whose rights changed, and of those that had more rights than a
    /// customer and are erased.
    pub fn changed_rights(&self) -> impl Iterator<Item = VersionedRights> {
        let changed = self.users_with_changed_rights().map(|user| user.versioned_rights());
        let erased = self.erased_accounts.values().filter(|user| user.role != Role::Customer);
        let erased = erased.map(|user| VersionedRights {
            user_id: user.id,
            version: user.version + 1,
            rights: Rights::CUSTOMER,
        });
        changed.chain(erased)
    }

    /// The users whose orders with promotions are written.
    pub fn promotion_buyers(&self) -> BTreeSet<UserId> {
        self.orders.values().filter_map(|order| order.promotion_buyer()).collect()
    }

    /// The changes for this node's caches, which apply once the writes are durable.
    #[must_use]
    pub fn into_changes(self, events: Vec<OutboxEvent>) -> CommittedChanges {
        let revoked = |session: &Arc<Session>| session.revoked_at.map(|at| (session.id, at));
        CommittedChanges {
            rights: self.changed_rights().collect(),
            promotion_buyers: self.promotion_buyers().into_iter().collect(),
            carts: self.carts.values().map(|cart| (cart.owner.id, cart.version)).collect(),
            products: self.products.into_values().collect(),
            pricing_rules: self.rules.into_values().collect(),
            promotion_uses: self.promotion_uses.into_values().collect(),
            stock: self.stock.into_values().collect(),
            revoked_sessions: self.sessions.values().filter_map(revoked).collect(),
            api_keys: self.api_keys.into_values().collect(),
            events,
        }
    }
}
