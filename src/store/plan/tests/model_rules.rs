//! Pricing rules and the uses of promotions in the model of the store.

use std::{collections::HashSet, sync::Arc};

use super::model_store::{ModelStore, numbered_id};
use crate::domain::{
    clock::Timestamp,
    ids::{OrderId, RuleId},
    order::Order,
    pricing::{BuyerUse, Rate, Rule, RuleRecord, TaxRate},
};

impl ModelStore {
    /// A buyer's orders with a promotion that are neither cancelled nor expired.
    pub(super) fn buyer_uses(&self, (key, promotion): &BuyerUse) -> HashSet<OrderId> {
        let has_promotion = |order: &&Arc<Order>| {
            key.matches(order)
                && order.status.counts_as_purchase()
                && order.charges.iter().any(|it| it.promotions().any(|id| id == *promotion))
        };
        self.orders.values().filter(has_promotion).map(|order| order.id).collect()
    }

    pub(super) fn rule_with_key(&self, key: &str) -> Option<RuleId> {
        let rule = self.rules.values().find(|rule| rule.unique_key().as_deref() == Some(key));
        rule.map(|rule| rule.id)
    }
}

pub(super) fn rule_at_version(number: u8, country: u8, version: u64) -> RuleRecord {
    let rate = TaxRate {
        id: numbered_id(number),
        name: "VAT".into(),
        country: country.to_string(),
        region: None,
        tax_class: None,
        rate: Rate::from_millionths(190_000).unwrap(),
    };
    let record = RuleRecord::new(numbered_id(number), Rule::TaxRate(rate), Timestamp::default());
    RuleRecord { version, ..record }
}
