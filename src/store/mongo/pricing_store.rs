//! The trait [`PricingStore`]: pricing rules, and how often promotions are used.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;

use super::{MongoStore, read};
use crate::{
    domain::{
        ids::{PromotionId, RuleId},
        order::Buyer,
        pricing::{PromotionUses, RuleRecord},
    },
    store::{StoreUnavailable, pricing_store::PricingStore},
};

#[async_trait]
impl PricingStore for MongoStore {
    async fn list_pricing_rules(&self) -> Result<Vec<RuleRecord>, StoreUnavailable> {
        let currency = self.currency;
        self.run_read(|database| read::list_pricing_rules(database, currency)).await
    }

    async fn find_pricing_rule(&self, id: RuleId) -> Result<Option<RuleRecord>, StoreUnavailable> {
        let currency = self.currency;
        self.run_read(|database| read::find_pricing_rule(database, id, currency)).await
    }

    async fn list_promotion_uses(
        &self,
        ids: Option<BTreeSet<PromotionId>>,
    ) -> Result<Vec<PromotionUses>, StoreUnavailable> {
        self.run_read(|database| read::list_promotion_uses(database, ids)).await
    }

    async fn count_buyer_uses(
        &self,
        buyer: Buyer,
        promotions: BTreeSet<PromotionId>,
    ) -> Result<HashMap<PromotionId, u32>, StoreUnavailable> {
        self.run_read(|database| read::count_buyer_uses(database, buyer, promotions)).await
    }
}
