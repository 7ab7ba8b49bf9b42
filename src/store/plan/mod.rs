//! What a batch of commits does: the one place where conditions are checked and stock is summed, the same for every engine.
//!
//! An engine loads what the batch touches ([`ReadSet`], [`LoadedState`]) inside its transaction, calls [`plan`], and writes the
//! resulting [`WriteSet`]. A commit that fails leaves no trace and takes no other with it.

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
    events::{DomainEvent, stock_json},
    messages::change::StoredReply,
};

/// A batch, decided.
#[derive(Debug)]
pub struct Plan {
    /// One outcome a commit, in the batch's order, true once the write set is durable.
    pub outcomes: Vec<CommitOutcome>,
    /// What to write.
    pub writes: WriteSet,
}

/// Decides `batch`, in order, each commit on what those before it leave.
#[must_use]
pub fn plan_batch(batch: &[Commit], loaded: LoadedState, low_stock: u64) -> Plan {
    let mut planner = Planner {
        initial_stock: loaded.stock.clone(),
        state: loaded,
        writes: WriteSet::default(),
        first_uses: HashMap::new(),
        last_movers: BTreeMap::new(),
    };
    let verdicts: Vec<Result<Vec<ProductId>, Rejection>> =
        batch.iter().map(|commit| planner.decide(commit)).collect();
    planner.finalize_stock(low_stock);
    planner.finalize_responses();
    let outcomes = verdicts.into_iter().map(|verdict| planner.to_outcome(verdict)).collect();
    Plan { outcomes, writes: planner.writes }
}

/// Why a commit is not applied.
enum Rejection {
    Failed(CommitError),
    /// Another commit of this batch is its first attempt; the answer is known when the batch is settled.
    DuplicateOf(OwnedIdempotencyKey),
}

impl From<CommitError> for Rejection {
    fn from(error: CommitError) -> Self {
        Self::Failed(error)
    }
}

struct Planner<'a> {
    /// The store as the commits decided so far leave it.
    state: LoadedState,
    /// Stock as the batch found it.
    initial_stock: HashMap<ProductId, StockLevel>,
    writes: WriteSet,
    /// Keys first used in this batch, with the answer to remember.
    first_uses: HashMap<OwnedIdempotencyKey, &'a IdempotencyRecord>,
    /// Products whose stock moves, with the last commit that moves it.
    last_movers: BTreeMap<ProductId, &'a Commit>,
}

impl<'a> Planner<'a> {
    fn decide(&mut self, commit: &'a Commit) -> Result<Vec<ProductId>, Rejection> {
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
        let Some(remember) = &commit.idempotency_record else { return Ok(()) };
        let id = (remember.key.owner, remember.key.key.clone());
        if let Some((fingerprint, answer)) = self.state.stored_responses.get(&id) {
            let same = *fingerprint == remember.key.fingerprint;
            return Err(if same {
                CommitError::Replayed(answer.clone())
            } else {
                CommitError::IdempotencyKeyReused
            }
            .into());
        }
        match self.first_uses.get(&id) {
            Some(first) if first.key.fingerprint == remember.key.fingerprint => {
                Err(Rejection::DuplicateOf(id))
            }
            Some(_) => Err(CommitError::IdempotencyKeyReused.into()),
            None => Ok(()),
        }
    }

