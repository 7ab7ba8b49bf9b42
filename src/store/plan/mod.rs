//! The batch planner decides what a batch of commits does, the same for every engine.
//!
//! In its transaction, an engine loads the records that the batch names ([`ReadSet`],
//! [`LoadedState`]), calls [`plan_batch`], and writes the resulting [`WriteSet`].
//!
//! The planner decides the commits in order, each on the state that those before it leave. A
//! commit is checked completely before anything of it is recorded, so a rejected commit leaves no
//! trace and does not affect the others.
//!
//! Two things are settled only after the last commit, which surprises at first:
//! - Stock versions. Many commits of a batch can move the stock of one product. Each writes a
//!   movement of its own, but the stock record is written once: its version goes up by one, and one
//!   `StockChanged` event is written for the whole batch.
//! - Stored responses. A response can contain a stock level, which is final only then. So a repeat
//!   in the same batch as its first attempt (`DuplicateOf`) also gets its response at the end.

mod actions;
mod checks;
mod orders;
mod pricing;
mod read_set;
#[cfg(test)]
mod tests;
mod write_set;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;

use self::actions::StockAction;
pub use self::{
    read_set::{LoadedState, OwnedIdempotencyKey, PendingOrders, ReadSet, StoredOrder},
    write_set::{ReplyToStore, WriteSet},
};
use super::commit::{
    Commit, CommitError, CommitOutcome, CommitReceipt, Condition, IdempotencyRecord,
    StoredReplyBody, Write, new_event,
};
use crate::{
    domain::{
        account::{ApiKey, User},
        ids::ProductId,
        inventory::{StockLevel, StockMovement},
        webhook::Webhook,
    },
    events::{DomainEvent, inventory::stock_json},
    messages::command_context::{IdempotencyKey, StoredReply},
};

/// The decisions on a batch.
#[derive(Debug)]
pub struct Plan {
    /// One outcome per commit, in the batch's order. They hold once the write set is durable.
    pub outcomes: Vec<CommitOutcome>,
    /// The records to write.
    pub writes: WriteSet,
}

/// Decides `batch` on the `loaded` state. Available stock that falls to `low_stock` or below adds
/// an event.
#[must_use]
pub fn plan_batch(batch: &[Commit], loaded: LoadedState, low_stock: u64) -> Plan {
    let mut planner = Planner {
        initial_stock: loaded.stock.clone(),
        state: loaded,
        writes: WriteSet::default(),
        first_uses: HashMap::new(),
        last_movers: BTreeMap::new(),
        stock_actions: Vec::new(),
    };
    let decisions: Vec<Result<Vec<ProductId>, Rejection>> =
        batch.iter().map(|commit| planner.decide(commit)).collect();
    planner.finalize_stock(low_stock);
    planner.finalize_responses();
    planner.finalize_actions();
    let outcomes = decisions.into_iter().map(|decision| planner.to_outcome(decision)).collect();
    Plan { outcomes, writes: planner.writes }
}

/// Why a commit is not applied.
enum Rejection {
    Failed(CommitError),
    /// It repeats an earlier commit of this batch, whose response is complete only after the last
    /// commit.
    DuplicateOf(OwnedIdempotencyKey),
}

impl From<CommitError> for Rejection {
    fn from(error: CommitError) -> Self {
        Self::Failed(error)
    }
}

struct Planner<'a> {
    /// The stored state, with the commits accepted so far applied.
    state: LoadedState,
    /// The stock levels before the batch.
    initial_stock: HashMap<ProductId, StockLevel>,
    writes: WriteSet,
    /// Idempotency keys first used in this batch, with the response to store.
    first_uses: HashMap<OwnedIdempotencyKey, &'a IdempotencyRecord>,
    /// Products whose stock moves, each with the last commit that moves it: the stock events carry
    /// that commit's time and trace.
    last_movers: BTreeMap<ProductId, &'a Commit>,
    /// The actions that changed nothing but stock.
    stock_actions: Vec<StockAction>,
}

impl<'a> Planner<'a> {
    /// Accepts or rejects a commit. Returns the products whose stock it names.
    fn decide(&mut self, commit: &'a Commit) -> Result<Vec<ProductId>, Rejection> {
        // Repeats are recognized first: their versions are stale, since the first attempt changed
        // them.
        self.check_inbox(commit)?;
        self.check_idempotency_key(commit)?;
        if let Some(IdempotencyRecord { key, body: StoredReplyBody::Refused, .. }) =
            &commit.idempotency_record
        {
            self.record_refusal(key);
            return Ok(Vec::new());
        }
        let decision = self.check_and_accept(commit);
        if let (Err(Rejection::Failed(error)), Some(record)) =
            (&decision, &commit.idempotency_record)
            && error.is_refusal()
        {
            self.record_refusal(&record.key);
        }
        decision
    }

