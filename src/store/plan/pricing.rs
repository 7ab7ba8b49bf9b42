//! Rules of prices, and the uses of promotions.

use std::sync::Arc;

use super::Planner;
use crate::{
    domain::{
        ids::PromotionId,
        order::Order,
        pricing::{PromotionUses, RuleRecord, UseChange},
    },
    store::commit::{Commit, CommitError, Condition, Write},
};

impl Planner<'_> {
    /// Checks that a use is left of each promotion that the commit takes one of, for all buyers and
    /// for this one.
    pub(super) fn check_uses(&self, commit: &Commit) -> Result<(), CommitError> {
        for condition in &commit.conditions {
            if let Condition::BuyerUsesBelow { user_id, promotion_id, limit } = *condition {
                let used = self.state.buyer_uses.get(&(user_id, promotion_id)).copied();
                if used.unwrap_or(0) >= u64::from(limit) {
                    return Err(CommitError::PromotionUsedUp(promotion_id));
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

    /// Updates how many of the buyer's orders have the promotions of this one.
    pub(super) fn update_buyer_uses(&mut self, order: &Order, counts: bool) {
        let Some(charges) = &order.charges else { return };
        for promotion in charges.promotions() {
            if let Some(uses) = self.state.buyer_uses.get_mut(&(order.user_id, promotion)) {
                *uses = if counts { uses.saturating_add(1) } else { uses.saturating_sub(1) };
            }
        }
    }
}
