//! What a store keeps of the pricing rules, and of how often promotions are used.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;

use super::StoreUnavailable;
use crate::domain::{
    ids::{PromotionId, RuleId},
    order::Buyer,
    pricing::{PromotionUses, RuleRecord},
};

/// The reads of rules and of uses. Commits write them.
#[async_trait]
pub trait PricingStore: Send + Sync {
    /// All pricing rules, also the deleted ones.
    async fn list_pricing_rules(&self) -> Result<Vec<RuleRecord>, StoreUnavailable>;

    /// The pricing rule with this id, also a deleted one.
    async fn find_pricing_rule(&self, id: RuleId) -> Result<Option<RuleRecord>, StoreUnavailable>;

    /// How often promotions are used: all that an order has ever had, or those of these.
    async fn list_promotion_uses(
        &self,
        ids: Option<BTreeSet<PromotionId>>,
    ) -> Result<Vec<PromotionUses>, StoreUnavailable>;

    /// How many orders of a buyer, neither cancelled nor expired, have each of these promotions.
    async fn count_buyer_uses(
        &self,
        buyer: Buyer,
        promotions: BTreeSet<PromotionId>,
    ) -> Result<HashMap<PromotionId, u32>, StoreUnavailable>;
}
