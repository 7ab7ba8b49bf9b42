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

mod sets;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;

pub use self::sets::{LoadedState, OwnedIdempotencyKey, ReadSet, WriteSet};
use super::commit::{
    Commit, CommitError, CommitOutcome, CommitReceipt, Condition, IdempotencyRecord, StockWrite,
    StoredResponseBody, Write, new_event,
};
use crate::{
    domain::{
        cart::Shortage,
        catalog::product::Product,
        clock::Timestamp,
        ids::{ProductId, UserId},
        inventory::{StockDelta, StockError, StockLevel, StockMovement},
        order::{Order, OrderStatus},
    },
    events::{DomainEvent, inventory::stock_json},
    messages::context::StoredReply,
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
    };
    let decisions: Vec<Result<Vec<ProductId>, Rejection>> =
        batch.iter().map(|commit| planner.decide(commit)).collect();
    planner.finalize_stock(low_stock);
    planner.finalize_responses();
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
}

impl<'a> Planner<'a> {
    /// Accepts or rejects a commit. Returns the products whose stock it names.
    fn decide(&mut self, commit: &'a Commit) -> Result<Vec<ProductId>, Rejection> {
        // Repeats are recognized first: their versions are stale, since the first attempt changed
        // them.
        self.check_inbox(commit)?;
        self.check_idempotency_key(commit)?;
        self.check_versions(commit)?;
        self.check_conditions(commit)?;
        let moves = self.check_stock(commit)?;
        self.accept_commit(commit, moves)
    }

    fn check_inbox(&self, commit: &Commit) -> Result<(), CommitError> {
        match &commit.inbox_message_id {
            Some(id) if self.state.applied_messages.contains(id) => {
                Err(CommitError::AlreadyApplied)
            }
            _ => Ok(()),
        }
    }

    fn check_idempotency_key(&self, commit: &Commit) -> Result<(), Rejection> {
        let Some(record) = &commit.idempotency_record else { return Ok(()) };
        let id = (record.key.owner, record.key.key.clone());
        if let Some((fingerprint, response)) = self.state.stored_responses.get(&id) {
            let is_same_request = *fingerprint == record.key.fingerprint;
            return Err(if is_same_request {
                CommitError::Replayed(response.clone())
            } else {
                CommitError::IdempotencyKeyReused
            }
            .into());
        }
        match self.first_uses.get(&id) {
            Some(first) if first.key.fingerprint == record.key.fingerprint => {
                Err(Rejection::DuplicateOf(id))
            }
            Some(_) => Err(CommitError::IdempotencyKeyReused.into()),
            None => Ok(()),
        }
    }

    fn check_versions(&self, commit: &Commit) -> Result<(), CommitError> {
        for write in &commit.writes {
            let (stored, new) = match write {
                Write::Cart(cart) => (self.state.carts.get(&cart.owner.id), cart.version),
                Write::Product(product) => (self.state.products.get(&product.id), product.version),
                Write::Order(order) => {
                    (self.state.orders.get(&order.id).map(|(version, _)| version), order.version)
                }
                Write::User(user) => (self.state.users.get(&user.id), user.version),
                Write::Session(session) => (self.state.sessions.get(&session.id), session.version),
                Write::Stock(_) => continue,
            };
            if stored.copied().unwrap_or(0).checked_add(1) != Some(new) {
                return Err(CommitError::Conflict);
            }
        }
        self.check_uniqueness(commit)
    }

    fn check_conditions(&self, commit: &Commit) -> Result<(), CommitError> {
        for condition in &commit.conditions {
            match *condition {
                Condition::ProductUnchanged(id, version)
                    if self.state.products.get(&id) != Some(&version) =>
                {
                    return Err(CommitError::Conflict);
                }
                Condition::PendingOrdersBelow(user, limit)
                    if self.pending_order_count(user) >= u64::from(limit) =>
                {
                    return Err(CommitError::TooManyPendingOrders);
                }
                Condition::ProductUnchanged(..) | Condition::PendingOrdersBelow(..) => {}
            }
        }
        Ok(())
    }

    fn pending_order_count(&self, user: UserId) -> u64 {
        self.state.pending_orders.get(&user).copied().unwrap_or(0)
    }

