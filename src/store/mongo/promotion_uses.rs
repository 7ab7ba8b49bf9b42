//! How often promotions are used, one document for each promotion that an order has had.

use std::collections::BTreeSet;

use mongodb::bson::{Document, RawDocument, Uuid as BsonUuid, doc};
use serde::{Deserialize, Serialize};

use super::{
    collection_writes::CollectionWrites,
    documents::{id_from_bson, id_to_bson},
    flush::ExistingRecords,
    load::{commit_time, deserialize_document},
    schema::{ORDERS, PROMOTION_USES, USES_OF_BUYER},
    transaction::Transaction,
    transaction_error::TransactionError,
};
use crate::{
    domain::{
        ids::{PromotionId, UserId},
        order::OrderStatus,
        pricing::PromotionUses,
    },
    store::plan::{LoadedState, ReadSet, WriteSet},
};

/// The uses of a promotion as stored in `promotion_uses`.
#[derive(Serialize, Deserialize)]
pub(super) struct PromotionUsesDocument {
    #[serde(rename = "_id")]
    promotion_id: BsonUuid,
    used: u64,
    version: u64,
}

impl From<PromotionUses> for PromotionUsesDocument {
    fn from(uses: PromotionUses) -> Self {
        let PromotionUses { promotion_id, used, version } = uses;
        Self { promotion_id: id_to_bson(promotion_id.as_uuid()), used, version }
    }
}

impl From<PromotionUsesDocument> for PromotionUses {
    fn from(document: PromotionUsesDocument) -> Self {
        let PromotionUsesDocument { promotion_id, used, version } = document;
        Self { promotion_id: id_from_bson(promotion_id), used, version }
    }
}

/// The promotions of an order, and its buyer.
#[derive(Deserialize)]
pub(super) struct OrderPromotions {
    user_id: BsonUuid,
    charges: Promotions,
}

#[derive(Deserialize)]
struct Promotions {
    discounts: Vec<Promotion>,
}

#[derive(Deserialize)]
struct Promotion {
    promotion_id: String,
}

/// Loads the uses that `read_set` names, and how many orders of buyers have promotions.
pub(super) async fn load(
    transaction: &mut Transaction<'_>,
    read_set: &ReadSet,
    loaded: &mut LoadedState,
    latest: &mut i64,
) -> Result<(), TransactionError> {
    if !read_set.promotion_uses.is_empty() {
        let record = |document: &RawDocument| {
            let uses: PromotionUsesDocument = deserialize_document(document)?;
            let uses = PromotionUses::from(uses);
            loaded.promotion_uses.insert(uses.promotion_id, uses);
            *latest = commit_time(document).max(*latest);
            Ok(())
        };
        let filter = doc! { "_id": { "$in": bson_ids(&read_set.promotion_uses) } };
        transaction.for_each_document(PROMOTION_USES, filter, doc! {}, record).await?;
    }
    if read_set.buyer_uses.is_empty() {
        return Ok(());
    }
    loaded.buyer_uses = read_set.buyer_uses.iter().map(|pair| (*pair, 0)).collect();
    let buyers: BTreeSet<UserId> = read_set.buyer_uses.iter().map(|pair| pair.0).collect();
    let promotions: BTreeSet<PromotionId> = read_set.buyer_uses.iter().map(|pair| pair.1).collect();
    let count = |document: &RawDocument| {
        let order: OrderPromotions = deserialize_document(document)?;
        let buyer = id_from_bson(order.user_id);
        for promotion in promotions_of(order) {
            if let Some(uses) = loaded.buyer_uses.get_mut(&(buyer, promotion)) {
                *uses += 1;
            }
        }
        Ok(())
    };
    let filter = orders_with(&buyers, &promotions);
    transaction
        .for_each_document_in(ORDERS, Some(USES_OF_BUYER), filter, order_fields(), count)
        .await
}

/// The writes of the uses, in the order of ids.
pub(super) fn writes(
    writes: &WriteSet,
    existing: &ExistingRecords,
    commit_time: i64,
) -> Result<CollectionWrites, TransactionError> {
    let mut uses = CollectionWrites::for_records(PROMOTION_USES, commit_time);
    for (id, changed) in &writes.promotion_uses {
        let exists = existing.promotion_uses.contains(id);
        uses.add_document(id.as_uuid(), exists, &PromotionUsesDocument::from(*changed))?;
    }
    Ok(uses)
}

pub(super) fn bson_ids(ids: &BTreeSet<PromotionId>) -> Vec<BsonUuid> {
    ids.iter().map(|id| id_to_bson(id.as_uuid())).collect()
}

pub(super) fn promotions_of(order: OrderPromotions) -> impl Iterator<Item = PromotionId> {
    let discounts = order.charges.discounts.into_iter();
    discounts.filter_map(|discount| discount.promotion_id.parse().ok())
}

/// The orders of buyers that have promotions and are neither cancelled nor expired.
pub(super) fn orders_with(
    buyers: &BTreeSet<UserId>,
    promotions: &BTreeSet<PromotionId>,
) -> Document {
    let buyers: Vec<BsonUuid> = buyers.iter().map(|id| id_to_bson(id.as_uuid())).collect();
    let promotions: Vec<String> = promotions.iter().map(ToString::to_string).collect();
    let counted = OrderStatus::ALL.iter().filter(|status| status.counts_as_purchase());
    let counted: Vec<&str> = counted.map(|status| status.as_str()).collect();
    doc! {
        "user_id": { "$in": buyers },
        "charges.discounts.promotion_id": { "$in": promotions, "$exists": true },
        "status": { "$in": counted },
    }
}

fn order_fields() -> Document {
    doc! { "_id": 0, "user_id": 1, "charges.discounts.promotion_id": 1 }
}
