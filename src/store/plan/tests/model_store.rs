//! An in-memory model of the store.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    domain::{
        account::{Email, Session, User},
        cart::{Cart, CartEvent},
        catalog::product::{Product, ProductDetails},
        clock::Timestamp,
        ids::{MailId, OrderId, ProductId, PromotionId, RuleId, SessionId, UserId},
        inventory::{StockChange, StockLevel, StockMovement},
        mail::Mail,
        order::{BuyerKey, Order, OrderLine, OrderStatus, Payment, PaymentMethod},
        pricing::{PromotionUses, RuleRecord},
    },
    events::{DomainEvent, EventEnvelope},
    messages::command_context::{IdempotencyKey, StoredReply},
    store::{
        commit::{Commit, CommitOutcome, IdempotencyRecord, StockWrite, StoredReplyBody, Write},
        plan::{
            LoadedState, OwnedIdempotencyKey, PendingOrders, Plan, ReadSet, ReplyToStore,
            StoredOrder, plan_batch,
        },
    },
};

pub(super) const LOW_STOCK: u64 = 5;

pub(super) fn numbered_id<I: From<Uuid>>(number: u8) -> I {
    I::from(Uuid::from_u128(u128::from(number) + 1))
}

/// An in-memory store that applies planned batches as an engine does.
#[derive(Clone, Default)]
pub(super) struct ModelStore {
    pub(super) carts: BTreeMap<UserId, Arc<Cart>>,
    pub(super) products: BTreeMap<ProductId, Arc<Product>>,
    pub(super) orders: BTreeMap<OrderId, Arc<Order>>,
    pub(super) stock: BTreeMap<ProductId, StockLevel>,
    pub(super) movements: Vec<StockMovement>,
    pub(super) users: BTreeMap<UserId, Arc<User>>,
    pub(super) sessions: BTreeMap<SessionId, Arc<Session>>,
    pub(super) mails: BTreeMap<MailId, Arc<Mail>>,
    pub(super) keys: BTreeMap<OwnedIdempotencyKey, ([u8; 32], StoredReply)>,
    pub(super) refused_keys: BTreeMap<OwnedIdempotencyKey, Timestamp>,
    pub(super) inbox: BTreeSet<Box<str>>,
    pub(super) events: Vec<EventEnvelope>,
    pub(super) rules: BTreeMap<RuleId, Arc<RuleRecord>>,
    pub(super) uses: BTreeMap<PromotionId, PromotionUses>,
}

/// What `find` returns for each key, without those it returns nothing for.
fn load_each<K: Clone + Eq + Hash, V>(
    keys: &BTreeSet<K>,
    find: impl Fn(&K) -> Option<V>,
) -> HashMap<K, V> {
    keys.iter().filter_map(|key| Some((key.clone(), find(key)?))).collect()
}