    fn check_versions(&self, commit: &Commit) -> Result<(), CommitError> {
        for write in &commit.writes {
            let (held, new) = match write {
                Write::Cart(cart) => (self.state.carts.get(&cart.owner.id), cart.version),
                Write::Product(product) => (self.state.products.get(&product.id), product.version),
                Write::Order(order) => {
                    (self.state.orders.get(&order.id).map(|(version, _)| version), order.version)
                }
                Write::User(user) => (self.state.users.get(&user.id), user.version),
                Write::Session(session) => (self.state.sessions.get(&session.id), session.version),
                Write::Stock(_) => continue,
            };
            if held.copied().unwrap_or(0).checked_add(1) != Some(new) {
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

    /// The stock levels and movements the commit leads to; nothing is changed yet.
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
        // What the batch has moved already will have the next version, which nobody can have seen.
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

    fn accept_commit(
        &mut self,
        commit: &'a Commit,
        moves: Vec<(StockLevel, Option<StockMovement>)>,
    ) -> Result<Vec<ProductId>, Rejection> {
        if let Some(id) = &commit.inbox_message_id {
            // Also when nothing changes: by the time it is delivered again, it would.
            self.state.applied_messages.insert(id.clone());
            self.writes.inbox.push((id.clone(), commit.decided_at));
        }
        // One without writes is there for what it remembers.
        let stock_only = !commit.writes.is_empty()
            && commit.writes.iter().all(|write| matches!(write, Write::Stock(_)));
        let named: Vec<ProductId> = moves.iter().map(|(level, _)| level.product_id).collect();
        if stock_only && moves.iter().all(|(_, movement)| movement.is_none()) {
            // Nothing changes, so nothing is remembered and nobody is told.
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
        self.writes.events.extend(commit.events.iter().map(|fact| new_event(fact.clone(), commit)));
        if let Some(remember) = &commit.idempotency_record {
            self.first_uses.insert((remember.key.owner, remember.key.key.clone()), remember);
            let answer = StoredReply { body: Bytes::new() };
            self.writes.stored_responses.push((remember.key.clone(), answer, commit.decided_at));
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
                self.state.sku_owners.retain(|_, holder| *holder != product.id);
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
        let was = self
            .state
            .orders
            .get(&order.id)
            .is_some_and(|(_, status)| *status == OrderStatus::PendingPayment);
        let is = order.status == OrderStatus::PendingPayment;
        let pending = self
            .pending_order_count(order.user_id)
            .saturating_add(u64::from(is))
            .saturating_sub(u64::from(was));
        self.state.pending_orders.insert(order.user_id, pending);
    }

    /// Gives each product whose stock moved its new version, and its events: one change for the whole batch.
    fn finalize_stock(&mut self, low_stock: u64) {
        for (id, mover) in std::mem::take(&mut self.last_movers) {
            let before = self.initial_stock.get(&id).copied().unwrap_or(StockLevel::empty(id));
            let level = StockLevel { version: before.version + 1, ..self.stock_level(id) };
            self.state.stock.insert(id, level);
            self.writes.stock.insert(id, level);
            self.writes.events.push(new_event(DomainEvent::StockChanged(level), mover));
            let (was, is) = (before.available(), level.available());
            if is == 0 && was > 0 {
                self.writes.events.push(new_event(DomainEvent::StockDepleted(level), mover));
            } else if is <= low_stock && was > low_stock {
                self.writes.events.push(new_event(DomainEvent::StockLow(level), mover));
            }
        }
    }

    /// Completes the answers to remember, now that stock is settled.
    fn finalize_responses(&mut self) {
        let mut remembered = std::mem::take(&mut self.writes.stored_responses);
        for (key, answer, _) in &mut remembered {
            let id = (key.owner, key.key.clone());
            let Some(remember) = self.first_uses.get(&id) else { continue };
            answer.body = match &remember.body {
                StoredResponseBody::Ready(bytes) => bytes.clone(),
                StoredResponseBody::StockLevelOf(product_id) => {
                    stock_json(&self.stock_level(*product_id))
                }
            };
            self.state.stored_responses.insert(id, (key.fingerprint, answer.clone()));
        }
        self.writes.stored_responses = remembered;
    }

    fn to_outcome(&self, verdict: Result<Vec<ProductId>, Rejection>) -> CommitOutcome {
        match verdict {
            Ok(named) => Ok(CommitReceipt {
                stock: named.into_iter().map(|id| self.stock_level(id)).collect(),
            }),
            Err(Rejection::Failed(error)) => Err(error),
            Err(Rejection::DuplicateOf(id)) => Err(match self.state.stored_responses.get(&id) {
                Some((_, answer)) => CommitError::Replayed(answer.clone()),
                None => CommitError::Conflict,
            }),
        }
    }
}

fn new_movement(
    stock: &StockWrite,
    at: Timestamp,
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
        occurred_at: at,
    }
}
