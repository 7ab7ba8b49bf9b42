//! How often promotions are used. A use is taken like a unit of stock, and given back like one.

use serde::{Deserialize, Serialize};

use crate::domain::{ids::PromotionId, order::BuyerKey};

/// How many orders have a promotion, not counting those that are cancelled or expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionUses {
    /// The promotion.
    pub promotion_id: PromotionId,
    /// The number of orders.
    pub used: u64,
    /// The number of changes of `used`.
    pub version: u64,
}

impl PromotionUses {
    /// A promotion that no order has ever had.
    #[must_use]
    pub const fn none(promotion_id: PromotionId) -> Self {
        Self { promotion_id, used: 0, version: 0 }
    }

    /// The number after a change. `None` if no use is left.
    #[must_use]
    pub const fn apply(self, change: UseChange) -> Option<Self> {
        let used = match change {
            UseChange::Take { limit: Some(limit) } if self.used >= limit => return None,
            UseChange::Take { .. } => self.used.saturating_add(1),
            UseChange::GiveBack => self.used.saturating_sub(1),
        };
        Some(Self { used, version: self.version.saturating_add(1), ..self })
    }
}

/// A change of the number of uses, by an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UseChange {
    /// An order has the promotion.
    Take {
        /// The most orders that can have it.
        limit: Option<u64>,
    },
    /// The order was cancelled or has expired.
    GiveBack,
}

/// A use that a new order takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenUse {
    /// The promotion.
    pub promotion_id: PromotionId,
    /// The most orders that can have it.
    pub limit: Option<u64>,
    /// The most orders of one buyer that can have it.
    pub per_customer_limit: Option<u32>,
}

/// Orders and a promotion, for those of the orders that have it.
pub type BuyerUse = (BuyerKey, PromotionId);