impl ModelStore {
    /// Loads what the read set names and nothing else, as an engine does.
    pub(super) fn load(&self, read_set: &ReadSet) -> LoadedState {
        let pending_orders =
            read_set.pending_order_users.iter().map(|id| (*id, self.pending_orders(*id)));
        let purchased_units =
            read_set.purchases.iter().map(|pair| (*pair, self.purchased_units(*pair)));
        let applied_messages = read_set.inbox.iter().filter(|id| self.inbox.contains(*id));
        LoadedState {
            carts: load_each(&read_set.carts, |id| Some(self.carts.get(id)?.version)),
            products: load_each(&read_set.products, |id| Some(self.products.get(id)?.version)),
            orders: load_each(&read_set.orders, |id| {
                let Order { version, status, user_id, .. } = **self.orders.get(id)?;
                Some(StoredOrder { version, status, user_id })
            }),
            anonymized_orders: read_set
                .orders
                .iter()
                .filter(|id| self.orders.get(id).is_some_and(|order| order.anonymized))
                .copied()
                .collect(),
            unfinished_orders: load_each(&read_set.unfinished_orders, |key| {
                Some(self.unfinished_orders(key))
            }),
            pending_orders: pending_orders.collect(),
            purchased_units: purchased_units.collect(),
            sku_owners: load_each(&read_set.skus, |sku| self.sku_owner(sku)),
            stock: load_each(&read_set.stock, |id| self.stock.get(id).copied()),
            users: load_each(&read_set.users, |id| Some(self.users.get(id)?.version)),
            email_owners: load_each(&read_set.emails, |email| self.email_owner(email)),
            sessions: load_each(&read_set.sessions, |id| Some(self.sessions.get(id)?.version)),
            mails: load_each(&read_set.mails, |id| Some(self.mails.get(id)?.version)),
            stored_replies: load_each(&read_set.idempotency_keys, |key| {
                self.keys.get(key).cloned()
            }),
            refused_keys: load_each(&read_set.idempotency_keys, |key| {
                self.refused_keys.get(key).copied()
            }),
            applied_messages: applied_messages.cloned().collect(),
            active_admins: match read_set.active_admins {
                true => self.active_admins().collect(),
                false => HashSet::new(),
            },
            // The random batches have no API keys.
            api_keys: HashMap::new(),
            api_keys_made: HashMap::new(),
            webhooks: HashMap::new(),
            rules: load_each(&read_set.rules, |id| Some(self.rules.get(id)?.version)),
            rule_keys: load_each(&read_set.rule_keys, |key| self.rule_with_key(key)),
            rules_version: match read_set.rules_version {
                true => self.rules.values().map(|rule| rule.version).sum(),
                false => 0,
            },
            promotion_uses: load_each(&read_set.promotion_uses, |id| self.uses.get(id).copied()),
            buyer_uses: load_each(&read_set.buyer_uses, |pair| Some(self.buyer_uses(pair))),
        }
    }

    fn active_admins(&self) -> impl Iterator<Item = UserId> {
        let admins = self.users.values().filter(|user| user.rights().is_active_admin());
        admins.map(|user| user.id)
    }

    fn unfinished_orders(&self, key: &BuyerKey) -> HashMap<OrderId, OrderStatus> {
        let orders = self.orders.values().filter(|order| key.matches(order));
        let is_unfinished = |order: &&Arc<Order>| key.unfinished_statuses().contains(&order.status);
        orders.filter(is_unfinished).map(|order| (order.id, order.status)).collect()
    }

    fn sku_owner(&self, sku: &str) -> Option<ProductId> {
        self.products
            .values()
            .find(|product| !product.deleted && product.details.sku.as_deref() == Some(sku))
            .map(|product| product.id)
    }

    fn email_owner(&self, email: &str) -> Option<UserId> {
        self.users.values().find(|user| user.email.as_str() == email).map(|user| user.id)
    }

    /// A user's pending orders.
    pub(super) fn pending_orders(&self, user: UserId) -> PendingOrders {
        let is_pending = |order: &&Arc<Order>| {
            order.user_id == user && order.status == OrderStatus::PendingPayment
        };
        let pending: Vec<&Arc<Order>> = self.orders.values().filter(is_pending).collect();
        PendingOrders {
            orders: pending.len() as u64,
            units: pending.iter().map(|order| order.units()).sum(),
        }
    }

    /// The units of a product in a user's orders that are neither cancelled nor expired.
    pub(super) fn purchased_units(&self, (user, product): (UserId, ProductId)) -> u64 {
        self.orders
            .values()
            .filter(|order| order.user_id == user)
            .filter(|order| ![OrderStatus::Cancelled, OrderStatus::Expired].contains(&order.status))
            .flat_map(|order| &order.lines)
            .filter(|line| line.product_id == product)
            .map(|line| u64::from(line.quantity))
            .sum()
    }

