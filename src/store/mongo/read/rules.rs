//! Reads of rules of prices, and of how often promotions are used.

use std::collections::{BTreeSet, HashMap};

use mongodb::{
    Database,
    bson::{Document, doc},
};

use super::{
    super::{
        documents::id_to_bson,
        load::deserialize_document,
        promotion_uses::{
            OrderPromotions, PromotionUsesDocument, bson_ids, orders_with, promotions_of,
        },
        rules::rule_from_document,
        schema::{ORDERS, PRICING_RULES, PROMOTION_USES},
    },
    ListQuery, ReadResult, find_many, find_one,
};
use crate::domain::{
    ids::{PromotionId, RuleId, UserId},
    money::Currency,
    pricing::{PromotionUses, RuleRecord},
};

/// All rules, also the deleted ones.
pub(in crate::store::mongo) async fn list_pricing_rules(
    database: Database,
    currency: Currency,
) -> ReadResult<Vec<RuleRecord>> {
    find_many(&database, PRICING_RULES, ListQuery::default(), |document| {
        rule_from_document(document, currency)
    })
    .await
}

/// The rule with this id, also a deleted one.
pub(in crate::store::mongo) async fn find_pricing_rule(
    database: Database,
    id: RuleId,
    currency: Currency,
) -> ReadResult<Option<RuleRecord>> {
    let filter = doc! { "_id": id_to_bson(id.as_uuid()) };
    find_one(&database, PRICING_RULES, filter, |document| rule_from_document(document, currency))
        .await
}

/// The uses of all promotions, or of these.
pub(in crate::store::mongo) async fn list_promotion_uses(
    database: Database,
    ids: Option<BTreeSet<PromotionId>>,
) -> ReadResult<Vec<PromotionUses>> {
    let filter = ids.map_or_else(Document::new, |ids| doc! { "_id": { "$in": bson_ids(&ids) } });
    let query = ListQuery { filter, ..ListQuery::default() };
    find_many(&database, PROMOTION_USES, query, |document| {
        Ok(deserialize_document::<PromotionUsesDocument>(document)?.into())
    })
    .await
}

/// How many orders of a buyer, neither cancelled nor expired, have each of these promotions.
pub(in crate::store::mongo) async fn count_buyer_uses(
    database: Database,
    buyer: UserId,
    promotions: BTreeSet<PromotionId>,
) -> ReadResult<HashMap<PromotionId, u32>> {
    let filter = orders_with(&[buyer].into(), &promotions);
    let query = ListQuery { filter, ..ListQuery::default() };
    let orders = find_many(&database, ORDERS, query, |document| {
        deserialize_document::<OrderPromotions>(document)
    })
    .await?;
    let mut counts: HashMap<PromotionId, u32> = promotions.iter().map(|id| (*id, 0)).collect();
    for promotion in orders.into_iter().flat_map(promotions_of) {
        if let Some(count) = counts.get_mut(&promotion) {
            *count += 1;
        }
    }
    Ok(counts)
}