    fn check_and_accept(&mut self, commit: &'a Commit) -> Result<Vec<ProductId>, Rejection> {
        self.check_versions(commit)?;
        self.check_conditions(commit)?;
        self.check_uses(commit)?;
        let moves = self.check_stock(commit)?;
        self.accept_commit(commit, moves)
    }

    /// Records that a request with `key` is refused, so that no attempt that was received earlier
    /// applies. A later one still may.
    fn record_refusal(&mut self, key: &IdempotencyKey) {
        let id = (key.owner, key.key.clone());
        let received_at = self
            .state
            .refused_keys
            .get(&id)
            .map_or(key.received_at, |earlier| key.received_at.max(*earlier));
        self.state.refused_keys.insert(id.clone(), received_at);
        self.writes.refused_keys.insert(id, received_at);
    }

    fn stock_level(&self, id: ProductId) -> StockLevel {
        self.state.stock.get(&id).copied().unwrap_or(StockLevel::empty(id))
    }

    /// Records what an accepted commit writes.
    fn accept_commit(
        &mut self,
        commit: &'a Commit,
        moves: Vec<(StockLevel, Option<StockMovement>)>,
    ) -> Result<Vec<ProductId>, Rejection> {
        if let Some(id) = &commit.inbox_message_id {
            // Even when nothing changes: a redelivery may find another state and change it.
            self.state.applied_messages.insert(id.clone());
            self.writes.inbox.push((id.clone(), commit.decided_at));
        }
        // A commit without writes, or with a response to remember, matters even if nothing changes.
        let stock_only = !commit.writes.is_empty()
            && commit.idempotency_record.is_none()
            && commit.writes.iter().all(|write| matches!(write, Write::Stock(_)));
        let mut changes = commit.writes.iter().any(|write| !matches!(write, Write::Stock(_)));
        let named: Vec<ProductId> = moves.iter().map(|(level, _)| level.product_id).collect();
        if stock_only && moves.iter().all(|(_, movement)| movement.is_none()) {
            // Nothing changes, so there is nothing to write and no event.
            return Ok(named);
        }
        for (level, movement) in moves {
            let Some(movement) = movement else { continue };
            changes = true;
            self.state.stock.insert(level.product_id, level);
            self.last_movers.insert(level.product_id, commit);
            self.writes.movements.push(movement);
        }
        for write in &commit.writes {
            self.record_write(write);
        }
        if changes {
            self.record_action(commit);
        }
        self.writes.depends_on_admins |= commit.conditions.iter().any(|condition| {
            matches!(condition, Condition::OtherAdminRemains(_) | Condition::ApiKeysBelow(..))
        });
        self.writes
            .events
            .extend(commit.events.iter().map(|event| new_event(event.clone(), commit)));
        if let Some(record) = &commit.idempotency_record {
            let id = (record.key.owner, record.key.key.clone());
            self.writes.refused_keys.remove(&id);
            self.first_uses.insert(id, record);
            // `finalize_responses` fills in the body.
            let response = StoredReply { body: Bytes::new() };
            self.writes.stored_replies.push(ReplyToStore {
                key: record.key.clone(),
                reply: response,
                at: commit.decided_at,
                about: record.about,
            });
        }
        Ok(named)
    }