    pub(super) fn apply(&mut self, batch: &[Commit]) -> Vec<CommitOutcome> {
        let Plan { outcomes, writes } =
            plan_batch(batch, self.load(&ReadSet::for_batch(batch)), LOW_STOCK);
        self.carts.extend(writes.carts);
        self.products.extend(writes.products);
        self.orders.extend(writes.orders);
        self.stock.extend(writes.stock);
        self.movements.extend(writes.movements);
        self.users.retain(|id, _| !writes.erased_accounts.contains_key(id));
        self.users.extend(writes.users);
        self.sessions.extend(writes.sessions);
        self.rules.extend(writes.rules);
        self.uses.extend(writes.promotion_uses);
        self.mails.extend(writes.mails);
        self.mails.retain(|_, mail| !mail.ended);
        let by_key = |ReplyToStore { key, reply, .. }: ReplyToStore| {
            ((key.owner, key.key), (key.fingerprint, reply))
        };
        self.refused_keys.extend(writes.refused_keys);
        self.keys.extend(writes.stored_replies.into_iter().map(by_key));
        for (id, _) in writes.inbox {
            assert!(self.inbox.insert(id), "an id is written once");
        }
        self.events.extend(writes.events);
        self.erase(&writes.erased_accounts);
        outcomes
    }

    fn erase(&mut self, accounts: &BTreeMap<UserId, Arc<User>>) {
        self.keys.retain(|(owner, _), _| !accounts.contains_key(owner));
        for order in self.orders.values_mut() {
            if accounts.contains_key(&order.user_id) {
                *order = Arc::new(Order { anonymized: true, ..(**order).clone() });
            }
        }
    }

    /// The stock levels, without their versions.
    pub(super) fn unversioned_stock(&self) -> Vec<StockLevel> {
        self.stock.values().map(|level| StockLevel { version: 0, ..*level }).collect()
    }

    /// The expected [`ModelStore::unversioned_stock`] after a commit with this outcome, by the
    /// rules of stock alone.
    pub(super) fn expected_stock_after(
        &self,
        commit: &Commit,
        outcome: &CommitOutcome,
    ) -> Vec<StockLevel> {
        let mut after = self.clone();
        for write in commit.writes.iter().filter(|_| outcome.is_ok()) {
            let Write::Stock(stock) = write else { continue };
            let id = stock.product_id;
            let level = after.stock.get(&id).copied().unwrap_or(StockLevel::empty(id));
            let moved = level.apply(stock.change).expect("an applied change is valid");
            after.stock.extend(moved.map(|(level, _)| (id, level)));
        }
        after.unversioned_stock()
    }

    /// Type, subject and sequence of the events: those of stock, or the others.
    pub(super) fn event_summaries(&self, stock: bool) -> Vec<(&'static str, Uuid, u64)> {
        let summarize = |event: &EventEnvelope| {
            (event.payload.event_type().as_str(), event.payload.subject(), event.payload.sequence())
        };
        self.events
            .iter()
            .map(summarize)
            .filter(|(kind, ..)| kind.starts_with("inventory") == stock)
            .collect()
    }

    /// The stored replies, without bodies that contain a stock level.
    pub(super) fn stored_replies(&self) -> Vec<(OwnedIdempotencyKey, [u8; 32], Option<Bytes>)> {
        let body =
            |response: &StoredReply| (!is_stock_reply(response)).then(|| response.body.clone());
        self.keys
            .iter()
            .map(|(key, (fingerprint, response))| (key.clone(), *fingerprint, body(response)))
            .collect()
    }
}

/// Whether a stored reply is a stock level; the other replies of the model are not JSON objects.
pub(super) fn is_stock_reply(reply: &StoredReply) -> bool {
    reply.body.starts_with(b"{")
}

pub(super) fn product_details(sku: Option<&str>) -> ProductDetails {
    ProductDetails { sku: sku.map(Into::into), ..ProductDetails::sample("Mint tea") }
}

