//! Reads of pricing rules, and of how often promotions are used.

use std::collections::{BTreeSet, HashMap, HashSet};

use mongodb::{
    Database,
    bson::{Document, RawDocument, doc},
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
    ids::{OrderId, PromotionId, RuleId},
    money::Currency,
    order::Buyer,
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
    buyer: Buyer,
    promotions: BTreeSet<PromotionId>,
) -> ReadResult<HashMap<PromotionId, u32>> {
    let mut orders: HashMap<PromotionId, HashSet<OrderId>> =
        promotions.iter().map(|id| (*id, HashSet::new())).collect();
    for (_, filter) in orders_with(&buyer.keys().collect(), &promotions) {
        let query = ListQuery { filter, ..ListQuery::default() };
        let read = |document: &RawDocument| deserialize_document::<OrderPromotions>(document);
        for order in find_many(&database, ORDERS, query, read).await? {
            let id = order.id();
            for promotion in promotions_of(order) {
                orders.entry(promotion).or_default().insert(id);
            }
        }
    }
    let count = |id| {
        let found = orders.get(&id).map_or(0, HashSet::len);
        (id, u32::try_from(found).unwrap_or(u32::MAX))
    };
    Ok(promotions.into_iter().map(count).collect())
}
