//! The checks that a commit must pass before the planner records anything of it.

use std::sync::Arc;

use super::{Planner, Rejection};
use crate::{
    domain::{
        account::User,
        cart::Shortage,
        catalog::product::Product,
        ids::{ProductId, UserId},
        inventory::{StockDelta, StockError, StockLevel, StockMovement},
        order::{BuyerKey, LimitedLine, Order, PurchaseExcess},
        pricing::RuleRecord,
    },
    store::commit::{Commit, CommitError, Condition, StockWrite, StoredReplyBody, Write},
};

impl Planner<'_> {
    pub(super) fn check_inbox(&self, commit: &Commit) -> Result<(), CommitError> {
        match &commit.inbox_message_id {
            Some(id) if self.state.applied_messages.contains(id) => {
                Err(CommitError::AlreadyApplied)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_idempotency_key(&self, commit: &Commit) -> Result<(), Rejection> {
        let Some(record) = &commit.idempotency_record else { return Ok(()) };
        let id = (record.key.owner, record.key.key.clone());
        if let Some((fingerprint, response)) = self.state.stored_replies.get(&id) {
            let is_same_request = *fingerprint == record.key.fingerprint;
            return Err(if is_same_request {
                CommitError::Replayed(response.clone())
            } else {
                CommitError::IdempotencyKeyReused
            }
            .into());
        }
        // A refusal stays one, whichever attempt it answers.
        let is_refused = matches!(record.body, StoredReplyBody::Refused);
        if !is_refused
            && self.state.refused_keys.get(&id).is_some_and(|at| record.key.received_at < *at)
        {
            return Err(CommitError::SupersededByRefusal.into());
        }
        match self.first_uses.get(&id) {
            Some(first) if first.key.fingerprint == record.key.fingerprint => {
                Err(Rejection::DuplicateOf(id))
            }
            Some(_) => Err(CommitError::IdempotencyKeyReused.into()),
            None => Ok(()),
        }
    }

    pub(super) fn check_versions(&self, commit: &Commit) -> Result<(), CommitError> {
        for (index, write) in commit.writes.iter().enumerate() {
            let (stored, new) = match write {
                Write::Cart(cart) => (self.state.carts.get(&cart.owner.id), cart.version),
                Write::Product(product) => (self.state.products.get(&product.id), product.version),
                Write::Order(order) => (self.version_before(commit, index, order), order.version),
                Write::ReassignGuestReplies { user_id, .. } => {
                    match self.state.users.get(user_id) {
                        Some(_) => continue,
                        None => return Err(CommitError::Conflict),
                    }
                }
                Write::User(user) => (self.state.users.get(&user.id), user.version),
                Write::Session(session) => (self.state.sessions.get(&session.id), session.version),
                Write::ApiKey(key) => (self.state.api_keys.get(&key.id), key.version),
                Write::Mail(mail) => (self.state.mails.get(&mail.id), mail.version),
                Write::Webhook(hook) => (self.state.webhooks.get(&hook.id), hook.version),
                Write::EraseAccount(user) => {
                    (self.state.users.get(&user.id), user.version.saturating_add(1))
                }
                Write::PricingRule(rule) => (self.state.rules.get(&rule.id), rule.version),
                Write::Stock(_)
                | Write::AddressBook(_)
                | Write::PromotionUse(..)
                | Write::WebhookDelivery(_) => continue,
            };
            if stored.copied().unwrap_or(0).checked_add(1) != Some(new) {
                return Err(CommitError::Conflict);
            }
            if matches!(write, Write::Order(order) if self.is_deanonymized_by(order)) {
                return Err(CommitError::Conflict);
            }
        }
        self.check_uniqueness(commit)
    }

    /// Whether an order was decided on before its buyer's account was erased, so that it has what
    /// was erased.
    fn is_deanonymized_by(&self, order: &Order) -> bool {
        let is_of_erased = |account: &Arc<User>| match order.guest {
            true => account.email_verified && order.email.as_ref() == Some(&account.email),
            false => order.user_id == account.id,
        };
        let is_erased_in_batch = self.state.orders.contains_key(&order.id)
            && self.writes.erased_accounts.values().any(is_of_erased);
        let is_anonymized = is_erased_in_batch || self.state.anonymized_orders.contains(&order.id);
        is_anonymized && !order.anonymized
    }

    /// The version of an order before one of the writes of a commit. A commit can write two: an
    /// order that is placed and paid at once.
    fn version_before<'a>(
        &'a self,
        commit: &'a Commit,
        index: usize,
        order: &Order,
    ) -> Option<&'a u64> {
        let same_order = |write: &'a Write| match write {
            Write::Order(earlier) if earlier.id == order.id => Some(&earlier.version),
            _ => None,
        };
        let earlier = commit.writes.iter().take(index).rev().find_map(same_order);
        earlier.or_else(|| self.state.orders.get(&order.id).map(|stored| &stored.version))
    }

    pub(super) fn check_conditions(&self, commit: &Commit) -> Result<(), CommitError> {
        let mut excesses = Vec::new();
        for condition in &commit.conditions {
            match condition {
                Condition::ProductUnchanged(id, version)
                    if self.state.products.get(id) != Some(version) =>
                {
                    return Err(CommitError::Conflict);
                }
                Condition::PricingRulesUnchanged(version)
                    if self.state.rules_version != *version =>
                {
                    return Err(CommitError::Conflict);
                }
                Condition::PendingOrdersBelow(user, limit)
                    if self.pending_orders(*user).orders >= u64::from(*limit) =>
                {
                    return Err(CommitError::TooManyPendingOrders);
                }
                Condition::PendingUnitsWithin { user_id, units, limit }
                    if self.pending_units_left(*user_id, *limit) < *units =>
                {
                    let left = self.pending_units_left(*user_id, *limit);
                    return Err(CommitError::TooManyPendingUnits { left });
                }
                Condition::PurchaseWithin(user, line)
                    if self.purchase_left(*user, *line) < u64::from(line.quantity) =>
                {
                    excesses.push(PurchaseExcess {
                        product_id: line.product_id,
                        requested: line.quantity.into(),
                        left: self.purchase_left(*user, *line),
                    });
                }
                Condition::OtherAdminRemains(user)
                    if self.state.active_admins.iter().all(|admin| admin == user) =>
                {
                    return Err(CommitError::LastAdmin);
                }
                Condition::ApiKeysBelow(user, limit)
                    if self.state.api_keys_made.get(user).copied().unwrap_or(0)
                        >= u64::from(*limit) =>
                {
                    return Err(CommitError::TooManyApiKeys);
                }
                Condition::NoOpenOrders { user_id, guest_email } => {
                    let guests = guest_email.iter().cloned().map(BuyerKey::GuestEmail);
                    let keys = std::iter::once(BuyerKey::User(*user_id)).chain(guests);
                    self.check_erasure_allowed(commit, keys)?;
                }
                Condition::ProductUnchanged(..)
                | Condition::PricingRulesUnchanged(_)
                | Condition::BuyerUsesBelow { .. }
                | Condition::OtherAdminRemains(_)
                | Condition::ApiKeysBelow(..)
                | Condition::PendingOrdersBelow(..)
                | Condition::PendingUnitsWithin { .. }
                | Condition::PurchaseWithin(..) => {}
            }
        }
        // A conflict comes first: the limit may be another one by now.
        if excesses.is_empty() { Ok(()) } else { Err(CommitError::PurchaseLimitReached(excesses)) }
    }

    fn pending_units_left(&self, user: UserId, limit: u32) -> u64 {
        u64::from(limit).saturating_sub(self.pending_orders(user).units)
    }

    fn purchase_left(&self, user: UserId, line: LimitedLine) -> u64 {
        let bought = self.state.purchased_units.get(&(user, line.product_id)).copied();
        u64::from(line.limit).saturating_sub(bought.unwrap_or(0))
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
                Write::PricingRule(rule) if self.has_other_rule_with_key_of(rule) => {
                    return Err(CommitError::RuleExists(rule.rule.kind()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn has_other_rule_with_key_of(&self, rule: &RuleRecord) -> bool {
        let key = rule.unique_key();
        let owner = key.and_then(|key| self.state.rule_keys.get(&key));
        owner.is_some_and(|id| *id != rule.id)
    }

    fn sku_owner(&self, product: &Product) -> Option<ProductId> {
        product.details.sku.as_ref().and_then(|sku| self.state.sku_owners.get(sku)).copied()
    }

    /// The stock levels and movements that the commit leads to, one per write of stock. A write
    /// that changes nothing has no movement. Records nothing yet: a later write may lack stock, and
    /// the error then lists every product that does.
    pub(super) fn check_stock(
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
                Ok(Some((next, delta))) => {
                    moves.push((next, Some(new_movement(stock, commit, next.last_movement, delta))))
                }
                Err(StockError::Insufficient { requested, available }) => {
                    short.push(Shortage { product_id: id, requested, available });
                }
                Err(StockError::LimitExceeded) => return Err(CommitError::StockOverflow),
            }
        }
        if short.is_empty() { Ok(moves) } else { Err(CommitError::InsufficientStock(short)) }
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
}

fn new_movement(
    stock: &StockWrite,
    commit: &Commit,
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
        actor: commit.action.as_ref().map(|action| action.actor),
        occurred_at: commit.decided_at,
    }
}