/// An order of `number % 3 + 1` units of the product `number % 2`.
pub(super) fn order_at_version(number: u8, owner: u8, status: OrderStatus, version: u64) -> Order {
    Order {
        id: numbered_id(number),
        user_id: numbered_id(owner),
        status,
        version,
        currency: "EUR".parse().unwrap(),
        lines: vec![OrderLine {
            product_id: numbered_id(number % 2),
            sku: None,
            name: "Mint tea".into(),
            quantity: u32::from(number % 3) + 1,
            unit_price: crate::domain::money::Money::zero("EUR".parse().unwrap()),
            fulfilled: 0,
            restocked: 0,
        }],
        payment: Payment::awaiting(
            PaymentMethod::Manual,
            crate::domain::money::Money::zero("EUR".parse().unwrap()),
        ),
        shipments: Vec::new(),
        email: None,
        guest: false,
        shipping_address: None,
        billing_address: None,
        placed_at: Timestamp::default(),
        expires_at: None,
        updated_at: Timestamp::default(),
        actor: None,
        anonymized: false,
        charges: None,
    }
}

pub(super) fn stock_write(number: u8, change: StockChange, expected_version: Option<u64>) -> Write {
    let (order_id, reference, reason) = (None, None, None);
    Write::Stock(StockWrite {
        product_id: numbered_id(number),
        change,
        expected_version,
        order_id,
        reference,
        reason,
    })
}

pub(super) fn user_at_version(number: u8, email: Email, version: u64) -> User {
    User { id: numbered_id(number), email, version, ..User::sample(Timestamp::default()) }
}

pub(super) fn session_at_version(number: u8, revoked: bool, version: u64) -> Session {
    Session {
        id: numbered_id(number),
        user_id: numbered_id(0),
        address: None,
        user_agent: None,
        refresh_hash: [0; 32],
        created_at: Timestamp::default(),
        expires_at: Timestamp::default(),
        revoked_at: revoked.then(Timestamp::default),
        version,
    }
}

pub(super) fn commit_of(writes: Vec<Write>) -> Commit {
    let event = |write: &Write| match write {
        Write::Cart(cart) => Some(DomainEvent::Cart(Arc::clone(cart), CartEvent::Cleared)),
        Write::Product(product) => Some(DomainEvent::Product(Arc::clone(product))),
        Write::Order(order) => Some(DomainEvent::Order(Arc::clone(order))),
        Write::User(user) => Some(DomainEvent::UserRegistered(Arc::clone(user))),
        Write::EraseAccount(user) => {
            let sequence = user.event_sequence + 1;
            Some(DomainEvent::UserDeleted { user_id: user.id, sequence })
        }
        Write::PricingRule(rule) => Some(DomainEvent::PricingRule(Arc::clone(rule))),
        Write::Stock(_)
        | Write::Session(_)
        | Write::PromotionUse(..)
        | Write::ReassignGuestReplies { .. }
        | Write::AddressBook(_)
        | Write::ApiKey(_)
        | Write::Mail(_)
        | Write::Webhook(_)
        | Write::WebhookDelivery(_) => None,
    };
    let events = writes.iter().filter_map(event).collect();
    Commit {
        writes,
        events,
        ..Commit::new(Timestamp::default(), Instant::now() + Duration::from_secs(60))
    }
}

pub(super) fn idempotency_record(
    number: u8,
    fingerprint: u8,
    body: StoredReplyBody,
) -> IdempotencyRecord {
    let key = IdempotencyKey {
        owner: numbered_id(0),
        key: number.to_string().into(),
        fingerprint: [fingerprint; 32],
        received_at: Timestamp::default(),
    };
    IdempotencyRecord { key, body, about: None }
}

/// A store with the first `products` products, and four units of each.
pub(super) fn stocked_store(products: u8) -> ModelStore {
    let mut store = ModelStore::default();
    for number in 0..products {
        let product =
            Product::new(numbered_id(number), product_details(None), Timestamp::default());
        let first = commit_of(vec![
            Write::Product(Arc::new(product)),
            stock_write(number, StockChange::Set(4), None),
        ]);
        assert!(store.apply(&[first])[0].is_ok());
    }
    store
}