    fn check_uniqueness(&self, commit: &Commit) -> Result<(), CommitError> {
        for write in &commit.writes {
            match write {
                Write::Product(product)
                    if !product.deleted
                        && self.sku_owner(product).is_some_and(|id| id != product.id) =>
                {
                    return Err(CommitError::SkuTaken);
                }
                Write::User(user)
                    if self
                        .state
                        .email_owners
                        .get(user.email.as_str())
                        .is_some_and(|id| *id != user.id) =>
                {
                    return Err(CommitError::EmailTaken);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn sku_owner(&self, product: &Product) -> Option<ProductId> {
        product.details.sku.as_ref().and_then(|sku| self.state.sku_owners.get(sku)).copied()
    }

    /// The stock levels and movements that the commit leads to, one per write of stock. A write
    /// that changes nothing has no movement. Records nothing yet: a later write may lack stock, and
    /// the error then lists every product that does.
    fn check_stock(
        &self,
        commit: &Commit,
    ) -> Result<Vec<(StockLevel, Option<StockMovement>)>, CommitError> {
        let mut moves: Vec<(StockLevel, Option<StockMovement>)> = Vec::new();
        let mut short: Vec<Shortage> = Vec::new();
        for write in &commit.writes {
            let Write::Stock(stock) = write else { continue };
            let id = stock.product_id;
            let earlier = moves
                .iter()
                .rev()
                .find(|(level, _)| level.product_id == id)
                .map(|(level, _)| *level);
            let level = earlier.unwrap_or_else(|| self.stock_level(id));
            self.check_stock_version(stock, level)?;
            match level.apply(stock.change) {
                Ok(None) => moves.push((level, None)),
                Ok(Some((next, delta))) => moves.push((
                    next,
                    Some(new_movement(stock, commit.decided_at, next.last_movement, delta)),
                )),
                Err(StockError::Insufficient { requested, available }) => {
                    short.push(Shortage { product_id: id, requested, available });
                }
                Err(StockError::LimitExceeded) => return Err(CommitError::StockOverflow),
            }
        }
        if short.is_empty() { Ok(moves) } else { Err(CommitError::OutOfStock(short)) }
    }

    fn check_stock_version(
        &self,
        stock: &StockWrite,
        level: StockLevel,
    ) -> Result<(), CommitError> {
        let before = self
            .initial_stock
            .get(&stock.product_id)
            .copied()
            .unwrap_or(StockLevel::empty(stock.product_id));
        // After the first movement in this batch, the stock is at the next version until the batch
        // ends. No caller can know that version yet, so a second conditional write is a mismatch.
        let version = if level == before { before.version } else { before.version + 1 };
        match stock.expected_version {
            Some(expected) if expected != version => {
                Err(CommitError::StockVersionMismatch(version))
            }
            _ => Ok(()),
        }
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
        let named: Vec<ProductId> = moves.iter().map(|(level, _)| level.product_id).collect();
        if stock_only && moves.iter().all(|(_, movement)| movement.is_none()) {
            // Nothing changes, so there is nothing to write and no event.
            return Ok(named);
        }
        for (level, movement) in moves {
            let Some(movement) = movement else { continue };
            self.state.stock.insert(level.product_id, level);
            self.last_movers.insert(level.product_id, commit);
            self.writes.movements.push(movement);
        }
        for write in &commit.writes {
            self.record_write(write);
        }
        self.writes
            .events
            .extend(commit.events.iter().map(|event| new_event(event.clone(), commit)));
        if let Some(record) = &commit.idempotency_record {
            self.first_uses.insert((record.key.owner, record.key.key.clone()), record);
            // `finalize_responses` fills in the body.
            let response = StoredReply { body: Bytes::new() };
            self.writes.stored_responses.push((record.key.clone(), response, commit.decided_at));
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
            Write::Order(order) => {
                self.update_pending_orders(order);
                self.state.orders.insert(order.id, (order.version, order.status));
                self.writes.orders.insert(order.id, Arc::clone(order));
            }
            Write::User(user) => {
                self.state.users.insert(user.id, user.version);
                self.state.email_owners.insert(user.email.as_str().to_owned(), user.id);
                self.writes.users.insert(user.id, Arc::clone(user));
            }
            Write::Session(session) => {
                self.state.sessions.insert(session.id, session.version);
                self.writes.sessions.insert(session.id, Arc::clone(session));
            }
            Write::Stock(_) => {}
        }
    }

    fn update_pending_orders(&mut self, order: &Order) {
        let was_pending = self
            .state
            .orders
            .get(&order.id)
            .is_some_and(|(_, status)| *status == OrderStatus::PendingPayment);
        let is_pending = order.status == OrderStatus::PendingPayment;
        let pending = self
            .pending_order_count(order.user_id)
            .saturating_add(u64::from(is_pending))
            .saturating_sub(u64::from(was_pending));
        self.state.pending_orders.insert(order.user_id, pending);
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

    /// Fills in the bodies of the stored responses, now that the stock levels are final.
    fn finalize_responses(&mut self) {
        let mut stored_responses = std::mem::take(&mut self.writes.stored_responses);
        for (key, response, _) in &mut stored_responses {
            let id = (key.owner, key.key.clone());
            let Some(record) = self.first_uses.get(&id) else { continue };
            response.body = match &record.body {
                StoredResponseBody::Ready(bytes) => bytes.clone(),
                StoredResponseBody::StockLevelOf(product_id) => {
                    stock_json(&self.stock_level(*product_id))
                }
            };
            self.state.stored_responses.insert(id, (key.fingerprint, response.clone()));
        }
        self.writes.stored_responses = stored_responses;
    }

    fn to_outcome(&self, decision: Result<Vec<ProductId>, Rejection>) -> CommitOutcome {
        match decision {
            Ok(named) => Ok(CommitReceipt {
                stock: named.into_iter().map(|id| self.stock_level(id)).collect(),
            }),
            Err(Rejection::Failed(error)) => Err(error),
            Err(Rejection::DuplicateOf(id)) => Err(match self.state.stored_responses.get(&id) {
                Some((_, response)) => CommitError::Replayed(response.clone()),
                None => CommitError::Conflict,
            }),
        }
    }
}

fn new_movement(
    stock: &StockWrite,
    occurred_at: Timestamp,
    sequence: u64,
    delta: StockDelta,
) -> StockMovement {
    StockMovement {
        product_id: stock.product_id,
        sequence,
        delta,
        order_id: stock.order_id,
        reference: stock.reference.clone(),
        reason: stock.reason.clone(),
        occurred_at,
    }
}
