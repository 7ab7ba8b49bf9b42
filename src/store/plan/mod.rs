//! What a batch of commits does: the one place where conditions are checked and stock is summed, the same for every engine.
//!
//! An engine loads what the batch touches ([`Touched`], [`Loaded`]) inside its transaction, calls [`plan`], and writes the
//! resulting [`WriteSet`]. A commit that fails leaves no trace and takes no other with it.

mod sets;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;

pub use self::sets::{KeyId, Loaded, Touched, WriteSet};
use super::commit::{
    Commit, CommitError, Condition, Done, Outcome, Remember, RememberedBody, StockWrite, Write,
    event,
};
use crate::{
    domain::{
        cart::Shortage,
        catalog::product::Product,
        clock::Timestamp,
        ids::{ProductId, UserId},
        inventory::{Delta, Movement, StockLevel, StockRefusal},
        order::{Order, OrderStatus},
    },
    events::{Fact, stock_json},
    messages::change::Remembered,
};

/// A batch, decided.
#[derive(Debug)]
pub struct Plan {
    /// One outcome a commit, in the batch's order, true once the write set is durable.
    pub outcomes: Vec<Outcome>,
    /// What to write.
    pub writes: WriteSet,
}

/// Decides `batch`, in order, each commit on what those before it leave.
#[must_use]
pub fn plan(batch: &[Commit], loaded: Loaded, low_stock: u64) -> Plan {
    let mut planner = Planner {
        before: loaded.stock.clone(),
        state: loaded,
        writes: WriteSet::default(),
        answers: HashMap::new(),
        movers: BTreeMap::new(),
    };
    let verdicts: Vec<Result<Vec<ProductId>, Verdict>> =
        batch.iter().map(|commit| planner.decide(commit)).collect();
    planner.settle_stock(low_stock);
    planner.settle_answers();
    let outcomes = verdicts.into_iter().map(|verdict| planner.outcome(verdict)).collect();
    Plan { outcomes, writes: planner.writes }
}

/// Why a commit is not applied.
enum Verdict {
    Refused(CommitError),
    /// Another commit of this batch is its first attempt; the answer is known when the batch is settled.
    RepeatOf(KeyId),
}

impl From<CommitError> for Verdict {
    fn from(error: CommitError) -> Self {
        Self::Refused(error)
    }
}

struct Planner<'a> {
    /// The store as the commits decided so far leave it.
    state: Loaded,
    /// Stock as the batch found it.
    before: HashMap<ProductId, StockLevel>,
    writes: WriteSet,
    /// Keys first used in this batch, with the answer to remember.
    answers: HashMap<KeyId, &'a Remember>,
    /// Products whose stock moves, with the last commit that moves it.
    movers: BTreeMap<ProductId, &'a Commit>,
}

impl<'a> Planner<'a> {
    fn decide(&mut self, commit: &'a Commit) -> Result<Vec<ProductId>, Verdict> {
        self.check_inbox(commit)?;
        self.check_key(commit)?;
        self.check_versions(commit)?;
        self.check_conditions(commit)?;
        let moves = self.check_stock(commit)?;
        self.accept(commit, moves)
    }

    fn check_inbox(&self, commit: &Commit) -> Result<(), CommitError> {
        match &commit.inbox {
            Some(id) if self.state.inbox.contains(id) => Err(CommitError::AlreadyApplied),
            _ => Ok(()),
        }
    }

