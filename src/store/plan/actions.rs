//! The actions of a batch: which changes needed rights that customers do not have.

use uuid::Uuid;

use super::Planner;
use crate::{
    domain::{
        action::Action,
        ids::{ActionId, ProductId},
    },
    store::commit::{Commit, Write},
};

/// An action on stock. Its versions are known when the batch ends.
pub(super) struct StockAction {
    /// Its index among the actions.
    index: usize,
    product_id: ProductId,
}

impl Planner<'_> {
    /// Records the action of a commit that changes something, if it has one.
    pub(super) fn record_action(&mut self, commit: &Commit) {
        let Some(origin) = &commit.action else { return };
        let (subject, version) = if let Some(changed) = commit.writes.iter().find_map(record_of) {
            changed
        } else if let Some(product_id) = commit.writes.iter().find_map(stock_of) {
            let index = self.writes.actions.len();
            self.stock_actions.push(StockAction { index, product_id });
            (product_id.as_uuid(), 0)
        } else {
            return;
        };
        self.writes.actions.push(Action {
            id: ActionId::new(),
            at: commit.decided_at,
            actor: origin.actor,
            operation: origin.operation.clone().into_owned(),
            subject,
            request_id: origin.request_id.clone(),
            version_before: version.checked_sub(1).filter(|before| *before > 0),
            version_after: version,
        });
    }

    /// Fills in the versions of stock, which are final now. Changes that share a transaction share
    /// a version.
    pub(super) fn finalize_actions(&mut self) {
        for StockAction { index, product_id } in std::mem::take(&mut self.stock_actions) {
            let before = self.initial_stock.get(&product_id).map(|level| level.version);
            let after = self.stock_level(product_id).version;
            if let Some(action) = self.writes.actions.get_mut(index) {
                action.version_before = before.filter(|version| *version > 0);
                action.version_after = after;
            }
        }
    }
}

/// The record that a write changes, and its new version. `None` for what only comes with others.
fn record_of(write: &Write) -> Option<(Uuid, u64)> {
    match write {
        Write::Product(product) => Some((product.id.as_uuid(), product.version)),
        Write::Order(order) => Some((order.id.as_uuid(), order.version)),
        Write::User(user) => Some((user.id.as_uuid(), user.version)),
        Write::ApiKey(key) => Some((key.id.as_uuid(), key.version)),
        Write::EraseAccount(user) => Some((user.id.as_uuid(), user.version)),
        Write::Webhook(webhook) => Some((webhook.id.as_uuid(), webhook.version)),
        Write::WebhookDelivery(delivery) => Some((delivery.webhook_id.as_uuid(), 0)),
        Write::PricingRule(rule) => Some((rule.id.as_uuid(), rule.version)),
        Write::Stock(_)
        | Write::PromotionUse(..)
        | Write::Cart(_)
        | Write::Session(_)
        | Write::Mail(_)
        | Write::ReassignGuestReplies { .. }
        | Write::AddressBook(_) => None,
    }
}

const fn stock_of(write: &Write) -> Option<ProductId> {
    match write {
        Write::Stock(stock) => Some(stock.product_id),
        _ => None,
    }
}
