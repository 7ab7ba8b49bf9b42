//! Pricing rules, and the uses of promotions.

use std::{collections::HashSet, sync::Arc};

use super::Planner;
use crate::{
    domain::{
        ids::{OrderId, PromotionId, UserId},
        order::{Buyer, BuyerKey, Order},
        pricing::{PromotionUses, RuleRecord, UseChange},
    },
    store::commit::{Commit, CommitError, Condition, Write},
};

impl Planner<'_> {
    /// Checks that a use is left of each promotion that the commit takes one of, for all buyers and
    /// for this one.
    pub(super) fn check_uses(&self, commit: &Commit) -> Result<(), CommitError> {
        for condition in &commit.conditions {
            if let Condition::BuyerUsesBelow { buyer, promotion_id, limit } = condition {
                let limit = usize::try_from(*limit).unwrap_or(usize::MAX);
                if self.orders_of_buyer(buyer, *promotion_id).len() >= limit {
                    return Err(CommitError::PromotionUsedUp(*promotion_id));
                }
            }
        }
        commit.writes.iter().try_for_each(|write| match write {
            Write::PromotionUse(id, change) => {
                let changed = self.promotion_uses(*id).apply(*change);
                changed.map(drop).ok_or(CommitError::PromotionUsedUp(*id))
            }
            _ => Ok(()),
        })
    }

    pub(super) fn record_rule(&mut self, rule: &Arc<RuleRecord>) {
        self.state.rules.insert(rule.id, rule.version);
        self.state.rule_keys.retain(|_, owner| *owner != rule.id);
        self.state.rule_keys.extend(rule.unique_key().map(|key| (key, rule.id)));
        self.state.rules_version += 1;
        self.writes.new_rule_versions += 1;
        self.writes.rules.insert(rule.id, Arc::clone(rule));
    }

    pub(super) fn record_use(&mut self, id: PromotionId, change: UseChange) {
        if let Some(uses) = self.promotion_uses(id).apply(change) {
            self.state.promotion_uses.insert(id, uses);
            self.writes.promotion_uses.insert(id, uses);
        }
    }

    fn promotion_uses(&self, id: PromotionId) -> PromotionUses {
        self.state.promotion_uses.get(&id).copied().unwrap_or(PromotionUses::none(id))
    }

    /// The orders of a buyer that have a promotion. Some may be found by more than one key.
    fn orders_of_buyer(&self, buyer: &Buyer, promotion: PromotionId) -> HashSet<OrderId> {
        let orders = buyer.keys().filter_map(|key| self.state.buyer_uses.get(&(key, promotion)));
        orders.flatten().copied().collect()
    }

    /// Updates which orders of the buyer have the promotions of this one.
    pub(super) fn count_buyer_uses(&mut self, order: &Order, buyer: UserId, counts: bool) {
        let Some(charges) = &order.charges else { return };
        if self.state.buyer_uses.is_empty() {
            return;
        }
        for promotion in charges.promotions() {
            let email = order.email.iter().cloned().map(BuyerKey::Email);
            for key in std::iter::once(BuyerKey::User(buyer)).chain(email) {
                let Some(orders) = self.state.buyer_uses.get_mut(&(key, promotion)) else {
                    continue;
                };
                if counts {
                    orders.insert(order.id);
                } else {
                    orders.remove(&order.id);
                }
            }
        }
    }
}