    fn check_key(&self, commit: &Commit) -> Result<(), Verdict> {
        let Some(remember) = &commit.remember else { return Ok(()) };
        let id = (remember.key.owner, remember.key.key.clone());
        if let Some((fingerprint, answer)) = self.state.keys.get(&id) {
            let same = *fingerprint == remember.key.fingerprint;
            return Err(if same {
                CommitError::Replayed(answer.clone())
            } else {
                CommitError::KeyReused
            }
            .into());
        }
        match self.answers.get(&id) {
            Some(first) if first.key.fingerprint == remember.key.fingerprint => {
                Err(Verdict::RepeatOf(id))
            }
            Some(_) => Err(CommitError::KeyReused.into()),
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
        self.check_unique(commit)
    }

    fn check_conditions(&self, commit: &Commit) -> Result<(), CommitError> {
        for condition in &commit.conditions {
            match *condition {
                Condition::Unchanged(id, version)
                    if self.state.products.get(&id) != Some(&version) =>
                {
                    return Err(CommitError::Conflict);
                }
                Condition::PendingBelow(user, limit) if self.pending(user) >= u64::from(limit) => {
                    return Err(CommitError::TooManyPending);
                }
                Condition::Unchanged(..) | Condition::PendingBelow(..) => {}
            }
        }
        Ok(())
    }

    fn pending(&self, user: UserId) -> u64 {
        self.state.pending.get(&user).copied().unwrap_or(0)
    }

    fn check_unique(&self, commit: &Commit) -> Result<(), CommitError> {
        for write in &commit.writes {
            match write {
                Write::Product(product)
                    if !product.deleted
                        && self.sku_holder(product).is_some_and(|id| id != product.id) =>
                {
                    return Err(CommitError::SkuTaken);
                }
                Write::User(user)
                    if self
                        .state
                        .emails
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

    fn sku_holder(&self, product: &Product) -> Option<ProductId> {
        product.facts.sku.as_ref().and_then(|sku| self.state.skus.get(sku)).copied()
    }

    /// The stock levels and movements the commit leads to; nothing is changed yet.
    fn check_stock(
        &self,
        commit: &Commit,
    ) -> Result<Vec<(StockLevel, Option<Movement>)>, CommitError> {
        let mut moves: Vec<(StockLevel, Option<Movement>)> = Vec::new();
        let mut short: Vec<Shortage> = Vec::new();
        for write in &commit.writes {
            let Write::Stock(stock) = write else { continue };
            let id = stock.product_id;
            let earlier = moves
                .iter()
                .rev()
                .find(|(level, _)| level.product_id == id)
                .map(|(level, _)| *level);
            let level = earlier.unwrap_or_else(|| self.level(id));
            self.check_stock_version(stock, level)?;
            match level.apply(stock.change) {
                Ok(None) => moves.push((level, None)),
                Ok(Some((next, delta))) => {
                    moves.push((next, Some(movement(stock, commit.at, next.last_movement, delta))))
                }
                Err(StockRefusal::Insufficient { requested, available }) => {
                    short.push(Shortage { product_id: id, requested, available });
                }
                Err(StockRefusal::TooMuch) => return Err(CommitError::TooMuchStock),
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
            .before
            .get(&stock.product_id)
            .copied()
            .unwrap_or(StockLevel::none(stock.product_id));
        // What the batch has moved already will have the next version, which nobody can have seen.
        let version = if level == before { before.version } else { before.version + 1 };
        match stock.expected_version {
            Some(expected) if expected != version => Err(CommitError::StockVersion(version)),
            _ => Ok(()),
        }
    }

    fn level(&self, id: ProductId) -> StockLevel {
        self.state.stock.get(&id).copied().unwrap_or(StockLevel::none(id))
    }

    fn accept(
        &mut self,
        commit: &'a Commit,
        moves: Vec<(StockLevel, Option<Movement>)>,
    ) -> Result<Vec<ProductId>, Verdict> {
        if let Some(id) = &commit.inbox {
            // Also when nothing changes: by the time it is delivered again, it would.
            self.state.inbox.insert(id.clone());
            self.writes.inbox.push((id.clone(), commit.at));
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
            self.movers.insert(level.product_id, commit);
            self.writes.movements.push(movement);
        }
        for write in &commit.writes {
            self.put(write);
        }
        self.writes.events.extend(commit.facts.iter().map(|fact| event(fact.clone(), commit)));
        if let Some(remember) = &commit.remember {
            self.answers.insert((remember.key.owner, remember.key.key.clone()), remember);
            let answer = Remembered { status: remember.key.status, body: Bytes::new() };
            self.writes.remembered.push((remember.key.clone(), answer, commit.at));
        }
        Ok(named)
    }

    fn put(&mut self, write: &Write) {
        match write {
            Write::Cart(cart) => {
                self.state.carts.insert(cart.owner.id, cart.version);
                self.writes.carts.insert(cart.owner.id, Arc::clone(cart));
            }
            Write::Product(product) => {
                self.state.products.insert(product.id, product.version);
                self.state.skus.retain(|_, holder| *holder != product.id);
                if let (false, Some(sku)) = (product.deleted, &product.facts.sku) {
                    self.state.skus.insert(sku.clone(), product.id);
                }
                self.writes.products.insert(product.id, Arc::clone(product));
            }
            Write::Order(order) => {
                self.count_pending(order);
                self.state.orders.insert(order.id, (order.version, order.status));
                self.writes.orders.insert(order.id, Arc::clone(order));
            }
            Write::User(user) => {
                self.state.users.insert(user.id, user.version);
                self.state.emails.insert(user.email.as_str().to_owned(), user.id);
                self.writes.users.insert(user.id, Arc::clone(user));
            }
            Write::Session(session) => {
                self.state.sessions.insert(session.id, session.version);
                self.writes.sessions.insert(session.id, Arc::clone(session));
            }
            Write::Stock(_) => {}
        }
    }

    fn count_pending(&mut self, order: &Order) {
        let was = self
            .state
            .orders
            .get(&order.id)
            .is_some_and(|(_, status)| *status == OrderStatus::PendingPayment);
        let is = order.status == OrderStatus::PendingPayment;
        let pending = self
            .pending(order.user_id)
            .saturating_add(u64::from(is))
            .saturating_sub(u64::from(was));
        self.state.pending.insert(order.user_id, pending);
    }

    /// Gives each product whose stock moved its new version, and its events: one change for the whole batch.
    fn settle_stock(&mut self, low_stock: u64) {
        for (id, mover) in std::mem::take(&mut self.movers) {
            let before = self.before.get(&id).copied().unwrap_or(StockLevel::none(id));
            let level = StockLevel { version: before.version + 1, ..self.level(id) };
            self.state.stock.insert(id, level);
            self.writes.stock.insert(id, level);
            self.writes.events.push(event(Fact::StockChanged(level), mover));
            let (was, is) = (before.available(), level.available());
            if is == 0 && was > 0 {
                self.writes.events.push(event(Fact::StockDepleted(level), mover));
            } else if is <= low_stock && was > low_stock {
                self.writes.events.push(event(Fact::StockLow(level), mover));
            }
        }
    }

    /// Completes the answers to remember, now that stock is settled.
    fn settle_answers(&mut self) {
        let mut remembered = std::mem::take(&mut self.writes.remembered);
        for (key, answer, _) in &mut remembered {
            let id = (key.owner, key.key.clone());
            let Some(remember) = self.answers.get(&id) else { continue };
            answer.body = match &remember.body {
                RememberedBody::Ready(bytes) => bytes.clone(),
                RememberedBody::StockOf(product_id) => stock_json(&self.level(*product_id)),
            };
            self.state.keys.insert(id, (key.fingerprint, answer.clone()));
        }
        self.writes.remembered = remembered;
    }

    fn outcome(&self, verdict: Result<Vec<ProductId>, Verdict>) -> Outcome {
        match verdict {
            Ok(named) => Ok(Done { stock: named.into_iter().map(|id| self.level(id)).collect() }),
            Err(Verdict::Refused(error)) => Err(error),
            Err(Verdict::RepeatOf(id)) => Err(match self.state.keys.get(&id) {
                Some((_, answer)) => CommitError::Replayed(answer.clone()),
                None => CommitError::Conflict,
            }),
        }
    }
}

fn movement(stock: &StockWrite, at: Timestamp, sequence: u64, delta: Delta) -> Movement {
    Movement {
        product_id: stock.product_id,
        sequence,
        delta,
        order_id: stock.order_id,
        reference: stock.reference.clone(),
        reason: stock.reason.clone(),
        at,
    }
}