    fn record_write(&mut self, write: &Write) {
        match write {
            Write::Cart(cart) => {
                self.state.carts.insert(cart.owner.id, cart.version);
                self.writes.carts.insert(cart.owner.id, Arc::clone(cart));
            }
            Write::Product(product) => {
                self.state.products.insert(product.id, product.version);
                self.state.sku_owners.retain(|_, owner| *owner != product.id);
                if let (false, Some(sku)) = (product.deleted, &product.details.sku) {
                    self.state.sku_owners.insert(sku.clone(), product.id);
                }
                self.writes.products.insert(product.id, Arc::clone(product));
            }
            Write::Order(order) => self.record_order(order),
            Write::User(user) => {
                self.state.users.insert(user.id, user.version);
                if user.rights().is_active_admin() {
                    self.state.active_admins.insert(user.id);
                } else {
                    self.state.active_admins.remove(&user.id);
                }
                self.state.email_owners.insert(user.email.as_str().to_owned(), user.id);
                self.writes.users.insert(user.id, Arc::clone(user));
            }
            Write::Session(session) => {
                self.state.sessions.insert(session.id, session.version);
                self.writes.sessions.insert(session.id, Arc::clone(session));
            }
            Write::ApiKey(key) => self.record_api_key(key),
            Write::Mail(mail) => {
                if mail.ended {
                    self.state.mails.remove(&mail.id);
                } else {
                    self.state.mails.insert(mail.id, mail.version);
                }
                self.writes.mails.insert(mail.id, Arc::clone(mail));
            }
            Write::AddressBook(book) => {
                self.writes.address_books.insert(book.user_id, Arc::clone(book));
            }
            Write::EraseAccount(user) => self.record_erasure(user),
            Write::ReassignGuestReplies { guest_id, user_id } => {
                self.writes.reply_reassignments.insert(*guest_id, *user_id);
            }
            Write::Webhook(webhook) => self.record_webhook(webhook),
            Write::WebhookDelivery(delivery) => {
                self.writes.webhook_deliveries.push(Arc::clone(delivery));
            }
            Write::PricingRule(rule) => self.record_rule(rule),
            Write::PromotionUse(id, change) => self.record_use(*id, *change),
            Write::Stock(_) => {}
        }
    }

    fn record_api_key(&mut self, key: &Arc<ApiKey>) {
        self.state.api_keys.insert(key.id, key.version);
        let made = self.state.api_keys_made.entry(key.created_by).or_default();
        *made = match key.deleted_at {
            None => made.saturating_add(1),
            Some(_) => made.saturating_sub(1),
        };
        self.writes.api_keys.insert(key.id, Arc::clone(key));
    }

    fn record_webhook(&mut self, webhook: &Arc<Webhook>) {
        if webhook.deleted {
            self.state.webhooks.remove(&webhook.id);
        } else {
            self.state.webhooks.insert(webhook.id, webhook.version);
        }
        self.writes.webhooks.insert(webhook.id, Arc::clone(webhook));
    }

    fn record_erasure(&mut self, user: &Arc<User>) {
        self.state.users.remove(&user.id);
        self.state.active_admins.remove(&user.id);
        self.state.email_owners.retain(|_, owner| *owner != user.id);
        self.writes.users.remove(&user.id);
        self.writes.address_books.remove(&user.id);
        self.writes.erased_accounts.insert(user.id, Arc::clone(user));
    }

    /// Gives each stock level that moved its new version and its events, once for the whole batch.
    fn finalize_stock(&mut self, low_stock: u64) {
        for (id, mover) in std::mem::take(&mut self.last_movers) {
            let before = self.initial_stock.get(&id).copied().unwrap_or(StockLevel::empty(id));
            let level = StockLevel { version: before.version + 1, ..self.stock_level(id) };
            self.state.stock.insert(id, level);
            self.writes.stock.insert(id, level);
            self.writes.events.push(new_event(DomainEvent::StockChanged(level), mover));
            let (old, new) = (before.available(), level.available());
            if new == 0 && old > 0 {
                self.writes.events.push(new_event(DomainEvent::StockDepleted(level), mover));
            } else if new <= low_stock && old > low_stock {
                self.writes.events.push(new_event(DomainEvent::StockLow(level), mover));
            }
        }
    }

    /// Fills in the bodies of the stored replies, now that the stock levels are final.
    fn finalize_responses(&mut self) {
        let mut stored_replies = std::mem::take(&mut self.writes.stored_replies);
        for ReplyToStore { key, reply: response, .. } in &mut stored_replies {
            let id = (key.owner, key.key.clone());
            let Some(record) = self.first_uses.get(&id) else { continue };
            response.body = match &record.body {
                StoredReplyBody::Ready(bytes) => bytes.clone(),
                StoredReplyBody::StockLevelOf(product_id) => {
                    stock_json(&self.stock_level(*product_id))
                }
                // `decide` does not accept it.
                StoredReplyBody::Refused => continue,
            };
            self.state.stored_replies.insert(id, (key.fingerprint, response.clone()));
        }
        self.writes.stored_replies = stored_replies;
    }

    fn to_outcome(&self, decision: Result<Vec<ProductId>, Rejection>) -> CommitOutcome {
        match decision {
            Ok(named) => Ok(CommitReceipt {
                stock: named.into_iter().map(|id| self.stock_level(id)).collect(),
            }),
            Err(Rejection::Failed(error)) => Err(error),
            Err(Rejection::DuplicateOf(id)) => Err(match self.state.stored_replies.get(&id) {
                Some((_, response)) => CommitError::Replayed(response.clone()),
                None => CommitError::Conflict,
            }),
        }
    }
}
